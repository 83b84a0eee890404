/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RESMGR_SHARE_H
#define RESMGR_SHARE_H

#include "resmgr/session.h"

/*
 * Shares: who may have one more, and whose gives way when the TPM has no more session handles
 */

/*
 * Return: TSS2_RC_SUCCESS when the space may have one more, or the refusal. @loaded: the session whose context is
 * loaded, which has its handle already; RM_NONE: a new one.
 */
TSS2_RC rm_share_admit(const Rm *rm, RmKind kind, uint32_t space, uint32_t loaded);

/* Whether it would be admitted now, and a new session find a handle; see rm_room(). */
RmRoom rm_share_room(const Rm *rm, RmKind kind, uint32_t space, uint32_t loaded);

/* The saved session that can best be given up for the client of that space, or for nobody's (RM_NONE); or RM_NONE. */
uint32_t rm_share_find_expendable(const Rm *rm, uint32_t space);

/* Doom it to make room, and count that. */
void rm_share_give_up(Rm *rm, uint32_t session);

/* Its client is gone: what it saved itself is kept, so far as there is room for such. */
void rm_share_abandon(Rm *rm, uint32_t session);

#endif
