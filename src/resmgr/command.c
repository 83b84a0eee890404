/* SPDX-License-Identifier: BSD-2-Clause */
#include "resmgr/state.h"
#include "tpm/context.h"

#include <string.h>

/*
 * The client's command
 *
 * Built: its handles are found, what is absent is loaded, its quota taken, room made, and what it may change marked
 * unknown. Settled: on success what it did is committed; on failure all is as it was, but for what the failure itself
 * tells.
 */

/* A handle that is well formed and never loaded, in the place of one that must not reach the TPM. */
#define PLACEHOLDER TPM_TRANSIENT_LAST

#define RC_HANDLE_P1 (TPM2_RC_HANDLE + TPM2_RC_P + TPM2_RC_1)

#define FLUSH_CONTEXT_SIZE (TPM_HEADER_SIZE + sizeof(TPM2_HANDLE))

TPM2_HANDLE rm_command_first_parameter_handle(const RmJob *job) {
        TpmReader reader = TPM_READER(job->original, job->n_original);

        tpm_read_bytes(&reader, TPM_HEADER_SIZE);
        return tpm_read_u32(&reader);
}

uint32_t rm_command_object(Rm *rm, const RmJob *job, unsigned i) {
        TPM2_HANDLE handle = job->command.handles[i];

        return tpm_handle_is_transient(handle) ? rm_space_find(rm, job->space, handle) : RM_NONE;
}

uint32_t rm_command_session(Rm *rm, const RmJob *job, TPM2_HANDLE handle) {
        return tpm_handle_is_session(handle) ? rm_session_find_usable(rm, job->space, handle) : RM_NONE;
}

/* The session context that a ContextLoad presents, if it is one. */
bool rm_command_presents_session(const RmJob *job, TpmContext *ret_context) {
        return job->command.info.kind == TPM_COMMAND_CONTEXT_LOAD && job->command.header.tag == TPM2_ST_NO_SESSIONS &&
               tpm_context_parse(job->original + TPM_HEADER_SIZE, job->n_original - TPM_HEADER_SIZE, ret_context) &&
               tpm_handle_is_session(ret_context->saved_handle);
}

bool rm_command_is_flush(const RmJob *job) {
        return job->command.info.kind == TPM_COMMAND_FLUSH_CONTEXT && job->command.header.tag == TPM2_ST_NO_SESSIONS &&
               job->n_original == FLUSH_CONTEXT_SIZE;
}

bool rm_command_pins_object(Rm *rm, const RmJob *job, uint32_t object) {
        if (!job->client || rm_object(rm, object)->space != job->space)
                return false;
        for (unsigned i = 0; i < job->command.n_handles; i++)
                if (job->command.handles[i] == rm_object(rm, object)->vhandle)
                        return true;
        return false;
}

bool rm_command_pins_session(Rm *rm, const RmJob *job, uint32_t session) {
        if (!job->client || rm->sessions[session].space != job->space)
                return false;
        for (unsigned i = 0; i < job->command.n_handles; i++)
                if (tpm_handle_is_session(job->command.handles[i]) &&
                    rm_session_find(rm, job->command.handles[i]) == session)
                        return true;
        for (unsigned i = 0; i < job->command.n_auths; i++)
                if (tpm_handle_is_session(job->command.auths[i].session) &&
                    rm_session_find(rm, job->command.auths[i].session) == session)
                        return true;
        return false;
}

static RmFlow send_original(RmJob *job, size_t n) {
        memcpy(job->out, job->original, n);
        job->n_out = n;
        return RM_FLOW_SEND;
}

/* What may stand for a session in the authorization area: the client's own, else nothing that exists. */
static TPM2_HANDLE harmless(Rm *rm, const RmJob *job, TPM2_HANDLE handle) {
        return rm_session_find_usable(rm, job->space, handle) != RM_NONE ? handle : PLACEHOLDER;
}

/*
 * What the TPM refuses anyway goes there for the right response code. A code that it does not list goes without
 * anything; where the handle area is cut off, handles of the same kind stand for what has no meaning outside of the
 * client's space. Others would do for the refusal, but not for its code: the TPM looks at the kind first.
 */
