/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RESMGR_MOVE_H
#define RESMGR_MOVE_H

#include "resmgr/residency.h"

/*
 * Moves: contexts into the TPM and out of it
 *
 * An op that finds its work done, or impossible, leaves the stack; what it uncovers is built afresh and sees for
 * itself. Only what is neither the fault of a context nor a matter of room ends the job with the TPM's own code.
 */
RmFlow rm_load_build(Rm *rm, RmJob *job);
RmFlow rm_load_settle(Rm *rm, RmJob *job, const RmAnswer *answer);
RmFlow rm_save_build(Rm *rm, RmJob *job);
RmFlow rm_save_settle(Rm *rm, RmJob *job, const RmAnswer *answer);
RmFlow rm_flush_build(Rm *rm, RmJob *job);
RmFlow rm_flush_settle(Rm *rm, RmJob *job, const RmAnswer *answer);

/* Of a handle that is in no table. */
RmFlow rm_flush_handle_build(Rm *rm, RmJob *job);
RmFlow rm_flush_handle_settle(Rm *rm, RmJob *job, const RmAnswer *answer);

/* The TPM holds nothing under the handle that it was given. */
static inline bool rm_rc_is_unknown_handle(TSS2_RC rc) {
        return rc == TPM2_RC_REFERENCE_H0 || rc == TPM2_RC_HANDLE + TPM2_RC_P + TPM2_RC_1;
}

/* A ContextLoad that failed thus never succeeds: the context alone was at fault. (Or there was nothing to flush.) */
static inline bool rm_rc_is_dead_context(TSS2_RC rc) {
        return rc & TPM2_RC_FMT1 || rc == TPM2_RC_BAD_CONTEXT;
}

static inline bool rm_rc_is_warning(TSS2_RC rc) {
        return (rc & ~0x7Fu) == TPM2_RC_WARN;
}

#endif
