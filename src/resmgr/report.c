/* SPDX-License-Identifier: BSD-2-Clause */
#include "resmgr/report.h"

#include "resmgr/gap.h"

#include <string.h>

void rm_report(const Rm *rm, RmReport *ret_report) {
        *ret_report = (RmReport){
                .n_objects = rm->n_objects,
                .n_objects_loaded = rm->n_residents[RM_OBJECT],
                .object_slots = rm->slots[RM_OBJECT] == RM_SLOTS_UNKNOWN ? 0 : rm->slots[RM_OBJECT],
                .session_slots = rm->slots[RM_SESSION] == RM_SLOTS_UNKNOWN ? 0 : rm->slots[RM_SESSION],
                .sessions_max = rm->active_sessions_max,
                .gap_max = rm->gap,
                .manufacturer = rm->manufacturer,
                .revision = rm->revision,
        };
        memcpy(ret_report->vendor, rm->vendor, sizeof(rm->vendor));
        memcpy(ret_report->firmware, rm->firmware, sizeof(rm->firmware));
        for (uint32_t i = 0; i < rm->n_sessions_used; i++) {
                const RmEntry *session = rm_entry(rm, i);
                uint64_t gap = rm_gap_distance(rm, session);

                if (!rm_exists(session))
                        continue;
                ret_report->n_sessions[session->state]++;
                ret_report->n_sessions_loaded += session->residency != RM_ABSENT;
                if (gap > ret_report->gap)
                        ret_report->gap = gap;
        }
}

bool rm_report_session(const Rm *rm, uint32_t *at, RmSessionReport *ret_report) {
        while (*at < rm->n_sessions_used) {
                const RmEntry *session = rm_entry(rm, (*at)++);

                if (!rm_exists(session))
                        continue;
                *ret_report = (RmSessionReport){
                        .handle = session->handle,
                        .state = session->state,
                        .space = session->space,
                        .uid = session->uid,
                        .loaded = session->residency != RM_ABSENT,
                        .since = session->since,
                        .gap = rm_gap_distance(rm, session),
                };
                return true;
        }
        return false;
}

void rm_report_space(const Rm *rm, uint32_t space, uint32_t *ret_n_objects, uint32_t *ret_n_sessions) {
        *ret_n_objects = rm_space(rm, space)->held.objects;
        *ret_n_sessions = 0;
        for (uint32_t i = 0; i < rm->n_sessions_used; i++)
                *ret_n_sessions += rm_entry(rm, i)->space == space && rm_exists(rm_entry(rm, i));
}

TpmCommand rm_report_parse(const Rm *rm, const uint8_t *command, size_t n_command) {
        return tpm_command_parse((TpmCommandTable *)&rm->table, command, n_command);
}
