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

/*
 * Nothing of a client's own command, as it goes to the TPM, may be another client's.
 *
 * Return: NULL, or what of it is.
 */
const char *rm_border_broken(Rm *rm, uint32_t space, const uint8_t *bytes, size_t n_bytes);

#endif
