/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RESMGR_RESMGR_H
#define RESMGR_RESMGR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <tss2/tss2_tpm2_types.h>

/*
 * The resource manager
 *
 * Bytes in, bytes out: it does no I/O, reads no clock, starts no thread, writes no log, allocates nothing. All its
 * state lies in one flat block that the caller provides, without pointers, addressed by index, so that it can be
 * copied, hashed, compared, or outlive the process.
 *
 * A client is a *space*: a handle namespace with a quota. Work is a *job*: a conversation with the TPM that ends in a
 * reply. The caller moves one job at a time:
 *
 *      step = rm_job_step(rm, job, NULL, 0, &output)
 *      TRANSMIT  send output.bytes to the TPM; call again with what it says, or rm_job_lost() when nothing will come
 *      PAUSE     call again, without a response, after output.pause_ms. If output.yielding, other jobs may be stepped
 *                in between; else the TPM belongs to this job
 *      REPLY     output.bytes is the client's answer (none for a chore, see output.rc); the job is over and must not be
 *                used again
 *
 * Bytes of an output belong to the resource manager and are const; they are valid until the next call for that job,
 * those of a REPLY until the next rm_job_begin() or rm_job_begin_chore().
 */
typedef struct Rm Rm;
typedef struct RmJob RmJob;

#define RM_NONE UINT32_MAX /* no index */

/* The state of an object or session; resmgr/entry.h has what leads from one to the other. */
typedef enum RmState {
        RM_FREE,
        RM_PENDING,      /* of a command that is not over */
        RM_LIVE,         /* a client's, which may use it */
        RM_CLIENT_SAVED, /* a client's, which has its context */
        RM_ABANDONED,    /* the same, and the client is gone */
        RM_LEFT_OVER,    /* saved before we started; we hold no context of it */
        RM_DOOMED,       /* nobody's; about to be flushed */
        RM_STATES,
} RmState;

#define RM_SPACES_MAX 65535
#define RM_OBJECTS_MAX 65536

typedef struct RmLimits {
        uint32_t spaces;             /* connections at a time, 1..RM_SPACES_MAX */
        uint32_t objects;            /* transient objects in all, 1..RM_OBJECTS_MAX */
        uint32_t objects_per_space;  /* ... of one client */
        uint32_t sessions_per_space; /* sessions of one client, saved by it or not */
        uint32_t abandoned;          /* saved sessions of clients that are gone; RM_NONE: all the TPM has less 8 */
        uint32_t reserve;            /* rm_set_reserve() at the beginning, for each kind */
        bool flush_all;              /* RM_CHORE_START flushes saved sessions too, and keeps none as left over */
} RmLimits;

typedef enum RmStep {
        RM_STEP_TRANSMIT,
        RM_STEP_PAUSE,
        RM_STEP_REPLY,
} RmStep;

typedef struct RmOutput {
        const uint8_t *bytes;
        size_t n_bytes;
        uint32_t pause_ms;
        bool own_command; /* TRANSMIT: these bytes are the client's own command, to be sent at its locality */
        bool yielding;    /* PAUSE: others may use the TPM meanwhile */
        bool takes_long;  /* TRANSMIT: it makes a key, or tests the TPM */
        TPM2_CC code;     /* TRANSMIT: command code of these bytes */
        TSS2_RC rc;       /* REPLY: its response code; for a chore, how it went */
} RmOutput;

/* Work without a client. Each is a short job: begin it again until there is nothing to do. */
typedef enum RmChore {
        RM_CHORE_START,   /* start the TPM, read what it can do, flush what others left loaded. Once, first */
        RM_CHORE_DUE,     /* what must be settled before the next client command: probes, reconciliation */
        RM_CHORE_CLEANUP, /* flush one thing that a closed client owned, or that is one too many */
        RM_CHORE_RESERVE, /* evict one thing too many for the reserve */
        RM_CHORE_SAVE,    /* save one resident object that has no copy; it stays resident */
        RM_CHORE_RENEW,   /* load and save the oldest saved session, long before the context gap is full */
        RM_CHORE_EVICT,   /* evict one thing, whichever */
} RmChore;

/* What was taken from whom, and what it cost, since the beginning. */
typedef struct RmCounters {
        uint64_t commands;  /* of clients */
        uint64_t transmits; /* TPM commands */
        uint64_t local;     /* commands of clients that were answered without the TPM */
        uint64_t hits;      /* objects and sessions that were in the TPM when a command named them */
        uint64_t misses;    /* ... that were not, and were loaded */
        uint64_t loads;     /* of contexts */
        uint64_t saves;
        uint64_t evictions;            /* taken out of the TPM, and kept */
        uint64_t renewals;             /* of sessions, because of the context gap */
        uint64_t abandoned_flushed;    /* saved sessions of clients that are gone, to make room */
        uint64_t left_over_flushed;    /* saved sessions from before we started, to make room */
        uint64_t client_saved_flushed; /* saved sessions of clients that are still there, to make room */
        uint64_t foreign_flushed;      /* sessions and objects in no table */
        uint64_t foreign_found;        /* ... that cannot be ours, nor have been there before we started */
        uint64_t foreign_saves;        /* of contexts, by others, as the numbers of ours tell */
        uint64_t refusals;             /* to save or flush one of them */
        uint64_t taken_back;           /* by its numbers, a state of the TPM was put back */
        uint64_t forbidden;            /* changes of state that our own tables do not know: a fault of ours */
} RmCounters;

