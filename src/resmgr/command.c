/* SPDX-License-Identifier: BSD-2-Clause */
#include "resmgr/command.h"

#include "resmgr/capability.h"
#include "resmgr/reconcile.h"
#include "resmgr/share.h"

/*
 * A handle of the same kind that is never loaded, in the place of one that must not reach the TPM: what is wrong with a
 * command is the TPM's to say, and in its own order.
 */
static TPM2_HANDLE placeholder_for(TPM2_HANDLE handle) {
        const TPM2_HANDLE last = TPM_TRANSIENT_LAST & TPM2_HR_HANDLE_MASK;

        if ((!tpm_handle_is_transient(handle) && !tpm_handle_is_session(handle)) ||
            (handle & TPM2_HR_HANDLE_MASK) > last) /* which is never loaded either */
                return handle;
        return (handle & TPM2_HR_RANGE_MASK) | last;
}

#define RC_HANDLE_P1 (TPM2_RC_HANDLE + TPM2_RC_P + TPM2_RC_1)

/*
 * What the TPM refuses anyway goes there for the right response code. A code that it does not list goes without
 * anything; where the handle area is cut off, handles of the same kind stand for what has no meaning outside of the
 * client's space. Others would do for the refusal, but not for its code: the TPM looks at the kind first.
 */
static RmFlow send_malformed(RmJob *job) {
        const TpmCommand *command = &job->command;
        size_t at = command->parameters;

        if (!command->known) {
                rm_send_original(job, TPM_HEADER_SIZE);
                tpm_put_u32(job->out + 2, TPM_HEADER_SIZE);
                return RM_FLOW_SEND;
        }
        rm_send_original(job, job->n_original);
        for (unsigned i = 0; i < command->n_handles; i++)
                if (placeholder_for(command->handles[i]) != command->handles[i])
                        tpm_put_u32(job->out + tpm_handle_offset(i), command->handles[i] & TPM2_HR_RANGE_MASK);
        if (command->info.kind == TPM_COMMAND_FLUSH_CONTEXT && command->auths_whole &&
            job->n_original >= at + sizeof(TPM2_HANDLE)) {
                TpmReader reader = TPM_READER(job->original + at, sizeof(TPM2_HANDLE));

                tpm_put_u32(job->out + at, placeholder_for(tpm_read_u32(&reader)));
        }
        return RM_FLOW_SEND;
}

static RmFlow build_flush_of_client(Rm *rm, RmJob *job) {
        TPM2_HANDLE handle = rm_job_first_parameter_handle(job);
        uint32_t i = rm_job_find_flushed(rm, job);
        bool session = tpm_handle_is_session(handle);

        if (!session && !tpm_handle_is_transient(handle))
                return rm_send_original(job, job->n_original);
        if (i == RM_NONE || (session && !rm_session_may_flush(rm, job->space, i)))
                return rm_reply_rc(job, RM_RC(RC_HANDLE_P1));
        if (!session && rm_entry(rm, i)->residency == RM_ABSENT) {
                rm_entry_free(rm, i);
                return rm_reply_rc(job, TPM2_RC_SUCCESS);
        }
        if (!rm_entry_set_unknown(rm, i))
                return rm_reply_rc(job, RM_RC(TPM2_RC_SESSION_MEMORY));
        return session ? rm_send_original(job, job->n_original)
                       : RM_SEND(job, TPM2_CC_FlushContext, rm_entry(rm, i)->handle);
}

/* A TPM, too, refuses what stands behind the handle before it looks at whose handle that is. */
static bool is_long_flush(const RmJob *job) {
        TPM2_HANDLE handle = rm_job_first_parameter_handle(job);

        return job->command.header.tag == TPM2_ST_NO_SESSIONS && job->n_original > tpm_handle_offset(1) &&
               placeholder_for(handle) != handle;
}

