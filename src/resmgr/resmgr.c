/* SPDX-License-Identifier: BSD-2-Clause */
#include "resmgr/state.h"

#define ALIGN(n, to) (((n) + (to)-1) / (to) * (to))

#define OBJECTS_MAX 65536
#define SPACES_MAX 65535

/* TPM_PT_MAX_OBJECT_CONTEXT and TPM_PT_MAX_SESSION_CONTEXT of the TPMs known are below these, in bytes. */
#define OBJECT_CONTEXT_MAX 2772
#define SESSION_CONTEXT_MAX 1000
#define CELLS_A_FIXED 5 /* a TPMS_CAPABILITY_DATA is some 1,024 bytes */

static uint32_t count_cells(const RmLimits *limits) {
        uint32_t per_object = (OBJECT_CONTEXT_MAX + RM_CELL_PAYLOAD - 1) / RM_CELL_PAYLOAD;
        uint32_t per_session = (SESSION_CONTEXT_MAX + RM_CELL_PAYLOAD - 1) / RM_CELL_PAYLOAD;

        /* A session may have a copy and a token, and a new copy is stored before the old one is freed. */
        return limits->objects * per_object + RM_SESSIONS * 2 * per_session + per_object + RM_FIXED_MAX * CELLS_A_FIXED;
}

static bool limits_make_sense(const RmLimits *limits) {
        return limits->spaces >= 1 && limits->spaces <= SPACES_MAX && limits->objects >= 1 &&
               limits->objects <= OBJECTS_MAX;
}

/* Where each array begins; the last one is where the block ends. */
static void lay_out(const RmLimits *limits, uint64_t offsets[4]) {
        offsets[0] = ALIGN(sizeof(Rm), 4096);
        offsets[1] = ALIGN(offsets[0] + limits->spaces * sizeof(RmSpace), 4096);
        offsets[2] = ALIGN(offsets[1] + limits->objects * sizeof(RmObject), 4096);
        offsets[3] = ALIGN(offsets[2] + (uint64_t)count_cells(limits) * sizeof(RmCell), 4096);
}

size_t rm_size(const RmLimits *limits) {
        uint64_t offsets[4];

        if (!limits_make_sense(limits))
                return 0;
        lay_out(limits, offsets);
        return offsets[3];
}

Rm *rm_init(void *block, const RmLimits *limits) {
        Rm *rm = block;
        uint64_t offsets[4];

        if (!limits_make_sense(limits))
                return NULL;
        lay_out(limits, offsets);
        rm->limits = *limits;
        rm->spaces_offset = offsets[0];
        rm->objects_offset = offsets[1];
        rm->cells_offset = offsets[2];
        rm->n_cells = count_cells(limits);
        rm->free_space = rm->free_object = rm->free_cell = RM_NONE;
        rm->object_slots = rm->session_slots = RM_SLOTS_UNKNOWN;
        rm->max_command = rm->max_response = TPM_MESSAGE_DEFAULT;
        rm->active_sessions_max = 64;
        rm->gap = 0xFFFF;
        return rm;
}

void rm_set_reserve(Rm *rm, uint32_t n_slots) {
        rm->reserve = n_slots;
}

void rm_set_flush_all(Rm *rm, bool flush_all) {
        rm->flush_all = flush_all;
}

void rm_set_time(Rm *rm, uint64_t now) {
        rm->now = now;
}

uint32_t rm_max_command(const Rm *rm) {
        return rm->max_command;
}

bool rm_implements(const Rm *rm, TPM2_CC code) {
        return tpm_command_table_find((TpmCommandTable *)&rm->table, code) != NULL;
}

const RmCounters *rm_counters(const Rm *rm) {
        return &rm->counters;
}

void rm_forget_residents(Rm *rm) {
        rm_capability_forget(rm);
        rm_object_forget_residents(rm);
        for (uint32_t i = 0; i < rm->n_sessions_used; i++)
                if (rm->sessions[i].residency != RM_ABSENT)
                        rm_session_free(rm, i);
        rm->due_start = true;
}

void rm_not_started(Rm *rm) {
        rm_forget_residents(rm);
        /* Starting it is left to its users: only they know in which way. */
        rm->due_start = false;
}

void rm_settle_all(Rm *rm) {
        for (uint32_t k = rm->n_residents; k > 0; k--)
                rm_object_settle(rm, rm->residents[k - 1]);
        for (uint32_t i = 0; i < rm->n_sessions_used; i++)
                rm_session_settle(rm, i);
}
