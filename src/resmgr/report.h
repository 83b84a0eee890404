/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RESMGR_REPORT_H
#define RESMGR_REPORT_H

#include "resmgr/resmgr.h"
#include "tpm/command.h"

/*
 * What the resource manager holds, for people to look at. It changes nothing.
 */
typedef struct RmReport {
        uint32_t n_objects, n_objects_loaded;
        uint32_t object_slots;                             /* 0: not known yet */
        uint32_t n_sessions[RM_STATES], n_sessions_loaded; /* RM_LIVE and further */
        uint32_t session_slots;                            /* 0: not known yet */
        uint32_t sessions_max;                             /* TPM_PT_ACTIVE_SESSIONS_MAX */
        uint64_t gap, gap_max; /* contexts saved since the oldest saved session was, and how many may be */

        /* TPM properties (Part 2, section 6.13); 0: not known yet */
        uint32_t manufacturer, vendor[4], firmware[2], revision;
} RmReport;

typedef struct RmSessionReport {
        TPM2_HANDLE handle;
        RmState state;
        uint32_t space; /* RM_NONE: nobody's */
        uint32_t uid;   /* meaningless when it is left over */
        bool loaded;
        uint64_t since; /* rm_set_time() when it was started, or first seen */
        uint64_t gap;   /* contexts saved since it was; 0 when it is loaded */
} RmSessionReport;

void rm_report(const Rm *rm, RmReport *ret_report);

/* The next session, from *at on, which begins with 0. Return: false: there are no more. */
bool rm_report_session(const Rm *rm, uint32_t *at, RmSessionReport *ret_report);

void rm_report_space(const Rm *rm, uint32_t space, uint32_t *ret_n_objects, uint32_t *ret_n_sessions);

/* A command as the TPM that is there would read it. */
TpmCommand rm_report_parse(const Rm *rm, const uint8_t *command, size_t n_command);

#endif
