/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef TEST_INVARIANTS_H
#define TEST_INVARIANTS_H

#include "resmgr/resmgr.h"

/*
 * What must hold of the resource manager's block between any two calls, whatever a TPM answered: every cell belongs to
 * one owner, every list is whole, every count is right, nothing is absent without a copy, no two sessions share a
 * handle, and no quota is exceeded.
 *
 * Return: NULL, or the first rule that is broken.
 */
const char *rm_invariant_broken(Rm *rm);

#endif
