/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RESMGR_COMMAND_H
#define RESMGR_COMMAND_H

#include "resmgr/residency.h"

/*
 * The client's command
 *
 * Before it goes out (command.c), its handles are found, what is absent is loaded, its quota taken, room made, and what
 * it may change marked unknown. When it was answered (commit.c), and no earlier, what it did is what the TPM says.
 */
RmFlow rm_command_build(Rm *rm, RmJob *job);
RmFlow rm_command_settle(Rm *rm, RmJob *job, const RmAnswer *answer);

/* It was not done: what it might have changed is as it was. */
void rm_command_undo(Rm *rm, RmJob *job);

#endif
