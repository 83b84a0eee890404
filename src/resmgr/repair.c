/* SPDX-License-Identifier: BSD-2-Clause */
#include "resmgr/state.h"

/*
 * Repairs: what stands above the command, or alone in a chore
 *
 * An op that finds its work done, or impossible, leaves the stack; what it uncovers is built afresh and sees for
 * itself. Only what is neither the fault of a context nor a matter of room ends the job with the TPM's own code.
 */

bool rm_evict_object(Rm *rm, RmJob *job) {
        uint32_t i = rm_victim_object(rm, job);

        if (i == RM_NONE || job->n_frames + 2 > RM_FRAMES_MAX)
                return false;
        rm_push(job, RM_OP_FLUSH_OBJECT, i);
        if (rm_object(rm, i)->state == RM_OBJECT_LIVE && !rm_object(rm, i)->clean)
                rm_push(job, RM_OP_SAVE_OBJECT, i);
        return true;
}

bool rm_evict_session(Rm *rm, RmJob *job) {
        uint32_t i = rm_victim_session(rm, job);

        if (i == RM_NONE || job->n_frames + 1 > RM_FRAMES_MAX)
                return false;
        rm_push(job, rm->sessions[i].state == RM_SESSION_DOOMED ? RM_OP_FLUSH_SESSION : RM_OP_SAVE_SESSION, i);
        return true;
}

static bool drop_session(Rm *rm, RmJob *job) {
        uint32_t i = rm_session_expendable(rm, job);

        if (i == RM_NONE || job->n_frames + 1 > RM_FRAMES_MAX)
                return false;
        rm_session_spare(rm, i);
        rm_push(job, RM_OP_FLUSH_SESSION, i);
        return true;
}

static bool close_gap(Rm *rm, RmJob *job) {
        uint32_t i = rm_session_oldest(rm);

        if (job->n_frames + 1 > RM_FRAMES_MAX)
                return false;
        for (unsigned k = 0; k < job->n_frames; k++)
                if (job->frames[k].op == RM_OP_REGAP || job->frames[k].op == RM_OP_DROP_FOREIGN)
                        return false;
        if (i == RM_NONE)
                rm_push(job, RM_OP_DROP_FOREIGN, RM_NONE);
        else
                rm_push(job, rm->sessions[i].state == RM_SESSION_DOOMED ? RM_OP_FLUSH_SESSION : RM_OP_REGAP, i);
        return true;
}

bool rm_repair(Rm *rm, RmJob *job, TSS2_RC rc) {
        const RmFrame *frame = rm_top(job);
        const TpmCommand *command = frame->op == RM_OP_COMMAND ? &job->command : NULL;

        switch (rc) {
        case TPM2_RC_OBJECT_MEMORY:
        case TPM2_RC_OBJECT_HANDLES:
                rm_learn_object_slots(rm, command, command ? rm_slots_needed(rm, command) : 1);
                return rm_evict_object(rm, job);
        case TPM2_RC_SESSION_MEMORY:
                rm_learn_session_slots(rm);
                return rm_evict_session(rm, job);
        case TPM2_RC_MEMORY:
                return rm_evict_object(rm, job) || rm_evict_session(rm, job);
        case TPM2_RC_SESSION_HANDLES:
                return drop_session(rm, job);
        case TPM2_RC_CONTEXT_GAP:
                return close_gap(rm, job);
        default:
                return false;
        }
}

/* The TPM holds nothing under the handle that it was given. */
static bool is_unknown_handle(TSS2_RC rc) {
        return rc == TPM2_RC_REFERENCE_H0 || rc == TPM2_RC_HANDLE + TPM2_RC_P + TPM2_RC_1;
}

static bool is_warning(TSS2_RC rc) {
        return (rc & ~0x7Fu) == TPM2_RC_WARN;
}

/* A load cannot be made room for: the client hears why, by our own word, since it did not ask for a load. */
static RmFlow give_up(Rm *rm, RmJob *job, TSS2_RC rc) {
        if (rc == TPM2_RC_INITIALIZE)
                rm_not_started(rm);
        return rm_reply_rc(job, is_warning(rc) && !rm_is_transitory(rc) ? RM_RC(rc) : rc);
}