/* Answers a well-formed ContextSave of what we hold a context of. */
static RmFlow save_from_tables(Rm *rm, RmJob *job) {
        TPM2_HANDLE handle = job->command.handles[0];
        uint32_t i;

        if (job->command.header.tag != TPM2_ST_NO_SESSIONS || job->n_original != tpm_handle_offset(1))
                return RM_FLOW_CONTINUE;
        if (tpm_handle_is_transient(handle)) {
                i = rm_space_find(rm, job->space, handle);
                if (i == RM_NONE || !rm_entry(rm, i)->clean)
                        return RM_FLOW_CONTINUE;
                return rm_reply_context(rm, job, &rm_entry(rm, i)->context);
        }
        i = rm_session_find_usable(rm, job->space, handle);
        if (i == RM_NONE || rm_entry(rm, i)->handle != handle || rm_entry(rm, i)->residency != RM_ABSENT)
                return RM_FLOW_CONTINUE;
        if (!rm_session_give_context(rm, i))
                return rm_reply_rc(job, RM_RC(TPM2_RC_MEMORY));
        return rm_reply_context(rm, job, &rm_entry(rm, i)->client_context);
}

/* Notes what it names that is not the client's, or nobody's. */
static RmFlow note_foreign(Rm *rm, RmJob *job) {
        const TpmCommand *command = &job->command;

        job->foreign = 0;
        for (unsigned k = 0; k < rm_job_n_names(job); k++) {
                TPM2_HANDLE handle =
                        k < command->n_handles ? command->handles[k] : command->auths[k - command->n_handles].session;

                bool names = k < command->n_handles ? placeholder_for(handle) != handle : tpm_handle_is_session(handle);

                if (names && rm_job_name(rm, job, k) == RM_NONE)
                        job->foreign |= 1u << k;
        }
        return RM_FLOW_CONTINUE;
}

/* What it names is in the TPM now: how much of it was before? One that had to be loaded twice was missed once. */
static void count_hits(Rm *rm, RmJob *job) {
        uint32_t n = 0;

        if (job->counted)
                return;
        job->counted = true;
        for (unsigned k = 0; k < rm_job_n_names(job); k++)
                n += rm_job_name(rm, job, k) != RM_NONE;
        if (job->n_missed > n)
                job->n_missed = n;
        rm->counters.misses += job->n_missed;
        rm->counters.hits += n - job->n_missed;
}

static RmFlow load_missing(Rm *rm, RmJob *job) {
        for (unsigned k = 0; k < rm_job_n_names(job); k++) {
                uint32_t i = rm_job_name(rm, job, k);

                if (i == RM_NONE || rm_entry(rm, i)->residency == RM_RESIDENT)
                        continue;
                if (rm_entry(rm, i)->residency == RM_UNKNOWN)
                        return rm_reply_rc(job, RM_RC(TPM2_RC_FAILURE));
                job->n_missed++;
                return rm_push(job, RM_OP_LOAD, i);
        }
        return RM_FLOW_CONTINUE;
}

/* The entry for what is to come, within the quota. */
static RmFlow admit_entry(Rm *rm, RmJob *job, RmKind kind, uint32_t loaded) {
        TSS2_RC rc;

        if (job->pending[kind] != RM_NONE)
                return RM_FLOW_CONTINUE;
        rc = rm_share_admit(rm, kind, job->space, loaded);
        if (rc != TSS2_RC_SUCCESS)
                return rm_reply_rc(job, rc);
        job->pending[kind] = rm_entry_new(rm, kind, job->space);
        if (job->pending[kind] != RM_NONE)
                return RM_FLOW_CONTINUE;
        return rm_reply_rc(job, RM_RC(kind == RM_SESSION ? TPM2_RC_SESSION_HANDLES : TPM2_RC_OBJECT_MEMORY));
}

/* Who presents it has the right to the session, once. */
static RmFlow build_load_of_session(Rm *rm, RmJob *job, TPM2_HANDLE handle) {
        uint32_t i = rm_session_find(rm, handle);
        const RmEntry *session = i != RM_NONE ? rm_entry(rm, i) : NULL;
        bool known = session && session->state != RM_LEFT_OVER && session->state != RM_DOOMED;
        RmFlow flow = RM_FLOW_CONTINUE;

        if (known && !rm_job_presents_last(rm, job, i))
                return rm_send_original(job, job->n_original);
        if (!session || session->space != job->space)
                flow = admit_entry(rm, job, RM_SESSION, i);
        if (flow != RM_FLOW_CONTINUE)
                return flow;
        /* A renewal that stopped halfway has left it loaded. */
        if (known && session->residency == RM_RESIDENT) {
                TpmWriter writer = TPM_WRITER(job->out, sizeof(job->out));

                rm_session_own(rm, i, job->space, session->handle);
                tpm_write_begin(&writer, TPM2_ST_NO_SESSIONS, TPM2_RC_SUCCESS);
                tpm_write_u32(&writer, session->handle);
                return rm_reply_written(job, &writer);
        }
        if (rm_slots_short(rm, RM_SESSION, 1) && rm_evict(rm, job, RM_SESSION))
                return RM_FLOW_AGAIN;
        if (session && !rm_entry_set_unknown(rm, i))
                return rm_reply_rc(job, RM_RC(TPM2_RC_SESSION_MEMORY));
        return known ? rm_send_load(rm, job, &session->context) : rm_send_original(job, job->n_original);
}

