/* SPDX-License-Identifier: BSD-2-Clause */
#include "resmgr/capability.h"

#include <string.h>

/* As many handles as fit into a TPMS_CAPABILITY_DATA (Part 2, section 10.10). */
#define HANDLES_MAX TPM2_MAX_CAP_HANDLES

/* What a GetCapability asks for. */
typedef struct Query {
        TPM2_CAP capability;
        uint32_t property;
        uint32_t count;
} Query;

/* Return: false when the command is not well formed. */
static bool query_parse(const RmJob *job, Query *ret_query) {
        TpmReader reader = TPM_READER(job->original, job->n_original);
        Query query;

        if (!job->command.auths_whole)
                return false;
        tpm_read_bytes(&reader, job->command.parameters);
        query.capability = tpm_read_u32(&reader);
        query.property = tpm_read_u32(&reader);
        query.count = tpm_read_u32(&reader);
        if (!tpm_reader_done(&reader))
                return false;
        *ret_query = query;
        return true;
}

/* Lists of handles that are the client's own matter. */
static bool query_is_private(const Query *query) {
        TPM2_HT type = query->property >> TPM2_HR_SHIFT;

        return query->capability == TPM2_CAP_HANDLES &&
               (type == TPM2_HT_TRANSIENT || type == TPM2_HT_LOADED_SESSION || type == TPM2_HT_SAVED_SESSION);
}

static uint32_t list_objects(Rm *rm, uint32_t space, uint32_t from, TPM2_HANDLE handles[], uint32_t size) {
        uint32_t n = 0;

        for (uint32_t i = rm_space(rm, space)->first_object; i != RM_NONE && n < size; i = rm_entry(rm, i)->next)
                if (rm_entry(rm, i)->vhandle >= from)
                        handles[n++] = rm_entry(rm, i)->vhandle;
        return n;
}

static uint32_t list_sessions(Rm *rm, uint32_t space, uint32_t from, TPM2_HANDLE handles[], uint32_t size) {
        bool saved = from >> TPM2_HR_SHIFT == TPM2_HT_SAVED_SESSION;
        TPM2_HANDLE next = from & TPM2_HR_HANDLE_MASK;
        uint32_t n = 0;

        while (n < size) {
                uint32_t lowest = RM_NONE;

                for (uint32_t i = 0; i < rm->n_sessions_used; i++) {
                        TPM2_HANDLE index = rm_entry(rm, i)->handle & TPM2_HR_HANDLE_MASK;
                        bool listed =
                                rm_session_may_flush(rm, space, i) && (rm_entry(rm, i)->state != RM_LIVE) == saved;

                        if (index >= next && listed &&
                            (lowest == RM_NONE || index < (rm_entry(rm, lowest)->handle & TPM2_HR_HANDLE_MASK)))
                                lowest = i;
                }
                if (lowest == RM_NONE)
                        break;
                /* A TPM lists saved sessions as HMAC sessions, whatever they are. */
                next = (rm_entry(rm, lowest)->handle & TPM2_HR_HANDLE_MASK) + 1;
                handles[n++] = saved ? TPM2_HR_HMAC_SESSION | (next - 1) : rm_entry(rm, lowest)->handle;
        }
        return n;
}

static RmFlow reply_list(Rm *rm, RmJob *job, const Query *query) {
        TpmWriter writer = TPM_WRITER(job->out, sizeof(job->out));
        uint32_t count = query->count < HANDLES_MAX ? query->count : HANDLES_MAX;
        TPM2_HANDLE handles[HANDLES_MAX + 1];
        uint32_t n;

        if (query->property >> TPM2_HR_SHIFT == TPM2_HT_TRANSIENT)
                n = list_objects(rm, job->space, query->property, handles, count + 1);
        else
                n = list_sessions(rm, job->space, query->property, handles, count + 1);

        tpm_write_begin(&writer, TPM2_ST_NO_SESSIONS, TPM2_RC_SUCCESS);
        tpm_write_u8(&writer, n > count);
        tpm_write_u32(&writer, TPM2_CAP_HANDLES);
        tpm_write_u32(&writer, n > count ? count : n);
        for (uint32_t i = 0; i < n && i < count; i++)
                tpm_write_u32(&writer, handles[i]);
        return rm_reply_written(job, &writer);
}

static RmFixed *find_fixed(const Rm *rm, const RmJob *job) {
        for (uint32_t i = 0; i < rm->n_fixed; i++)
                if (memcmp(rm_fixed(rm, i)->query, job->original + TPM_HEADER_SIZE, RM_QUERY_SIZE) == 0)
                        return rm_fixed(rm, i);
        return NULL;
}

static void forget_fixed(Rm *rm) {
        for (uint32_t i = 0; i < rm->n_fixed; i++)
                rm_context_free(rm, &rm_fixed(rm, i)->answer);
        rm->n_fixed = rm->next_fixed = 0;
        rm->fixed_stale = false;
}

