/* SPDX-License-Identifier: BSD-2-Clause */
#include "resmgr/reconcile.h"

#include <string.h>

enum {
        START_STARTUP,
        START_CLOCK,
        START_COMMANDS,
        START_PROPERTIES,
        START_AUDITED,
        START_DONE,
};

enum {
        RECONCILE_OBJECTS,
        RECONCILE_LOADED,
        RECONCILE_SAVED,
        RECONCILE_DONE,
};

static RmFlow set_phase(RmFrame *frame, uint8_t phase, uint32_t at) {
        frame->phase = phase;
        frame->at = at;
        return RM_FLOW_AGAIN;
}

/* Where a property is kept, and those that follow it. */
static const struct Property {
        TPM2_PT first;
        uint32_t n;
        size_t at;
} PROPERTIES[] = {
        { TPM2_PT_REVISION, 1, offsetof(Rm, revision) },
        { TPM2_PT_MANUFACTURER, 1, offsetof(Rm, manufacturer) },
        { TPM2_PT_VENDOR_STRING_1, 4, offsetof(Rm, vendor) },
        { TPM2_PT_FIRMWARE_VERSION_1, 2, offsetof(Rm, firmware) },
        { TPM2_PT_HR_TRANSIENT_MIN, 1, offsetof(Rm, slots_min[RM_OBJECT]) },
        { TPM2_PT_HR_LOADED_MIN, 1, offsetof(Rm, slots_min[RM_SESSION]) },
        { TPM2_PT_ACTIVE_SESSIONS_MAX, 1, offsetof(Rm, active_sessions_max) },
        { TPM2_PT_CONTEXT_GAP_MAX, 1, offsetof(Rm, gap) },
        { TPM2_PT_MEMORY, 1, offsetof(Rm, memory) },
        { TPM2_PT_MAX_OBJECT_CONTEXT, 1, offsetof(Rm, max_context) },
};

static void take_property(Rm *rm, TPM2_PT property, uint32_t value) {
        for (size_t i = 0; i < sizeof(PROPERTIES) / sizeof(PROPERTIES[0]); i++)
                if (property - PROPERTIES[i].first < PROPERTIES[i].n)
                        memcpy((uint8_t *)rm + PROPERTIES[i].at + (property - PROPERTIES[i].first) * sizeof(value),
                               &value, sizeof(value));
        if (rm->max_context > TPM_MESSAGE_MAX)
                rm->max_context = TPM_MESSAGE_MAX;
        if (property == TPM2_PT_MAX_COMMAND_SIZE && value >= TPM_HEADER_SIZE)
                rm->max_command = value < TPM_MESSAGE_MAX ? value : TPM_MESSAGE_MAX;
}

/* Return: the property to go on with, or 0. */
static uint32_t take_properties(Rm *rm, RmList *list) {
        TPM2_PT next = 0;

        while (list->n-- > 0) {
                TPM2_PT property = tpm_read_u32(&list->reader);
                uint32_t value = tpm_read_u32(&list->reader);

                if (property < next)
                        break;
                take_property(rm, property, value);
                next = property + 1;
        }
        return next < TPM2_PT_VAR ? next : 0;
}

static uint32_t take_commands(Rm *rm, RmList *list) {
        TPM2_CC next = tpm_command_table_add(&rm->table, &list->reader, list->n);

        /* Until the TPM tells, GetCapability may be audited, if anything can be. */
        rm->capability_audited = tpm_command_table_find(&rm->table, TPM2_CC_SetCommandCodeAuditStatus) != NULL;
        return next;
}

static uint32_t take_audited(Rm *rm, RmList *list) {
        rm->capability_audited = list->n > 0 && tpm_read_u32(&list->reader) == TPM2_CC_GetCapability;
        return 0;
}

static const struct Query {
        TPM2_CAP capability;
        uint32_t first, a_page;
        size_t n_entry;
        uint32_t (*take)(Rm *rm, RmList *list);
} QUERIES[] = {
        [START_COMMANDS] = { TPM2_CAP_COMMANDS, 0, 254, sizeof(TPMA_CC), take_commands },
        [START_PROPERTIES] = { TPM2_CAP_TPM_PROPERTIES, TPM2_PT_FIXED, 127, sizeof(TPMS_TAGGED_PROPERTY),
                               take_properties },
        [START_AUDITED] = { TPM2_CAP_AUDIT_COMMANDS, TPM2_CC_GetCapability, 1, sizeof(TPM2_CC), take_audited },
        [START_DONE] = { 0 },
};