/* Objects */

static RmFlow build_load_object(Rm *rm, RmJob *job, uint32_t i) {
        const RmObject *object = rm_object(rm, i);

        if (object->state != RM_OBJECT_LIVE || object->residency != RM_ABSENT)
                return rm_pop(job);
        if (rm_object_slots_short(rm, 1) && rm_evict_object(rm, job))
                return RM_FLOW_AGAIN;
        if (!rm_object_set_unknown(rm, i))
                return rm_reply_rc(job, RM_RC(TPM2_RC_OBJECT_MEMORY));
        return rm_send_load(rm, job, &object->copy);
}

static RmFlow settle_load_object(Rm *rm, RmJob *job, uint32_t i, const RmAnswer *answer) {
        TpmReader reader = TPM_READER(answer->bytes, answer->n_bytes);
        TPM2_HANDLE phandle = tpm_read_u32(&reader);

        rm_object_settle(rm, i);
        if (rm_is_transitory(answer->rc))
                return RM_FLOW_PAUSE;
        if (answer->rc == TPM2_RC_SUCCESS) {
                if (!tpm_reader_done(&reader) || !tpm_handle_is_transient(phandle)) {
                        rm->due_reconcile = true;
                        return rm_reply_rc(job, RM_RC(TPM2_RC_FAILURE));
                }
                /* A handle that we hold already: the tables are wrong. */
                if (rm_object_find_resident(rm, phandle) != RM_NONE) {
                        rm_object_forget_residents(rm);
                        rm->due_reconcile = true;
                }
                rm_object_set_resident(rm, i, phandle);
                rm->counters.loads++;
                return rm_pop(job);
        }
        if (rm_repair(rm, job, answer->rc))
                return RM_FLOW_AGAIN;
        if (!rm_context_is_dead(answer->rc))
                return give_up(rm, job, answer->rc);
        rm_object_free(rm, i);
        return rm_pop(job);
}

static RmFlow build_save_object(Rm *rm, RmJob *job, uint32_t i) {
        if (rm_object(rm, i)->state != RM_OBJECT_LIVE || rm_object(rm, i)->residency == RM_ABSENT)
                return rm_pop(job);
        return rm_send_save(job, rm_object(rm, i)->phandle);
}

/* Below it may stand the flush that the save was for. */
static RmFlow pop_with_flush(RmJob *job, uint32_t i) {
        RmFlow flow = rm_pop(job);

        if (flow == RM_FLOW_AGAIN && rm_top(job)->op == RM_OP_FLUSH_OBJECT && rm_top(job)->at == i)
                flow = rm_pop(job);
        return flow;
}

static RmFlow settle_save_object(Rm *rm, RmJob *job, uint32_t i, const RmAnswer *answer) {
        RmObject *object = rm_object(rm, i);

        if (rm_is_transitory(answer->rc))
                return RM_FLOW_PAUSE;
        rm_object_settle(rm, i);
        if (answer->rc == TPM2_RC_SUCCESS && rm_object_keep_copy(rm, i, answer->bytes, answer->n_bytes)) {
                object->probe = false;
                rm->counters.saves++;
                return rm_pop(job);
        }
        /* To a probe, this is no answer, and no proof that it is there. */
        if (object->probe && !is_unknown_handle(answer->rc))
                rm->due_reconcile = true;
        if (object->probe || is_unknown_handle(answer->rc))
                rm_object_lost(rm, i);
        else
                object->unsaveable = true; /* what cannot be saved stays */
        return pop_with_flush(job, i);
}

static RmFlow build_flush_object(Rm *rm, RmJob *job, uint32_t i) {
        RmObject *object = rm_object(rm, i);

        if (object->state == RM_OBJECT_FREE || object->residency == RM_ABSENT)
                return rm_pop(job);
        rm_object_set_unknown(rm, i);
        return rm_send_flush(job, object->phandle);
}

