/* SPDX-License-Identifier: BSD-2-Clause */
#include "resmgr/state.h"

/* Work without a client: each chore pushes what is to be done next, if anything. */

static bool probe(Rm *rm, RmJob *job) {
        for (uint32_t k = 0; k < rm->n_residents; k++) {
                uint32_t i = rm->residents[k];
                const RmObject *object = rm_object(rm, i);

                if (!object->probe)
                        continue;
                /* Neither command allows sessions, so no exclusive audit session ends. */
                rm_push(job,
                        object->clean || object->state == RM_OBJECT_DOOMED ? RM_OP_FLUSH_OBJECT : RM_OP_SAVE_OBJECT, i);
                return true;
        }
        rm->due_probe = false;
        return false;
}

/* What is due stays so until it was done: a failure on the way changes nothing about that. */
bool rm_push_due(Rm *rm, RmJob *job) {
        if (rm->due_start || rm->due_reconcile)
                rm_push(job, RM_OP_RECONCILE, RM_NONE);
        if (rm->due_start)
                rm_push(job, RM_OP_START, RM_NONE);
        return rm->due_start || rm->due_reconcile || (rm->due_probe && probe(rm, job));
}

static bool start(Rm *rm, RmJob *job) {
        rm->due_start = true;
        return rm_push_due(rm, job);
}

static bool clean_up(Rm *rm, RmJob *job) {
        for (uint32_t k = 0; k < rm->n_residents; k++) {
                uint32_t i = rm->residents[k];

                if (rm_object(rm, i)->state == RM_OBJECT_DOOMED && !rm_object(rm, i)->unsaveable) {
                        rm_push(job, RM_OP_FLUSH_OBJECT, i);
                        return true;
                }
        }
        for (uint32_t i = 0; i < rm->n_sessions_used; i++)
                if (rm->sessions[i].state == RM_SESSION_DOOMED && !rm->sessions[i].unsaveable) {
                        rm_push(job, RM_OP_FLUSH_SESSION, i);
                        return true;
                }
        return false;
}

static bool keep_reserve(Rm *rm, RmJob *job) {
        if (rm->reserve == 0 || rm->shut_down)
                return false;
        if (rm_object_slots_short(rm, 0) && rm_evict_object(rm, job))
                return true;
        return rm_session_slots_short(rm, 0) && rm_evict_session(rm, job);
}

static bool save(Rm *rm, RmJob *job) {
        for (uint32_t k = 0; !rm->shut_down && k < rm->n_residents; k++) {
                uint32_t i = rm->residents[k];
                const RmObject *object = rm_object(rm, i);

                if (object->state == RM_OBJECT_LIVE && object->residency == RM_RESIDENT && !object->clean &&
                    !object->unsaveable) {
                        rm_push(job, RM_OP_SAVE_OBJECT, i);
                        return true;
                }
        }
        return false;
}

static bool begin(Rm *rm, RmJob *job, RmChore chore) {
        switch (chore) {
        case RM_CHORE_START:
                return start(rm, job);
        case RM_CHORE_DUE:
                return rm_push_due(rm, job);
        case RM_CHORE_CLEANUP:
                return clean_up(rm, job);
        case RM_CHORE_RESERVE:
                return keep_reserve(rm, job);
        case RM_CHORE_SAVE:
                return save(rm, job);
        case RM_CHORE_RENEW:
                return !rm->shut_down && rm_renew_oldest(rm, job);
        case RM_CHORE_EVICT:
                return !rm->shut_down && (rm_evict_object(rm, job) || rm_evict_session(rm, job));
        default:
                return false;
        }
}

RmJob *rm_job_begin_chore(Rm *rm, RmChore chore) {
        RmJob *job = rm_job_new(rm, false);

        if (job && begin(rm, job, chore))
                return job;
        if (job)
                job->used = false;
        return NULL;
}
