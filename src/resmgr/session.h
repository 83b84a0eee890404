/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RESMGR_SESSION_H
#define RESMGR_SESSION_H

#include "resmgr/space.h"

/*
 * Sessions: who may do what with which
 *
 * They keep their handles, since those enter the HMACs. HMAC and policy sessions share one index space: the upper byte
 * of a handle does not tell sessions apart.
 */
uint32_t rm_session_find(const Rm *rm, TPM2_HANDLE handle); /* whoever owns it; or RM_NONE */

/* Owned by the space, and not saved by it; or RM_NONE. */
uint32_t rm_session_find_usable(const Rm *rm, uint32_t space, TPM2_HANDLE handle);
bool rm_session_may_flush(const Rm *rm, uint32_t space, uint32_t session);

/* RESIDENT; its context is spent, since one loads once. Return: false when there are too many in the TPM. */
bool rm_session_loaded(Rm *rm, uint32_t session, TPM2_HANDLE handle);

/* Hand it to a space, which started it, or loaded its context. Return: as above. */
bool rm_session_own(Rm *rm, uint32_t session, uint32_t space, TPM2_HANDLE handle);

/* Its context becomes what its client holds. Return: false, and nothing changed, when there is no room for it. */
bool rm_session_give_context(Rm *rm, uint32_t session);

#endif