static RmFlow send_malformed(RmJob *job) {
        const TpmCommand *command = &job->command;

        if (!command->known) {
                send_original(job, TPM_HEADER_SIZE);
                tpm_put_u32(job->out + 2, TPM_HEADER_SIZE);
                return RM_FLOW_SEND;
        }
        send_original(job, job->n_original);
        for (unsigned i = 0; i < command->n_handles; i++)
                if (tpm_handle_is_transient(command->handles[i]) || tpm_handle_is_session(command->handles[i]))
                        tpm_put_u32(job->out + tpm_handle_offset(i), command->handles[i] & TPM2_HR_RANGE_MASK);
        return RM_FLOW_SEND;
}

static RmFlow reply_success(RmJob *job) {
        return rm_reply_rc(job, TPM2_RC_SUCCESS);
}

static RmFlow build_flush(Rm *rm, RmJob *job) {
        TPM2_HANDLE handle = rm_command_first_parameter_handle(job);
        uint32_t i;

        if (tpm_handle_is_session(handle)) {
                i = rm_session_find(rm, handle);
                if (i == RM_NONE || !rm_session_may_flush(rm, job->space, i))
                        return rm_reply_rc(job, RM_RC(RC_HANDLE_P1));
                rm->sessions[i].residency = RM_UNKNOWN;
                return send_original(job, job->n_original);
        }
        if (!tpm_handle_is_transient(handle))
                return send_original(job, job->n_original);

        i = rm_space_find(rm, job->space, handle);
        if (i == RM_NONE)
                return rm_reply_rc(job, RM_RC(RC_HANDLE_P1));
        if (rm_object(rm, i)->residency == RM_ABSENT) {
                rm_object_free(rm, i);
                return reply_success(job);
        }
        rm_object_set_unknown(rm, i);
        return rm_send_flush(job, rm_object(rm, i)->phandle);
}

/* A TPM, too, refuses what stands behind the handle before it looks at whose handle that is. */
static bool is_long_flush(const RmJob *job) {
        TPM2_HANDLE handle = rm_command_first_parameter_handle(job);

        return job->command.header.tag == TPM2_ST_NO_SESSIONS && job->n_original > FLUSH_CONTEXT_SIZE &&
               (tpm_handle_is_session(handle) || tpm_handle_is_transient(handle));
}

static RmFlow reply_copy(Rm *rm, RmJob *job, const RmCopy *copy) {
        TpmWriter writer = TPM_WRITER(job->out, sizeof(job->out));

        tpm_write_begin(&writer, TPM2_ST_NO_SESSIONS, TPM2_RC_SUCCESS);
        rm_copy_write(rm, copy, &writer);
        job->n_out = tpm_write_end(&writer);
        job->rc = TSS2_RC_SUCCESS;
        return RM_FLOW_REPLY;
}

/* Answers a well-formed ContextSave of what we hold a copy of. Return: RM_FLOW_AGAIN when the TPM has to be asked. */
static RmFlow save_from_copy(Rm *rm, RmJob *job) {
        TPM2_HANDLE handle = job->command.handles[0];
        uint32_t i;

        if (job->command.header.tag != TPM2_ST_NO_SESSIONS || job->n_original != tpm_handle_offset(1))
                return RM_FLOW_AGAIN;
        if (tpm_handle_is_transient(handle)) {
                i = rm_space_find(rm, job->space, handle);
                if (i == RM_NONE || !rm_object(rm, i)->clean)
                        return RM_FLOW_AGAIN;
                return reply_copy(rm, job, &rm_object(rm, i)->copy);
        }
        i = rm_session_find_usable(rm, job->space, handle);
        if (i == RM_NONE || rm->sessions[i].handle != handle || rm->sessions[i].residency != RM_ABSENT)
                return RM_FLOW_AGAIN;
        if (!rm_session_keep_token(rm, i))
                return rm_reply_rc(job, RM_RC(TPM2_RC_MEMORY));
        return reply_copy(rm, job, &rm->sessions[i].token);
}

