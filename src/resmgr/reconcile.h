/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RESMGR_RECONCILE_H
#define RESMGR_RECONCILE_H

#include "resmgr/gap.h"

/*
 * START:     Startup, then what the TPM can do
 * RECONCILE: what the TPM lists, compared with the tables. What is in no table is flushed, what is not listed is gone;
 * saved sessions in no table are noted as left over.
 *
 * PROVE:     whether an object that others may have touched is the one of its Name
 *
 * These are the only GetCapabilities of ours (but for a gap that is somebody else's): they end exclusive audit
 * sessions, so they come at start, after a reset, and when an answer was lost, never between the commands of a client
 * that does nothing wrong.
 */
RmFlow rm_start_build(Rm *rm, RmJob *job);
RmFlow rm_start_settle(Rm *rm, RmJob *job, const RmAnswer *answer);
RmFlow rm_reconcile_build(Rm *rm, RmJob *job);
RmFlow rm_reconcile_settle(Rm *rm, RmJob *job, const RmAnswer *answer);
RmFlow rm_prove_build(Rm *rm, RmJob *job);
RmFlow rm_prove_settle(Rm *rm, RmJob *job, const RmAnswer *answer);

/* Push what must be settled before a client's command may go out. Return: false when there is nothing. */
bool rm_push_due(Rm *rm, RmJob *job);

#endif
