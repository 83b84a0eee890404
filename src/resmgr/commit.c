/* SPDX-License-Identifier: BSD-2-Clause */
#include "resmgr/capability.h"
#include "resmgr/command.h"
#include "resmgr/move.h"

#include <string.h>

static void commit_save(Rm *rm, uint32_t i, const TpmResponse *response, const uint8_t *bytes) {
        bool kept = rm_entry_keep_context(rm, i, bytes + response->parameters, response->n_parameters, true);

        /* No room for that of a session: its client can load it as one that nobody knows. */
        if (rm_kind(i) == RM_SESSION && (!kept || !rm_session_give_context(rm, i)))
                rm_entry_free(rm, i);
}

/* What it named was used, and perhaps saved, or flushed. */
static void commit_names(Rm *rm, RmJob *job, const TpmResponse *response, const uint8_t *bytes) {
        const TpmCommand *command = &job->command;

        for (unsigned k = 0; k < command->n_handles + response->n_auths; k++) {
                uint32_t i = rm_job_name(rm, job, k);

                if (i == RM_NONE)
                        continue;
                rm_entry_settle(rm, i);
                rm_entry_use(rm, i);
                rm_entry(rm, i)->was_clean = false;
                if (k >= command->n_handles) {
                        /* What the response says counts, not what the command asked (Part 2, section 8.4). */
                        if (!(response->auths[k - command->n_handles].attributes & TPMA_SESSION_CONTINUESESSION))
                                rm_entry_free(rm, i);
                } else if (command->info.kind == TPM_COMMAND_CONTEXT_SAVE) {
                        commit_save(rm, i, response, bytes);
                } else if (command->info.attributes & TPMA_CC_FLUSHED && rm_kind(i) == RM_OBJECT) {
                        rm_entry_free(rm, i);
                }
        }
}

/* Return: false when the TPM returned what cannot be. */
static bool commit_new_object(Rm *rm, RmJob *job, const TpmResponse *response) {
        TPM2_HANDLE phandle = response->handle;
        uint32_t i = job->pending[RM_OBJECT];
        RmEntry *object;

        if (i == RM_NONE)
                return false;
        /* The TPM gives no handle twice: if we hold it already, the tables are wrong, and who knows where else. */
        if (rm_object_find_resident(rm, phandle) != RM_NONE) {
                rm_objects_lost(rm);
                rm->due_reconcile = true;
        }
        if (!rm_entry_set_resident(rm, i, phandle))
                return false;
        object = rm_entry(rm, i);
        job->pending[RM_OBJECT] = RM_NONE;
        rm_space_link(rm, i);
        rm_entry_use(rm, i);
        object->n_name = tpm_response_name(&job->command, response, job->out, object->name, sizeof(object->name));
        object->sequence = job->command.info.kind == TPM_COMMAND_START_SEQUENCE;
        if (job->command.info.kind == TPM_COMMAND_CONTEXT_LOAD)
                rm_entry_keep_context(rm, i, job->original + TPM_HEADER_SIZE, job->n_original - TPM_HEADER_SIZE, false);
        tpm_put_u32(job->out + tpm_handle_offset(0), object->vhandle);
        return true;
}

static bool commit_new_session(Rm *rm, RmJob *job, TPM2_HANDLE handle) {
        uint32_t i = rm_session_find(rm, handle);
        TpmContext context;

        if (i != RM_NONE && rm_job_presents_session(job, &context) && rm_session_find(rm, context.saved_handle) == i)
                return rm_session_own(rm, i, job->space, handle);
        if (i != RM_NONE) {
                rm_entry_free(rm, i);
                rm->due_reconcile = true;
        }
        i = job->pending[RM_SESSION];
        if (i == RM_NONE || !rm_session_own(rm, i, job->space, handle))
                return false;
        job->pending[RM_SESSION] = RM_NONE;
        return true;
}

