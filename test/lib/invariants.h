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

/*
 * Whatever claims to be in the TPM is there. What is to be flushed, or to be asked for, claims nothing.
 *
 * Return: NULL, or what is claimed wrongly. @lists says what the TPM lists.
 */
const char *rm_claim_broken(Rm *rm, bool (*lists)(TPM2_HANDLE handle));

/* While no command is out, it is known where each object is. Return: NULL, or what is not. */
const char *rm_rest_broken(Rm *rm);

bool rm_is_in_doubt(const Rm *rm);              /* the tables may be wrong, and are to be compared with the TPM */
bool rm_has_handle(Rm *rm, TPM2_HANDLE handle); /* of a session, or of an object that is in the TPM */

#endif
