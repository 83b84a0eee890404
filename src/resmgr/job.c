/* SPDX-License-Identifier: BSD-2-Clause */
#include "resmgr/job.h"

#include <string.h>

#define PAUSE_FIRST_MS 2

RmFlow rm_push(RmJob *job, RmOp op, uint32_t at) {
        if (!rm_may_push(job, 1))
                return rm_reply_rc(job, RM_RC(TPM2_RC_FAILURE));
        job->frames[job->n_frames++] = (RmFrame){ .op = op, .at = at };
        return RM_FLOW_AGAIN;
}

RmFlow rm_pop(RmJob *job) {
        if (--job->n_frames > 0)
                return RM_FLOW_AGAIN;
        job->n_out = 0;
        job->rc = TSS2_RC_SUCCESS;
        return RM_FLOW_REPLY;
}

RmFlow rm_reply_rc(RmJob *job, TSS2_RC rc) {
        TpmWriter writer = TPM_WRITER(job->out, sizeof(job->out));

        tpm_write_begin(&writer, TPM2_ST_NO_SESSIONS, rc);
        job->n_out = job->client ? tpm_write_end(&writer) : 0;
        job->rc = rc;
        return RM_FLOW_REPLY;
}

RmFlow rm_reply_written(RmJob *job, TpmWriter *writer) {
        job->n_out = tpm_write_end(writer);
        job->rc = TSS2_RC_SUCCESS;
        return RM_FLOW_REPLY;
}

RmFlow rm_reply_context(Rm *rm, RmJob *job, const RmContext *context) {
        TpmWriter writer = TPM_WRITER(job->out, sizeof(job->out));

        tpm_write_begin(&writer, TPM2_ST_NO_SESSIONS, TPM2_RC_SUCCESS);
        rm_context_write(rm, context, &writer);
        return rm_reply_written(job, &writer);
}

static RmFlow send_written(RmJob *job, TpmWriter *writer) {
        job->n_out = tpm_write_end(writer);
        return job->n_out > 0 ? RM_FLOW_SEND : rm_reply_rc(job, RM_RC(TPM2_RC_FAILURE));
}

RmFlow rm_send_numbers(RmJob *job, TPM2_CC code, const uint32_t numbers[], size_t n) {
        TpmWriter writer = TPM_WRITER(job->out, sizeof(job->out));

        tpm_write_begin(&writer, TPM2_ST_NO_SESSIONS, code);
        for (size_t i = 0; i < n; i++)
                tpm_write_u32(&writer, numbers[i]);
        return send_written(job, &writer);
}

RmFlow rm_send_load(Rm *rm, RmJob *job, const RmContext *context) {
        TpmWriter writer = TPM_WRITER(job->out, sizeof(job->out));

        tpm_write_begin(&writer, TPM2_ST_NO_SESSIONS, TPM2_CC_ContextLoad);
        rm_context_write(rm, context, &writer);
        return send_written(job, &writer);
}

RmFlow rm_send_original(RmJob *job, size_t n) {
        memcpy(job->out, job->original, n);
        job->n_out = n;
        return RM_FLOW_SEND;
}

RmJob *rm_job_new(Rm *rm, bool client) {
        unsigned i = (unsigned)__builtin_ctz(~rm->jobs_used);
        RmJob *job = rm_job(rm, i);

        /* What was unsealed or decrypted does not stay behind. */
        for (; rm->jobs_dirty; rm->jobs_dirty &= rm->jobs_dirty - 1) {
                RmJob *dirty = rm_job(rm, (unsigned)__builtin_ctz(rm->jobs_dirty));

                explicit_bzero(dirty->out, dirty->n_used);
                dirty->n_used = 0;
        }
        /* The last one is kept for chores, which must go on while clients' jobs pause. */
        if (i >= (client ? RM_JOBS - 1 : RM_JOBS))
                return NULL;
        rm->jobs_used |= 1u << i;
        memset(job, 0, offsetof(RmJob, command));
        job->client = rm->for_client = client;
        job->moment = rm->moment = ++rm->n_jobs;
        job->space = job->pending[RM_SESSION] = job->pending[RM_OBJECT] = RM_NONE;
        job->pause_ms = PAUSE_FIRST_MS;
        job->n_original = job->n_out = 0;
        return job;
}

void rm_job_end(Rm *rm, RmJob *job) {
        uint32_t bit = 1u << (job - rm_job(rm, 0));

        rm->jobs_used &= ~bit;
        if (job->n_used > 0)
                rm->jobs_dirty |= bit;
}

uint32_t rm_job_object(const Rm *rm, const RmJob *job, unsigned i) {
        TPM2_HANDLE handle = job->command.handles[i];

        return tpm_handle_is_transient(handle) ? rm_space_find(rm, job->space, handle) : RM_NONE;
}

uint32_t rm_job_session(const Rm *rm, const RmJob *job, TPM2_HANDLE handle) {
        return tpm_handle_is_session(handle) ? rm_session_find_usable(rm, job->space, handle) : RM_NONE;
}

uint32_t rm_job_name(const Rm *rm, const RmJob *job, unsigned k) {
        const TpmCommand *command = &job->command;

        if (k < command->n_handles && tpm_handle_is_transient(command->handles[k]))
                return rm_job_object(rm, job, k);
        return rm_job_session(
                rm, job, k < command->n_handles ? command->handles[k] : command->auths[k - command->n_handles].session);
}

bool rm_job_pins(const Rm *rm, const RmJob *job, uint32_t entry) {
        if (!job->client || rm_entry(rm, entry)->space != job->space)
                return false;
        for (unsigned k = 0; k < rm_job_n_names(job); k++)
                if (rm_job_name(rm, job, k) == entry)
                        return true;
        return false;
}

TPM2_HANDLE rm_job_first_parameter_handle(const RmJob *job) {
        TpmReader reader = TPM_READER(job->original, job->n_original);

        tpm_read_bytes(&reader, TPM_HEADER_SIZE);
        return tpm_read_u32(&reader);
}

bool rm_job_is_flush(const RmJob *job) {
        return job->command.info.kind == TPM_COMMAND_FLUSH_CONTEXT && job->command.header.tag == TPM2_ST_NO_SESSIONS &&
               job->n_original == tpm_handle_offset(1);
}

uint32_t rm_job_find_flushed(const Rm *rm, const RmJob *job) {
        TPM2_HANDLE handle = rm_job_first_parameter_handle(job);

        if (!rm_job_is_flush(job))
                return RM_NONE;
        if (tpm_handle_is_session(handle))
                return rm_session_find(rm, handle);
        return tpm_handle_is_transient(handle) ? rm_space_find(rm, job->space, handle) : RM_NONE;
}

bool rm_job_presents_session(const RmJob *job, TpmContext *ret_context) {
        return job->command.info.kind == TPM_COMMAND_CONTEXT_LOAD && job->command.header.tag == TPM2_ST_NO_SESSIONS &&
               tpm_context_parse(job->original + TPM_HEADER_SIZE, job->n_original - TPM_HEADER_SIZE, ret_context) &&
               tpm_handle_is_session(ret_context->saved_handle);
}

bool rm_job_presents_last(Rm *rm, const RmJob *job, uint32_t i) {
        const RmEntry *session = rm_entry(rm, i);

        return (session->state == RM_CLIENT_SAVED || session->state == RM_ABANDONED) &&
               rm_context_equals(rm, &session->client_context, job->original + TPM_HEADER_SIZE,
                                 job->n_original - TPM_HEADER_SIZE);
}