/* Whether a successful command flushed the objects of a hierarchy, as far as the command tells. */
static bool flushes_hierarchy(const RmJob *job, TPM2_HANDLE hierarchy) {
        const TpmCommandInfo *info = &job->command.info;
        TpmReader reader = TPM_READER(job->original, job->n_original);
        TPM2_HANDLE enable;

        if (info->kind == TPM_COMMAND_HIERARCHY_CONTROL) {
                tpm_read_bytes(&reader, job->command.parameters);
                enable = tpm_read_u32(&reader);
                return hierarchy == enable && tpm_read_u8(&reader) == TPM2_NO;
        }
        return hierarchy == info->flushes[0] || hierarchy == info->flushes[1];
}

/* Objects of a dead hierarchy are gone; whether others are still there is asked before the next command. */
static void commit_extensive(Rm *rm, RmJob *job) {
        for (uint32_t i = rm_first(RM_OBJECT); i < rm_end(rm, RM_OBJECT); i++) {
                const RmEntry *object = rm_entry(rm, i);

                if (object->state == RM_LIVE && object->hierarchy && flushes_hierarchy(job, object->hierarchy))
                        rm_entry_doom(rm, i);
        }
        for (uint32_t k = 0; k < rm->n_residents[RM_OBJECT]; k++)
                rm_entry(rm, rm->residents[RM_OBJECT][k])->probe = true;
        rm->due_probe = rm->n_residents[RM_OBJECT] > 0;
}

/* What a successful command means for others than the handles that it names. */
static void commit_kind(Rm *rm, RmJob *job, const TpmResponse *response) {
        const TpmCommand *command = &job->command;
        uint32_t i = rm_job_find_flushed(rm, job);

        switch (command->info.kind) {
        case TPM_COMMAND_FLUSH_CONTEXT:
                if (i != RM_NONE)
                        rm_entry_free(rm, i);
                return;
        case TPM_COMMAND_CONTEXT_LOAD:
        case TPM_COMMAND_CONTEXT_SAVE:
                return; /* no end of exclusive audit: they allow no sessions at all */
        case TPM_COMMAND_STARTUP:
                rm_forget_residents(rm);
                rm->due_start = false;
                rm->due_reconcile = true;
                break;
        case TPM_COMMAND_SHUTDOWN:
                rm->shut_down = true;
                break;
        case TPM_COMMAND_SET_AUDIT:
                rm_capability_set_audit(rm, job);
                break;
        case TPM_COMMAND_RECONFIGURE:
                rm->fixed_stale = true;
                break;
        default:
                break;
        }
        if (command->info.attributes & TPMA_CC_EXTENSIVE) {
                commit_extensive(rm, job);
                rm->fixed_stale = true;
        }
        rm->audited = false;
        for (unsigned k = 0; k < response->n_auths; k++)
                rm->audited |= (response->auths[k].attributes & TPMA_SESSION_AUDIT) != 0;
        rm->audit_space = job->space;
}

static RmFlow reply_answer(RmJob *job, const RmAnswer *answer) {
        memcpy(job->out, answer->bytes, answer->n_bytes);
        job->n_out = answer->n_bytes;
        if (job->n_out > job->n_used)
                job->n_used = job->n_out;
        job->rc = answer->rc;
        return RM_FLOW_REPLY;
}

static RmFlow commit_success(Rm *rm, RmJob *job, const TpmResponse *response, const RmAnswer *answer) {
        bool possible = true;

        reply_answer(job, answer);
        rm_space(rm, job->space)->hopeless = 0;
        rm_unlearn(rm, &job->command);

        commit_names(rm, job, response, answer->bytes);
        /* A state was put back in which this may be another's session. */
        if (job->command.info.kind == TPM_COMMAND_CONTEXT_SAVE && rm->due_reconcile)
                return RM_FLOW_LOST;
        if (tpm_handle_is_transient(response->handle))
                possible = commit_new_object(rm, job, response);
        else if (tpm_handle_is_session(response->handle))
                possible = commit_new_session(rm, job, response->handle);

        commit_kind(rm, job, response);
        if (job->command.info.kind == TPM_COMMAND_GET_CAPABILITY)
                return rm_capability_commit(rm, job);
        return possible ? RM_FLOW_REPLY : RM_FLOW_LOST;
}