const RmCounters *rm_counters(const Rm *rm);

/* Size of the block, in bytes, a multiple of 4096. Most of it is never touched unless that much is in use. */
size_t rm_size(const RmLimits *limits);

/* Lays out a block of rm_size() zero bytes, aligned to 64. Return: NULL when limits are out of range. */
Rm *rm_init(void *block, const RmLimits *limits);

/*
 * The time, in us from any beginning: sessions keep when they were seen first (resmgr/report.h), and one that its
 * client saved less than 10 s ago counts as in use (rm_room()).
 */
void rm_set_time(Rm *rm, uint64_t now);

/*
 * Slots of each kind that stay free between two client commands, for others who use the TPM. What is loaded beyond that
 * is RM_CHORE_RESERVE's to evict. 0: all are ours.
 */
void rm_set_reserve(Rm *rm, uint32_t n_objects, uint32_t n_sessions);

/* The largest command that the TPM takes, in bytes; TPM_MESSAGE_DEFAULT until RM_CHORE_START has found out. */
uint32_t rm_max_command(const Rm *rm);

/* Whether the TPM itself implements a command code; false before RM_CHORE_START. */
bool rm_implements(const Rm *rm, TPM2_CC code);

/* A new client, whose objects and sessions count against @uid. Return: RM_RC(TPM2_RC_OBJECT_MEMORY): none is left. */
TSS2_RC rm_space_open(Rm *rm, uint32_t uid, uint32_t *ret_space);

/*
 * The client is gone, and has no job. What it owned is handed to RM_CHORE_CLEANUP; sessions that it saved itself are
 * kept as abandoned.
 */
void rm_space_close(Rm *rm, uint32_t space);

/*
 * Take from a client what it has, or all sessions that are RM_ABANDONED or RM_LEFT_OVER from everybody;
 * RM_CHORE_CLEANUP flushes it. No job may be waiting for the TPM, or pausing without lending it.
 */
void rm_flush_space(Rm *rm, uint32_t space, uint32_t *ret_n_objects, uint32_t *ret_n_sessions);
uint32_t rm_flush_sessions(Rm *rm, RmState state);

/* Whether there is room for what a command makes. */
typedef enum RmRoom {
        RM_ROOM_NOW,   /* there is, or it makes nothing */
        RM_ROOM_LATER, /* there will be, should clients that do not wait for room end what they have */
        RM_ROOM_NEVER, /* there will be none even then: begin it, and it is refused */
} RmRoom;

RmRoom rm_room(const Rm *rm, uint32_t space, const uint8_t *command, size_t n_command);

/* Its client waits for room, and so will end nothing that it has. */
void rm_space_wait(Rm *rm, uint32_t space, bool waits);

/*
 * A client's command, which is copied: at least a header whose size is @n_command, at most rm_max_command().
 *
 * Return: NULL when all job slots are taken by paused jobs: come back when one has ended.
 */
RmJob *rm_job_begin(Rm *rm, uint32_t space, const uint8_t *command, size_t n_command);

/*
 * Chores try again what the TPM refused to save or flush. Call this by a timer with back-off while counters.refusals
 * grows.
 */
void rm_retry(Rm *rm);

/*
 * The context gap of a TPM that others use, too: sessions that they save bring the oldest of ours nearer to its end,
 * and only saving one tells how far.
 */
typedef struct RmGap {
        uint64_t newest; /* the number of the session that was saved last, as far as we know */
        uint32_t max;    /* TPM_PT_CONTEXT_GAP_MAX */
} RmGap;

RmGap rm_gap(const Rm *rm);

bool rm_gap_is_at_stake(const Rm *rm); /* one is saved, and may be renewed */
bool rm_gap_sample(Rm *rm); /* RM_CHORE_RENEW renews the oldest, whatever its distance. Return: there is one */

/* Return: NULL when there is nothing of that kind to do. */
RmJob *rm_job_begin_chore(Rm *rm, RmChore chore);

/*
 * How long the TPM took for what was last transmitted. To be told before rm_job_step() with its answer: what moves take
 * on this TPM decides what is moved (resmgr/victim.h). Until it is told, all moves are alike.
 */
void rm_job_took(RmJob *job, uint64_t us);

RmStep rm_job_step(Rm *rm, RmJob *job, const uint8_t *response, size_t n_response, RmOutput *ret_output);

/*
 * The answer to what was last transmitted does not come, or means nothing. Ends the job: *ret_output is its REPLY,
 * RM_RC(TPM2_RC_FAILURE), or RM_RC(TPM2_RC_INITIALIZE) when it was not the client's own command that was sent, so that
 * this was not executed. What may have changed is unknown until RM_CHORE_DUE has reconciled the tables.
 */
void rm_job_lost(Rm *rm, RmJob *job, RmOutput *ret_output);

/*
 * End a job with @rc as its REPLY: one that pauses, or whose TRANSMIT was not sent and will not be. Nothing was done
 * for its client.
 */
void rm_job_cancel(Rm *rm, RmJob *job, TSS2_RC rc, RmOutput *ret_output);

/* The TPM was reset: nothing is resident any more, and RM_CHORE_DUE has work. No job may be waiting for the TPM. */
void rm_forget_residents(Rm *rm);

/*
 * Others may have used the TPM, or reset it. RM_CHORE_DUE has work: it starts it, and finds out whether what was
 * resident can still be there, and is what it was. No job may be waiting for the TPM.
 */
void rm_reopened(Rm *rm);

#endif
