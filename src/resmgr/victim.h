/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RESMGR_VICTIM_H
#define RESMGR_VICTIM_H

#include <stdbool.h>
#include <stdint.h>

/*
 * Victims: which of the objects, or of the sessions, in the TPM leaves when another needs its slot
 *
 * This is the policy alone. It knows nothing of a TPM, so that traces of commands can be replayed against it
 * (test/bench/residency.c).
 *
 * Time is counted in *visits*. A visit is a use of an entry by a command when the command before did not use it; a
 * client that uses its key many times in a row makes one visit. Objects have visits of their own, and so have sessions.
 *
 * There are three rules. By *interval*, an entry is expected back one usual interval after its last visit, and the
 * entry leaves whose next use is furthest away for what its moves cost; an entry that was visited once is the less
 * likely to come back the longer it is gone. The rule of *newcomers* is the same, but it expects such an entry back
 * when others before it came back for the first time: programs that load a key, use it a few times and flush it. By
 * *recency*, the least recently used entry leaves, which is right while sets of keys follow each other.
 *
 * Each rule plays on in a *shadow*: a list of the entries that would be in the TPM if that rule alone decided. The rule
 * whose shadow had to load least of late decides.
 */
#define RM_VISIT 16       /* intervals are kept in sixteenths of a visit */
#define RM_SHADOW_SLOTS 8 /* of a TPM with more, the shadows show as many */

typedef enum RmRule {
        RM_RULE_INTERVAL,
        RM_RULE_NEWCOMERS,
        RM_RULE_RECENCY,
        RM_RULES,
} RmRule;

/* The uses of one entry. All 0: it was never used. */
typedef struct RmUse {
        uint64_t last;      /* its last visit, counted from 1 */
        uint64_t command;   /* that used it last */
        uint32_t interval;  /* between its visits, on average; 0: there was but one */
        uint32_t deviation; /* of the intervals from that, on average */
} RmUse;

typedef struct RmCandidate {
        RmUse use;
        uint32_t entry;
        uint32_t price;      /* of taking it out and bringing it back, at least 1 */
        bool is_expected;    /* it is known when it is used next: ... */
        uint32_t n_commands; /* ... in so many commands, each a visit */
} RmCandidate;

typedef struct RmShadow {
        uint32_t n;
        RmCandidate slots[RM_SHADOW_SLOTS];
} RmShadow;

/* The visits to all entries of a kind. All 0 at first. */
typedef struct RmVisits {
        uint64_t n;
        uint64_t command, command_before; /* the last two that used entries of the kind */
        uint32_t n_slots;                 /* entries that have room; 0: no slot was short yet */
        uint32_t rule;                    /* RmRule that decides */
        uint32_t first_interval;          /* between the first two visits to an entry, on average; 0: there was none */
        uint64_t paid[RM_RULES];          /* for loads of late, by each shadow */
        RmShadow shadows[RM_RULES];
} RmVisits;

/* @command, by its number, uses @candidate->entry, whose use is updated. */
void rm_visit(RmVisits *visits, RmCandidate *candidate, uint64_t command);

void rm_visits_forget(RmVisits *visits, uint32_t entry); /* its index may come to mean another */
void rm_visits_full(RmVisits *visits, uint32_t n_slots); /* a slot is needed, and so many are in use */

/* Whether @a leaves before @b; false if it is all the same. */
bool rm_leaves_before(const RmVisits *visits, const RmCandidate *a, const RmCandidate *b);

/*
 * What moves of objects take on this TPM
 *
 * A command that carries a context takes as long as one that carries nothing, which is a flush, and besides some time
 * for each byte. Sessions are all of one size, and need no prices.
 */
typedef enum RmMove {
        RM_MOVE_LOAD,
        RM_MOVE_SAVE,
        RM_MOVE_FLUSH,
        RM_MOVES,
} RmMove;

typedef struct RmPrices {
        uint32_t us[RM_MOVES]; /* on average; 0: not known yet */
        uint32_t bytes[RM_MOVES];
} RmPrices;

void rm_prices_learn(RmPrices *prices, RmMove move, uint32_t us, uint32_t n_bytes);

/* @n_bytes: of its context; 0: not known. Return: us; 1 as long as not enough is known. */
uint32_t rm_price(const RmPrices *prices, RmMove move, uint32_t n_bytes);

#endif
