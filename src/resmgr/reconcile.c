/* SPDX-License-Identifier: BSD-2-Clause */
#include "resmgr/state.h"

/*
 * START:     Startup, then what the TPM can do
 * RECONCILE: what the TPM lists, compared with the tables. What is in no table is flushed, what is not listed is gone;
 * saved sessions in no table are noted as left over.
 *
 * These are the only GetCapabilities of ours (but for a gap that is somebody else's): they end exclusive audit
 * sessions, so they come at start, after a reset, and when an answer was lost, never between the commands of a client
 * that does nothing wrong.
 */
enum {
        START_STARTUP,
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

#define COMMANDS_A_PAGE 254
#define PROPERTIES_A_PAGE 127
#define HANDLES_A_PAGE 64

static RmFlow send_startup(RmJob *job) {
        TpmWriter writer = TPM_WRITER(job->out, sizeof(job->out));

        tpm_write_begin(&writer, TPM2_ST_NO_SESSIONS, TPM2_CC_Startup);
        tpm_write_u16(&writer, TPM2_SU_CLEAR);
        job->n_out = tpm_write_end(&writer);
        return RM_FLOW_SEND;
}

bool rm_read_list(const RmAnswer *answer, TPM2_CAP capability, size_t n_entry, RmList *ret_list) {
        TpmReader *reader = &ret_list->reader;
        bool right;

        *reader = TPM_READER(answer->bytes, answer->n_bytes);
        ret_list->more = tpm_read_u8(reader);
        right = tpm_read_u32(reader) == capability;
        ret_list->n = tpm_read_u32(reader);
        return answer->rc == TPM2_RC_SUCCESS && right && !reader->bad &&
               tpm_reader_left(reader) == ret_list->n * n_entry;
}

static RmFlow build_start(Rm *rm, RmJob *job, RmFrame *frame) {
        switch (frame->phase) {
        case START_STARTUP:
                return send_startup(job);
        case START_COMMANDS:
                return rm_send_get_capability(job, TPM2_CAP_COMMANDS, frame->at, COMMANDS_A_PAGE);
        case START_PROPERTIES:
                return rm_send_get_capability(job, TPM2_CAP_TPM_PROPERTIES, frame->at, PROPERTIES_A_PAGE);
        case START_AUDITED:
                return rm_send_get_capability(job, TPM2_CAP_AUDIT_COMMANDS, TPM2_CC_GetCapability, 1);
        default:
                rm->due_start = false;
                rm->due_reconcile = true;
                return rm_pop(job);
        }
}

static void take_property(Rm *rm, TPM2_PT property, uint32_t value) {
        switch (property) {
        case TPM2_PT_HR_TRANSIENT_MIN:
                rm->transient_min = value;
                break;
        case TPM2_PT_HR_LOADED_MIN:
                rm->loaded_min = value;
                break;
        case TPM2_PT_ACTIVE_SESSIONS_MAX:
                rm->active_sessions_max = value;
                break;
        case TPM2_PT_MEMORY:
                rm->memory = value;
                break;
        case TPM2_PT_CONTEXT_GAP_MAX:
                rm->gap = value;
                break;
        case TPM2_PT_MANUFACTURER:
                rm->manufacturer = value;
                break;
        case TPM2_PT_VENDOR_STRING_1:
        case TPM2_PT_VENDOR_STRING_2:
        case TPM2_PT_VENDOR_STRING_3:
        case TPM2_PT_VENDOR_STRING_4:
                rm->vendor[property - TPM2_PT_VENDOR_STRING_1] = value;
                break;
        case TPM2_PT_FIRMWARE_VERSION_1:
        case TPM2_PT_FIRMWARE_VERSION_2:
                rm->firmware[property - TPM2_PT_FIRMWARE_VERSION_1] = value;
                break;
        case TPM2_PT_REVISION:
                rm->revision = value;
                break;
        case TPM2_PT_MAX_COMMAND_SIZE:
                if (value >= TPM_HEADER_SIZE)
                        rm->max_command = value < TPM_MESSAGE_MAX ? value : TPM_MESSAGE_MAX;
                break;
        case TPM2_PT_MAX_RESPONSE_SIZE:
                if (value >= TPM_HEADER_SIZE)
                        rm->max_response = value < TPM_MESSAGE_MAX ? value : TPM_MESSAGE_MAX;
                break;
        default:
                break;
        }
}

static TPM2_PT take_properties(Rm *rm, RmList *list) {
        TPM2_PT next = 0;

        while (list->n-- > 0) {
                TPM2_PT property = tpm_read_u32(&list->reader);
                uint32_t value = tpm_read_u32(&list->reader);

                if (property < next)
                        break;
                take_property(rm, property, value);
                next = property + 1;
        }
        return next;
}

static void start_phase(RmFrame *frame, uint8_t phase, uint32_t at) {
        frame->phase = phase;
        frame->at = at;
}

static RmFlow settle_start(Rm *rm, RmJob *job, RmFrame *frame, const RmAnswer *answer) {
        static const struct {
                TPM2_CAP capability;
                size_t n_entry;
        } LISTS[] = {
                [START_COMMANDS] = { TPM2_CAP_COMMANDS, sizeof(TPMA_CC) },
                [START_PROPERTIES] = { TPM2_CAP_TPM_PROPERTIES, sizeof(TPMS_TAGGED_PROPERTY) },
                [START_AUDITED] = { TPM2_CAP_AUDIT_COMMANDS, sizeof(TPM2_CC) },
        };
        RmList list;
        uint32_t next;

        if (frame->phase == START_STARTUP) {
                /* INITIALIZE: it was started before us, by the firmware most likely. */
                if (answer->rc != TPM2_RC_SUCCESS && answer->rc != TPM2_RC_INITIALIZE)
                        return rm_reply_rc(job, answer->rc);
                rm->table.n_commands = 0;
                start_phase(frame, START_COMMANDS, 0);
                return RM_FLOW_AGAIN;
        }
        if (!rm_read_list(answer, LISTS[frame->phase].capability, LISTS[frame->phase].n_entry, &list))
                return rm_reply_rc(job, answer->rc != TPM2_RC_SUCCESS ? answer->rc : RM_RC(TPM2_RC_FAILURE));
        if (frame->phase == START_COMMANDS) {
                next = tpm_command_table_add(&rm->table, &list.reader, list.n);
                if (list.more && next > 0)
                        frame->at = next;
                else if (rm->table.n_commands > 0)
                        start_phase(frame, START_PROPERTIES, TPM2_PT_FIXED);
                else
                        return rm_reply_rc(job, RM_RC(TPM2_RC_FAILURE));
        } else if (frame->phase == START_PROPERTIES) {
                next = take_properties(rm, &list);
                if (list.more && next > frame->at && next < TPM2_PT_VAR)
                        frame->at = next;
                else
                        start_phase(frame, START_AUDITED, 0);
        } else {
                rm->capability_audited = list.n > 0 && tpm_read_u32(&list.reader) == TPM2_CC_GetCapability;
                start_phase(frame, START_DONE, 0);
        }
        return RM_FLOW_AGAIN;
}

static RmFlow build_reconcile(Rm *rm, RmJob *job, RmFrame *frame) {
        static const TPM2_HT TYPES[] = {
                [RECONCILE_OBJECTS] = TPM2_HT_TRANSIENT,
                [RECONCILE_LOADED] = TPM2_HT_LOADED_SESSION,
                [RECONCILE_SAVED] = TPM2_HT_SAVED_SESSION,
        };

        if (frame->phase == RECONCILE_DONE) {
                rm->due_reconcile = false;
                return rm_pop(job);
        }
        if (frame->at == RM_NONE) {
                frame->at = 0;
                for (uint32_t k = 0; k < rm->n_residents; k++)
                        rm_object(rm, rm->residents[k])->seen = false;
                for (uint32_t i = 0; i < rm->n_sessions_used; i++)
                        rm->sessions[i].seen = false;
        }
        return rm_send_get_capability(job, TPM2_CAP_HANDLES, (uint32_t)TYPES[frame->phase] << TPM2_HR_SHIFT | frame->at,
                                      HANDLES_A_PAGE);
}

/* Return: whether the handle is accounted for; else it is to be flushed. */
static bool recognise(Rm *rm, unsigned phase, TPM2_HANDLE handle) {
        uint32_t i;

        if (phase == RECONCILE_OBJECTS) {
                i = rm_object_find_resident(rm, handle);
                if (i != RM_NONE)
                        rm_object(rm, i)->seen = true;
                return i != RM_NONE;
        }
        i = rm_session_find(rm, handle);
        if (phase == RECONCILE_LOADED) {
                if (i == RM_NONE || rm->sessions[i].residency == RM_ABSENT)
                        return false;
                rm->sessions[i].seen = true;
                return true;
        }
        if (i == RM_NONE && !rm->flush_all) {
                i = rm_session_new(rm, RM_NONE);
                if (i == RM_NONE)
                        return false;
                rm->sessions[i].handle = handle;
                rm->sessions[i].state = RM_SESSION_LEFTOVER;
        }
        if (i != RM_NONE)
                rm->sessions[i].seen = true;
        return i != RM_NONE;
}

static void close_objects(Rm *rm) {
        for (uint32_t k = rm->n_residents; k > 0; k--) {
                uint32_t i = rm->residents[k - 1];
                RmObject *object = rm_object(rm, i);

                if (!object->seen) {
                        rm_object_lost(rm, i);
                } else if (object->residency == RM_UNKNOWN && !object->probe) {
                        /* A command on it was lost: what it is now, nobody knows, unless there is a copy to load. */
                        if (!object->clean)
                                rm_object_doom(rm, i);
                        object->probe = true;
                        rm->due_probe = true;
                }
        }
}

static void close_sessions(Rm *rm, unsigned phase) {
        for (uint32_t i = rm->n_sessions_used; i > 0; i--) {
                RmSession *session = &rm->sessions[i - 1];

                if (session->state <= RM_SESSION_PENDING)
                        continue;
                if (phase == RECONCILE_SAVED && session->residency == RM_ABSENT && !session->seen)
                        rm_session_free(rm, i - 1);
                /* Not listed: gone, or saved by a ContextSave whose answer was lost. Flushing it covers both. */
                if (phase == RECONCILE_LOADED && session->residency != RM_ABSENT &&
                    (!session->seen || session->residency == RM_UNKNOWN))
                        rm_session_doom(rm, i - 1);
        }
}

static RmFlow end_phase(Rm *rm, RmFrame *frame) {
        if (frame->phase == RECONCILE_OBJECTS)
                close_objects(rm);
        else
                close_sessions(rm, frame->phase);
        start_phase(frame, frame->phase + 1, RM_NONE);
        return RM_FLOW_AGAIN;
}

static RmFlow settle_reconcile(Rm *rm, RmJob *job, RmFrame *frame, const RmAnswer *answer) {
        uint32_t next = 0;
        RmList list;

        if (!rm_read_list(answer, TPM2_CAP_HANDLES, sizeof(TPM2_HANDLE), &list)) {
                /* Still due. A TPM that was not started holds nothing, and says so; else the next answer may be better.
                 */
                if (answer->rc == TPM2_RC_INITIALIZE)
                        rm_not_started(rm);
                rm->due_reconcile = true;
                return rm_reply_rc(job, answer->rc != TPM2_RC_SUCCESS ? answer->rc : RM_RC(TPM2_RC_FAILURE));
        }
        while (list.n-- > 0) {
                TPM2_HANDLE handle = tpm_read_u32(&list.reader);

                if ((handle & TPM2_HR_HANDLE_MASK) < next)
                        break;
                next = (handle & TPM2_HR_HANDLE_MASK) + 1;
                if (!recognise(rm, frame->phase, handle)) {
                        frame->at = next;
                        return rm_push(job, RM_OP_FLUSH_HANDLE, handle);
                }
        }
        if (list.more && next > frame->at && next <= TPM2_HR_HANDLE_MASK) {
                frame->at = next;
                return RM_FLOW_AGAIN;
        }
        return end_phase(rm, frame);
}

RmFlow rm_reconcile_build(Rm *rm, RmJob *job) {
        RmFrame *frame = rm_top(job);

        return frame->op == RM_OP_START ? build_start(rm, job, frame) : build_reconcile(rm, job, frame);
}

RmFlow rm_reconcile_settle(Rm *rm, RmJob *job, const RmAnswer *answer) {
        RmFrame *frame = rm_top(job);

        if (rm_is_transitory(answer->rc))
                return RM_FLOW_PAUSE;
        return frame->op == RM_OP_START ? settle_start(rm, job, frame, answer)
                                        : settle_reconcile(rm, job, frame, answer);
}