/* Handles and sessions that are not the client's. Return: RM_FLOW_SEND when there are none. */
static RmFlow refuse_foreign(Rm *rm, RmJob *job) {
        const TpmCommand *command = &job->command;

        for (unsigned i = 0; i < command->n_handles; i++) {
                TPM2_HANDLE handle = command->handles[i];

                if ((tpm_handle_is_transient(handle) && rm_command_object(rm, job, i) == RM_NONE) ||
                    (tpm_handle_is_session(handle) && rm_command_session(rm, job, handle) == RM_NONE))
                        return rm_reply_rc(job, RM_RC(TPM2_RC_REFERENCE_H0 + i));
        }
        for (unsigned i = 0; i < command->n_auths; i++) {
                TPM2_HANDLE handle = command->auths[i].session;

                if (handle == TPM2_RH_PW)
                        continue;
                /* No session at all: that is the TPM's to refuse, before it looks at those behind it. */
                if (!tpm_handle_is_session(handle))
                        break;
                if (rm_command_session(rm, job, handle) == RM_NONE)
                        return rm_reply_rc(job, RM_RC(TPM2_RC_REFERENCE_S0 + i));
        }
        return RM_FLOW_SEND;
}

static RmFlow load_missing(RmJob *job, RmOp op, uint32_t at) {
        job->n_missed++;
        return rm_push(job, op, at);
}

/* What it names is in the TPM now: how much of it was before? One that had to be loaded twice was missed once. */
static void count_hits(Rm *rm, RmJob *job) {
        uint32_t n = 0;

        if (job->counted)
                return;
        job->counted = true;
        for (unsigned i = 0; i < job->command.n_handles; i++)
                n += rm_command_object(rm, job, i) != RM_NONE ||
                     rm_command_session(rm, job, job->command.handles[i]) != RM_NONE;
        for (unsigned i = 0; i < job->command.n_auths; i++)
                n += rm_command_session(rm, job, job->command.auths[i].session) != RM_NONE;
        if (job->n_missed > n)
                job->n_missed = n;
        rm->counters.misses += job->n_missed;
        rm->counters.hits += n - job->n_missed;
}

/* Put a physical handle in the place of handle i. Return: RM_FLOW_SEND when it is there. */
static RmFlow map_handle(Rm *rm, RmJob *job, unsigned i, TPM2_HANDLE *ret_handle) {
        TPM2_HANDLE handle = job->command.handles[i];
        uint32_t at = rm_command_object(rm, job, i);

        if (at != RM_NONE) {
                if (rm_object(rm, at)->residency == RM_ABSENT)
                        return load_missing(job, RM_OP_LOAD_OBJECT, at);
                if (rm_object(rm, at)->residency != RM_RESIDENT)
                        return rm_reply_rc(job, RM_RC(TPM2_RC_FAILURE));
                handle = rm_object(rm, at)->phandle;
        }
        at = rm_command_session(rm, job, handle);
        if (at != RM_NONE && rm->sessions[at].residency == RM_ABSENT)
                return load_missing(job, RM_OP_LOAD_SESSION, at);
        *ret_handle = handle;
        return RM_FLOW_SEND;
}

static RmFlow load_auths(Rm *rm, RmJob *job) {
        for (unsigned i = 0; i < job->command.n_auths; i++) {
                uint32_t at = rm_command_session(rm, job, job->command.auths[i].session);

                if (at != RM_NONE && rm->sessions[at].residency == RM_ABSENT)
                        return load_missing(job, RM_OP_LOAD_SESSION, at);
        }
        return RM_FLOW_SEND;
}

/* The entry for a session to come, within the quota. Return: RM_FLOW_SEND when it is there. */
static RmFlow admit_session(Rm *rm, RmJob *job) {
        TSS2_RC rc;

        if (job->pending_session != RM_NONE)
                return RM_FLOW_SEND;
        rc = rm_space_admit_session(rm, job->space);
        if (rc != TSS2_RC_SUCCESS)
                return rm_reply_rc(job, rc);
        job->pending_session = rm_session_new(rm, job->space);
        return job->pending_session != RM_NONE ? RM_FLOW_SEND : rm_reply_rc(job, RM_RC(TPM2_RC_SESSION_HANDLES));
}

