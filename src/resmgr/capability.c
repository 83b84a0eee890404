/* SPDX-License-Identifier: BSD-2-Clause */
#include "resmgr/state.h"

/* As many handles as fit into a TPMS_CAPABILITY_DATA (Part 2, section 10.10). */
#define HANDLES_MAX TPM2_MAX_CAP_HANDLES

bool rm_capability_lists_handles(const RmJob *job, uint32_t *ret_property, uint32_t *ret_count) {
        TpmReader reader = TPM_READER(job->original, job->n_original);
        TPM2_CAP capability;
        uint32_t property;
        uint32_t count;

        if (job->command.info.kind != TPM_COMMAND_GET_CAPABILITY || !job->command.auths_whole)
                return false;
        tpm_read_bytes(&reader, job->command.parameters);
        capability = tpm_read_u32(&reader);
        property = tpm_read_u32(&reader);
        count = tpm_read_u32(&reader);
        if (!tpm_reader_done(&reader) || capability != TPM2_CAP_HANDLES)
                return false;
        switch (property >> TPM2_HR_SHIFT) {
        case TPM2_HT_TRANSIENT:
        case TPM2_HT_LOADED_SESSION:
        case TPM2_HT_SAVED_SESSION:
                *ret_property = property;
                *ret_count = count;
                return true;
        default:
                return false;
        }
}

static uint32_t list_objects(Rm *rm, uint32_t space, uint32_t from, TPM2_HANDLE handles[], uint32_t size) {
        uint32_t n = 0;

        for (uint32_t i = rm_space(rm, space)->first_object; i != RM_NONE && n < size; i = rm_object(rm, i)->next)
                if (rm_object(rm, i)->vhandle >= from)
                        handles[n++] = rm_object(rm, i)->vhandle;
        return n;
}

static bool session_is_listed(Rm *rm, uint32_t space, uint32_t i, bool saved) {
        if (!saved)
                return rm->sessions[i].state == RM_SESSION_OWNED && rm->sessions[i].space == space;
        return rm->sessions[i].state != RM_SESSION_OWNED && rm_session_may_flush(rm, space, i);
}

static uint32_t list_sessions(Rm *rm, uint32_t space, uint32_t from, TPM2_HANDLE handles[], uint32_t size) {
        bool saved = from >> TPM2_HR_SHIFT == TPM2_HT_SAVED_SESSION;
        TPM2_HANDLE next = from & TPM2_HR_HANDLE_MASK;
        uint32_t n = 0;

        while (n < size) {
                uint32_t lowest = RM_NONE;

                for (uint32_t i = 0; i < rm->n_sessions_used; i++) {
                        TPM2_HANDLE index = rm->sessions[i].handle & TPM2_HR_HANDLE_MASK;

                        if (index >= next && session_is_listed(rm, space, i, saved) &&
                            (lowest == RM_NONE || index < (rm->sessions[lowest].handle & TPM2_HR_HANDLE_MASK)))
                                lowest = i;
                }
                if (lowest == RM_NONE)
                        break;
                /* A TPM lists saved sessions as HMAC sessions, whatever they are. */
                next = (rm->sessions[lowest].handle & TPM2_HR_HANDLE_MASK) + 1;
                handles[n++] = saved ? TPM2_HR_HMAC_SESSION | (next - 1) : rm->sessions[lowest].handle;
        }
        return n;
}

RmFlow rm_capability_reply(Rm *rm, RmJob *job, uint32_t property, uint32_t count) {
        TpmWriter writer = TPM_WRITER(job->out, sizeof(job->out));
        TPM2_HANDLE handles[HANDLES_MAX + 1];
        uint32_t n;

        /* An edited list would not verify, and the true one is not for this client to see. */
        if (job->command.header.tag == TPM2_ST_SESSIONS)
                return rm_reply_rc(job, RM_RC(TPM2_RC_AUTH_CONTEXT));

        if (count > HANDLES_MAX)
                count = HANDLES_MAX;
        if (property >> TPM2_HR_SHIFT == TPM2_HT_TRANSIENT)
                n = list_objects(rm, job->space, property, handles, count + 1);
        else
                n = list_sessions(rm, job->space, property, handles, count + 1);

        tpm_write_begin(&writer, TPM2_ST_NO_SESSIONS, TPM2_RC_SUCCESS);
        tpm_write_u8(&writer, n > count);
        tpm_write_u32(&writer, TPM2_CAP_HANDLES);
        tpm_write_u32(&writer, n > count ? count : n);
        for (uint32_t i = 0; i < n && i < count; i++)
                tpm_write_u32(&writer, handles[i]);
        job->n_out = tpm_write_end(&writer);
        job->rc = TSS2_RC_SUCCESS;
        return RM_FLOW_REPLY;
}