static RmFlow settle_flush_object(Rm *rm, RmJob *job, uint32_t i, const RmAnswer *answer) {
        rm_object_settle(rm, i);
        if (rm_is_transitory(answer->rc))
                return RM_FLOW_PAUSE;
        if (answer->rc == TPM2_RC_SUCCESS || is_unknown_handle(answer->rc)) {
                rm->counters.evictions += rm_object(rm, i)->state == RM_OBJECT_LIVE;
                rm_object_lost(rm, i);
        } else if (rm_object(rm, i)->probe) {
                rm->due_reconcile = true;
                rm_object_lost(rm, i);
        } else
                rm_object(rm, i)->unsaveable = true;
        return rm_pop(job);
}

/* Sessions */

static RmFlow build_load_session(Rm *rm, RmJob *job, uint32_t i) {
        RmSession *session = &rm->sessions[i];

        if (session->residency != RM_ABSENT || session->copy.first == RM_NONE)
                return rm_pop(job);
        if (rm_session_slots_short(rm, 1) && rm_evict_session(rm, job))
                return RM_FLOW_AGAIN;
        session->residency = RM_UNKNOWN;
        return rm_send_load(rm, job, &session->copy);
}

/* Return: whether the answer is a ContextLoad's of that session. */
static bool is_loaded(const RmSession *session, const RmAnswer *answer) {
        TpmReader reader = TPM_READER(answer->bytes, answer->n_bytes);

        return answer->rc == TPM2_RC_SUCCESS && tpm_read_u32(&reader) == session->handle && tpm_reader_done(&reader);
}

static RmFlow settle_load_session(Rm *rm, RmJob *job, uint32_t i, const RmAnswer *answer) {
        rm_session_settle(rm, i);
        if (rm_is_transitory(answer->rc))
                return RM_FLOW_PAUSE;
        if (is_loaded(&rm->sessions[i], answer)) {
                rm_session_loaded(rm, i);
                rm->counters.loads++;
                return rm_pop(job);
        }
        if (rm_repair(rm, job, answer->rc))
                return RM_FLOW_AGAIN;
        if (answer->rc != TPM2_RC_SUCCESS && !rm_context_is_dead(answer->rc))
                return give_up(rm, job, answer->rc);
        rm_session_doom(rm, i);
        return rm_pop(job);
}

static RmFlow build_save_session(Rm *rm, RmJob *job, uint32_t i) {
        RmSession *session = &rm->sessions[i];

        if (session->state <= RM_SESSION_PENDING || session->residency != RM_RESIDENT)
                return rm_pop(job);
        session->residency = RM_UNKNOWN;
        return rm_send_save(job, session->handle);
}

static RmFlow settle_save_session(Rm *rm, RmJob *job, uint32_t i, const RmAnswer *answer) {
        rm_session_settle(rm, i);
        if (rm_is_transitory(answer->rc))
                return RM_FLOW_PAUSE;
        if (answer->rc == TPM2_RC_SUCCESS) {
                if (!rm_session_keep_copy(rm, i, answer->bytes, answer->n_bytes))
                        rm_session_doom(rm, i);
                rm->counters.saves++;
                rm->counters.evictions++;
                return rm_pop(job);
        }
        if (answer->rc == TPM2_RC_CONTEXT_GAP && rm_repair(rm, job, answer->rc))
                return RM_FLOW_AGAIN;
        if (is_unknown_handle(answer->rc))
                rm_session_doom(rm, i);
        else
                rm->sessions[i].unsaveable = true;
        return rm_pop(job);
}

static RmFlow build_flush_session(Rm *rm, RmJob *job, uint32_t i) {
        RmSession *session = &rm->sessions[i];

        if (session->state <= RM_SESSION_PENDING)
                return rm_pop(job);
        session->residency = RM_UNKNOWN;
        return rm_send_flush(job, session->handle);
}

