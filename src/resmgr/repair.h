/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RESMGR_REPAIR_H
#define RESMGR_REPAIR_H

#include "resmgr/gap.h"

/*
 * Repairs: what is done when the TPM refuses
 */

/*
 * The op on top was answered @rc, a failure, and was undone. Return: RM_FLOW_AGAIN: a repair was pushed, or what the
 * op needs was mended; RM_FLOW_PAUSE: try again later; RM_FLOW_CONTINUE: there is nothing to do about it.
 */
RmFlow rm_repair(Rm *rm, RmJob *job, TSS2_RC rc);

#endif
