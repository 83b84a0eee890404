/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef TEST_WORLDS_EXPLORE_H
#define TEST_WORLDS_EXPLORE_H

#include "test/worlds/world.h"

/*
 * All paths of a length from the first state, breadth first: the path that fails first is one of the shortest. A state
 * that was reached before is not continued again.
 */
#define DEPTH_MAX 16

typedef enum Faults {
        FAULTS_NONE,
        FAULTS_WARNING, /* one warning or refusal at any TPM command of the path */
        FAULTS_LOST,    /* one lost answer */
} Faults;

typedef struct Path {
        unsigned n;
        Step steps[DEPTH_MAX];
} Path;

typedef struct Figures {
        uint64_t n_states;
        uint64_t n_steps;
        uint64_t n_faults; /* steps with a fault */
} Figures;

/*
 * @verify: continue states that were reached before by one step, to see that they have the future that their hash
 * promises; this takes some thirty times as long
 *
 * Return: false when a path fails, or memory runs out. What failed is in world; the path is *ret_path.
 */
bool explore(unsigned depth, Faults faults, bool verify, Figures *ret_figures, Path *ret_path);

/* Return: false when a step fails, or is not applicable. */
bool explore_replay(const Path *path);

#endif
