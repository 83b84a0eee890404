/* SPDX-License-Identifier: BSD-2-Clause */
#include "test/bench/residency-bound.h"

#include <float.h>
#include <stdlib.h>

/* Moves of one thing between two of its uses, which can be had for keeping a slot from node @from to node @to. */
typedef struct Gap {
        uint32_t from, to;
        uint32_t thing;
        double price; /* of the moves that are made each time */
        double share; /* of the one save, see rebalance() */
        bool kept;
} Gap;

typedef struct Flow {
        Gap *gaps; /* ascending by from */
        size_t n_gaps;
        uint32_t n_nodes; /* node i is the moment before the i-th use of the kind */
        uint32_t *first;  /* the first gap that begins at a node */
        uint32_t *into;   /* gaps in the order of their ends */
        uint32_t *first_into;
        uint32_t *idle;  /* slots that nothing keeps, from node i to i + 1 */
        uint32_t *named; /* ... of which the command needs so many, besides one */
        double forced;   /* more than any gap is worth: what it needs, it has */
        double *potential, *distance;
        uint64_t *came; /* the gap by which it was reached, doubled, and 1 more when backwards; or one of these */
        uint32_t *heap, *place;
        uint32_t n_heap;
        double *save;         /* of a thing, once, before it leaves for the first time */
        double *mean, *count; /* of a thing's gaps, for rebalance() */
} Flow;

#define BY_IDLE UINT64_MAX
#define BY_IDLE_BACK (UINT64_MAX - 1)
#define ABSENT UINT32_MAX

static void *new_array(size_t n, size_t size) {
        void *array = calloc(n > 0 ? n : 1, size);

        if (!array)
                exit(2);
        return array;
}

static double price_of(const Flow *flow, const Gap *gap) {
        return gap->price + gap->share * flow->save[gap->thing];
}

/* The heap of nodes by distance. */

static void heap_put(Flow *flow, uint32_t at, uint32_t node) {
        flow->heap[at] = node;
        flow->place[node] = at;
}

static void heap_rise(Flow *flow, uint32_t node) {
        uint32_t at = flow->place[node];

        if (at == ABSENT)
                at = flow->n_heap++;
        for (; at > 0 && flow->distance[flow->heap[(at - 1) / 2]] > flow->distance[node]; at = (at - 1) / 2)
                heap_put(flow, at, flow->heap[(at - 1) / 2]);
        heap_put(flow, at, node);
}

static uint32_t heap_pop(Flow *flow) {
        uint32_t top = flow->heap[0], last = flow->heap[--flow->n_heap], at = 0;

        flow->place[top] = ABSENT;
        if (flow->n_heap == 0)
                return top;
        for (;;) {
                uint32_t child = at * 2 + 1;

                if (child + 1 < flow->n_heap &&
                    flow->distance[flow->heap[child + 1]] < flow->distance[flow->heap[child]])
                        child++;
                if (child >= flow->n_heap || flow->distance[flow->heap[child]] >= flow->distance[last])
                        break;
                heap_put(flow, at, flow->heap[child]);
                at = child;
        }
        heap_put(flow, at, last);
        return top;
}

/* Dijkstra's algorithm on what is left of the network, with potentials. */

static void relax(Flow *flow, uint32_t from, uint32_t to, double price, uint64_t by) {
        double reduced = price + flow->potential[from] - flow->potential[to];
        double distance = flow->distance[from] + (reduced > 0 ? reduced : 0);

        if (distance >= flow->distance[to] - 1e-6)
                return;
        flow->distance[to] = distance;
        flow->came[to] = by;
        heap_rise(flow, to);
}

static void relax_all(Flow *flow, uint32_t node) {
        if (node + 1 < flow->n_nodes)
                relax(flow, node, node + 1, flow->idle[node] < flow->named[node] ? -flow->forced : 0, BY_IDLE);
        if (node > 0 && flow->idle[node - 1] > 0)
                relax(flow, node, node - 1, flow->idle[node - 1] <= flow->named[node - 1] ? flow->forced : 0,
                      BY_IDLE_BACK);
        for (uint32_t g = flow->first[node]; g < flow->first[node + 1]; g++)
                if (!flow->gaps[g].kept)
                        relax(flow, node, flow->gaps[g].to, -price_of(flow, &flow->gaps[g]), (uint64_t)g << 1);
        for (uint32_t k = flow->first_into[node]; k < flow->first_into[node + 1]; k++) {
                const Gap *gap = &flow->gaps[flow->into[k]];

                if (gap->kept)
                        relax(flow, node, gap->from, price_of(flow, gap), (uint64_t)flow->into[k] << 1 | 1);
        }
}