RmFlow rm_start_build(Rm *rm, RmJob *job) {
        const RmFrame *frame = rm_top(job);
        TpmWriter writer = TPM_WRITER(job->out, sizeof(job->out));

        if (frame->phase == START_STARTUP) {
                tpm_write_begin(&writer, TPM2_ST_NO_SESSIONS, TPM2_CC_Startup);
                tpm_write_u16(&writer, TPM2_SU_CLEAR);
                job->n_out = tpm_write_end(&writer);
                return RM_FLOW_SEND;
        }
        if (frame->phase == START_CLOCK)
                return rm_send_numbers(job, TPM2_CC_ReadClock, NULL, 0);
        if (frame->phase == START_DONE) {
                rm->due_start = false;
                rm->due_reconcile = true;
                return rm_pop(job);
        }
        return RM_SEND(job, TPM2_CC_GetCapability, QUERIES[frame->phase].capability, frame->at,
                       QUERIES[frame->phase].a_page);
}

static bool is_unusable(TSS2_RC rc) {
        return rc == TPM2_RC_INITIALIZE || rc == TPM2_RC_FAILURE;
}

/* Resident objects are gone; after a reset, so are the sessions that were saved (Part 1, section 12.2.3). */
static void lose_contents(Rm *rm, bool reset) {
        rm_objects_lost(rm);
        rm_numbers_forget(rm);
        for (uint32_t i = rm->n_sessions_used; reset && i > 0; i--)
                if (rm_exists(rm_entry(rm, i - 1)))
                        rm_entry_free(rm, i - 1);
}

/* What was loaded before can still be there if the TPM was neither reset nor restarted since (Part 1, section 36.3). */
static void take_clock(Rm *rm, const RmAnswer *answer) {
        TpmReader reader = TPM_READER(answer->parameters, answer->n_parameters);
        uint32_t reset_count, restart_count;
        bool known, was_known = rm->clock_known;

        tpm_read_bytes(&reader, 2 * sizeof(uint64_t)); /* time, clock */
        reset_count = tpm_read_u32(&reader);
        restart_count = tpm_read_u32(&reader);
        known = answer->rc == TPM2_RC_SUCCESS && !reader.bad;
        if (!known || !was_known || reset_count != rm->reset_count || restart_count != rm->restart_count)
                lose_contents(rm, known && was_known && reset_count != rm->reset_count);
        rm->clock_known = known;
        rm->reset_count = reset_count;
        rm->restart_count = restart_count;
}

static bool is_answered(TSS2_RC rc, TPM2_CC code) {
        if (rc == TPM2_RC_FAILURE)
                return code == TPM2_CC_GetTestResult || code == TPM2_CC_GetCapability;
        return rc == TPM2_RC_UPGRADE && code == TPM2_CC_FieldUpgradeData;
}

/* It cannot be started; but in failure mode and while its firmware is written it answers some commands all the same. */
static RmFlow end_start(RmJob *job, TSS2_RC rc) {
        job->raw = job->client && is_answered(rc, job->command.header.code);
        if (!job->raw)
                return rm_reply_rc(job, rc);
        job->n_frames = 1;
        return RM_FLOW_AGAIN;
}

RmFlow rm_start_settle(Rm *rm, RmJob *job, const RmAnswer *answer) {
        RmFrame *frame = rm_top(job);
        const struct Query *query = &QUERIES[frame->phase];
        uint32_t next;
        RmList list;

        if (frame->phase == START_STARTUP) {
                /* INITIALIZE: it was started before us, by the firmware most likely. */
                if (answer->rc != TPM2_RC_SUCCESS && answer->rc != TPM2_RC_INITIALIZE)
                        return end_start(job, answer->rc);
                if (answer->rc == TPM2_RC_SUCCESS)
                        lose_contents(rm, false);
                rm->table.n_commands = 0;
                return set_phase(frame, START_CLOCK, 0);
        }
        if (frame->phase == START_CLOCK) {
                take_clock(rm, answer);
                return set_phase(frame, START_COMMANDS, QUERIES[START_COMMANDS].first);
        }
        if (!rm_read_list(answer, query->capability, query->n_entry, &list)) {
                /* Only the commands must be known; of the rest there are values that are safe. */
                if (frame->phase == START_COMMANDS || is_unusable(answer->rc))
                        return end_start(job, answer->rc != TPM2_RC_SUCCESS ? answer->rc : RM_RC(TPM2_RC_FAILURE));
                return set_phase(frame, frame->phase + 1, QUERIES[frame->phase + 1].first);
        }
        next = query->take(rm, &list);
        if (rm->table.n_commands == 0)
                return rm_reply_rc(job, RM_RC(TPM2_RC_FAILURE));
        if (list.more && next > frame->at)
                return set_phase(frame, frame->phase, next);
        return set_phase(frame, frame->phase + 1, QUERIES[frame->phase + 1].first);
}

