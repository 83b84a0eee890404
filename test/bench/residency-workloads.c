/* SPDX-License-Identifier: BSD-2-Clause */
#include "test/bench/residency-trace.h"

#include <math.h>

#include "test/sim/random.h"

#define COMMANDS 6000

static void add_objects(Trace *trace, unsigned n) {
        while (n-- > 0)
                trace_add_thing(trace, KIND_OBJECT, false);
}

static void use(Trace *trace, uint32_t thing) {
        trace_add_use(trace, thing, ACT_USE);
        trace->n_commands++;
}

/* One after the other. Arguments: keys, signatures with each */
static void make_turns(Trace *trace, uint64_t seed, const double arguments[3]) {
        unsigned n = (unsigned)arguments[0], batch = (unsigned)arguments[1];

        add_objects(trace, n);
        for (unsigned t = 0; t < COMMANDS; t++)
                use(trace, t / batch % n);
}

static void set_odds(Trace *trace, unsigned n, double exponent) {
        double sum = 0;

        for (unsigned i = 0; i < n; i++)
                sum += pow(i + 1, -exponent);
        for (unsigned i = 0; i < n; i++)
                trace->things[i].odds = pow(i + 1, -exponent) / sum;
        trace->random = true;
}

static uint32_t draw(const Trace *trace, Random *random, unsigned n) {
        double point = (double)(random_next(random) >> 11) / (double)(1ull << 53);
        uint32_t i = 0;

        while (i + 1 < n && point >= trace->things[i].odds)
                point -= trace->things[i++].odds;
        return i;
}

/* By rank. Arguments: keys, exponent */
static void make_zipf(Trace *trace, uint64_t seed, const double arguments[3]) {
        Random random = { seed };
        unsigned n = (unsigned)arguments[0];

        add_objects(trace, n);
        set_odds(trace, n, arguments[1]);
        for (unsigned t = 0; t < COMMANDS; t++)
                use(trace, draw(trace, &random, n));
}

/* A set that is in use, and one that goes through all of many keys once. Arguments: keys in use, uses, keys gone
 * through */
static void make_scan(Trace *trace, uint64_t seed, const double arguments[3]) {
        Random random = { seed };
        unsigned n = (unsigned)arguments[0];

        add_objects(trace, n + (unsigned)arguments[2]);
        while (trace->n_commands < COMMANDS) {
                for (unsigned k = 0; k < (unsigned)arguments[1]; k++)
                        use(trace, random_below(&random, n));
                for (unsigned k = 0; k < (unsigned)arguments[2]; k++)
                        use(trace, n + k);
        }
}

/* Sets that follow each other. Arguments: keys in a set, uses of it, whether in turn */
static void make_moving(Trace *trace, uint64_t seed, const double arguments[3]) {
        Random random = { seed };
        unsigned n = (unsigned)arguments[0], uses = (unsigned)arguments[1];

        add_objects(trace, n * 8);
        for (unsigned i = 0; i < n * 8; i++)
                trace->things[i].odds = 1.0 / n;
        trace->random = arguments[2] == 0;
        trace->set_size = n;
        trace->set_uses = uses;
        for (unsigned t = 0; t < COMMANDS; t++) {
                unsigned k = arguments[2] > 0 ? t % n : random_below(&random, n);

                use(trace, t / uses % 8 * n + k);
        }
}

/* A parent is named, then one of its keys. Arguments: parents, keys of each, uses of a key each time */
static void make_pairs(Trace *trace, uint64_t seed, const double arguments[3]) {
        Random random = { seed };
        unsigned parents = (unsigned)arguments[0], keys = (unsigned)arguments[1];

        add_objects(trace, parents * (1 + keys));
        while (trace->n_commands < COMMANDS) {
                unsigned p = random_below(&random, parents), k = random_below(&random, keys);

                use(trace, p);
                for (unsigned n = 0; n < (unsigned)arguments[2]; n++)
                        use(trace, parents + p * keys + k);
        }
        /* draws are of pairs: what is known of one key is its part, and of a parent that of all its keys */
        for (unsigned i = 0; i < trace->n_things; i++)
                trace->things[i].odds = i < parents ? 1.0 / parents : 1.0 / (parents * keys);
        trace->random = true;
}

