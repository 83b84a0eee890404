/* SPDX-License-Identifier: BSD-2-Clause */
#include "resmgr/reconcile.h"

/* Work without a client: each chore pushes what is to be done next, if anything. */

static bool start_tpm(Rm *rm, RmJob *job) {
        rm->due_start = true;
        return rm_push_due(rm, job);
}

static bool clean_up(Rm *rm, RmJob *job) {
        for (uint32_t k = 0; k < rm->n_residents[RM_OBJECT]; k++) {
                uint32_t i = rm->residents[RM_OBJECT][k];

                if (rm_entry(rm, i)->state == RM_DOOMED && rm_may_try(rm, rm_entry(rm, i)))
                        return rm_push(job, RM_OP_FLUSH, i) == RM_FLOW_AGAIN;
        }
        for (uint32_t i = 0; i < rm->n_sessions_used; i++)
                if (rm_entry(rm, i)->state == RM_DOOMED && rm_may_try(rm, rm_entry(rm, i)))
                        return rm_push(job, RM_OP_FLUSH, i) == RM_FLOW_AGAIN;
        return false;
}

static bool evict_any(Rm *rm, RmJob *job) {
        return !rm->shut_down && (rm_evict(rm, job, RM_OBJECT) || rm_evict(rm, job, RM_SESSION));
}

static bool keep_reserve_of(Rm *rm, RmJob *job, RmKind kind) {
        return rm->reserve[kind] > 0 && rm_slots_short(rm, kind, 0) && rm_evict(rm, job, kind);
}

static bool keep_reserve(Rm *rm, RmJob *job) {
        return !rm->shut_down && (keep_reserve_of(rm, job, RM_OBJECT) || keep_reserve_of(rm, job, RM_SESSION));
}

static bool save_object(Rm *rm, RmJob *job) {
        return !rm->shut_down && rm_save_dirty(rm, job);
}

RmJob *rm_job_begin_chore(Rm *rm, RmChore chore) {
        static bool (*const CHORES[])(Rm * rm, RmJob * job) = {
                [RM_CHORE_START] = start_tpm,      [RM_CHORE_DUE] = rm_push_due,  [RM_CHORE_CLEANUP] = clean_up,
                [RM_CHORE_RESERVE] = keep_reserve, [RM_CHORE_SAVE] = save_object, [RM_CHORE_RENEW] = rm_gap_renew,
                [RM_CHORE_EVICT] = evict_any,
        };
        /* What it is asked before somebody has started it fails, and would be tried again for as long as nobody does.
         */
        bool is_futile = rm->down && chore != RM_CHORE_START && chore != RM_CHORE_DUE;
        RmJob *job = is_futile ? NULL : rm_job_new(rm, false);

        if (job && CHORES[chore](rm, job))
                return job;
        if (job)
                rm_job_end(rm, job);
        return NULL;
}
