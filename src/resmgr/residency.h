/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RESMGR_RESIDENCY_H
#define RESMGR_RESIDENCY_H

#include "resmgr/job.h"

/*
 * Residency: what stays in the TPM, and how much has room there
 */

/* Push what takes a victim out of the TPM. Return: false when there is none, or the stack has no room. */
bool rm_evict(Rm *rm, RmJob *job, RmKind kind);

void rm_learn_price(Rm *rm, const RmJob *job, uint32_t i, RmMove move); /* the TPM has done it */

/* Push the saving of an object that has no copy; it stays where it is. Return: false when there is none. */
bool rm_save_dirty(Rm *rm, RmJob *job);

/* Object slots that would have to be free for a command, as far as is known. */
uint32_t rm_slots_needed(const Rm *rm, const TpmCommand *command);
bool rm_slots_short(const Rm *rm, RmKind kind, uint32_t n_needed);

/* A warning about slots came while n_needed were needed. @command: NULL for a ContextLoad of ours, or a session. */
void rm_learn_slots(Rm *rm, RmKind kind, const TpmCommand *command, uint32_t n_needed);
void rm_unlearn(Rm *rm, const TpmCommand *command); /* it succeeded: what was learned about it is doubted in time */

/* The TPM says that it was not started: it was reset behind our back, and holds nothing. */
void rm_not_started(Rm *rm);

#endif