static void keep_fixed(Rm *rm, const RmJob *job) {
        RmFixed *fixed = find_fixed(rm, job);

        if (!fixed && rm->n_fixed < RM_FIXED_MAX) {
                fixed = rm_fixed(rm, rm->n_fixed++);
                fixed->answer = RM_NO_CONTEXT;
        } else if (!fixed) {
                fixed = rm_fixed(rm, rm->next_fixed);
                rm->next_fixed = (rm->next_fixed + 1) % RM_FIXED_MAX;
        }
        memcpy(fixed->query, job->original + TPM_HEADER_SIZE, RM_QUERY_SIZE);
        if (!rm_context_store(rm, &fixed->answer, job->out + TPM_HEADER_SIZE, job->n_out - TPM_HEADER_SIZE))
                forget_fixed(rm);
}

RmFlow rm_capability_build(Rm *rm, RmJob *job) {
        const RmFixed *fixed;
        Query query;

        if (!query_parse(job, &query))
                return RM_FLOW_CONTINUE;
        if (job->command.header.tag == TPM2_ST_SESSIONS) {
                /* An edited list would not verify, and the true one is not for this client to see. */
                return query_is_private(&query) ? rm_reply_rc(job, RM_RC(TPM2_RC_AUTH_CONTEXT)) : RM_FLOW_CONTINUE;
        }
        /* What the TPM does not see is not audited, and does not end an exclusive audit session, as it should. */
        if (rm->audited || rm->capability_audited)
                return RM_FLOW_CONTINUE;
        if (query_is_private(&query))
                return reply_list(rm, job, &query);
        if (rm->fixed_stale)
                forget_fixed(rm);
        fixed = find_fixed(rm, job);
        return fixed ? rm_reply_context(rm, job, &fixed->answer) : RM_FLOW_CONTINUE;
}

/* The properties that tell of memory, as they are for this client (Part 2, section 6.13). */
static uint32_t property_for(Rm *rm, uint32_t space, TPM2_PT property, uint32_t value) {
        uint32_t n_owned = 0;
        uint32_t n_saved = 0;
        uint32_t n_taken = 0; /* others make room when it is needed */
        uint32_t n_left;

        for (uint32_t i = 0; i < rm->n_sessions_used; i++) {
                const RmEntry *session = rm_entry(rm, i);

                n_owned += session->state == RM_LIVE && session->space == space;
                n_saved += session->state == RM_CLIENT_SAVED && session->space == space;
                n_taken += session->space != RM_NONE;
        }
        n_left = rm->limits.sessions_per_space - (n_owned + n_saved); /* never more than the quota */
        if (rm->active_sessions_max < n_taken + n_left)
                n_left = rm->active_sessions_max > n_taken ? rm->active_sessions_max - n_taken : 0;
        switch (property) {
        case TPM2_PT_CONTEXT_GAP_MAX:
                return UINT32_MAX;
        case TPM2_PT_HR_LOADED:
                return n_owned;
        case TPM2_PT_HR_ACTIVE:
                return n_owned + n_saved;
        case TPM2_PT_HR_LOADED_AVAIL:
        case TPM2_PT_HR_ACTIVE_AVAIL:
                return n_left;
        case TPM2_PT_HR_TRANSIENT_AVAIL:
                return rm->limits.objects_per_space - rm_space(rm, space)->held.objects;
        default:
                return value;
        }
}

/* Edits the TPML_TAGGED_TPM_PROPERTY in job->out. Return: whether all of it is fixed. */
static bool edit_properties(Rm *rm, RmJob *job, TpmReader *reader) {
        uint32_t n = tpm_read_u32(reader);
        bool fixed = true;

        while (n-- > 0) {
                TPM2_PT property = tpm_read_u32(reader);
                size_t at = reader->at;
                uint32_t value = tpm_read_u32(reader);

                if (reader->bad)
                        return false;
                tpm_put_u32(job->out + at, property_for(rm, job->space, property, value));
                fixed = fixed && property < TPM2_PT_VAR;
        }
        return fixed;
}

RmFlow rm_capability_commit(Rm *rm, RmJob *job) {
        TpmReader reader = TPM_READER(job->out, job->n_out);
        bool fixed = false;
        TPM2_CAP capability;
        Query query;

        if (job->command.header.tag == TPM2_ST_SESSIONS || !query_parse(job, &query))
                return RM_FLOW_REPLY;
        if (query_is_private(&query))
                return reply_list(rm, job, &query);

        tpm_read_bytes(&reader, TPM_HEADER_SIZE + sizeof(TPMI_YES_NO));
        capability = tpm_read_u32(&reader);
        if (reader.bad || capability != query.capability)
                return RM_FLOW_REPLY;
        if (capability == TPM2_CAP_TPM_PROPERTIES)
                fixed = edit_properties(rm, job, &reader);
        else
                fixed = capability == TPM2_CAP_ALGS || capability == TPM2_CAP_COMMANDS ||
                        capability == TPM2_CAP_ECC_CURVES;
        if (fixed)
                keep_fixed(rm, job);
        return RM_FLOW_REPLY;
}

void rm_capability_set_audit(Rm *rm, const RmJob *job) {
        TpmReader reader = TPM_READER(job->original, job->n_original);

        tpm_read_bytes(&reader, job->command.parameters);
        tpm_read_u16(&reader); /* auditAlg */
        for (unsigned clear = 0; clear < 2; clear++)
                for (uint32_t n = tpm_read_u32(&reader); n > 0 && !reader.bad; n--)
                        if (tpm_read_u32(&reader) == TPM2_CC_GetCapability)
                                rm->capability_audited = !clear;
}