/* The quota for what the command returns. */
static RmFlow admit_new(Rm *rm, RmJob *job) {
        const TpmCommand *command = &job->command;

        if (!(command->info.attributes & TPMA_CC_RHANDLE) || !command->auths_whole || job->foreign)
                return RM_FLOW_CONTINUE;
        return admit_entry(rm, job, command->info.kind == TPM_COMMAND_START_AUTH_SESSION ? RM_SESSION : RM_OBJECT,
                           RM_NONE);
}

/* Room for what the command returns and uses. */
static RmFlow make_room(Rm *rm, RmJob *job) {
        const TpmCommand *command = &job->command;

        if (!command->auths_whole || job->foreign)
                return RM_FLOW_CONTINUE;
        if (command->info.kind == TPM_COMMAND_START_AUTH_SESSION && rm_slots_short(rm, RM_SESSION, 1) &&
            rm_evict(rm, job, RM_SESSION))
                return RM_FLOW_AGAIN;
        if (rm_slots_short(rm, RM_OBJECT, rm_slots_needed(rm, command)) && rm_evict(rm, job, RM_OBJECT))
                return RM_FLOW_AGAIN;
        return RM_FLOW_CONTINUE;
}

/* What the command may change, or take out of the TPM, should it succeed. */
static void mark_unknown(Rm *rm, RmJob *job) {
        const TpmCommand *command = &job->command;
        bool saves = command->info.kind == TPM_COMMAND_CONTEXT_SAVE;

        job->marked = true;
        for (unsigned k = 0; k < rm_job_n_names(job); k++)
                if (rm_job_name(rm, job, k) != RM_NONE)
                        rm_entry(rm, rm_job_name(rm, job, k))->was_clean = rm_entry(rm, rm_job_name(rm, job, k))->clean;
        for (unsigned k = 0; k < rm_job_n_names(job); k++) {
                uint32_t i = rm_job_name(rm, job, k);
                bool leaves;

                if (i == RM_NONE)
                        continue;
                if (k >= command->n_handles)
                        leaves = !(command->auths[k - command->n_handles].attributes & TPMA_SESSION_CONTINUESESSION);
                else
                        leaves = rm_kind(i) == RM_SESSION ? saves : (command->info.attributes & TPMA_CC_FLUSHED) != 0;
                if (leaves)
                        rm_entry_set_unknown(rm, i);
                rm_entry(rm, i)->clean &= !rm_entry(rm, i)->sequence || saves;
        }
        for (RmKind kind = 0; kind < RM_KINDS; kind++)
                for (uint32_t k = 0; k < rm->n_residents[kind]; k++)
                        if (command->info.kind == TPM_COMMAND_STARTUP ||
                            (kind == RM_OBJECT && command->info.attributes & TPMA_CC_EXTENSIVE))
                                rm_entry_set_unknown(rm, rm->residents[kind][k]);
}

void rm_command_undo(Rm *rm, RmJob *job) {
        rm_settle_all(rm);
        for (unsigned k = 0; job->marked && k < rm_job_n_names(job); k++) {
                uint32_t i = rm_job_name(rm, job, k);

                if (i != RM_NONE)
                        rm_entry(rm, i)->clean = rm_entry(rm, i)->was_clean;
        }
        job->marked = false;
}

/* In place of a handle of the client: the physical one, or one that is never loaded. */
static RmFlow send_mapped(Rm *rm, RmJob *job) {
        const TpmCommand *command = &job->command;

        rm_send_original(job, job->n_original);
        for (unsigned k = 0; k < rm_job_n_names(job); k++) {
                const TpmAuth *auth = k < command->n_handles ? NULL : &command->auths[k - command->n_handles];
                TPM2_HANDLE handle = auth ? auth->session : command->handles[k];
                uint32_t i = rm_job_name(rm, job, k);

                if (job->foreign & 1u << k)
                        handle = placeholder_for(handle);
                else if (i != RM_NONE && rm_kind(i) == RM_OBJECT)
                        handle = rm_entry(rm, i)->handle;
                tpm_put_u32(job->out + (auth ? auth->at : tpm_handle_offset(k)), handle);
        }
        return RM_FLOW_SEND;
}

