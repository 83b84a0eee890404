/* SPDX-License-Identifier: BSD-2-Clause */
#include "resmgr/residency.h"

/* An entry that the TPM refused to let go is the last choice; of several, the one that was refused longest ago. */
static bool goes_before(const Rm *rm, uint32_t i, uint32_t other) {
        const RmVisits *visits = &rm->visits[rm_kind(i)];
        RmCandidate a = rm_entry_candidate(rm, i), b = rm_entry_candidate(rm, other);

        if (rm_entry(rm, i)->refused != rm_entry(rm, other)->refused)
                return rm_entry(rm, i)->refused < rm_entry(rm, other)->refused;
        return rm_leaves_before(visits, &a, &b) || (i < other && !rm_leaves_before(visits, &b, &a));
}

/* Return: RM_NONE when all that is resident is needed by the job. */
static uint32_t find_victim(const Rm *rm, RmKind kind, const RmJob *job) {
        uint32_t victim = RM_NONE;

        for (uint32_t k = 0; k < rm->n_residents[kind]; k++) {
                uint32_t i = rm->residents[kind][k];
                const RmEntry *entry = rm_entry(rm, i);
                bool doomed = entry->state == RM_DOOMED;

                if (!rm_may_try(rm, entry))
                        continue;
                if (doomed && entry->refused == 0)
                        return i;
                if ((doomed || (entry->residency == RM_RESIDENT && !rm_job_pins(rm, job, i))) &&
                    (victim == RM_NONE || goes_before(rm, i, victim)))
                        victim = i;
        }
        return victim;
}

bool rm_evict(Rm *rm, RmJob *job, RmKind kind) {
        uint32_t i = find_victim(rm, kind, job);
        bool doomed;

        if (job->client) /* a chore may empty the TPM */
                rm_visits_full(&rm->visits[kind], rm->n_residents[kind]);
        if (i == RM_NONE || !rm_may_push(job, 2))
                return false;
        doomed = rm_entry(rm, i)->state == RM_DOOMED;
        if (kind == RM_OBJECT || doomed)
                rm_push(job, RM_OP_FLUSH, i);
        if (!doomed && (kind == RM_SESSION || !rm_entry(rm, i)->clean))
                rm_push(job, RM_OP_SAVE, i);
        return true;
}

void rm_learn_price(Rm *rm, const RmJob *job, uint32_t i, RmMove move) {
        if (rm_kind(i) == RM_OBJECT)
                rm_prices_learn(&rm->prices, move, job->took_us, rm_entry(rm, i)->context.n_bytes);
}

bool rm_save_dirty(Rm *rm, RmJob *job) {
        for (uint32_t k = 0; k < rm->n_residents[RM_OBJECT]; k++) {
                uint32_t i = rm->residents[RM_OBJECT][k];
                const RmEntry *object = rm_entry(rm, i);

                if (object->state == RM_LIVE && object->residency == RM_RESIDENT && !object->clean &&
                    rm_may_try(rm, object))
                        return rm_push(job, RM_OP_SAVE, i) == RM_FLOW_AGAIN;
        }
        return false;
}

uint32_t rm_slots_needed(const Rm *rm, const TpmCommand *command) {
        uint32_t n = command->info.extra;

        if (command->info.attributes & TPMA_CC_RHANDLE && command->info.kind != TPM_COMMAND_START_AUTH_SESSION)
                n++;
        if (rm->memory & TPMA_MEMORY_OBJECTCOPIEDTORAM)
                for (unsigned i = 0; i < command->n_handles; i++)
                        n += tpm_handle_is_persistent(command->handles[i]);
        return n;
}

/* Nobody is refused for a reserve: it only says when to evict what is not needed at once. */
static bool exceeds_slots(const Rm *rm, RmKind kind, uint32_t n) {
        uint32_t learned = rm->slots[kind], reserve = rm->reserve[kind];
        uint32_t n_slots = learned != RM_SLOTS_UNKNOWN ? learned : rm->slots_min[kind];

        if (reserve == 0)
                return learned != RM_SLOTS_UNKNOWN && n > learned;
        return n > (n_slots > reserve ? n_slots - reserve : 0);
}

bool rm_slots_short(const Rm *rm, RmKind kind, uint32_t n_needed) {
        if (n_needed > 0 && rm->n_residents[kind] + n_needed > RM_RESIDENTS_MAX)
                return true;
        return exceeds_slots(rm, kind, rm->n_residents[kind] + n_needed);
}

/*
 * With too little room for n_needed more, there are fewer than residents + n_needed slots. What the TPM promises at
 * least is never doubted, and a number that turns out too high is forgotten rather than lowered: a neighbour may have
 * held a slot for a moment. A command that needs more than its attributes say is known as such from then on.
 */
static uint32_t slots_from(uint32_t n_used, uint32_t at_least) {
        return n_used >= at_least ? n_used : RM_SLOTS_UNKNOWN;
}

/*
 * It may have been a neighbour's doing, so what was learned is tried again after a while, and the longer it has proved
 * true, the later.
 */
static void learn_extra(TpmCommandInfo *info) {
        info->extra++;
        info->n_uses = 0;
        if (info->n_trust == 0)
                info->n_trust = 16;
        else if (info->n_trust < 1u << 12)
                info->n_trust *= 4;
}

void rm_unlearn(Rm *rm, const TpmCommand *command) {
        TpmCommandInfo *info =
                command->info.extra > 0 ? tpm_command_table_find(&rm->table, command->header.code) : NULL;

        if (info && ++info->n_uses >= info->n_trust)
                info->extra = 0;
}

void rm_learn_slots(Rm *rm, RmKind kind, const TpmCommand *command, uint32_t n_needed) {
        TpmCommandInfo *info = command ? tpm_command_table_find(&rm->table, command->header.code) : NULL;

        if (rm->slots[kind] == RM_SLOTS_UNKNOWN) {
                if (info && n_needed == 0) {
                        learn_extra(info);
                        n_needed = 1;
                }
                rm->slots[kind] = slots_from(rm->n_residents[kind] + n_needed - 1, rm->slots_min[kind]);
        } else if (rm->n_residents[kind] + n_needed <= rm->slots[kind]) {
                if (info && info->extra < 2)
                        learn_extra(info);
                else
                        rm->slots[kind] = RM_SLOTS_UNKNOWN;
        }
}

void rm_forget_residents(Rm *rm) {
        rm->fixed_stale = true;
        rm_numbers_forget(rm);
        rm_objects_lost(rm);
        while (rm->n_residents[RM_SESSION] > 0)
                rm_entry_free(rm, rm->residents[RM_SESSION][rm->n_residents[RM_SESSION] - 1]);
        rm->due_start = true;
}

void rm_reopened(Rm *rm) {
        rm->fixed_stale = true;
        rm_residents_doubted(rm, RM_NONE);
        rm->due_start = true;
}

void rm_not_started(Rm *rm) {
        rm_forget_residents(rm);
        /* Starting it is left to its users: only they know in which way. */
        rm->due_start = false;
}
