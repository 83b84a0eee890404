/* SPDX-License-Identifier: BSD-2-Clause */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "test/bench/residency-replay.h"

/*
 * Which of its contexts a TPM keeps, judged by traces: residency [--check] TRACE...
 *
 * Each trace is replayed against resmgr/victim.c and against LRU, and compared with the least that it can cost
 * (residency-bound.h). Without --check, the tables of docs/bench/RESIDENCY.md are printed.
 */
#define SEEDS 4
#define SEED_FIRST 101 /* the policy was made with others */
#define CROWD 4
#define PROGRAMS_MAX 8
#define SLOTS 3 /* what most TPMs have */
#define SLOTS_LEAST 2
#define SLOTS_MOST 7

/*
 * Limits of --check, in commands and in bytes. What programs make they flush again after few uses, when they like; the
 * bound knows when. Where uses are drawn at random, the odds are the measure.
 */
#define N_PRICES 2
static const double OF_BOUND[N_PRICES] = { 1.12, 1.12 };
static const double OF_BOUND_PROGRAMS[N_PRICES] = { 1.17, 1.36 };
static const double OF_ODDS = 1.05;
static const double OF_LRU = 1.01;

static double one(const Thing *thing) {
        return 1;
}

/* With the headers of a command and its answer, and a handle. */
static double bytes_of(const Thing *thing) {
        return 24 + thing->bytes;
}

/* The client's own commands are signatures, some 150 bytes with the answer. */
static const Prices PRICES[N_PRICES] = {
        { "commands", one, one, 1, 1 },
        { "bytes", bytes_of, bytes_of, 24, 150 },
};

typedef struct Result {
        double commands, bound, ours, lru, odds; /* sums over the seeds; odds 0: they are none */
} Result;

typedef struct Programs {
        Trace traces[PROGRAMS_MAX];
        unsigned n;
} Programs;

static void add_result(Result *result, const Trace *trace, const Prices *prices, unsigned slots) {
        result->commands += trace->n_commands;
        result->bound += bound_of(trace, prices, slots);
        result->ours += replay(trace, prices, slots, POLICY_OURS);
        result->lru += replay(trace, prices, slots, POLICY_LRU);
        if (trace->random)
                result->odds += replay(trace, prices, slots, POLICY_ODDS);
}

/* Rows are the workloads, a crowd of each program, and one of all. */
static size_t n_rows(const Programs *programs) {
        return n_workloads + programs->n + (programs->n > 1);
}

static const char *title_of(const Programs *programs, size_t row) {
        static char title[64];

        if (row < n_workloads)
                return workloads[row].name;
        if (row - n_workloads == programs->n)
                return "one of each program";
        snprintf(title, sizeof(title), "%d times %s", CROWD, programs->traces[row - n_workloads].name);
        return title;
}

static Trace make_trace(const Programs *programs, size_t row, uint64_t seed) {
        if (row < n_workloads)
                return trace_make(&workloads[row], seed);
        if (row - n_workloads == programs->n)
                return trace_crowd(programs->traces, programs->n, programs->n, seed);
        return trace_crowd(&programs->traces[row - n_workloads], 1, CROWD, seed);
}

static void run(const Programs *programs, size_t row, unsigned slots, Result ret_results[N_PRICES]) {
        memset(ret_results, 0, N_PRICES * sizeof(Result));
        for (uint64_t seed = SEED_FIRST; seed < SEED_FIRST + SEEDS; seed++) {
                Trace trace = make_trace(programs, row, seed);

                for (size_t p = 0; p < N_PRICES; p++)
                        add_result(&ret_results[p], &trace, &PRICES[p], slots);
                trace_free(&trace);
        }
}

static void print_row(const Programs *programs, size_t row) {
        Result results[N_PRICES];

        run(programs, row, SLOTS, results);
        printf("| %s |", title_of(programs, row));
        for (size_t p = 0; p < N_PRICES; p++) {
                const Result *result = &results[p];

                printf(p == 0 ? " %.2f |" : " %.0f |", result->bound / result->commands);
                printf(" %.2f | **%.2f** |", result->lru / result->bound, result->ours / result->bound);
                if (result->odds > 0)
                        printf(" %.2f |", result->odds / result->bound);
                else
                        printf(" |");
        }
        printf("\n");
}