static RmFlow admit_object(Rm *rm, RmJob *job) {
        TSS2_RC rc;

        if (job->pending_object != RM_NONE)
                return RM_FLOW_SEND;
        rc = rm_space_admit_object(rm, job->space);
        if (rc != TSS2_RC_SUCCESS)
                return rm_reply_rc(job, rc);
        job->pending_object = rm_object_new(rm, job->space);
        return job->pending_object != RM_NONE ? RM_FLOW_SEND : rm_reply_rc(job, RM_RC(TPM2_RC_OBJECT_MEMORY));
}

static RmFlow reply_handle(RmJob *job, TPM2_HANDLE handle) {
        TpmWriter writer = TPM_WRITER(job->out, sizeof(job->out));

        tpm_write_begin(&writer, TPM2_ST_NO_SESSIONS, TPM2_RC_SUCCESS);
        tpm_write_u32(&writer, handle);
        job->n_out = tpm_write_end(&writer);
        job->rc = TSS2_RC_SUCCESS;
        return RM_FLOW_REPLY;
}

static RmFlow build_load_session(Rm *rm, RmJob *job, TPM2_HANDLE handle) {
        uint32_t i = rm_session_find(rm, handle);
        RmSession *session = i != RM_NONE ? &rm->sessions[i] : NULL;
        bool known = session && session->state != RM_SESSION_LEFTOVER;
        bool loadable =
                session && (session->state == RM_SESSION_CLIENT_SAVED || session->state == RM_SESSION_ABANDONED);
        RmFlow flow = RM_FLOW_SEND;

        /* Who presents the whole of what the last ContextSave gave out has the right to the session, once. */
        if (known && (!loadable || !rm_copy_equals(rm, &session->token, job->original + TPM_HEADER_SIZE,
                                                   job->n_original - TPM_HEADER_SIZE)))
                return rm_reply_rc(job, RM_RC(RC_HANDLE_P1));
        if (!session || session->space != job->space)
                flow = admit_session(rm, job);
        if (flow != RM_FLOW_SEND)
                return flow;
        /* A renewal that stopped halfway has left it loaded. */
        if (known && session->residency == RM_RESIDENT) {
                rm_session_own(rm, i, job->space, session->handle);
                return reply_handle(job, session->handle);
        }
        if (rm_session_slots_short(rm, 1) && rm_evict_session(rm, job))
                return RM_FLOW_AGAIN;
        if (session)
                session->residency = RM_UNKNOWN;
        return known ? rm_send_load(rm, job, &session->copy) : send_original(job, job->n_original);
}

/* The quota for what the command returns. Return: RM_FLOW_SEND when it is taken. */
static RmFlow admit(Rm *rm, RmJob *job) {
        const TpmCommand *command = &job->command;

        if (!(command->info.attributes & TPMA_CC_RHANDLE) || !command->auths_whole)
                return RM_FLOW_SEND;
        return command->info.kind == TPM_COMMAND_START_AUTH_SESSION ? admit_session(rm, job) : admit_object(rm, job);
}

/* Room for what the command returns and uses. Return: whether something has to be evicted first. */
static bool make_room(Rm *rm, RmJob *job) {
        const TpmCommand *command = &job->command;

        if (command->info.kind == TPM_COMMAND_START_AUTH_SESSION && rm_session_slots_short(rm, 1) &&
            rm_evict_session(rm, job))
                return true;
        return rm_object_slots_short(rm, rm_slots_needed(rm, command)) && rm_evict_object(rm, job);
}

static void mark_session(Rm *rm, const RmJob *job, TPM2_HANDLE handle) {
        uint32_t i = rm_command_session(rm, job, handle);

        if (i != RM_NONE)
                rm->sessions[i].residency = RM_UNKNOWN;
}