RmFlow rm_reconcile_build(Rm *rm, RmJob *job) {
        static const TPM2_HT TYPES[] = {
                [RECONCILE_OBJECTS] = TPM2_HT_TRANSIENT,
                [RECONCILE_LOADED] = TPM2_HT_LOADED_SESSION,
                [RECONCILE_SAVED] = TPM2_HT_SAVED_SESSION,
        };
        RmFrame *frame = rm_top(job);

        if (frame->phase == RECONCILE_DONE) {
                rm->due_reconcile = rm->flush_left_over = false;
                return rm_pop(job);
        }
        if (frame->at == RM_NONE) {
                rm->strangers_left &= frame->phase != RECONCILE_OBJECTS;
                frame->at = 0;
                for (uint32_t k = 0; k < rm->n_residents[RM_OBJECT]; k++)
                        rm_entry(rm, rm->residents[RM_OBJECT][k])->seen = false;
                for (uint32_t i = 0; i < rm->n_sessions_used; i++)
                        rm_entry(rm, i)->seen = false;
        }
        return rm_ask_for_handles(job, TYPES[frame->phase]);
}

/* Return: whether the handle is accounted for; else it is to be flushed. */
static bool recognise_handle(Rm *rm, const RmFrame *frame, TPM2_HANDLE handle) {
        unsigned phase = frame->phase;
        uint32_t i = phase == RECONCILE_OBJECTS ? rm_object_find_resident(rm, handle) : rm_session_find(rm, handle);

        if (phase == RECONCILE_SAVED && i == RM_NONE && !rm->limits.flush_all && !rm->flush_left_over) {
                i = rm_entry_new(rm, RM_SESSION, RM_NONE);
                if (i == RM_NONE)
                        return false;
                rm_entry(rm, i)->handle = handle;
                rm_entry_set_state(rm, i, RM_LEFT_OVER);
        }
        if (i == RM_NONE || (phase == RECONCILE_LOADED && rm_entry(rm, i)->residency == RM_ABSENT))
                return false;
        rm_entry(rm, i)->seen = true;
        return true;
}

static void close_objects(Rm *rm) {
        for (uint32_t k = rm->n_residents[RM_OBJECT]; k > 0; k--) {
                uint32_t i = rm->residents[RM_OBJECT][k - 1];
                RmEntry *object = rm_entry(rm, i);

                if (!object->seen) {
                        rm_entry_lost(rm, i);
                } else if (object->residency == RM_UNKNOWN && !object->probe) {
                        /* A command on it was lost: what it is now, nobody knows, unless there is a context to load. */
                        if (!object->clean)
                                rm_entry_doom(rm, i);
                        object->probe = true;
                        rm->due_probe = true;
                }
        }
}

static void close_loaded_sessions(Rm *rm) {
        for (uint32_t k = rm->n_residents[RM_SESSION]; k > 0; k--) {
                uint32_t i = rm->residents[RM_SESSION][k - 1];
                const RmEntry *session = rm_entry(rm, i);

                if (session->seen && session->residency == RM_RESIDENT)
                        continue;
                /* Not listed: gone, or saved by a ContextSave whose answer was lost. Flushing it covers both. */
                if (session->seen)
                        rm_entry_set_resident(rm, i, session->handle);
                else
                        rm_entry_set_absent(rm, i);
                rm_entry_doom(rm, i);
        }
}

