/* SPDX-License-Identifier: BSD-2-Clause */
#include "resmgr/state.h"
#include "tpm/context.h"

#include <string.h>

/*
 * What the client's command did
 *
 * State changes here and nowhere earlier, and only by what the TPM answered.
 */

static void commit_objects(Rm *rm, RmJob *job, const TpmResponse *response, const uint8_t *bytes) {
        const TpmCommand *command = &job->command;

        for (unsigned i = 0; i < command->n_handles; i++) {
                uint32_t at = rm_command_object(rm, job, i);
                RmObject *object = at != RM_NONE ? rm_object(rm, at) : NULL;

                if (!object)
                        continue;
                rm_object_settle(rm, at);
                object->was_clean = false;
                rm_use(rm, &object->use);
                object->unsaveable = false;
                if (command->info.attributes & TPMA_CC_FLUSHED) {
                        rm_object_set_absent(rm, at);
                        rm_object_free(rm, at);
                } else if (command->info.kind == TPM_COMMAND_CONTEXT_SAVE) {
                        rm_object_keep_copy(rm, at, bytes + response->parameters, response->n_parameters);
                }
        }
}

static void session_used(Rm *rm, uint32_t i) {
        rm_session_settle(rm, i);
        rm_use(rm, &rm->sessions[i].use);
        rm->sessions[i].unsaveable = false;
}

static void commit_sessions(Rm *rm, RmJob *job, const TpmResponse *response, const uint8_t *bytes) {
        const TpmCommand *command = &job->command;

        for (unsigned i = 0; i < command->n_handles; i++) {
                uint32_t at = rm_command_session(rm, job, command->handles[i]);

                if (at == RM_NONE)
                        continue;
                session_used(rm, at);
                if (command->info.kind == TPM_COMMAND_CONTEXT_SAVE &&
                    (!rm_session_keep_copy(rm, at, bytes + response->parameters, response->n_parameters) ||
                     !rm_session_keep_token(rm, at)))
                        rm_session_free(rm, at); /* no room for it: its client can load it as one that nobody knows */
        }
        for (unsigned i = 0; i < response->n_auths; i++) {
                uint32_t at = rm_command_session(rm, job, command->auths[i].session);

                if (at == RM_NONE)
                        continue;
                session_used(rm, at);
                /* What the response says counts, not what the command asked (Part 2, section 8.4). */
                if (!(response->auths[i].attributes & TPMA_SESSION_CONTINUESESSION))
                        rm_session_free(rm, at);
        }
}

/* Return: false when the TPM returned what cannot be. */
static bool commit_new_object(Rm *rm, RmJob *job, TPM2_HANDLE phandle) {
        uint32_t i = job->pending_object;
        RmObject *object;

        if (i == RM_NONE)
                return false;
        /* The TPM gives no handle twice: if we hold it already, the tables are wrong, and who knows where else. */
        if (rm_object_find_resident(rm, phandle) != RM_NONE) {
                rm_object_forget_residents(rm);
                rm->due_reconcile = true;
        }
        if (!rm_object_set_resident(rm, i, phandle))
                return false;
        object = rm_object(rm, i);
        job->pending_object = RM_NONE;
        rm_space_link(rm, i);
        rm_use(rm, &object->use);
        object->sequence = job->command.info.kind == TPM_COMMAND_START_SEQUENCE;
        if (job->command.info.kind == TPM_COMMAND_CONTEXT_LOAD)
                rm_object_keep_copy(rm, i, job->original + TPM_HEADER_SIZE, job->n_original - TPM_HEADER_SIZE);
        tpm_put_u32(job->out + tpm_handle_offset(0), object->vhandle);
        return true;
}

static bool commit_new_session(Rm *rm, RmJob *job, TPM2_HANDLE handle) {
        uint32_t i = rm_session_find(rm, handle);
        TpmContext context;

        if (i != RM_NONE && rm_command_presents_session(job, &context) &&
            rm_session_find(rm, context.saved_handle) == i) {
                rm_session_own(rm, i, job->space, handle);
                return true;
        }
        if (i != RM_NONE) {
                rm_session_free(rm, i);
                rm->due_reconcile = true;
        }
        if (job->pending_session == RM_NONE)
                return false;
        rm_session_own(rm, job->pending_session, job->space, handle);
        job->pending_session = RM_NONE;
        return true;
}

static void commit_flush(Rm *rm, RmJob *job) {
        TPM2_HANDLE handle = rm_command_first_parameter_handle(job);
        uint32_t i;

        if (tpm_handle_is_session(handle)) {
                i = rm_session_find(rm, handle);
                if (i != RM_NONE)
                        rm_session_free(rm, i);
        } else if (tpm_handle_is_transient(handle)) {
                i = rm_space_find(rm, job->space, handle);
                if (i != RM_NONE)
                        rm_object_free(rm, i);
        }
}