static RmFlow settle_flush_session(Rm *rm, RmJob *job, uint32_t i, const RmAnswer *answer) {
        rm_session_settle(rm, i);
        if (rm_is_transitory(answer->rc))
                return RM_FLOW_PAUSE;
        if (answer->rc == TPM2_RC_SUCCESS || rm_context_is_dead(answer->rc))
                rm_session_free(rm, i);
        else
                rm->sessions[i].unsaveable = true;
        return rm_pop(job);
}

/* The context gap (Part 1, section 30.5; Part 2, section 14.6.1) */

enum {
        REGAP_LOAD,
        REGAP_SAVE,
};

bool rm_renew_oldest(Rm *rm, RmJob *job) {
        uint32_t i = rm_session_oldest(rm);

        /* Once a tick: a TPM whose numbers make no sense must not keep us at it. */
        if (i == RM_NONE || rm->sessions[i].renewed == rm->tick || rm->gap < 4 ||
            rm_session_newest(rm) - rm->sessions[i].sequence < rm->gap / 4 * 3)
                return false;
        rm->sessions[i].renewed = rm->tick;
        rm_push(job, RM_OP_REGAP, i);
        if (rm_session_slots_short(rm, 1))
                rm_evict_session(rm, job);
        return true;
}

static RmFlow build_regap(Rm *rm, RmJob *job, RmFrame *frame) {
        RmSession *session = &rm->sessions[frame->at];

        if (frame->phase == REGAP_LOAD && (session->residency != RM_ABSENT || session->copy.first == RM_NONE))
                return rm_pop(job);
        if (frame->phase == REGAP_SAVE && session->residency != RM_RESIDENT)
                return rm_pop(job);
        session->residency = RM_UNKNOWN;
        if (frame->phase == REGAP_LOAD)
                return rm_send_load(rm, job, &session->copy);
        return rm_send_save(job, session->handle);
}

static RmFlow settle_regap(Rm *rm, RmJob *job, RmFrame *frame, const RmAnswer *answer) {
        uint32_t i = frame->at;

        rm_session_settle(rm, i);
        if (rm_is_transitory(answer->rc))
                return RM_FLOW_PAUSE;
        /* Either way, the oldest one that the TPM knows of is none of ours. */
        if (answer->rc == TPM2_RC_CONTEXT_GAP)
                return rm_push(job, RM_OP_DROP_FOREIGN, RM_NONE);
        if (frame->phase == REGAP_LOAD && is_loaded(&rm->sessions[i], answer)) {
                rm_session_loaded(rm, i);
                rm->counters.loads++;
                frame->phase = REGAP_SAVE;
                return RM_FLOW_AGAIN;
        }
        if (frame->phase == REGAP_SAVE && answer->rc == TPM2_RC_SUCCESS &&
            rm_session_keep_copy(rm, i, answer->bytes, answer->n_bytes)) {
                rm->counters.saves++;
                rm->counters.renewals++;
                return rm_pop(job);
        }
        if (frame->phase == REGAP_LOAD && answer->rc == TPM2_RC_SESSION_MEMORY && rm_repair(rm, job, answer->rc))
                return RM_FLOW_AGAIN;
        /* A slot for the oldest is always kept free by the TPM itself; if somebody else took it, the gap stays for now.
         */
        if (frame->phase == REGAP_LOAD && answer->rc != TPM2_RC_SUCCESS && !rm_context_is_dead(answer->rc) &&
            rm->sessions[i].state != RM_SESSION_ABANDONED)
                return give_up(rm, job, answer->rc);
        /* It is loaded now, and so in nobody's way: the TPM is in no state to save it, and may be again. */
        if (frame->phase == REGAP_SAVE && is_warning(answer->rc) && !is_unknown_handle(answer->rc)) {
                rm->sessions[i].unsaveable = true;
                return rm_pop(job);
        }
        /* It can be neither kept nor renewed, and as long as it is there, no session can be saved. */
        rm_session_doom(rm, i);
        frame->op = RM_OP_FLUSH_SESSION;
        return RM_FLOW_AGAIN;
}

#define HANDLES_A_PAGE 64

