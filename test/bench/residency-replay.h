/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef BENCH_RESIDENCY_REPLAY_H
#define BENCH_RESIDENCY_REPLAY_H

#include "test/bench/residency-bound.h"

#define SLOTS_MAX 16

typedef enum Policy {
        POLICY_OURS, /* resmgr/victim.c */
        POLICY_LRU,
        POLICY_ODDS, /* the least likely to be used next leaves, for what it costs: the odds are told */
} Policy;

/* What a trace costs, moves and the clients' own commands, when a TPM has so many slots of each kind. */
double replay(const Trace *trace, const Prices *prices, unsigned slots, Policy policy);

#endif
