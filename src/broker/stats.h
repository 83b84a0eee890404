/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef BROKER_STATS_H
#define BROKER_STATS_H

#include "resmgr/resmgr.h"

/*
 * What was done, and how long it took: always counted, since the time is known anyway and the rest is a few additions.
 */
#define STATS_BOUNDS 20
#define STATS_COMMANDS 256

extern const uint64_t stats_bounds_us[STATS_BOUNDS]; /* upper ones, inclusive, of all buckets but the last */

typedef struct Histogram {
        uint64_t sum_us;
        uint64_t n[STATS_BOUNDS + 1];
} Histogram;

typedef struct CommandStats {
        TPM2_CC code; /* 0: not in use */
        uint64_t n, n_failed;
        uint64_t busy_us, longest_us; /* the TPM's time, for one command and all that was needed for it */
} CommandStats;

/* How long the TPM takes for a command of a code, whoever sends it, if it succeeds: a running average. */
typedef struct CommandCost {
        TPM2_CC code;
        uint64_t us; /* in eighths; 0: not known */
} CommandCost;

/* What somebody has used, in commands that were answered */
typedef struct Usage {
        uint64_t n_commands, n_failed;
        uint64_t n_transmits; /* what the TPM was sent for them */
        uint64_t wait_us, longest_wait_us;
        uint64_t busy_us;
} Usage;

typedef struct Stats {
        uint64_t n_commands, n_failed, n_local; /* answered to clients */
        uint64_t n_connections, n_refused;
        uint64_t n_cancelled;                  /* of those */
        uint64_t n_lost;                       /* the TPM was */
        Histogram tpm;                         /* commands at the TPM */
        Histogram wait, total;                 /* clients' commands: until they ran, until they were answered */
        CommandCost costs[STATS_COMMANDS];     /* by a hash of the code, the code that came last */
        CommandStats others;                   /* codes that the TPM does not list: a client could make up any number */
        CommandStats commands[STATS_COMMANDS]; /* by a hash of the code */
} Stats;

void histogram_add(Histogram *histogram, uint64_t us);
void usage_add(Usage *usage, const Usage *more);

/* Return: where to count a command of that code. */
CommandStats *stats_command(Stats *stats, const Rm *rm, TPM2_CC code);

/* One command, which succeeded, has taken the TPM so long. */
void stats_note_cost(Stats *stats, TPM2_CC code, uint64_t us);

/* Return: what it takes on average, in us, at least 1; @unknown_us when none of that code was seen. */
uint64_t stats_cost(const Stats *stats, TPM2_CC code, uint64_t unknown_us);

/* A running average in eighths of a unit, with one more value: about the last eight count. 0: there was none yet. */
static inline uint64_t average_add(uint64_t eighths, uint64_t value) {
        return eighths == 0 ? 8 * value : eighths - eighths / 8 + value;
}

#endif