static void close_saved_sessions(Rm *rm) {
        for (uint32_t i = rm->n_sessions_used; i > 0; i--) {
                const RmEntry *session = rm_entry(rm, i - 1);

                if (rm_exists(session) && session->residency == RM_ABSENT && !session->seen)
                        rm_entry_free(rm, i - 1);
        }
}

RmFlow rm_reconcile_settle(Rm *rm, RmJob *job, const RmAnswer *answer) {
        static void (*const ENDS[])(Rm * rm) = { close_objects, close_loaded_sessions, close_saved_sessions };
        RmFrame *frame = rm_top(job);
        TPM2_HANDLE handle;

        /* It was reset, and holds nothing: only a Startup, which is its users' affair, makes it due again. */
        if (answer->rc == TPM2_RC_INITIALIZE) {
                rm->due_reconcile = false;
                return rm_pop(job);
        }
        switch (rm_walk_list(rm, frame, answer, recognise_handle, &handle)) {
        case RM_LISTED_BAD:
                rm->due_reconcile = true; /* still: the next answer may be better */
                return rm_reply_rc(job, answer->rc != TPM2_RC_SUCCESS ? answer->rc : RM_RC(TPM2_RC_FAILURE));
        case RM_LISTED_UNKNOWN:
                return rm_push(job, RM_OP_FLUSH_HANDLE, handle);
        case RM_LISTED_MORE:
                return RM_FLOW_AGAIN;
        default:
                ENDS[frame->phase](rm);
                return set_phase(frame, frame->phase + 1, RM_NONE);
        }
}

/* Something that may be gone is flushed, or saved, which tells. */
static bool push_probe(Rm *rm, RmJob *job) {
        for (uint32_t k = 0; k < rm->n_residents[RM_OBJECT]; k++) {
                uint32_t i = rm->residents[RM_OBJECT][k];
                const RmEntry *object = rm_entry(rm, i);

                if (!object->probe)
                        continue;
                if (object->prove)
                        return rm_push(job, RM_OP_PROVE, i) == RM_FLOW_AGAIN;
                /* Neither command allows sessions, so no exclusive audit session ends. */
                rm_push(job, object->clean || object->state == RM_DOOMED ? RM_OP_FLUSH : RM_OP_SAVE, i);
                return true;
        }
        rm->due_probe = false;
        return false;
}

RmFlow rm_prove_build(Rm *rm, RmJob *job) {
        return RM_SEND(job, TPM2_CC_ReadPublic, rm_entry(rm, rm_top(job)->at)->handle);
}

/* What it is not, or does not say when asked twice, is given up: its client would use somebody else's. */
RmFlow rm_prove_settle(Rm *rm, RmJob *job, const RmAnswer *answer) {
        static const TpmCommand READ_PUBLIC = { .header.code = TPM2_CC_ReadPublic };
        const TpmResponse response = { .parameters = TPM_HEADER_SIZE, .n_parameters = answer->n_parameters };
        uint32_t i = rm_top(job)->at;
        RmEntry *object = rm_entry(rm, i);
        bool is_refused = rm_rc_is_warning(answer->rc) && !rm_rc_is_unknown_handle(answer->rc) && object->refused == 0;
        uint8_t name[RM_NAME_MAX];
        size_t n = 0;

        if (!rm_exists(object) || object->residency == RM_ABSENT)
                return rm_pop(job);
        if (is_refused) {
                rm_entry_refuse(rm, i);
                return rm_reply_rc(job, RM_RC(answer->rc));
        }
        if (answer->rc == TPM2_RC_SUCCESS)
                n = tpm_response_name(&READ_PUBLIC, &response, answer->bytes, name, sizeof(name));
        object->prove = object->probe = false;
        object->suspect = false;
        if (n == object->n_name && memcmp(name, object->name, n) == 0)
                rm_entry_set_resident(rm, i, object->handle);
        else
                rm_entry_doom(rm, i);
        return rm_pop(job);
}

/* What is due stays so until it was done: a failure on the way changes nothing about that. */
bool rm_push_due(Rm *rm, RmJob *job) {
        if (rm->due_start || rm->due_reconcile)
                rm_push(job, RM_OP_RECONCILE, RM_NONE);
        if (rm->due_start)
                rm_push(job, RM_OP_START, RM_NONE);
        return rm->due_start || rm->due_reconcile || (rm->due_probe && push_probe(rm, job));
}