/* What was to be flushed is not there. Return: whether it has a context, and can be flushed as one that is absent. */
static bool commit_missing(Rm *rm, RmJob *job) {
        uint32_t i = rm_job_find_flushed(rm, job);

        if (i != RM_NONE && rm_kind(i) == RM_SESSION)
                rm_entry_free(rm, i);
        else if (i != RM_NONE)
                rm_entry_lost(rm, i);
        return i != RM_NONE && rm_job_find_flushed(rm, job) == i;
}

/* What a format-one code says, without of what it says it (Part 2, section 6.6.3). */
#define ERROR_VALUE (TPM2_RC_VALUE - TPM2_RC_FMT1)
#define ERROR_HANDLE (TPM2_RC_HANDLE - TPM2_RC_FMT1)

/*
 * The TPM's refusal, or our own: where it refuses what stands in the place of a handle that is not the client's, as not
 * loaded, or as beyond those that it has, the client's handle is what is not loaded (Part 2, section 6.6).
 */
static TSS2_RC refusal_of(const RmJob *job, TSS2_RC rc) {
        unsigned n_handles = job->command.n_handles;
        unsigned n = rc >> 8 & 0xF; /* of a format-one code: 1 to 7 is a handle, 9 to 15 a session */
        unsigned error = rc & 0x3F;
        unsigned k = UINT32_MAX;

        if (rc >= TPM2_RC_REFERENCE_H0 && rc <= TPM2_RC_REFERENCE_H6)
                k = rc - TPM2_RC_REFERENCE_H0;
        else if (rc >= TPM2_RC_REFERENCE_S0 && rc <= TPM2_RC_REFERENCE_S6)
                k = n_handles + rc - TPM2_RC_REFERENCE_S0;
        else if (rc & TPM2_RC_FMT1 && !(rc & TPM2_RC_P) && (n & 7) > 0 &&
                 (error == ERROR_VALUE || error == ERROR_HANDLE))
                k = n < 8 ? n - 1 : n_handles + n - 9;
        if (k >= rm_job_n_names(job) || !(job->foreign & 1u << k))
                return rc;
        return RM_RC(k < n_handles ? TPM2_RC_REFERENCE_H0 + k : TPM2_RC_REFERENCE_S0 + k - n_handles);
}

static RmFlow commit_failure(Rm *rm, RmJob *job, TSS2_RC rc) {
        TpmContext context;
        uint32_t i;

        if (rc == TPM2_RC_INITIALIZE || rc == TPM2_RC_FAILURE)
                rm->fixed_stale = true;
        if (rc == TPM2_RC_HANDLE + TPM2_RC_P + TPM2_RC_1 && commit_missing(rm, job))
                return RM_FLOW_AGAIN;
        if (rm_rc_is_dead_context(rc) && rm_job_presents_session(job, &context)) {
                i = rm_session_find(rm, context.saved_handle);
                if (i != RM_NONE && rm_job_presents_last(rm, job, i))
                        rm_entry_doom(rm, i);
        }
        return rm_reply_rc(job, refusal_of(job, rc));
}

/* What a ContextSave gives out must be a context: it may be all that is left of a session. */
static bool makes_sense(const RmJob *job, const RmAnswer *answer, TpmResponse *ret_response) {
        TpmContext context;

        if (!tpm_response_parse(&job->command, answer->bytes, answer->n_bytes, ret_response))
                return false;
        return answer->rc != TPM2_RC_SUCCESS || job->command.info.kind != TPM_COMMAND_CONTEXT_SAVE ||
               tpm_context_parse(answer->bytes + ret_response->parameters, ret_response->n_parameters, &context);
}

RmFlow rm_command_settle(Rm *rm, RmJob *job, const RmAnswer *answer) {
        TpmResponse response;

        if (job->raw)
                return reply_answer(job, answer);
        /* What names a handle that is never loaded cannot succeed. */
        if (!makes_sense(job, answer, &response) || (answer->rc == TPM2_RC_SUCCESS && job->foreign))
                return RM_FLOW_LOST;
        return answer->rc == TPM2_RC_SUCCESS ? commit_success(rm, job, &response, answer)
                                             : commit_failure(rm, job, answer->rc);
}
