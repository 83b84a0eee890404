/* SPDX-License-Identifier: BSD-2-Clause */
#include "resmgr/capability.h"
#include "resmgr/share.h"

#define ALIGN(n, to) (((n) + (to)-1) / (to) * (to))

/* TPM_PT_MAX_OBJECT_CONTEXT and TPM_PT_MAX_SESSION_CONTEXT of the TPMs known are below these, in bytes. */
#define OBJECT_CONTEXT_MAX 2772
#define SESSION_CONTEXT_MAX 1000
#define CELLS_A_FIXED 5 /* a TPMS_CAPABILITY_DATA is some 1,024 bytes */

static uint32_t count_cells(const RmLimits *limits) {
        uint32_t per_object = rm_cells_for(OBJECT_CONTEXT_MAX);
        uint32_t per_session = rm_cells_for(SESSION_CONTEXT_MAX);

        /* A session may have two contexts, and a new one is stored before the old one is freed. */
        return limits->objects * per_object + RM_SESSIONS * 2 * per_session + per_object + RM_FIXED_MAX * CELLS_A_FIXED;
}

static bool limits_make_sense(const RmLimits *limits) {
        return limits->spaces >= 1 && limits->spaces <= RM_SPACES_MAX && limits->objects >= 1 &&
               limits->objects <= RM_OBJECTS_MAX;
}

/* Where each array begins. Return: where the block ends. */
static uint64_t lay_out(const RmLimits *limits, uint64_t ret_offsets[RM_ARRAYS]) {
        const uint64_t sizes[RM_ARRAYS] = {
                [RM_ARRAY_ENTRIES] = (RM_SESSIONS + (uint64_t)limits->objects) * sizeof(RmEntry),
                [RM_ARRAY_SPACES] = (uint64_t)limits->spaces * sizeof(RmSpace),
                [RM_ARRAY_USERS] = (uint64_t)limits->spaces * sizeof(RmUser),
                [RM_ARRAY_JOBS] = RM_JOBS * sizeof(RmJob),
                [RM_ARRAY_FIXED] = RM_FIXED_MAX * sizeof(RmFixed),
                [RM_ARRAY_CELLS] = (uint64_t)count_cells(limits) * sizeof(RmCell),
        };
        uint64_t end = ALIGN(sizeof(Rm), 4096);

        for (RmArray array = 0; array < RM_ARRAYS; array++) {
                ret_offsets[array] = end;
                end = ALIGN(end + sizes[array], 4096);
        }
        return end;
}

size_t rm_size(const RmLimits *limits) {
        uint64_t offsets[RM_ARRAYS];

        return limits_make_sense(limits) ? lay_out(limits, offsets) : 0;
}

Rm *rm_init(void *block, const RmLimits *limits) {
        Rm *rm = block;

        if (!limits_make_sense(limits))
                return NULL;
        lay_out(limits, rm->offsets);
        rm->limits = *limits;
        rm_set_reserve(rm, limits->reserve, limits->reserve);
        rm->n_cells = count_cells(limits);
        rm->free_space = rm->free_object = rm->free_cell = RM_NONE;
        rm->slots[RM_OBJECT] = rm->slots[RM_SESSION] = RM_SLOTS_UNKNOWN;
        rm->max_command = TPM_MESSAGE_DEFAULT;
        rm->max_context = OBJECT_CONTEXT_MAX;
        rm->active_sessions_max = 64;
        rm->gap = 0xFFFF;
        return rm;
}

void rm_set_time(Rm *rm, uint64_t now) {
        rm->now = now;
}

void rm_set_reserve(Rm *rm, uint32_t n_objects, uint32_t n_sessions) {
        rm->reserve[RM_OBJECT] = n_objects;
        rm->reserve[RM_SESSION] = n_sessions;
}

void rm_retry(Rm *rm) {
        rm->retried = rm->n_jobs;
        rm->due_reconcile |= rm->strangers_left;
        rm->strangers_left = false;
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

TSS2_RC rm_space_open(Rm *rm, uint32_t uid, uint32_t *ret_space) {
        uint32_t i = rm->free_space;

        if (i != RM_NONE)
                rm->free_space = rm_space(rm, i)->next;
        else if (rm->n_spaces_used < rm->limits.spaces)
                i = rm->n_spaces_used++;
        else
                return RM_RC(TPM2_RC_OBJECT_MEMORY);

        *rm_space(rm, i) = (RmSpace){
                .open = true,
                .uid = uid,
                .user = rm_user_join(rm, uid),
                .first_object = RM_NONE,
                .next = RM_NONE,
        };
        *ret_space = i;
        return TSS2_RC_SUCCESS;
}

static uint32_t doom_objects(Rm *rm, uint32_t space) {
        uint32_t n = 0;

        for (; rm_space(rm, space)->first_object != RM_NONE; n++)
                rm_entry_doom(rm, rm_space(rm, space)->first_object);
        return n;
}

void rm_space_close(Rm *rm, uint32_t i) {
        doom_objects(rm, i);
        for (uint32_t k = 0; k < rm->n_sessions_used; k++)
                if (rm_entry(rm, k)->space == i)
                        rm_share_abandon(rm, k);
        rm_space_wait(rm, i, false);
        rm_user(rm, rm_space(rm, i)->user)->n_spaces--;
        if (rm->audit_space == i)
                rm->audit_space = RM_NONE;
        rm_space(rm, i)->open = false;
        rm_space(rm, i)->next = rm->free_space;
        rm->free_space = i;
}

/* Those of a command that is not over are the command's. */
void rm_flush_space(Rm *rm, uint32_t i, uint32_t *ret_n_objects, uint32_t *ret_n_sessions) {
        *ret_n_objects = doom_objects(rm, i);
        *ret_n_sessions = 0;
        for (uint32_t k = 0; k < rm->n_sessions_used; k++)
                if (rm_entry(rm, k)->space == i && rm_exists(rm_entry(rm, k))) {
                        rm_entry_doom(rm, k);
                        (*ret_n_sessions)++;
                }
}

uint32_t rm_flush_sessions(Rm *rm, RmState state) {
        uint32_t n = 0;

        if (state == RM_LEFT_OVER)
                rm->due_reconcile = rm->flush_left_over = true;
        for (uint32_t i = 0; i < rm->n_sessions_used; i++)
                if (rm_entry(rm, i)->state == state) {
                        rm_entry_doom(rm, i);
                        n++;
                }
        return n;
}
