/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef UTIL_TRANSITION_H
#define UTIL_TRANSITION_H

#include <stddef.h>
#include <stdint.h>

/*
 * Transitions of state machines
 *
 * A state machine has a list of the pairs of states that it may go through, and one setter, which calls
 * transition_check(). The comment over its enum has the same pairs, each with its cause.
 *
 * A pair that is not listed is a fault of ours. It is counted, the first one is logged, and the setter goes on, since
 * clients lose less by that than by the end of the daemon. Where TABRMD_STRICT is defined, as in tests, the process
 * ends.
 */
void transition_check(const char *machine, const uint8_t (*pairs)[2], size_t n_pairs, unsigned from, unsigned to);

/* How many forbidden ones there were so far. */
unsigned transition_n_forbidden(void);

#endif
