/* SPDX-License-Identifier: BSD-2-Clause */
#include "resmgr/report.h"

#include "resmgr/state.h"

/* Return: false for an entry that is free, or of a command that is not over. */
static bool kind_of(const RmSession *session, RmKind *ret_kind) {
        switch (session->state) {
        case RM_SESSION_OWNED:
                *ret_kind = RM_KIND_OWNED;
                return true;
        case RM_SESSION_CLIENT_SAVED:
                *ret_kind = RM_KIND_CLIENT_SAVED;
                return true;
        case RM_SESSION_ABANDONED:
                *ret_kind = RM_KIND_ABANDONED;
                return true;
        case RM_SESSION_LEFTOVER:
                *ret_kind = RM_KIND_LEFT_OVER;
                return true;
        case RM_SESSION_DOOMED:
                *ret_kind = RM_KIND_DOOMED;
                return true;
        default:
                return false;
        }
}

/* What the number of a session that is loaded, or whose context we never saw, would say is nothing. */
static uint64_t gap_of(const RmSession *session, uint64_t newest) {
        bool saved = session->residency == RM_ABSENT && session->copy.first != RM_NONE;

        return saved ? newest - session->sequence : 0;
}

void rm_report(const Rm *rm, RmReport *ret_report) {
        uint64_t newest = rm_session_newest(rm);

        *ret_report = (RmReport){
                .n_objects = rm->n_objects,
                .n_objects_loaded = rm->n_residents,
                .object_slots = rm->object_slots == RM_SLOTS_UNKNOWN ? 0 : rm->object_slots,
                .session_slots = rm->session_slots == RM_SLOTS_UNKNOWN ? 0 : rm->session_slots,
                .sessions_max = rm->active_sessions_max,
                .gap_max = rm->gap,
                .manufacturer = rm->manufacturer,
                .revision = rm->revision,
        };
        for (unsigned i = 0; i < 4; i++)
                ret_report->vendor[i] = rm->vendor[i];
        for (unsigned i = 0; i < 2; i++)
                ret_report->firmware[i] = rm->firmware[i];
        for (uint32_t i = 0; i < rm->n_sessions_used; i++) {
                const RmSession *session = &rm->sessions[i];
                uint64_t gap = gap_of(session, newest);
                RmKind kind;

                if (!kind_of(session, &kind))
                        continue;
                ret_report->n_sessions[kind]++;
                ret_report->n_sessions_loaded += session->residency != RM_ABSENT;
                if (gap > ret_report->gap)
                        ret_report->gap = gap;
        }
}

bool rm_report_session(const Rm *rm, uint32_t *at, RmSessionReport *ret_report) {
        uint64_t newest = rm_session_newest(rm);

        while (*at < rm->n_sessions_used) {
                const RmSession *session = &rm->sessions[(*at)++];
                RmKind kind;

                if (!kind_of(session, &kind))
                        continue;
                *ret_report = (RmSessionReport){
                        .handle = session->handle,
                        .kind = kind,
                        .space = session->space,
                        .uid = session->uid,
                        .loaded = session->residency != RM_ABSENT,
                        .since = session->since,
                        .gap = gap_of(session, newest),
                };
                return true;
        }
        return false;
}

void rm_report_space(const Rm *rm, uint32_t space, uint32_t *ret_n_objects, uint32_t *ret_n_sessions) {
        RmKind kind;

        *ret_n_objects = rm_space((Rm *)rm, space)->n_objects;
        *ret_n_sessions = 0;
        for (uint32_t i = 0; i < rm->n_sessions_used; i++)
                *ret_n_sessions += rm->sessions[i].space == space && kind_of(&rm->sessions[i], &kind);
}

TpmCommand rm_report_parse(const Rm *rm, const uint8_t *command, size_t n_command) {
        return tpm_command_parse((TpmCommandTable *)&rm->table, command, n_command);
}