/* The hierarchies whose objects a successful command flushed, as far as the command tells. */
static bool kills(const RmJob *job, TPM2_HANDLE hierarchy) {
        TpmReader reader = TPM_READER(job->original, job->n_original);
        TPM2_HANDLE enable;

        switch (job->command.header.code) {
        case TPM2_CC_Clear:
                return hierarchy == TPM2_RH_OWNER || hierarchy == TPM2_RH_ENDORSEMENT;
        case TPM2_CC_ChangeEPS:
                return hierarchy == TPM2_RH_ENDORSEMENT;
        case TPM2_CC_ChangePPS:
                return hierarchy == TPM2_RH_PLATFORM;
        case TPM2_CC_HierarchyControl:
                tpm_read_bytes(&reader, job->command.parameters);
                enable = tpm_read_u32(&reader);
                return hierarchy == enable && tpm_read_u8(&reader) == TPM2_NO;
        default:
                return false;
        }
}

/* Objects of a dead hierarchy are gone; whether others are still there is asked before the next command. */
static void commit_extensive(Rm *rm, RmJob *job) {
        for (uint32_t i = 0; i < rm->n_objects_used; i++) {
                RmObject *object = rm_object(rm, i);

                if (object->state == RM_OBJECT_LIVE && object->hierarchy && kills(job, object->hierarchy))
                        rm_object_doom(rm, i);
        }
        for (uint32_t k = 0; k < rm->n_residents; k++)
                rm_object(rm, rm->residents[k])->probe = true;
        rm->due_probe = rm->n_residents > 0;
}

/* What a successful command means for others than the handles that it names. */
static void commit_kind(Rm *rm, RmJob *job, const TpmResponse *response) {
        const TpmCommand *command = &job->command;

        switch (command->info.kind) {
        case TPM_COMMAND_FLUSH_CONTEXT:
                if (rm_command_is_flush(job))
                        commit_flush(rm, job);
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
                rm_capability_forget(rm);
                break;
        default:
                break;
        }
        if (command->info.attributes & TPMA_CC_EXTENSIVE) {
                commit_extensive(rm, job);
                rm_capability_forget(rm);
        }
        rm->audited = false;
        for (unsigned i = 0; i < response->n_auths; i++)
                rm->audited |= (response->auths[i].attributes & TPMA_SESSION_AUDIT) != 0;
}

static RmFlow commit(Rm *rm, RmJob *job, const TpmResponse *response, const uint8_t *bytes, size_t n_bytes) {
        bool possible = true;

        memcpy(job->out, bytes, n_bytes);
        job->n_out = n_bytes;
        job->rc = TSS2_RC_SUCCESS;
        rm_space(rm, job->space)->hopeless = 0;
        rm_unlearn(rm, &job->command);

        commit_objects(rm, job, response, bytes);
        commit_sessions(rm, job, response, bytes);
        if (tpm_handle_is_transient(response->handle))
                possible = commit_new_object(rm, job, response->handle);
        else if (tpm_handle_is_session(response->handle))
                possible = commit_new_session(rm, job, response->handle);

        commit_kind(rm, job, response);
        if (job->command.info.kind == TPM_COMMAND_GET_CAPABILITY)
                return rm_capability_commit(rm, job);
        if (!possible) {
                rm->due_reconcile = true;
                return rm_reply_rc(job, RM_RC(TPM2_RC_FAILURE));
        }
        return RM_FLOW_REPLY;
}

/* Failure */

static uint64_t hash_of(const RmJob *job) {
        uint64_t hash = 14695981039346656037u; /* FNV-1a */
        size_t n = tpm_handle_offset(job->command.n_handles);

        for (size_t i = 0; i < n && i < job->n_original; i++)
                if (i < 2 || i >= 6) /* whatever its size */
                        hash = (hash ^ job->original[i]) * 1099511628211u;
        return hash;
}

static bool is_about_slots(TSS2_RC rc) {
        return rc == TPM2_RC_OBJECT_MEMORY || rc == TPM2_RC_OBJECT_HANDLES || rc == TPM2_RC_SESSION_MEMORY ||
               rc == TPM2_RC_MEMORY;
}

/* The TPM does not know a handle that we put there: our table was wrong about it. */
static bool mend_reference(Rm *rm, RmJob *job, unsigned i) {
        TPM2_HANDLE handle = job->command.handles[i];
        uint32_t at;

        if (tpm_handle_is_session(handle)) {
                at = rm_session_find_usable(rm, job->space, handle);
                /* Under the upper byte of another kind the TPM finds no session, though it is there. */
                if (at != RM_NONE && rm->sessions[at].handle == handle)
                        rm_session_doom(rm, at);
                return false;
        }
        if (!tpm_handle_is_transient(handle) || job->reloaded & 1u << i)
                return false;
        job->reloaded |= 1u << i;
        at = rm_space_find(rm, job->space, handle);
        if (at == RM_NONE)
                return false;
        rm_object_lost(rm, at);
        return rm_space_find(rm, job->space, handle) != RM_NONE;
}