static RmFlow build_drop_foreign(Rm *rm, RmJob *job, RmFrame *frame) {
        for (uint32_t i = 0; i < rm->n_sessions_used; i++)
                if (rm->sessions[i].state == RM_SESSION_LEFTOVER && !rm->sessions[i].unsaveable) {
                        rm_session_spare(rm, i);
                        *frame = (RmFrame){ .op = RM_OP_FLUSH_SESSION, .at = i };
                        return RM_FLOW_AGAIN;
                }
        return rm_send_get_capability(job, TPM2_CAP_HANDLES, (uint32_t)TPM2_HT_SAVED_SESSION << TPM2_HR_SHIFT,
                                      HANDLES_A_PAGE);
}

static RmFlow settle_drop_foreign(Rm *rm, RmJob *job, RmFrame *frame, const RmAnswer *answer) {
        RmList list;

        if (rm_is_transitory(answer->rc))
                return RM_FLOW_PAUSE;
        if (!rm_read_list(answer, TPM2_CAP_HANDLES, sizeof(TPM2_HANDLE), &list))
                list.n = 0;
        while (list.n-- > 0) {
                TPM2_HANDLE handle = tpm_read_u32(&list.reader);

                if (rm_session_find(rm, handle) == RM_NONE) {
                        *frame = (RmFrame){ .op = RM_OP_FLUSH_HANDLE, .at = handle };
                        return RM_FLOW_AGAIN;
                }
        }
        return rm_reply_rc(job, RM_RC(TPM2_RC_CONTEXT_GAP));
}

RmFlow rm_repair_build(Rm *rm, RmJob *job) {
        RmFrame *frame = rm_top(job);

        switch (frame->op) {
        case RM_OP_LOAD_OBJECT:
                return build_load_object(rm, job, frame->at);
        case RM_OP_SAVE_OBJECT:
                return build_save_object(rm, job, frame->at);
        case RM_OP_FLUSH_OBJECT:
                return build_flush_object(rm, job, frame->at);
        case RM_OP_LOAD_SESSION:
                return build_load_session(rm, job, frame->at);
        case RM_OP_SAVE_SESSION:
                return build_save_session(rm, job, frame->at);
        case RM_OP_FLUSH_SESSION:
                return build_flush_session(rm, job, frame->at);
        case RM_OP_REGAP:
                return build_regap(rm, job, frame);
        case RM_OP_DROP_FOREIGN:
                return build_drop_foreign(rm, job, frame);
        default:
                return rm_send_flush(job, frame->at);
        }
}

RmFlow rm_repair_settle(Rm *rm, RmJob *job, const RmAnswer *answer) {
        RmFrame *frame = rm_top(job);

        switch (frame->op) {
        case RM_OP_LOAD_OBJECT:
                return settle_load_object(rm, job, frame->at, answer);
        case RM_OP_SAVE_OBJECT:
                return settle_save_object(rm, job, frame->at, answer);
        case RM_OP_FLUSH_OBJECT:
                return settle_flush_object(rm, job, frame->at, answer);
        case RM_OP_LOAD_SESSION:
                return settle_load_session(rm, job, frame->at, answer);
        case RM_OP_SAVE_SESSION:
                return settle_save_session(rm, job, frame->at, answer);
        case RM_OP_FLUSH_SESSION:
                return settle_flush_session(rm, job, frame->at, answer);
        case RM_OP_REGAP:
                return settle_regap(rm, job, frame, answer);
        case RM_OP_DROP_FOREIGN:
                return settle_drop_foreign(rm, job, frame, answer);
        default:
                /* A handle in no table: whether it was there or not, it is not now. */
                if (rm_is_transitory(answer->rc))
                        return RM_FLOW_PAUSE;
                if (answer->rc != TPM2_RC_SUCCESS && !rm_context_is_dead(answer->rc) && !is_unknown_handle(answer->rc))
                        return give_up(rm, job, answer->rc);
                rm->counters.foreign_flushed += answer->rc == TPM2_RC_SUCCESS;
                return rm_pop(job);
        }
}
