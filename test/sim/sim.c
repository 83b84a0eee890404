/* SPDX-License-Identifier: BSD-2-Clause */
#include "chip.h"
#include "run.h"

#include "util/log.h"

#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static const char usage[] =
        "usage: sim [--chip NAME] [--faults] [--first N] [--seeds N] [--jobs N] [--no-shrink]\n"
        "       sim [--chip NAME] [--faults] --seed N [--keep LIST] [--no-shrink] [--verbose]\n"
        "\n"
        "Runs programs of many clients against broker and resource manager on a TPM in this process, one run a\n"
        "seed, and compares what each client is answered with what it is answered alone.\n"
        "\n"
        "  --chip NAME    on a fake TPM with the sizes of a real chip: slb9670, npct75x, ...\n"
        "  --faults       warnings, lost and malformed answers, resets, neighbours and the like on top\n"
        "  --first N      the first seed (1)\n"
        "  --seeds N      so many of them (100)\n"
        "  --jobs N       in so many processes (as many as there are processors)\n"
        "  --seed N       this one alone\n"
        "  --keep LIST    ... and of its events only these: 3,7,9-12\n"
        "  --no-shrink    do not look for the fewest events with which a seed still fails\n"
        "  --verbose      ... and print every answer\n";

typedef struct Options {
        bool faults, verbose, shrink, single;
        uint64_t first, seeds;
        unsigned jobs;
        const char *chip, *keep;
} Options;

/* What the processes have done together. */
typedef struct Total {
        uint64_t n_runs, n_programs, n_commands, n_transmits, n_passed, n_failed;
} Total;

#define AGAIN 50 /* of so many seeds, one a process is run twice */

static Run run;
static Outcome outcome;

static void keep_events(const char *list) {
        unsigned n = 0;

        while (*list) {
                char *end;
                unsigned long from = strtoul(list, &end, 10);
                unsigned long to = *end == '-' ? strtoul(end + 1, &end, 10) : from;

                for (; from <= to && from < run.n_events; from++)
                        run.events[n++] = run.events[from];
                list = *end == ',' ? end + 1 : "";
        }
        run.n_events = n;
}

/* Events of the seed's own run that are left, as --keep takes them. */
static void print_kept(const Options *options) {
        static Run whole;
        unsigned at = 0;

        run_make(&whole, run.seed, options->faults);
        printf("  sim%s%s%s --seed %" PRIu64 " --verbose --keep ", options->chip ? " --chip " : "", options->chip ?: "",
               options->faults ? " --faults" : "", run.seed);
        for (unsigned i = 0; i < run.n_events; i++, at++) {
                while (memcmp(&whole.events[at], &run.events[i], sizeof(Event)) != 0)
                        at++;
                printf("%s%u", i ? "," : "", at);
        }
        printf("\n");
}

static void report(const Options *options) {
        printf("seed %" PRIu64 "%s fails: %s\n", run.seed, options->faults ? " with faults" : "", outcome.failure);
        if (!options->shrink)
                return;
        fflush(stdout);
        if (run_try(&run, &outcome, false)) {
                printf("  ... and then it does not: time, or memory that was never written, must have a part in it\n");
                return;
        }
        run_shrink(&run, &outcome);
        printf("  %u events are enough: %s\n", run.n_events, outcome.failure);
        print_kept(options);
        fflush(stdout);
}

static int run_one(const Options *options) {
        run_make(&run, options->first, options->faults);
        if (options->keep)
                keep_events(options->keep);
        if (run_try(&run, &outcome, options->verbose)) {
                printf("seed %" PRIu64 ": %u clients, %" PRIu64 " commands, %" PRIu64 " of the TPM: as it must be\n",
                       run.seed, run.n_clients, outcome.n_commands, outcome.n_transmits);
                return 0;
        }
        report(options);
        return 1;
}