/* What was to be flushed is not there. Return: whether it has a copy, and can be flushed as one that is absent. */
static bool mend_flush(Rm *rm, RmJob *job) {
        TPM2_HANDLE handle = rm_command_first_parameter_handle(job);
        uint32_t i;

        if (tpm_handle_is_session(handle)) {
                i = rm_session_find(rm, handle);
                if (i != RM_NONE)
                        rm_session_free(rm, i);
                return false;
        }
        i = tpm_handle_is_transient(handle) ? rm_space_find(rm, job->space, handle) : RM_NONE;
        if (i != RM_NONE)
                rm_object_lost(rm, i);
        return rm_space_find(rm, job->space, handle) != RM_NONE;
}

static void restore_clean(Rm *rm, const RmJob *job) {
        for (unsigned i = 0; i < job->command.n_handles; i++) {
                uint32_t at = rm_command_object(rm, job, i);

                if (at != RM_NONE)
                        rm_object(rm, at)->clean |= rm_object(rm, at)->was_clean;
        }
}

static RmFlow settle_failure(Rm *rm, RmJob *job, TSS2_RC rc) {
        RmSpace *space = rm_space(rm, job->space);
        uint64_t hopeless = space->hopeless;
        TpmContext context;
        uint32_t i;

        rm_settle_all(rm);
        restore_clean(rm, job);
        if (rc == TPM2_RC_INITIALIZE || rc == TPM2_RC_FAILURE)
                rm_capability_forget(rm);
        if (rm_is_transitory(rc))
                return RM_FLOW_PAUSE;
        /* Once only: by the time after next, things may be different. */
        space->hopeless = 0;
        if (is_about_slots(rc) && hopeless == hash_of(job))
                return rm_reply_rc(job, rc);
        if (rm_repair(rm, job, rc))
                return RM_FLOW_AGAIN;
        if (is_about_slots(rc))
                space->hopeless = hash_of(job);

        if (rc >= TPM2_RC_REFERENCE_H0 && rc < TPM2_RC_REFERENCE_H0 + job->command.n_handles) {
                if (mend_reference(rm, job, rc - TPM2_RC_REFERENCE_H0))
                        return RM_FLOW_AGAIN;
        } else if (rc >= TPM2_RC_REFERENCE_S0 && rc < TPM2_RC_REFERENCE_S0 + job->command.n_auths) {
                i = rm_session_find_usable(rm, job->space, job->command.auths[rc - TPM2_RC_REFERENCE_S0].session);
                if (i != RM_NONE && rm->sessions[i].handle == job->command.auths[rc - TPM2_RC_REFERENCE_S0].session)
                        rm_session_doom(rm, i);
        } else if (rm_command_is_flush(job) && rc == TPM2_RC_HANDLE + TPM2_RC_P + TPM2_RC_1) {
                if (mend_flush(rm, job))
                        return RM_FLOW_AGAIN;
        } else if (rm_context_is_dead(rc) && rm_command_presents_session(job, &context)) {
                i = rm_session_find(rm, context.saved_handle);
                if (i != RM_NONE && rm->sessions[i].token.first != RM_NONE)
                        rm_session_doom(rm, i);
        } else if (rc == TPM2_RC_INITIALIZE && job->command.info.kind != TPM_COMMAND_STARTUP) {
                rm_not_started(rm);
        }
        return rm_reply_rc(job, rc);
}

/* What a ContextSave gives out must be a context: it may be all that is left of a session. */
static bool makes_sense(const RmJob *job, const uint8_t *bytes, size_t n_bytes, TpmResponse *ret_response) {
        TpmContext context;

        if (!tpm_response_parse(&job->command, bytes, n_bytes, ret_response))
                return false;
        return ret_response->header.code != TPM2_RC_SUCCESS || job->command.info.kind != TPM_COMMAND_CONTEXT_SAVE ||
               tpm_context_parse(bytes + ret_response->parameters, ret_response->n_parameters, &context);
}

RmFlow rm_command_settle(Rm *rm, RmJob *job, const uint8_t *bytes, size_t n_bytes) {
        TpmResponse response;

        if (!makes_sense(job, bytes, n_bytes, &response)) {
                rm->due_reconcile = true;
                return rm_reply_rc(job, RM_RC(TPM2_RC_FAILURE));
        }
        if (response.header.code != TPM2_RC_SUCCESS)
                return settle_failure(rm, job, response.header.code);
        return commit(rm, job, &response, bytes, n_bytes);
}
