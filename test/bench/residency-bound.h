/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef BENCH_RESIDENCY_BOUND_H
#define BENCH_RESIDENCY_BOUND_H

#include "test/bench/residency-trace.h"

/* What it costs to move a thing, in any unit. */
typedef struct Prices {
        const char *unit;
        double (*load)(const Thing *thing);
        double (*save)(const Thing *thing);
        double flush;
        double command; /* the client's own */
} Prices;

/*
 * What no policy can do better than, even one that knows the future
 *
 * Between two uses a thing either keeps a slot or is moved, and the slots of a kind that the command at hand leaves
 * over are shared by all that keep one. To keep those that cost most to move is a flow of least cost through the
 * trace, and is found exactly; with equal prices it is Belady's rule. It is a
 * bound rather than an optimum, since the one save that an object needs before it leaves for the first time is shared
 * out among all the times that it may leave.
 */
double bound_of(const Trace *trace, const Prices *prices, unsigned slots);

#endif
