/* SPDX-License-Identifier: BSD-2-Clause */
#include "resmgr/move.h"

/* The client hears why, by our own word, since it asked for nothing of this. */
static RmFlow give_up(RmJob *job, TSS2_RC rc) {
        return rm_reply_rc(job, rm_rc_is_warning(rc) ? RM_RC(rc) : rc);
}

/* What is not in the TPM and has a context that loads. */
static bool is_loadable(const RmEntry *entry) {
        return rm_exists(entry) && entry->state != RM_DOOMED && entry->residency == RM_ABSENT && entry->clean;
}

/* It is lost. If it is the oldest saved session, no other can be saved as long as it is there. */
static RmFlow drop_entry(Rm *rm, RmJob *job) {
        rm_entry_lost(rm, rm_top(job)->at);
        if (!rm_top(job)->renewing)
                return rm_pop(job);
        *rm_top(job) = (RmFrame){ .op = RM_OP_FLUSH, .at = rm_top(job)->at };
        return RM_FLOW_AGAIN;
}

RmFlow rm_load_build(Rm *rm, RmJob *job) {
        uint32_t i = rm_top(job)->at;
        RmKind kind = rm_kind(i);

        if (!is_loadable(rm_entry(rm, i)))
                return rm_pop(job);
        if (!rm_top(job)->renewing && rm_slots_short(rm, kind, 1) && rm_evict(rm, job, kind))
                return RM_FLOW_AGAIN;
        if (!rm_entry_set_unknown(rm, i))
                return rm_reply_rc(job, RM_RC(kind == RM_SESSION ? TPM2_RC_SESSION_MEMORY : TPM2_RC_OBJECT_MEMORY));
        return rm_send_load(rm, job, &rm_entry(rm, i)->context);
}

/* Whether the answer is that of a successful ContextLoad of the entry. */
static bool is_load_of(const Rm *rm, uint32_t i, const RmAnswer *answer, TPM2_HANDLE *ret_handle) {
        TpmReader reader = TPM_READER(answer->parameters, answer->n_parameters);
        TPM2_HANDLE handle = tpm_read_u32(&reader);

        if (answer->rc != TPM2_RC_SUCCESS || !tpm_reader_done(&reader))
                return false;
        *ret_handle = handle;
        return rm_kind(i) == RM_SESSION ? handle == rm_entry(rm, i)->handle : tpm_handle_is_transient(handle);
}

static void object_loaded(Rm *rm, uint32_t i, TPM2_HANDLE handle) {
        rm_entry_set_resident(rm, i, handle);
        if (rm_entry(rm, i)->suspect)
                rm_entry_doubt(rm, i);
}

RmFlow rm_load_settle(Rm *rm, RmJob *job, const RmAnswer *answer) {
        uint32_t i = rm_top(job)->at;
        TPM2_HANDLE handle;

        if (is_load_of(rm, i, answer, &handle)) {
                /* A handle that we hold already: the tables are wrong. */
                if (rm_kind(i) == RM_OBJECT && rm_object_find_resident(rm, handle) != RM_NONE) {
                        rm_objects_lost(rm);
                        rm->due_reconcile = true;
                }
                if (rm_kind(i) == RM_SESSION)
                        rm_session_loaded(rm, i, handle);
                else
                        object_loaded(rm, i, handle);
                rm_learn_price(rm, job, i, RM_MOVE_LOAD);
                rm->counters.loads++;
                return rm_pop(job);
        }
        if (answer->rc == TPM2_RC_SUCCESS)
                return RM_FLOW_LOST;
        /* For one that is abandoned nobody waits. */
        if (!rm_rc_is_dead_context(answer->rc) && !(rm_top(job)->renewing && rm_entry(rm, i)->state == RM_ABANDONED))
                return give_up(job, answer->rc);
        rm_entry(rm, i)->clean = false;
        return drop_entry(rm, job);
}

RmFlow rm_save_build(Rm *rm, RmJob *job) {
        uint32_t i = rm_top(job)->at;
        const RmEntry *entry = rm_entry(rm, i);

        if (!rm_exists(entry) || entry->state == RM_DOOMED || entry->residency == RM_ABSENT)
                return rm_pop(job);
        if (rm_kind(i) == RM_SESSION) /* it leaves the TPM with that */
                rm_entry_set_unknown(rm, i);
        return RM_SEND(job, TPM2_CC_ContextSave, entry->handle);
}