/* What the command may change, or take out of the TPM, should it succeed. */
static void mark_unknown(Rm *rm, const RmJob *job) {
        const TpmCommand *command = &job->command;

        for (unsigned i = 0; i < command->n_handles; i++) {
                uint32_t at = rm_command_object(rm, job, i);

                if (at != RM_NONE && command->info.attributes & TPMA_CC_FLUSHED)
                        rm_object_set_unknown(rm, at);
                if (at != RM_NONE) {
                        RmObject *object = rm_object(rm, at);

                        object->was_clean = object->clean;
                        object->clean =
                                object->clean && (!object->sequence || command->info.kind == TPM_COMMAND_CONTEXT_SAVE);
                }
                if (command->info.kind == TPM_COMMAND_CONTEXT_SAVE)
                        mark_session(rm, job, command->handles[i]);
        }
        for (unsigned i = 0; i < command->n_auths; i++)
                if (!(command->auths[i].attributes & TPMA_SESSION_CONTINUESESSION))
                        mark_session(rm, job, command->auths[i].session);
        if (!(command->info.attributes & TPMA_CC_EXTENSIVE) && command->info.kind != TPM_COMMAND_STARTUP)
                return;
        for (uint32_t k = 0; k < rm->n_residents; k++)
                rm_object_set_unknown(rm, rm->residents[k]);
        for (uint32_t i = 0; command->info.kind == TPM_COMMAND_STARTUP && i < rm->n_sessions_used; i++)
                if (rm->sessions[i].residency == RM_RESIDENT)
                        rm->sessions[i].residency = RM_UNKNOWN;
}

static RmFlow build_plain(Rm *rm, RmJob *job) {
        TPM2_HANDLE handles[TPM_HANDLES_MAX];
        RmFlow flow = refuse_foreign(rm, job);

        if (flow == RM_FLOW_SEND)
                flow = admit(rm, job);
        for (unsigned i = 0; flow == RM_FLOW_SEND && i < job->command.n_handles; i++)
                flow = map_handle(rm, job, i, &handles[i]);
        if (flow == RM_FLOW_SEND)
                flow = load_auths(rm, job);
        if (flow == RM_FLOW_SEND && job->command.auths_whole && make_room(rm, job))
                flow = RM_FLOW_AGAIN;
        if (flow != RM_FLOW_SEND)
                return flow;

        count_hits(rm, job);
        mark_unknown(rm, job);
        send_original(job, job->n_original);
        for (unsigned i = 0; i < job->command.n_auths; i++)
                if (tpm_handle_is_session(job->command.auths[i].session))
                        tpm_put_u32(job->out + job->command.auths[i].at,
                                    harmless(rm, job, job->command.auths[i].session));
        for (unsigned i = 0; i < job->command.n_handles; i++)
                tpm_put_u32(job->out + tpm_handle_offset(i), handles[i]);
        return RM_FLOW_SEND;
}

RmFlow rm_command_build(Rm *rm, RmJob *job) {
        const TpmCommand *command = &job->command;
        TpmContext context;
        RmFlow flow;

        if (rm_push_due(rm, job)) {
                job->settled = true;
                return RM_FLOW_AGAIN;
        }
        if (job->settled) {
                /* Attributes may have become known since it began. */
                job->command = tpm_command_parse(&rm->table, job->original, job->n_original);
                job->settled = false;
        }
        if (!command->known || !command->handles_whole)
                return send_malformed(job);
        switch (command->info.kind) {
        case TPM_COMMAND_FLUSH_CONTEXT:
                if (rm_command_is_flush(job))
                        return build_flush(rm, job);
                return is_long_flush(job) ? rm_reply_rc(job, RM_RC(TPM2_RC_SIZE)) : send_malformed(job);
        case TPM_COMMAND_GET_CAPABILITY:
                flow = rm_capability_build(rm, job);
                if (flow != RM_FLOW_AGAIN)
                        return flow;
                break;
        case TPM_COMMAND_SHUTDOWN:
                /* ContextSave would undo a Shutdown, so what has to be saved is saved before (Part 3, section 9.4). */
                if (rm_evict_object(rm, job) || rm_evict_session(rm, job))
                        return RM_FLOW_AGAIN;
                break;
        case TPM_COMMAND_CONTEXT_SAVE:
                flow = save_from_copy(rm, job);
                if (flow != RM_FLOW_AGAIN)
                        return flow;
                break;
        case TPM_COMMAND_CONTEXT_LOAD:
                if (rm_command_presents_session(job, &context))
                        return build_load_session(rm, job, context.saved_handle);
                break;
        default:
                break;
        }
        return build_plain(rm, job);
}
