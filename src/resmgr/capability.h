/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RESMGR_CAPABILITY_H
#define RESMGR_CAPABILITY_H

#include "resmgr/job.h"

/*
 * GetCapability: lists of handles come from the tables, what tells of memory is the client's own, and what never
 * changes is answered from a copy
 */

#define RM_FIXED_MAX 32
#define RM_QUERY_SIZE 12 /* capability, property, count */

/* An answer about what never changes. */
typedef struct RmFixed {
        uint8_t query[RM_QUERY_SIZE];
        RmContext answer; /* its parameters */
} RmFixed;

static inline RmFixed *rm_fixed(const Rm *rm, uint32_t i) {
        return (RmFixed *)rm_array(rm, RM_ARRAY_FIXED) + i;
}

/* Return: RM_FLOW_CONTINUE when the TPM has to be asked. */
RmFlow rm_capability_build(Rm *rm, RmJob *job);

/* The TPM answered; job->out is what it said, and becomes what the client hears. */
RmFlow rm_capability_commit(Rm *rm, RmJob *job);

/* A SetCommandCodeAuditStatus succeeded. */
void rm_capability_set_audit(Rm *rm, const RmJob *job);

#endif
