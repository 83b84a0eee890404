/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef SIM_RUN_H
#define SIM_RUN_H

#include "world.h"

/* The run of a seed. */
void run_make(Run *run, uint64_t seed, bool faults);

/*
 * Run it, then each of its clients alone, and compare. Return: whether all is as it must be; else
 * outcome->failure says what is not.
 */
bool run_try(const Run *run, Outcome *outcome, bool verbose);

/* Run it once more. Return: whether everything was as it was the first time; else outcome->failure says that it was
 * not. */
bool run_again(const Run *run, Outcome *outcome);

/* Leave out of a run that fails all that it does not need for it. */
void run_shrink(Run *run, Outcome *outcome);

#endif