/* One slot more. */
static void augment(Flow *flow) {
        for (uint32_t i = 0; i < flow->n_nodes; i++) {
                flow->distance[i] = DBL_MAX;
                flow->place[i] = ABSENT;
        }
        flow->distance[0] = 0;
        heap_rise(flow, 0);
        while (flow->n_heap > 0)
                relax_all(flow, heap_pop(flow));
        for (uint32_t i = 0; i < flow->n_nodes; i++)
                flow->potential[i] += flow->distance[i];
        for (uint32_t node = flow->n_nodes - 1; node > 0;) {
                uint64_t by = flow->came[node];

                if (by == BY_IDLE) {
                        flow->idle[--node]++;
                } else if (by == BY_IDLE_BACK) {
                        flow->idle[node++]--;
                } else {
                        Gap *gap = &flow->gaps[by >> 1];

                        gap->kept = !(by & 1);
                        node = by & 1 ? gap->to : gap->from;
                }
        }
}

static void relax_potential(Flow *flow, uint32_t node, const Gap *gap) {
        double potential = flow->potential[node] - price_of(flow, gap);

        if (potential < flow->potential[gap->to])
                flow->potential[gap->to] = potential;
}

/* Before any slot is given, all edges lead forward. */
static void set_potentials(Flow *flow) {
        for (uint32_t i = 0; i < flow->n_nodes; i++)
                flow->potential[i] = 0;
        for (uint32_t i = 0; i < flow->n_nodes; i++) {
                double behind = flow->potential[i] - (i + 1 < flow->n_nodes && flow->named[i] > 0 ? flow->forced : 0);

                if (i + 1 < flow->n_nodes && behind < flow->potential[i + 1])
                        flow->potential[i + 1] = behind;
                for (uint32_t g = flow->first[i]; g < flow->first[i + 1]; g++)
                        relax_potential(flow, i, &flow->gaps[g]);
        }
}

/* The gaps of a kind, which may end with the trace. */

static double moves_of(const Thing *thing, const Prices *prices, Act end, bool over) {
        double price = thing->kind == KIND_SESSION ? 0 : prices->flush;

        if (thing->changes)
                price += prices->save(thing);
        if (end == ACT_USE && !over)
                price += prices->load(thing);
        return price;
}

static int compare_gaps(const void *a, const void *b) {
        const Gap *x = a, *y = b;

        return (x->from > y->from) - (x->from < y->from);
}

static void add_gap(Flow *flow, uint32_t from, uint32_t to, double price, uint32_t thing) {
        if (from >= to)
                return;
        flow->gaps[flow->n_gaps++] = (Gap){ .from = from, .to = to, .price = price, .thing = thing };
        flow->count[thing]++;
        if (price + flow->save[thing] >= flow->forced)
                flow->forced = price + flow->save[thing] + 1;
}

/* Nodes are commands that name things of the kind, other than to flush them. */
static void find_gaps(Flow *flow, const Trace *trace, const Prices *prices, Kind kind) {
        uint32_t *last = new_array(trace->n_things, sizeof(*last)); /* node behind its last use; 0: none */
        uint32_t node = 0, command = UINT32_MAX;

        for (size_t u = 0; u < trace->n_uses; u++) {
                uint32_t i = trace->uses[u].thing;
                const Thing *thing = &trace->things[i];
                Act act = trace->uses[u].act;

                if (thing->kind != kind)
                        continue;
                if (act == ACT_FLUSH) {
                        if (last[i] > 0)
                                add_gap(flow, last[i], node, moves_of(thing, prices, act, false), i);
                        last[i] = 0;
                        continue;
                }
                if (command != trace->uses[u].command)
                        node++;
                else if (last[i] == node)
                        continue; /* it names it twice */
                else
                        flow->named[node - 1]++;
                command = trace->uses[u].command;
                if (act == ACT_MAKE && !thing->changes)
                        flow->save[i] = prices->save(thing);
                if (last[i] > 0)
                        add_gap(flow, last[i], node - 1, moves_of(thing, prices, act, false), i);
                last[i] = node;
        }
        for (uint32_t i = 0; i < trace->n_things; i++)
                if (last[i] > 0)
                        add_gap(flow, last[i], node, moves_of(&trace->things[i], prices, ACT_USE, true), i);
        for (size_t g = 0; g < flow->n_gaps; g++)
                flow->gaps[g].share = 1 / flow->count[flow->gaps[g].thing];
        flow->n_nodes = node + 1;
        free(last);
}

