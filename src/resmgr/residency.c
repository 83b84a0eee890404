/* SPDX-License-Identifier: BSD-2-Clause */
#include "resmgr/state.h"

/*
 * What leaves the TPM when a slot is needed: whatever is expected to be used last. The next use is expected one
 * interval after the last one. Clients that take turns are the commonest load, and there that is exactly right, while
 * the least recently used context is the very one that is needed next. What is overdue, or was used only once, is the
 * less likely to be used the longer it has not been.
 */
void rm_use(Rm *rm, RmUse *use) {
        uint64_t interval = rm->tick - use->last;

        if (use->last == rm->tick)
                return;
        if (use->last > 0)
                use->interval = use->interval > 0 ? (use->interval + interval + 1) / 2 : interval;
        use->last = rm->tick;
}

static uint64_t expected_wait(const Rm *rm, const RmUse *use) {
        uint64_t elapsed = rm->tick - use->last;

        return use->interval > elapsed ? use->interval - elapsed : elapsed - use->interval;
}

uint32_t rm_victim_object(Rm *rm, const RmJob *job) {
        uint32_t victim = RM_NONE;
        uint64_t longest = 0;

        for (uint32_t k = 0; k < rm->n_residents; k++) {
                uint32_t i = rm->residents[k];
                const RmObject *object = rm_object(rm, i);
                uint64_t wait = expected_wait(rm, &object->use);

                if (object->residency != RM_RESIDENT || object->unsaveable)
                        continue;
                if (object->state == RM_OBJECT_DOOMED)
                        return i;
                if (job && rm_command_pins_object(rm, job, i))
                        continue;
                if (victim == RM_NONE || wait > longest) {
                        victim = i;
                        longest = wait;
                }
        }
        return victim;
}

uint32_t rm_victim_session(Rm *rm, const RmJob *job) {
        uint32_t victim = RM_NONE;
        uint64_t longest = 0;

        for (uint32_t i = 0; i < rm->n_sessions_used; i++) {
                const RmSession *session = &rm->sessions[i];
                uint64_t wait = expected_wait(rm, &session->use);

                if (session->state <= RM_SESSION_PENDING || session->residency != RM_RESIDENT || session->unsaveable)
                        continue;
                if (session->state == RM_SESSION_DOOMED)
                        return i;
                if (job && rm_command_pins_session(rm, job, i))
                        continue;
                if (victim == RM_NONE || wait > longest) {
                        victim = i;
                        longest = wait;
                }
        }
        return victim;
}

uint32_t rm_slots_needed(Rm *rm, const TpmCommand *command) {
        uint32_t n = command->info.extra;

        if (command->info.attributes & TPMA_CC_RHANDLE && command->info.kind != TPM_COMMAND_START_AUTH_SESSION)
                n++;
        if (rm->memory & TPMA_MEMORY_OBJECTCOPIEDTORAM)
                for (unsigned i = 0; i < command->n_handles; i++)
                        n += tpm_handle_is_persistent(command->handles[i]);
        return n;
}

/* Nobody is refused for a reserve: it only says when to evict what is not needed at once. */
static bool exceeds(const Rm *rm, uint32_t n, uint32_t learned, uint32_t announced) {
        uint32_t n_slots = learned != RM_SLOTS_UNKNOWN ? learned : announced;

        if (rm->reserve == 0)
                return learned != RM_SLOTS_UNKNOWN && n > learned;
        return n > (n_slots > rm->reserve ? n_slots - rm->reserve : 0);
}

bool rm_object_slots_short(Rm *rm, uint32_t n_needed) {
        if (n_needed > 0 && rm->n_residents + n_needed > RM_RESIDENTS_MAX)
                return true;
        return exceeds(rm, rm->n_residents + n_needed, rm->object_slots, rm->transient_min);
}

bool rm_session_slots_short(Rm *rm, uint32_t n_needed) {
        return exceeds(rm, rm_session_n_loaded(rm) + n_needed, rm->session_slots, rm->loaded_min);
}

/*
 * With too little room for n_needed more, there are fewer than residents + n_needed slots. What the TPM promises at
 * least is never doubted, and a number that turns out too high is forgotten rather than lowered: a neighbour may have
 * held a slot for a moment. A command that needs more than its attributes say is known as such from then on.
 */
static uint32_t learn(uint32_t n_used, uint32_t at_least) {
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

void rm_learn_object_slots(Rm *rm, const TpmCommand *command, uint32_t n_needed) {
        TpmCommandInfo *info = command ? tpm_command_table_find(&rm->table, command->header.code) : NULL;

        if (rm->object_slots == RM_SLOTS_UNKNOWN) {
                if (info && n_needed == 0) {
                        learn_extra(info);
                        n_needed = 1;
                }
                rm->object_slots = learn(rm->n_residents + n_needed - 1, rm->transient_min);
        } else if (rm->n_residents + n_needed <= rm->object_slots) {
                if (info && info->extra < 2)
                        learn_extra(info);
                else
                        rm->object_slots = RM_SLOTS_UNKNOWN;
        }
}

void rm_learn_session_slots(Rm *rm) {
        uint32_t n_loaded = rm_session_n_loaded(rm);

        if (rm->session_slots == RM_SLOTS_UNKNOWN)
                rm->session_slots = learn(n_loaded, rm->loaded_min);
        else if (n_loaded < rm->session_slots)
                rm->session_slots = RM_SLOTS_UNKNOWN;
}