/* A client's parent stays, its keys are loaded, used and flushed. Arguments: clients, uses of a key, whether in turn */
static void make_children(Trace *trace, uint64_t seed, const double arguments[3]) {
        Random random = { seed };
        unsigned n = (unsigned)arguments[0];
        struct {
                uint32_t key;
                unsigned left;
        } clients[16] = { 0 };

        add_objects(trace, n);
        for (unsigned c = 0; trace->n_commands < COMMANDS; c = (c + 1) % n) {
                if (random_below(&random, 10) >= (unsigned)arguments[2])
                        c = random_below(&random, n);
                if (clients[c].left == 0) {
                        trace_add_use(trace, c, ACT_USE);
                        clients[c].key = trace_add_thing(trace, KIND_OBJECT, false);
                        clients[c].left = (unsigned)arguments[1] + 1;
                        trace_add_use(trace, clients[c].key, ACT_MAKE);
                } else {
                        trace_add_use(trace, clients[c].key, --clients[c].left > 0 ? ACT_USE : ACT_FLUSH);
                }
                trace->n_commands++;
        }
}

/* Clients with a key, a session, a sequence. Arguments: clients, a use of the sequence in so many, of ten in turn */
static void make_mixed(Trace *trace, uint64_t seed, const double arguments[3]) {
        Random random = { seed };
        unsigned n = (unsigned)arguments[0], period = (unsigned)arguments[1], uses[16] = { 0 };
        double share = period > 0 ? 1 / arguments[1] : 0;

        for (unsigned c = 0; c < n; c++) {
                trace_add_thing(trace, KIND_OBJECT, false);
                trace_add_thing(trace, KIND_SESSION, true);
                trace_add_thing(trace, KIND_OBJECT, true);
                trace->things[3 * c].odds = (1 - share) / n;
                trace->things[3 * c + 1].odds = 1.0 / n;
                trace->things[3 * c + 2].odds = share / n;
        }
        trace->random = arguments[2] == 0;
        for (unsigned c = 0; trace->n_commands < COMMANDS; c = (c + 1) % n) {
                if (random_below(&random, 10) >= (unsigned)arguments[2])
                        c = random_below(&random, n);
                trace_add_use(trace, 3 * c + (period > 0 && ++uses[c] % period == 0 ? 2 : 0), ACT_USE);
                trace_add_use(trace, 3 * c + 1, ACT_USE);
                trace->n_commands++;
        }
}

const Workload workloads[] = {
        { "4 keys in turn", make_turns, { 4, 1 } },
        { "5 keys in turn", make_turns, { 5, 1 } },
        { "10 keys in turn", make_turns, { 10, 1 } },
        { "5 keys in turn, 4 uses each", make_turns, { 5, 4 } },
        { "10 keys in turn, 8 uses each", make_turns, { 10, 8 } },
        { "Zipf 0.8 of 20 keys", make_zipf, { 20, 0.8 } },
        { "Zipf 1.0 of 20 keys", make_zipf, { 20, 1.0 } },
        { "Zipf 1.2 of 20 keys", make_zipf, { 20, 1.2 } },
        { "2 keys, and a scan of 30", make_scan, { 2, 60, 30 } },
        { "2 keys, and scans of 4", make_scan, { 2, 8, 4 } },
        { "sets of 5 keys, in turn for 100 uses", make_moving, { 5, 100, 1 } },
        { "sets of 5 keys, at random for 100 uses", make_moving, { 5, 100, 0 } },
        { "sets of 3 keys, in turn for 30 uses", make_moving, { 3, 30, 1 } },
        { "sets of 3 keys, at random for 30 uses", make_moving, { 3, 30, 0 } },
        { "a parent and one of its 8 keys", make_pairs, { 1, 8, 1 } },
        { "2 parents and one of their 8 keys", make_pairs, { 2, 8, 1 } },
        { "2 parents and one of their 8 keys, 3 uses", make_pairs, { 2, 8, 3 } },
        { "4 clients load a key, use it 3 times", make_children, { 4, 3, 10 } },
        { "8 clients load a key, use it once", make_children, { 8, 1, 10 } },
        { "8 clients load a key, use it once; at random", make_children, { 8, 1, 0 } },
        { "5 clients, key and session", make_mixed, { 5, 0, 10 } },
        { "5 clients, key and session; one of ten at random", make_mixed, { 5, 0, 9 } },
        { "5 clients, key and session; at random", make_mixed, { 5, 0, 0 } },
        { "4 clients, key, session, sequence", make_mixed, { 4, 4, 10 } },
        { "4 clients, key, session, sequence; at random", make_mixed, { 4, 4, 0 } },
};
const size_t n_workloads = sizeof(workloads) / sizeof(workloads[0]);

Trace trace_make(const Workload *workload, uint64_t seed) {
        Trace trace = { .name = workload->name };

        workload->make(&trace, seed, workload->arguments);
        return trace;
}