static void link_gaps(Flow *flow) {
        qsort(flow->gaps, flow->n_gaps, sizeof(Gap), compare_gaps);
        for (size_t g = 0; g < flow->n_gaps; g++) {
                flow->first[flow->gaps[g].from + 1]++;
                flow->first_into[flow->gaps[g].to + 1]++;
        }
        for (uint32_t i = 0; i < flow->n_nodes; i++) {
                flow->first[i + 1] += flow->first[i];
                flow->first_into[i + 1] += flow->first_into[i];
                flow->heap[i] = flow->first_into[i];
        }
        for (size_t g = 0; g < flow->n_gaps; g++)
                flow->into[flow->heap[flow->gaps[g].to]++] = (uint32_t)g;
}

static double solve(Flow *flow, unsigned slots) {
        double sum = 0;

        for (size_t g = 0; g < flow->n_gaps; g++)
                flow->gaps[g].kept = false;
        for (uint32_t i = 0; i < flow->n_nodes; i++)
                flow->idle[i] = 0;
        set_potentials(flow);
        for (unsigned k = 1; k < slots; k++)
                augment(flow);
        for (size_t g = 0; g < flow->n_gaps; g++)
                sum += flow->gaps[g].kept ? 0 : price_of(flow, &flow->gaps[g]);
        return sum;
}

/*
 * However the one save of an object is shared out among the gaps in which it may leave, the sum is a bound. It is the
 * higher, the more of the save lies where the object does leave.
 */
static void rebalance(Flow *flow, size_t n_things, double step) {
        double *sum = new_array(n_things, sizeof(*sum));

        for (size_t i = 0; i < n_things; i++)
                flow->mean[i] = 0;
        for (size_t g = 0; g < flow->n_gaps; g++)
                flow->mean[flow->gaps[g].thing] += !flow->gaps[g].kept / flow->count[flow->gaps[g].thing];
        for (size_t g = 0; g < flow->n_gaps; g++) {
                Gap *gap = &flow->gaps[g];

                gap->share += step * (!gap->kept - flow->mean[gap->thing]);
                if (gap->share < 0)
                        gap->share = 0;
                sum[gap->thing] += gap->share;
        }
        for (size_t g = 0; g < flow->n_gaps; g++)
                flow->gaps[g].share /= sum[flow->gaps[g].thing];
        free(sum);
}

#define ROUNDS 24

static double bound_of_kind(const Trace *trace, const Prices *prices, unsigned slots, Kind kind) {
        size_t n = trace->n_uses + trace->n_things + 2;
        Flow flow = {
                .gaps = new_array(n, sizeof(Gap)),
                .first = new_array(n, sizeof(uint32_t)),
                .into = new_array(n, sizeof(uint32_t)),
                .first_into = new_array(n, sizeof(uint32_t)),
                .idle = new_array(n, sizeof(uint32_t)),
                .named = new_array(n, sizeof(uint32_t)),
                .potential = new_array(n, sizeof(double)),
                .distance = new_array(n, sizeof(double)),
                .came = new_array(n, sizeof(uint64_t)),
                .heap = new_array(n, sizeof(uint32_t)),
                .place = new_array(n, sizeof(uint32_t)),
                .save = new_array(n, sizeof(double)),
                .mean = new_array(n, sizeof(double)),
                .count = new_array(n, sizeof(double)),
        };
        void *arrays[] = { flow.gaps,     flow.first, flow.into, flow.first_into, flow.idle, flow.named, flow.potential,
                           flow.distance, flow.came,  flow.heap, flow.place,      flow.save, flow.mean,  flow.count };
        double best = 0;
        bool has_saves = false;

        find_gaps(&flow, trace, prices, kind);
        link_gaps(&flow);
        for (size_t i = 0; i < trace->n_things; i++)
                has_saves |= flow.save[i] > 0;
        for (unsigned round = 0; round < (has_saves ? ROUNDS : 1); round++) {
                double bound = solve(&flow, slots);

                best = bound > best ? bound : best;
                rebalance(&flow, trace->n_things, 1.0 / (2 + round));
        }
        for (size_t i = 0; i < sizeof(arrays) / sizeof(arrays[0]); i++)
                free(arrays[i]);
        return best;
}

double bound_of(const Trace *trace, const Prices *prices, unsigned slots) {
        double sum = trace->n_commands * prices->command;

        for (Kind kind = 0; kind < KINDS; kind++)
                sum += bound_of_kind(trace, prices, slots, kind);
        return sum;
}
