/* SPDX-License-Identifier: BSD-2-Clause */
#include "resmgr/command.h"
#include "resmgr/reconcile.h"
#include "resmgr/repair.h"

#include <string.h>

#define PAUSE_LONGEST_MS 250
#define PAUSES_MS 2000        /* in all, for one job */
#define PAUSES_START_MS 30000 /* ... at start: a TPM may be testing itself */

static const struct Op {
        RmFlow (*build)(Rm *rm, RmJob *job);
        RmFlow (*settle)(Rm *rm, RmJob *job, const RmAnswer *answer);
        bool is_of_entry;
} OPS[] = {
#define RM_OP(op, name, is_of_entry) [RM_OP_##op] = { rm_##name##_build, rm_##name##_settle, is_of_entry },
        RM_OPS(RM_OP)
#undef RM_OP
};

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

/* The TPM has not done what was sent: what that might have changed is as it was. */
static void undo_top(Rm *rm, RmJob *job) {
        if (OPS[rm_top(job)->op].is_of_entry)
                rm_entry_settle(rm, rm_top(job)->at);
        else if (rm_top(job)->op == RM_OP_COMMAND)
                rm_command_undo(rm, job);
}

static void output_reply(Rm *rm, RmJob *job, RmOutput *ret_output) {
        for (RmKind kind = 0; kind < RM_KINDS; kind++)
                if (job->pending[kind] != RM_NONE)
                        rm_entry_free(rm, job->pending[kind]);
        explicit_bzero(job->original, job->n_original);
        if (job->n_out > job->n_used)
                job->n_used = job->n_out;
        rm_job_end(rm, job);
        rm->counters.local += job->client && job->n_transmits == 0;
        *ret_output = (RmOutput){ .bytes = job->out, .n_bytes = job->n_out, .rc = job->rc };
}

/* No answer, or none that makes sense: what is unknown stays so until the tables are reconciled. */
static RmFlow lose_answer(Rm *rm, RmJob *job) {
        rm->due_reconcile = true;
        return rm_reply_rc(job, RM_RC(TPM2_RC_FAILURE));
}

/* To Startup, INITIALIZE says that it was started before. */
static void notice_down(Rm *rm, RmJob *job, TSS2_RC rc) {
        bool is_startup = rm_top(job)->op == RM_OP_START ||
                          (rm_top(job)->op == RM_OP_COMMAND && job->command.info.kind == TPM_COMMAND_STARTUP);

        rm->down = rc == TPM2_RC_INITIALIZE && !is_startup;
}

static RmFlow settle_answer(Rm *rm, RmJob *job, const uint8_t *response, size_t n_response) {
        TpmReader reader = TPM_READER(response, n_response);
        TpmHeader header = tpm_read_header(&reader);
        const struct Op *op = &OPS[rm_top(job)->op];
        RmAnswer answer = {
                .rc = header.code,
                .bytes = response,
                .n_bytes = n_response,
                .parameters = response + reader.at,
                .n_parameters = n_response - reader.at,
        };
        RmFlow flow = RM_FLOW_CONTINUE;

        if (reader.bad || header.size != n_response || n_response > sizeof(job->out) ||
            (answer.rc != TPM2_RC_SUCCESS && n_response != TPM_HEADER_SIZE))
                return RM_FLOW_LOST;
        notice_down(rm, job, answer.rc);
        if (answer.rc != TPM2_RC_SUCCESS) {
                undo_top(rm, job);
                flow = rm_repair(rm, job, answer.rc);
        }
        if (flow == RM_FLOW_PAUSE && job->paused_ms >= (rm_top(job)->op == RM_OP_START ? PAUSES_START_MS : PAUSES_MS))
                return rm_reply_rc(job, answer.rc);
        return flow == RM_FLOW_CONTINUE ? op->settle(rm, job, &answer) : flow;
}

static RmStep output_transmit(Rm *rm, RmJob *job, RmOutput *ret_output) {
        TpmReader reader = TPM_READER(job->out, job->n_out);
        bool own_command = rm_top(job)->op == RM_OP_COMMAND;

        job->waiting = true;
        if (job->n_out > job->n_used)
                job->n_used = job->n_out;
        rm->counters.transmits++;
        *ret_output = (RmOutput){
                .bytes = job->out,
                .n_bytes = job->n_out,
                .own_command = own_command,
                .takes_long = own_command && job->command.info.takes_long,
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

void rm_job_took(RmJob *job, uint64_t us) {
        job->took_us = us < UINT32_MAX ? (uint32_t)us : UINT32_MAX;
}

RmStep rm_job_step(Rm *rm, RmJob *job, const uint8_t *response, size_t n_response, RmOutput *ret_output) {
        RmFlow flow = RM_FLOW_AGAIN;

        rm->moment = job->moment;
        rm->for_client = job->client;
        if (job->waiting)
                flow = response ? settle_answer(rm, job, response, n_response) : RM_FLOW_LOST;
        job->waiting = false;
        while (flow == RM_FLOW_AGAIN)
                flow = OPS[rm_top(job)->op].build(rm, job);

        if (flow == RM_FLOW_SEND && ++job->n_transmits > RM_TRANSMITS_MAX)
                flow = RM_FLOW_LOST;
        if (flow == RM_FLOW_SEND)
                return output_transmit(rm, job, ret_output);
        if (flow == RM_FLOW_PAUSE)
                return output_pause(job, ret_output);
        if (flow != RM_FLOW_REPLY)
                lose_answer(rm, job);
        output_reply(rm, job, ret_output);
        return RM_STEP_REPLY;
}

void rm_job_lost(Rm *rm, RmJob *job, RmOutput *ret_output) {
        bool is_own = rm_top(job)->op == RM_OP_COMMAND;

        lose_answer(rm, job);
        if (job->client && !is_own)
                rm_reply_rc(job, RM_RC(TPM2_RC_INITIALIZE));
        output_reply(rm, job, ret_output);
}

void rm_job_cancel(Rm *rm, RmJob *job, TSS2_RC rc, RmOutput *ret_output) {
        if (job->waiting)
                undo_top(rm, job);
        rm_reply_rc(job, rc);
        output_reply(rm, job, ret_output);
}
