/* SPDX-License-Identifier: BSD-2-Clause */
#include "resmgr/gap.h"

#include "resmgr/share.h"

uint64_t rm_gap_newest(const Rm *rm) {
        uint64_t newest = 0;

        for (uint32_t i = 0; i < rm->n_sessions_used; i++)
                if (rm_entry(rm, i)->number > newest)
                        newest = rm_entry(rm, i)->number;
        return newest;
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
        if ((closing && !rm_top(job)->renewing) || !rm_may_push(job, 2))
                return false;
        /* If the oldest that we know of cannot be renewed, an older one is none of ours. */
        if (closing || i == RM_NONE)
                rm_push(job, RM_OP_DROP_FOREIGN, RM_NONE);
        else
                push_renewal(rm, job, i);
        return true;
}

bool rm_gap_renew(Rm *rm, RmJob *job) {
        uint32_t i = find_oldest(rm);

        /* Once a tick: a TPM whose numbers make no sense must not keep us at it. */
        if (rm->shut_down || i == RM_NONE || rm_entry(rm, i)->renewed == rm->tick || rm->gap < 4 ||
            rm_gap_newest(rm) - rm_entry(rm, i)->number < rm->gap / 4 * 3)
                return false;
        rm_entry(rm, i)->renewed = rm->tick;
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

/* One that was left over goes first; then, by what the TPM lists, one in no table. */
RmFlow rm_drop_foreign_build(Rm *rm, RmJob *job) {
        for (uint32_t i = 0; i < rm->n_sessions_used; i++)
                if (rm_entry(rm, i)->state == RM_LEFT_OVER && rm_may_try(rm, rm_entry(rm, i))) {
                        rm_share_give_up(rm, i);
                        *rm_top(job) = (RmFrame){ .op = RM_OP_FLUSH, .at = i };
                        return RM_FLOW_AGAIN;
                }
        return RM_SEND(job, TPM2_CC_GetCapability, TPM2_CAP_HANDLES, (uint32_t)TPM2_HT_SAVED_SESSION << TPM2_HR_SHIFT,
                       RM_HANDLES_A_PAGE);
}

RmFlow rm_drop_foreign_settle(Rm *rm, RmJob *job, const RmAnswer *answer) {
        RmList list;

        if (!rm_read_list(answer, TPM2_CAP_HANDLES, sizeof(TPM2_HANDLE), &list))
                list.n = 0;
        while (list.n-- > 0) {
                TPM2_HANDLE handle = tpm_read_u32(&list.reader);

                if (rm_session_find(rm, handle) == RM_NONE) {
                        *rm_top(job) = (RmFrame){ .op = RM_OP_FLUSH_HANDLE, .at = handle };
                        return RM_FLOW_AGAIN;
                }
        }
        return rm_reply_rc(job, RM_RC(TPM2_RC_CONTEXT_GAP));
}