/* Below it may stand the flush that the save was for. */
static RmFlow pop_with_flush(RmJob *job, uint32_t i) {
        RmFlow flow = rm_pop(job);

        if (flow == RM_FLOW_AGAIN && rm_top(job)->op == RM_OP_FLUSH && rm_top(job)->at == i)
                flow = rm_pop(job);
        return flow;
}

RmFlow rm_save_settle(Rm *rm, RmJob *job, const RmAnswer *answer) {
        uint32_t i = rm_top(job)->at;
        RmEntry *entry = rm_entry(rm, i);
        bool session = rm_kind(i) == RM_SESSION;

        if (answer->rc == TPM2_RC_SUCCESS) {
                rm_entry_settle(rm, i);
                if (rm_entry_keep_context(rm, i, answer->parameters, answer->n_parameters, true)) {
                        entry->probe = false;
                        rm_learn_price(rm, job, i, RM_MOVE_SAVE);
                        rm->counters.saves++;
                        rm->counters.evictions += session && !rm_top(job)->renewing;
                        rm->counters.renewals += rm_top(job)->renewing;
                        return rm_pop(job);
                }
        }
        /* It is gone with all others, in a reset; or its context was that of a state put back. */
        if (!rm_exists(entry) || entry->residency == RM_ABSENT || entry->prove)
                return pop_with_flush(job, i);
        /* To a probe, this is no answer, and no proof that it is there. */
        if (entry->probe && !rm_rc_is_unknown_handle(answer->rc))
                rm->due_reconcile = true;
        if (session && (answer->rc == TPM2_RC_SUCCESS || rm_rc_is_unknown_handle(answer->rc) ||
                        (rm_top(job)->renewing && !rm_rc_is_warning(answer->rc))))
                return drop_entry(rm, job);
        job->stuck |= rm_top(job)->renewing;
        if (entry->probe || rm_rc_is_unknown_handle(answer->rc))
                rm_entry_lost(rm, i);
        else
                rm_entry_refuse(rm, i); /* what cannot be saved stays */
        return pop_with_flush(job, i);
}

RmFlow rm_flush_build(Rm *rm, RmJob *job) {
        uint32_t i = rm_top(job)->at;
        const RmEntry *entry = rm_entry(rm, i);

        /* Where a lost load has put an object, nobody knows but the TPM: reconciliation flushes what is there. */
        if (rm_exists(entry) && entry->handle == 0)
                rm_entry_flushed(rm, i);
        if (!rm_exists(entry) || entry->handle == 0)
                return rm_pop(job);
        if (!rm_entry_set_unknown(rm, i))
                return rm_reply_rc(job, RM_RC(TPM2_RC_SESSION_MEMORY));
        return RM_SEND(job, TPM2_CC_FlushContext, entry->handle);
}

RmFlow rm_flush_settle(Rm *rm, RmJob *job, const RmAnswer *answer) {
        uint32_t i = rm_top(job)->at;
        RmEntry *entry = rm_entry(rm, i);

        if (!rm_exists(entry))
                return rm_pop(job);
        if (answer->rc == TPM2_RC_SUCCESS || rm_rc_is_unknown_handle(answer->rc) ||
            (rm_kind(i) == RM_SESSION && rm_rc_is_dead_context(answer->rc))) {
                rm->counters.evictions += entry->state == RM_LIVE;
                rm->retried = rm->moment;
                rm_learn_price(rm, job, i, RM_MOVE_FLUSH);
                rm_entry_flushed(rm, i);
        } else if (entry->probe) {
                rm->due_reconcile = true;
                rm_entry_lost(rm, i);
        } else {
                job->stuck |= rm_kind(i) == RM_SESSION;
                rm_entry_refuse(rm, i);
        }
        return rm_pop(job);
}

RmFlow rm_flush_handle_build(Rm *rm, RmJob *job) {
        return RM_SEND(job, TPM2_CC_FlushContext, rm_top(job)->at);
}

/* Whether it was there or not, it is not now; or it stays for a while, and is taken for nothing of ours meanwhile. */
RmFlow rm_flush_handle_settle(Rm *rm, RmJob *job, const RmAnswer *answer) {
        if (answer->rc == TPM2_RC_SUCCESS) {
                rm->counters.foreign_flushed++;
                rm->counters.foreign_found += !rm->due_reconcile; /* else it may be ours, or was there before us */
        } else if (!rm_rc_is_dead_context(answer->rc) && !rm_rc_is_unknown_handle(answer->rc)) {
                job->stuck = rm->strangers_left = true;
                rm->counters.refusals++;
        }
        return rm_pop(job);
}