static void work(const Options *options, unsigned job, Total *total) {
        for (uint64_t i = job; i < options->seeds; i += options->jobs) {
                run_make(&run, options->first + i, options->faults);
                if (!run_try(&run, &outcome, false) || (i % AGAIN < options->jobs && !run_again(&run, &outcome))) {
                        __atomic_add_fetch(&total->n_failed, 1, __ATOMIC_RELAXED);
                        report(options);
                        break;
                }
                __atomic_add_fetch(&total->n_runs, 1, __ATOMIC_RELAXED);
                __atomic_add_fetch(&total->n_programs, run.n_clients, __ATOMIC_RELAXED);
                __atomic_add_fetch(&total->n_commands, outcome.n_commands, __ATOMIC_RELAXED);
                __atomic_add_fetch(&total->n_transmits, outcome.n_transmits, __ATOMIC_RELAXED);
                __atomic_add_fetch(&total->n_passed, outcome.n_passed, __ATOMIC_RELAXED);
        }
}

static double seconds(void) {
        struct timespec now;

        clock_gettime(CLOCK_MONOTONIC, &now);
        return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static int run_many(const Options *options) {
        Total *total = mmap(NULL, sizeof(*total), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        double begin = seconds();
        bool crashed = false;
        int status;

        if (total == MAP_FAILED)
                return 2;
        fflush(stdout);
        for (unsigned job = 0; job < options->jobs; job++) {
                pid_t pid = fork();

                if (pid < 0)
                        return 2;
                if (pid == 0) {
                        work(options, job, total);
                        fflush(stdout);
                        exit(0);
                }
        }
        while (wait(&status) > 0)
                crashed |= status != 0;
        begin = seconds() - begin;
        printf("%" PRIu64 " seeds%s: %" PRIu64 " programs, %" PRIu64 " commands, %" PRIu64 " of the TPM, %" PRIu64
               " turns out of order, %.0f s, %.0f commands per second, %" PRIu64 " failed%s\n",
               total->n_runs, options->faults ? " with faults" : "", total->n_programs, total->n_commands,
               total->n_transmits, total->n_passed, begin, (double)total->n_commands / begin, total->n_failed,
               crashed ? ", and a process died" : "");
        return total->n_failed || crashed || total->n_runs != options->seeds;
}

int main(int argc, char **argv) {
        static const struct option long_options[] = {
                { "chip", required_argument, NULL, 'c' },  { "faults", no_argument, NULL, 'f' },
                { "first", required_argument, NULL, 'i' }, { "seeds", required_argument, NULL, 'n' },
                { "jobs", required_argument, NULL, 'j' },  { "seed", required_argument, NULL, 's' },
                { "keep", required_argument, NULL, 'k' },  { "no-shrink", no_argument, NULL, 'm' },
                { "verbose", no_argument, NULL, 'v' },     { NULL, 0, NULL, 0 },
        };
        Options options = { .first = 1, .seeds = 100, .jobs = (unsigned)sysconf(_SC_NPROCESSORS_ONLN), .shrink = true };
        int c;

        log_open(LOG_TARGET_STDOUT, "sim", LOG_EMERG);
        while ((c = getopt_long(argc, argv, "", long_options, NULL)) != -1) {
                switch (c) {
                case 'c':
                        if (!chip_choose(optarg)) {
                                fprintf(stderr, "sim: there is no chip %s\n", optarg);
                                return 2;
                        }
                        options.chip = optarg;
                        break;
                case 'f':
                        options.faults = true;
                        break;
                case 'i':
                        options.first = strtoull(optarg, NULL, 0);
                        break;
                case 'n':
                        options.seeds = strtoull(optarg, NULL, 0);
                        break;
                case 'j':
                        options.jobs = (unsigned)strtoul(optarg, NULL, 0);
                        break;
                case 's':
                        options.single = true;
                        options.first = strtoull(optarg, NULL, 0);
                        break;
                case 'k':
                        options.keep = optarg;
                        break;
                case 'm':
                        options.shrink = false;
                        break;
                case 'v':
                        options.verbose = true;
                        break;
                default:
                        fputs(usage, stderr);
                        return 2;
                }
        }
        if (optind < argc || options.jobs == 0) {
                fputs(usage, stderr);
                return 2;
        }
        return options.single ? run_one(&options) : run_many(&options);
}
