/* SPDX-License-Identifier: BSD-2-Clause */
#include "resmgr/state.h"

#include <string.h>

/*
 * A job is a stack of frames, the client's command at the bottom. The frame on top is built into a TPM command; its
 * answer settles it, or has a repair pushed above it. Whatever is uncovered again is built afresh from the client's
 * original bytes, since handles may have moved.
 */

#define PAUSE_FIRST_MS 2
#define PAUSE_LONGEST_MS 250
#define PAUSES_MS 2000        /* in all, for one job */
#define PAUSES_START_MS 30000 /* ... at start: a TPM may be testing itself */

RmFlow rm_push(RmJob *job, RmOp op, uint32_t at) {
        if (job->n_frames == RM_FRAMES_MAX)
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

static RmFlow send_whole(RmJob *job, TpmWriter *writer) {
        job->n_out = tpm_write_end(writer);
        return job->n_out > 0 ? RM_FLOW_SEND : rm_reply_rc(job, RM_RC(TPM2_RC_FAILURE));
}

static RmFlow send_with_handle(RmJob *job, TPM2_CC code, TPM2_HANDLE handle) {
        TpmWriter writer = TPM_WRITER(job->out, sizeof(job->out));

        tpm_write_begin(&writer, TPM2_ST_NO_SESSIONS, code);
        tpm_write_u32(&writer, handle);
        return send_whole(job, &writer);
}

RmFlow rm_send_flush(RmJob *job, TPM2_HANDLE handle) {
        return send_with_handle(job, TPM2_CC_FlushContext, handle);
}

RmFlow rm_send_save(RmJob *job, TPM2_HANDLE handle) {
        return send_with_handle(job, TPM2_CC_ContextSave, handle);
}

RmFlow rm_send_load(Rm *rm, RmJob *job, const RmCopy *copy) {
        TpmWriter writer = TPM_WRITER(job->out, sizeof(job->out));

        tpm_write_begin(&writer, TPM2_ST_NO_SESSIONS, TPM2_CC_ContextLoad);
        rm_copy_write(rm, copy, &writer);
        return send_whole(job, &writer);
}

RmFlow rm_send_get_capability(RmJob *job, TPM2_CAP capability, uint32_t property, uint32_t count) {
        TpmWriter writer = TPM_WRITER(job->out, sizeof(job->out));

        tpm_write_begin(&writer, TPM2_ST_NO_SESSIONS, TPM2_CC_GetCapability);
        tpm_write_u32(&writer, capability);
        tpm_write_u32(&writer, property);
        tpm_write_u32(&writer, count);
        return send_whole(job, &writer);
}

RmJob *rm_job_new(Rm *rm, bool client) {
        RmJob *job = NULL;

        for (unsigned i = 0; i < RM_JOBS; i++) {
                RmJob *other = &rm->jobs[i];

                if (other->used)
                        continue;
                /* What was unsealed or decrypted does not stay behind. */
                explicit_bzero(other->out, other->n_used);
                other->n_out = other->n_used = 0;
                /* The last one is kept for chores, which must go on while clients' jobs pause. */
                if (!job && (i < RM_JOBS - 1 || !client))
                        job = other;
        }
        if (!job)
                return NULL;
        job->used = true;
        job->client = client;
        job->waiting = false;
        job->space = job->pending_object = job->pending_session = RM_NONE;
        job->settled = job->counted = false;
        job->n_missed = 0;
        job->reloaded = 0;
        job->n_transmits = 0;
        job->paused_ms = 0;
        job->pause_ms = PAUSE_FIRST_MS;
        job->n_frames = 0;
        job->n_original = 0;
        return job;
}

RmJob *rm_job_begin(Rm *rm, uint32_t space, const uint8_t *command, size_t n_command) {
        RmJob *job = rm_job_new(rm, true);

        if (!job)
                return NULL;
        rm->tick++;
        rm->counters.commands++;
        rm->shut_down = false;
        job->space = space;
        job->n_original = n_command < sizeof(job->original) ? n_command : sizeof(job->original);
        memcpy(job->original, command, job->n_original);
        job->command = tpm_command_parse(&rm->table, job->original, job->n_original);
        rm_push(job, RM_OP_COMMAND, RM_NONE);
        return job;
}

static void output_reply(Rm *rm, RmJob *job, RmOutput *ret_output) {
        if (job->pending_object != RM_NONE)
                rm_object_free(rm, job->pending_object);
        if (job->pending_session != RM_NONE)
                rm_session_free(rm, job->pending_session);
        explicit_bzero(job->original, job->n_original);
        if (job->n_out > job->n_used)
                job->n_used = job->n_out;
        job->used = false;
        rm->counters.local += job->client && job->n_transmits == 0;
        *ret_output = (RmOutput){ .bytes = job->out, .n_bytes = job->n_out, .rc = job->rc };
}

static RmFlow pause_after(RmJob *job, TSS2_RC rc) {
        uint32_t at_most = job->frames[job->n_frames - 1].op == RM_OP_START ? PAUSES_START_MS : PAUSES_MS;

        if (job->paused_ms >= at_most)
                return rm_reply_rc(job, rc);
        return RM_FLOW_PAUSE;
}

static RmFlow build(Rm *rm, RmJob *job) {
        switch (rm_top(job)->op) {
        case RM_OP_COMMAND:
                return rm_command_build(rm, job);
        case RM_OP_START:
        case RM_OP_RECONCILE:
                return rm_reconcile_build(rm, job);
        default:
                return rm_repair_build(rm, job);
        }
}

static RmFlow lost(Rm *rm, RmJob *job) {
        rm->due_reconcile = true;
        return rm_reply_rc(job, RM_RC(TPM2_RC_FAILURE));
}

static RmFlow settle(Rm *rm, RmJob *job, const uint8_t *response, size_t n_response) {
        TpmReader reader = TPM_READER(response, n_response);
        TpmHeader header = tpm_read_header(&reader);
        RmAnswer answer = { .rc = header.code, .bytes = response + reader.at, .n_bytes = n_response - reader.at };
        RmFlow flow;

        if (reader.bad || header.size != n_response || n_response > sizeof(job->out))
                return lost(rm, job);
        switch (rm_top(job)->op) {
        case RM_OP_COMMAND:
                flow = rm_command_settle(rm, job, response, n_response);
                break;
        case RM_OP_START:
        case RM_OP_RECONCILE:
                flow = rm_reconcile_settle(rm, job, &answer);
                break;
        default:
                flow = rm_repair_settle(rm, job, &answer);
                break;
        }
        /* The TPM did nothing and asks for the same again (Part 3, table 4). */
        return flow == RM_FLOW_PAUSE ? pause_after(job, header.code) : flow;
}

static RmStep output_transmit(Rm *rm, RmJob *job, RmOutput *ret_output) {
        TpmReader reader = TPM_READER(job->out, job->n_out);

        job->waiting = true;
        if (job->n_out > job->n_used)
                job->n_used = job->n_out;
        rm->counters.transmits++;
        *ret_output = (RmOutput){
                .bytes = job->out,
                .n_bytes = job->n_out,
                .own_command = rm_top(job)->op == RM_OP_COMMAND,
                .code = tpm_read_header(&reader).code,
        };
        return RM_STEP_TRANSMIT;
}

static RmStep output_pause(RmJob *job, RmOutput *ret_output) {
        *ret_output = (RmOutput){
                .pause_ms = job->pause_ms,
                .yielding = job->n_frames == 1 && rm_top(job)->op == RM_OP_COMMAND,
        };
        job->paused_ms += job->pause_ms;
        job->pause_ms = job->pause_ms * 2 < PAUSE_LONGEST_MS ? job->pause_ms * 2 : PAUSE_LONGEST_MS;
        return RM_STEP_PAUSE;
}

RmStep rm_job_step(Rm *rm, RmJob *job, const uint8_t *response, size_t n_response, RmOutput *ret_output) {
        RmFlow flow = RM_FLOW_AGAIN;

        if (job->waiting) {
                job->waiting = false;
                flow = response ? settle(rm, job, response, n_response) : lost(rm, job);
        }
        while (flow == RM_FLOW_AGAIN)
                flow = build(rm, job);

        if (flow == RM_FLOW_SEND && ++job->n_transmits > RM_TRANSMITS_MAX)
                flow = lost(rm, job);
        if (flow == RM_FLOW_SEND)
                return output_transmit(rm, job, ret_output);
        if (flow == RM_FLOW_PAUSE)
                return output_pause(job, ret_output);
        output_reply(rm, job, ret_output);
        return RM_STEP_REPLY;
}

void rm_job_lost(Rm *rm, RmJob *job, RmOutput *ret_output) {
        lost(rm, job);
        output_reply(rm, job, ret_output);
}

void rm_job_cancel(Rm *rm, RmJob *job, TSS2_RC rc, RmOutput *ret_output) {
        if (job->waiting)
                rm_settle_all(rm);
        rm_reply_rc(job, rc);
        output_reply(rm, job, ret_output);
}
