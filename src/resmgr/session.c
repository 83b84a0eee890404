/* SPDX-License-Identifier: BSD-2-Clause */
#include "resmgr/session.h"

#include "tpm/header.h"

#define INDEX(handle) ((handle)&TPM2_HR_HANDLE_MASK)

uint32_t rm_session_find(const Rm *rm, TPM2_HANDLE handle) {
        for (uint32_t i = 0; i < rm->n_sessions_used; i++)
                if (rm_exists(rm_entry(rm, i)) && INDEX(rm_entry(rm, i)->handle) == INDEX(handle))
                        return i;
        return RM_NONE;
}

uint32_t rm_session_find_usable(const Rm *rm, uint32_t space, TPM2_HANDLE handle) {
        uint32_t i = rm_session_find(rm, handle);

        if (i == RM_NONE || rm_entry(rm, i)->state != RM_LIVE || rm_entry(rm, i)->space != space)
                return RM_NONE;
        return i;
}

bool rm_session_may_flush(const Rm *rm, uint32_t space, uint32_t i) {
        const RmEntry *session = rm_entry(rm, i);
        uint32_t uid = rm_space(rm, space)->uid;

        switch (session->state) {
        case RM_LIVE:
        case RM_CLIENT_SAVED:
                return session->space == space;
        case RM_ABANDONED:
                return uid == 0 || session->uid == uid;
        case RM_LEFT_OVER:
                return uid == 0;
        default:
                return false;
        }
}

bool rm_session_loaded(Rm *rm, uint32_t i, TPM2_HANDLE handle) {
        if (!rm_entry_set_resident(rm, i, handle))
                return false;
        rm_context_free(rm, &rm_entry(rm, i)->context);
        rm_entry(rm, i)->clean = false;
        rm_entry(rm, i)->refused = 0;
        return true;
}

bool rm_session_own(Rm *rm, uint32_t i, uint32_t space, TPM2_HANDLE handle) {
        RmEntry *session = rm_entry(rm, i);

        if (!rm_session_loaded(rm, i, handle))
                return false;
        rm_context_free(rm, &session->client_context);
        session->space = space;
        session->uid = rm_space(rm, space)->uid;
        rm_entry_set_state(rm, i, RM_LIVE);
        rm_entry_use(rm, i);
        return true;
}

bool rm_session_give_context(Rm *rm, uint32_t i) {
        RmEntry *session = rm_entry(rm, i);
        uint8_t bytes[TPM_MESSAGE_MAX];
        TpmWriter writer = TPM_WRITER(bytes, sizeof(bytes));

        rm_context_write(rm, &session->context, &writer);
        if (writer.bad || !rm_context_store(rm, &session->client_context, bytes, writer.n_bytes))
                return false;
        rm_entry_set_state(rm, i, RM_CLIENT_SAVED);
        rm_visits_forget(&rm->visits[RM_SESSION], i); /* its client loads it again, whatever we do */
        session->saved = rm->tick;
        session->saved_at = rm->now;
        return true;
}
