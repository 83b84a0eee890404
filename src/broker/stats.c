/* SPDX-License-Identifier: BSD-2-Clause */
#include "broker/stats.h"

#include <glib.h>

#define COST_RISE 16 /* a command takes so many times the usual at most: beyond that, somebody else had the TPM */

const uint64_t stats_bounds_us[STATS_BOUNDS] = {
        50,     100,    250,    500,     1000,    2500,    5000,     10000,    25000,    50000,
        100000, 250000, 500000, 1000000, 2500000, 5000000, 10000000, 30000000, 60000000, 300000000,
};

void histogram_add(Histogram *histogram, uint64_t us) {
        unsigned i = 0;

        while (i < STATS_BOUNDS && us > stats_bounds_us[i])
                i++;
        histogram->n[i]++;
        histogram->sum_us += us;
}

void usage_add(Usage *usage, const Usage *more) {
        usage->n_commands += more->n_commands;
        usage->n_failed += more->n_failed;
        usage->n_transmits += more->n_transmits;
        usage->wait_us += more->wait_us;
        usage->busy_us += more->busy_us;
        if (more->longest_wait_us > usage->longest_wait_us)
                usage->longest_wait_us = more->longest_wait_us;
}

CommandStats *stats_command(Stats *stats, const Rm *rm, TPM2_CC code) {
        for (unsigned k = 0; k < STATS_COMMANDS; k++) {
                /* The codes of the specification differ in their low byte. */
                CommandStats *command = &stats->commands[(code + k) % STATS_COMMANDS];

                if (command->code == code && code != 0)
                        return command;
                if (command->code != 0)
                        continue;
                if (code == 0 || !rm_implements(rm, code))
                        break;
                command->code = code;
                return command;
        }
        return &stats->others;
}

void stats_note_cost(Stats *stats, TPM2_CC code, uint64_t us) {
        CommandCost *cost = &stats->costs[code % STATS_COMMANDS];

        if (cost->code != code)
                *cost = (CommandCost){ .code = code };
        if (cost->us > 0)
                us = MIN(us, COST_RISE * stats_cost(stats, code, 0));
        cost->us = average_add(cost->us, MAX(us, 1));
}

uint64_t stats_cost(const Stats *stats, TPM2_CC code, uint64_t unknown_us) {
        const CommandCost *cost = &stats->costs[code % STATS_COMMANDS];

        if (cost->code != code || cost->us == 0)
                return unknown_us;
        return cost->us < 8 ? 1 : cost->us / 8;
}