static RmFlow build_plain(Rm *rm, RmJob *job) {
        static RmFlow (*const STEPS[])(Rm * rm, RmJob * job) = { note_foreign, admit_new, load_missing, make_room };
        RmFlow flow = RM_FLOW_CONTINUE;

        for (size_t i = 0; flow == RM_FLOW_CONTINUE && i < sizeof(STEPS) / sizeof(STEPS[0]); i++)
                flow = STEPS[i](rm, job);
        if (flow != RM_FLOW_CONTINUE)
                return flow;
        count_hits(rm, job);
        mark_unknown(rm, job);
        return send_mapped(rm, job);
}

/* What is done before a command of some kind, or instead of it. */
static RmFlow build_kind(Rm *rm, RmJob *job) {
        TpmContext context;

        switch (job->command.info.kind) {
        case TPM_COMMAND_FLUSH_CONTEXT:
                if (rm_job_is_flush(job))
                        return build_flush_of_client(rm, job);
                return is_long_flush(job) ? rm_reply_rc(job, RM_RC(TPM2_RC_SIZE)) : send_malformed(job);
        case TPM_COMMAND_GET_CAPABILITY:
                return rm_capability_build(rm, job);
        case TPM_COMMAND_SHUTDOWN:
                /* ContextSave would undo a Shutdown, so what has to be saved is saved before (Part 3, section 9.4), and
                 * nothing that has been: whoever sends one after the other costs others little. */
                if (rm_save_dirty(rm, job) || rm_evict(rm, job, RM_SESSION))
                        return RM_FLOW_AGAIN;
                return RM_FLOW_CONTINUE;
        case TPM_COMMAND_CONTEXT_SAVE:
                return save_from_tables(rm, job);
        case TPM_COMMAND_CONTEXT_LOAD:
                if (rm_job_presents_session(job, &context))
                        return build_load_of_session(rm, job, context.saved_handle);
                return RM_FLOW_CONTINUE;
        default:
                return RM_FLOW_CONTINUE;
        }
}

RmFlow rm_command_build(Rm *rm, RmJob *job) {
        RmFlow flow;

        if (job->raw)
                return rm_send_original(job, job->n_original);
        if (rm_push_due(rm, job)) {
                job->parse_again = true;
                return RM_FLOW_AGAIN;
        }
        if (job->parse_again)
                job->command = tpm_command_parse(&rm->table, job->original, job->n_original);
        job->parse_again = false;
        if (!job->command.known || !job->command.handles_whole)
                return send_malformed(job);
        flow = build_kind(rm, job);
        return flow == RM_FLOW_CONTINUE ? build_plain(rm, job) : flow;
}

RmRoom rm_room(const Rm *rm, uint32_t space, const uint8_t *bytes, size_t n_bytes) {
        TpmReader reader = TPM_READER(bytes, n_bytes);
        const TpmCommandInfo *info =
                tpm_command_table_find((TpmCommandTable *)&rm->table, tpm_read_header(&reader).code);
        TpmContext context;
        uint32_t i;

        if (!info || !(info->attributes & TPMA_CC_RHANDLE))
                return RM_ROOM_NOW;
        if (info->kind == TPM_COMMAND_START_AUTH_SESSION)
                return rm_share_room(rm, RM_SESSION, space, RM_NONE);
        if (info->kind != TPM_COMMAND_CONTEXT_LOAD ||
            !tpm_context_parse(bytes + TPM_HEADER_SIZE, n_bytes - TPM_HEADER_SIZE, &context) ||
            !tpm_handle_is_session(context.saved_handle))
                return rm_share_room(rm, RM_OBJECT, space, RM_NONE);
        i = rm_session_find(rm, context.saved_handle);
        if (i != RM_NONE && rm_entry(rm, i)->space == space)
                return RM_ROOM_NOW;
        return rm_share_room(rm, RM_SESSION, space, i);
}