/* Means and worst of all rows, for a number of slots. */
static void print_slots(const Programs *programs, unsigned slots) {
        printf("| %u |", slots);
        for (size_t p = 0; p < N_PRICES; p++) {
                double lru = 0, ours = 0, worst = 0;

                for (size_t row = 0; row < n_rows(programs); row++) {
                        Result results[N_PRICES];

                        run(programs, row, slots, results);
                        lru += results[p].lru / results[p].bound;
                        ours += results[p].ours / results[p].bound;
                        if (results[p].ours / results[p].lru > worst)
                                worst = results[p].ours / results[p].lru;
                }
                printf(" %.2f | **%.2f** | %.3f |", lru / (double)n_rows(programs), ours / (double)n_rows(programs),
                       worst);
        }
        printf("\n");
}

static void print_tables(const Programs *programs) {
        printf("# Which contexts stay in the TPM\n\n"
               "`make bench-residency` writes this page: no time is measured, and it is the same on every machine. "
               "The\n"
               "policy (`src/resmgr/victim.c`) is replayed on traces, by itself, with as many slots for sessions as "
               "for\n"
               "objects. Drawn traces have %u seeds, none of which the policy was made with. The traces of programs "
               "are\n"
               "those of `test/bench/traces`, of %u clients that take turns; `test/bench/record.py` records them.\n\n"
               "*At best* is what the trace costs at least, for each command of a client, its own included, if all of "
               "the\n"
               "future is known: TPM commands; and bytes on the bus, with the contexts of an SLB9673, which is behind "
               "I2C\n"
               "(objects 1,800 bytes, sessions 328). The other columns are multiples of that. *Odds* is a policy that "
               "knows\n"
               "how likely each use is, which is all that can be known where uses are drawn at random.\n\n"
               "## %u slots\n\n"
               "| trace | at best, commands | LRU | ours | odds | at best, bytes | LRU | ours | odds |\n"
               "|---|---|---|---|---|---|---|---|---|\n",
               SEEDS, CROWD, SLOTS);
        for (size_t row = 0; row < n_rows(programs); row++)
                print_row(programs, row);
        printf("\n## Other numbers of slots\n\n"
               "Means over all traces, as multiples of the best, and the trace that is worst beside LRU.\n\n"
               "| slots | LRU, commands | ours | worst, ours / LRU | LRU, bytes | ours | worst, ours / LRU |\n"
               "|---|---|---|---|---|---|---|\n");
        for (unsigned slots = SLOTS_LEAST; slots <= SLOTS_MOST; slots++)
                print_slots(programs, slots);
}

/* Return: false, and says why: a limit is broken. */
static bool check_row(const Programs *programs, size_t row) {
        Result results[N_PRICES];
        bool good = true;

        run(programs, row, SLOTS, results);
        for (size_t p = 0; p < N_PRICES; p++) {
                const Result *result = &results[p];
                double of_bound = row < n_workloads ? OF_BOUND[p] : OF_BOUND_PROGRAMS[p];
                double goal = result->odds > 0 ? result->odds * OF_ODDS : result->bound * of_bound;

                if (result->ours <= goal && result->ours <= result->lru * OF_LRU &&
                    result->ours >= result->bound * 0.999)
                        continue;
                printf("%s: %s: %.3f of the best, %.3f of LRU, %.3f of what odds tell\n", title_of(programs, row),
                       PRICES[p].unit, result->ours / result->bound, result->ours / result->lru,
                       result->odds > 0 ? result->ours / result->odds : 0);
                good = false;
        }
        return good;
}

static bool read_program(Programs *programs, const char *path) {
        Trace *trace = &programs->traces[programs->n];
        const char *name = strrchr(path, '/');

        if (programs->n == PROGRAMS_MAX || !trace_read(path, trace))
                return false;
        trace->name = name ? name + 1 : path;
        programs->n++;
        return true;
}

int main(int argc, char *argv[]) {
        Programs programs = { 0 };
        bool check = argc > 1 && strcmp(argv[1], "--check") == 0;
        unsigned n_broken = 0;

        for (int i = check ? 2 : 1; i < argc; i++)
                if (!read_program(&programs, argv[i]))
                        return 2;
        if (!check)
                print_tables(&programs);
        for (size_t row = 0; check && row < n_rows(&programs); row++)
                n_broken += !check_row(&programs, row);
        if (check)
                printf("%zu traces, %u beyond a limit\n", n_rows(&programs), n_broken);
        for (unsigned i = 0; i < programs.n; i++)
                trace_free(&programs.traces[i]);
        return n_broken > 0;
}
