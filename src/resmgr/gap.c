/* SPDX-License-Identifier: BSD-2-Clause */
#include "resmgr/gap.h"

#include "resmgr/share.h"

#define HANDLES_A_PAGE 64

uint64_t rm_gap_distance(const Rm *rm, const RmEntry *session) {
        bool saved = session->residency == RM_ABSENT && session->clean;

        return saved && rm->numbers[RM_SESSION].newest > session->number
                       ? rm->numbers[RM_SESSION].newest - session->number
                       : 0;
}

/* The saved session that has the lowest number and a context; or RM_NONE. */
static uint32_t find_oldest(const Rm *rm) {
        uint32_t oldest = RM_NONE;

        for (uint32_t i = 0; i < rm->n_sessions_used; i++) {
                const RmEntry *session = rm_entry(rm, i);

                if (session->residency != RM_ABSENT || !session->clean)
                        continue;
                if (oldest == RM_NONE || session->number < rm_entry(rm, oldest)->number)
                        oldest = i;
        }
        return oldest;
}

/* Load it and save it, for which the TPM itself keeps a slot free; or flush it, should that be due. */
static void push_renewal(const Rm *rm, RmJob *job, uint32_t i) {
        rm_push(job, rm_entry(rm, i)->state == RM_DOOMED ? RM_OP_FLUSH : RM_OP_SAVE, i);
        if (rm_top(job)->op == RM_OP_FLUSH)
                return;
        rm_top(job)->renewing = true;
        rm_push(job, RM_OP_LOAD, i);
        rm_top(job)->renewing = true;
}

bool rm_gap_close(Rm *rm, RmJob *job) {
        uint32_t i = find_oldest(rm);
        bool closing = false;

        for (unsigned k = 0; k < job->n_frames; k++)
                closing |= job->frames[k].renewing || job->frames[k].op == RM_OP_DROP_FOREIGN;
        if ((closing && !rm_top(job)->renewing) || job->stuck || !rm_may_push(job, 2))
                return false;
        /* If the oldest that we know of cannot be renewed, an older one is none of ours. */
        if (closing || i == RM_NONE)
                rm_push(job, RM_OP_DROP_FOREIGN, 0);
        else
                push_renewal(rm, job, i);
        return true;
}

RmGap rm_gap(const Rm *rm) {
        return (RmGap){ .newest = rm->numbers[RM_SESSION].newest, .max = rm->gap };
}

bool rm_gap_is_at_stake(const Rm *rm) {
        return !rm->shut_down && rm->gap >= 4 && find_oldest(rm) != RM_NONE;
}

bool rm_gap_sample(Rm *rm) {
        rm->due_sample = rm_gap_is_at_stake(rm);
        rm->n_samples += rm->due_sample;
        return rm->due_sample;
}

/*
 * A session is renewed once a round, of which each command of a client and each sample begins one: a TPM whose numbers
 * make no sense must not keep us at it.
 */
static uint64_t current_round(const Rm *rm) {
        return rm->tick + rm->n_samples;
}

static bool must_renew(const Rm *rm, const RmEntry *oldest) {
        return rm->due_sample ||
               (oldest->renewed != current_round(rm) && rm->gap >= 4 && rm_gap_distance(rm, oldest) >= rm->gap / 4 * 3);
}

bool rm_gap_renew(Rm *rm, RmJob *job) {
        uint32_t i = find_oldest(rm);

        if (rm->shut_down || i == RM_NONE || !must_renew(rm, rm_entry(rm, i)))
                return false;
        rm->due_sample = false;
        rm_entry(rm, i)->renewed = current_round(rm);
        push_renewal(rm, job, i);
        if (rm_top(job)->renewing && rm_slots_short(rm, RM_SESSION, 1))
                rm_evict(rm, job, RM_SESSION);
        return true;
}

bool rm_read_list(const RmAnswer *answer, TPM2_CAP capability, size_t n_entry, RmList *ret_list) {
        TpmReader *reader = &ret_list->reader;
        bool right;

        *reader = TPM_READER(answer->parameters, answer->n_parameters);
        ret_list->more = tpm_read_u8(reader);
        right = tpm_read_u32(reader) == capability;
        ret_list->n = tpm_read_u32(reader);
        return answer->rc == TPM2_RC_SUCCESS && right && !reader->bad &&
               tpm_reader_left(reader) == ret_list->n * n_entry;
}

RmListed rm_walk_list(Rm *rm, RmFrame *frame, const RmAnswer *answer,
                      bool (*known)(Rm *rm, const RmFrame *frame, TPM2_HANDLE handle), TPM2_HANDLE *ret_unknown) {
        uint32_t next = 0, lowest = TPM2_HR_HANDLE_MASK + 1;
        RmList list;

        if (!rm_read_list(answer, TPM2_CAP_HANDLES, sizeof(TPM2_HANDLE), &list))
                return RM_LISTED_BAD;
        while (list.n-- > 0) {
                TPM2_HANDLE handle = tpm_read_u32(&list.reader);
                uint32_t index = handle & TPM2_HR_HANDLE_MASK;

                if (index >= next)
                        next = index + 1;
                if (!known(rm, frame, handle) && index >= frame->at && index < lowest) {
                        lowest = index;
                        *ret_unknown = handle;
                }
        }
        if (lowest <= TPM2_HR_HANDLE_MASK) {
                frame->at = lowest + 1;
                return RM_LISTED_UNKNOWN;
        }
        if (!list.more || next <= frame->at || next > TPM2_HR_HANDLE_MASK)
                return RM_LISTED_END;
        frame->at = next;
        return RM_LISTED_MORE;
}

RmFlow rm_ask_for_handles(RmJob *job, TPM2_HT type) {
        return RM_SEND(job, TPM2_CC_GetCapability, TPM2_CAP_HANDLES, (uint32_t)type << TPM2_HR_SHIFT | rm_top(job)->at,
                       HANDLES_A_PAGE);
}

/* One that was left over goes first; then, by what the TPM lists, one in no table. */
RmFlow rm_drop_foreign_build(Rm *rm, RmJob *job) {
        for (uint32_t i = 0; i < rm->n_sessions_used; i++)
                if (rm_entry(rm, i)->state == RM_LEFT_OVER && rm_may_try(rm, rm_entry(rm, i))) {
                        rm_share_give_up(rm, i);
                        *rm_top(job) = (RmFrame){ .op = RM_OP_FLUSH, .at = i };
                        return RM_FLOW_AGAIN;
                }
        return rm_ask_for_handles(job, TPM2_HT_SAVED_SESSION);
}

static bool is_known_session(Rm *rm, const RmFrame *frame, TPM2_HANDLE handle) {
        return rm_session_find(rm, handle) != RM_NONE;
}

RmFlow rm_drop_foreign_settle(Rm *rm, RmJob *job, const RmAnswer *answer) {
        TPM2_HANDLE handle;

        switch (rm_walk_list(rm, rm_top(job), answer, is_known_session, &handle)) {
        case RM_LISTED_UNKNOWN:
                *rm_top(job) = (RmFrame){ .op = RM_OP_FLUSH_HANDLE, .at = handle };
                return RM_FLOW_AGAIN;
        case RM_LISTED_MORE:
                return RM_FLOW_AGAIN;
        default:
                return rm_reply_rc(job, RM_RC(TPM2_RC_CONTEXT_GAP));
        }
}
