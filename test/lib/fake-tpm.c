/* SPDX-License-Identifier: BSD-2-Clause */
#include "test/lib/fake-tpm-private.h"

#include <stdlib.h>
#include <string.h>

#define AUTH_MIN 9 /* bytes of an authorization */
#define SLOTS_MAX 1024

/* Parameters, in and out */

static void count_parameter(FakeCall *call) {
        call->n_read += !call->in.bad;
}

uint8_t fake_read_u8(FakeCall *call) {
        count_parameter(call);
        return tpm_read_u8(&call->in);
}

uint16_t fake_read_u16(FakeCall *call) {
        count_parameter(call);
        return tpm_read_u16(&call->in);
}

uint32_t fake_read_u32(FakeCall *call) {
        count_parameter(call);
        return tpm_read_u32(&call->in);
}

const uint8_t *fake_read_2b(FakeCall *call, size_t *ret_n) {
        count_parameter(call);
        *ret_n = tpm_read_u16(&call->in);
        return tpm_read_bytes(&call->in, *ret_n);
}

TPM2_RC fake_read_end(const FakeCall *call) {
        if (call->in.bad)
                return FAKE_P(TPM2_RC_INSUFFICIENT, call->n_read);
        return tpm_reader_left(&call->in) > 0 ? TPM2_RC_SIZE : TPM2_RC_SUCCESS;
}

void fake_write_2b(FakeCall *call, const void *bytes, size_t n) {
        tpm_write_u16(&call->out, n);
        tpm_write_bytes(&call->out, bytes, n);
}

void fake_write_digest(TpmWriter *writer, uint64_t value, uint64_t other) {
        const uint64_t WORDS[FAKE_DIGEST_SIZE / 8] = { value, other };

        for (unsigned i = 0; i < FAKE_DIGEST_SIZE / 8; i++)
                tpm_write_u64(writer, WORDS[i]);
}

uint64_t fake_mix(uint64_t value, const void *bytes, size_t n) {
        const uint8_t *b = bytes;

        value ^= 0xCBF29CE484222325; /* FNV-1a */
        for (size_t i = 0; i < n; i++)
                value = (value ^ b[i]) * 0x100000001B3;
        return value;
}

/* Ascending by code; the attributes are those of libtpms. */
static const FakeCommand COMMANDS[] = {
        { 0x04400120, "ho", 1, fake_evict_control },
        { 0x02C00121, "h", 1, fake_hierarchy_control },
        { 0x02C00124, "h", 1, fake_change_seed }, /* ChangeEPS */
        { 0x02C00125, "h", 1, fake_change_seed }, /* ChangePPS */
        { 0x02C00126, "h", 1, fake_clear },
        { 0x12000131, "h", 1, fake_create_primary },
        { 0x0300013E, "o", 1, fake_sequence_complete },
        { 0x00400143, "", 0, fake_self_test },
        { 0x00400144, "", FAKE_NO_SESSIONS, fake_startup },
        { 0x00400145, "", 0, fake_shutdown },
        { 0x04000151, "Ps", 1, fake_policy_secret },
        { 0x02000153, "o", 1, fake_create },
        { 0x02000155, "o", 1, fake_hmac },
        { 0x12000157, "o", 1, fake_load },
        { 0x1200015B, "o", 1, fake_hmac_start },
        { 0x0200015C, "o", 1, fake_sequence_update },
        { 0x0200015D, "o", 1, fake_sign },
        { 0x10000161, "", FAKE_NO_SESSIONS, fake_context_load },
        { 0x02000162, "c", FAKE_NO_SESSIONS, fake_context_save },
        { 0x00000165, "", FAKE_NO_SESSIONS, fake_flush_context },
        { 0x10000167, "", 0, fake_load_external },
        { 0x02000173, "o", 0, fake_read_public },
        { 0x14000176, "kk", 0, fake_start_session },
        { 0x0000017A, "", 0, fake_get_capability },
        { 0x0000017B, "", 0, fake_get_random },
        { 0x0000017C, "", 0, fake_get_test_result },
        { 0x0200017F, "s", 0, fake_policy_pcr },
        { 0x02000180, "s", 0, fake_policy_restart },
        { 0x00000181, "", 0, fake_read_clock },
        { 0x05400185, "po", 2, fake_event_complete },
        { 0x10000186, "", 0, fake_hash_start },
        { 0x02000189, "s", 0, fake_policy_digest },
        { 0x12000191, "P", 1, fake_create_loaded },
        { 0x22000001, "o", 0, fake_vendor_use },
        { 0x30000002, "", 0, fake_vendor_make },
};
#define N_COMMANDS (sizeof(COMMANDS) / sizeof(COMMANDS[0]))
#define N_VENDOR 2 /* of these, at the end */

static TPM2_RC do_nothing(FakeTpm *tpm, FakeCall *call) {
        return fake_read_end(call);
}

static const FakeCommand NOTHING = { 0, "", 0, do_nothing };

static const FakeCommand *command_find(const FakeTpm *tpm, TPM2_CC code, uint32_t *ret_index) {
        const TpmCommandInfo *info = tpm_command_table_find((TpmCommandTable *)&tpm->table, code);

        if (!info)
                return NULL;
        *ret_index = info - tpm->table.commands;
        return *ret_index < N_COMMANDS ? &COMMANDS[*ret_index] : &NOTHING;
}

/* From header to answer */

/* A persistent object is copied into a slot for the command, where the TPM's memory is like that. */
static TPM2_RC load_persistent(FakeTpm *tpm, FakeCall *call, unsigned i) {
        FakeObject *persistent = fake_persistent_find(tpm, call->command.handles[i]);
        FakeObject *copy;

        if (!persistent)
                return FAKE_H(TPM2_RC_HANDLE, i + 1);
        call->objects[i] = persistent;
        if (!(tpm->config.memory & TPMA_MEMORY_OBJECTCOPIEDTORAM))
                return TPM2_RC_SUCCESS;
        copy = fake_object_new(tpm);
        if (!copy)
                return TPM2_RC_OBJECT_MEMORY;
        *copy = *persistent;
        copy->temporary = true;
        call->objects[i] = copy;
        return TPM2_RC_SUCCESS;
}

static bool handle_is_right(FakeTpm *tpm, char letter, TPM2_HANDLE handle) {
        bool transient = handle - TPM_TRANSIENT_FIRST < tpm->config.object_slots;

        switch (letter) {
        case 'c':
                return transient || fake_session_in_range(tpm, handle);
        case 's':
                return fake_session_in_range(tpm, handle) && handle >> TPM2_HR_SHIFT == TPM2_HT_POLICY_SESSION;
        case 'h':
                return fake_hierarchy(tpm, handle) || handle == TPM2_RH_LOCKOUT;
        case 'p':
                return handle < FAKE_PCRS || handle == TPM2_RH_NULL;
        case 'k':
                return transient || tpm_handle_is_persistent(handle) || handle == TPM2_RH_NULL;
        case 'P':
                return transient || tpm_handle_is_persistent(handle) || fake_hierarchy(tpm, handle);
        default:
                return transient || tpm_handle_is_persistent(handle);
        }
}

/* @reference: it is not loaded; @mismatch: it is one of the other type. */
static TPM2_RC check_session(FakeTpm *tpm, TPM2_HANDLE handle, TPM2_RC reference, TPM2_RC mismatch) {
        if (fake_session_find(tpm, handle))
                return TPM2_RC_SUCCESS;
        return fake_session_find(tpm, handle ^ 0x01000000) ? mismatch : reference;
}

static TPM2_RC check_handle(FakeTpm *tpm, FakeCall *call, unsigned i) {
        TPM2_HANDLE handle = call->command.handles[i];

        if (tpm_handle_is_persistent(handle))
                return load_persistent(tpm, call, i);
        if (tpm_handle_is_transient(handle)) {
                call->objects[i] = fake_object_find(tpm, handle);
                return call->objects[i] ? TPM2_RC_SUCCESS : TPM2_RC_REFERENCE_H0 + i;
        }
        if (tpm_handle_is_session(handle))
                return check_session(tpm, handle, TPM2_RC_REFERENCE_H0 + i, FAKE_H(TPM2_RC_HANDLE, i + 1));
        if (fake_hierarchy(tpm, handle) && !fake_hierarchy(tpm, handle)->enabled)
                return FAKE_H(TPM2_RC_HIERARCHY, i + 1);
        return TPM2_RC_SUCCESS;
}

static TPM2_RC check_handles(FakeTpm *tpm, FakeCall *call, const char *letters) {
        for (unsigned i = 0; letters[i]; i++) {
                if (i >= call->command.n_handles)
                        return FAKE_H(TPM2_RC_INSUFFICIENT, i + 1);
                if (!handle_is_right(tpm, letters[i], call->command.handles[i]))
                        return FAKE_H(TPM2_RC_VALUE, i + 1);
        }
        for (unsigned i = 0; letters[i]; i++) {
                TPM2_RC rc = check_handle(tpm, call, i);

                if (rc)
                        return rc;
        }
        return TPM2_RC_SUCCESS;
}

/* What a session that authorizes nothing must be there for. */
#define PURPOSES (TPMA_SESSION_AUDIT | TPMA_SESSION_DECRYPT | TPMA_SESSION_ENCRYPT)

static TPM2_RC check_auths(FakeTpm *tpm, const FakeCall *call, unsigned n_auths) {
        const TpmCommand *command = &call->command;
        TpmReader area = call->in;
        uint32_t size;

        if (command->header.tag == TPM2_ST_NO_SESSIONS)
                return n_auths == 0 || n_auths == FAKE_NO_SESSIONS ? TPM2_RC_SUCCESS : TPM2_RC_AUTH_MISSING;
        tpm_read_bytes(&area, tpm_handle_offset(command->n_handles));
        size = tpm_read_u32(&area);
        if (area.bad)
                return TPM2_RC_INSUFFICIENT;
        if (size < AUTH_MIN || size > tpm_reader_left(&area))
                return TPM2_RC_SIZE;
        if (n_auths == FAKE_NO_SESSIONS)
                return TPM2_RC_AUTH_CONTEXT;
        if (!command->auths_whole)
                return TPM2_RC_AUTHSIZE;
        for (unsigned i = 0; i < command->n_auths; i++) {
                TPM2_HANDLE handle = command->auths[i].session;
                bool idle = i >= n_auths && !(command->auths[i].attributes & PURPOSES);
                TPM2_RC rc = TPM2_RC_SUCCESS;

                if (handle != TPM2_RS_PW && !fake_session_in_range(tpm, handle))
                        return FAKE_S(TPM2_RC_VALUE, i + 1);
                if (handle != TPM2_RS_PW)
                        rc = check_session(tpm, handle, TPM2_RC_REFERENCE_S0 + i, FAKE_S(TPM2_RC_HANDLE, i + 1));
                else if (i >= n_auths)
                        rc = FAKE_S(TPM2_RC_HANDLE, i + 1);
                if (!rc && idle)
                        rc = FAKE_S(TPM2_RC_ATTRIBUTES, i + 1);
                if (rc)
                        return rc;
        }
        return command->n_auths < n_auths ? TPM2_RC_AUTH_MISSING : TPM2_RC_SUCCESS;
}

static void write_auths(FakeTpm *tpm, FakeCall *call) {
        for (unsigned i = 0; i < call->command.n_auths; i++) {
                const TpmAuth *auth = &call->command.auths[i];
                FakeSession *session = fake_session_find(tpm, auth->session);
                uint64_t uses = session ? ++session->uses : 0;
                size_t n = auth->session == TPM2_RS_PW ? 0 : FAKE_DIGEST_SIZE;

                tpm_write_u16(&call->out, n); /* nonce */
                if (n > 0)
                        fake_write_digest(&call->out, uses, auth->session);
                tpm_write_u8(&call->out, auth->attributes | (n == 0 ? TPMA_SESSION_CONTINUESESSION : 0));
                tpm_write_u16(&call->out, 0); /* HMAC */
                if (session && !(auth->attributes & TPMA_SESSION_CONTINUESESSION))
                        fake_session_flush(tpm, session);
        }
}

static TPM2_RC execute(FakeTpm *tpm, FakeCall *call, const FakeCommand *command) {
        bool sessions = call->command.header.tag == TPM2_ST_SESSIONS;
        bool returns_handle = call->command.info.attributes & TPMA_CC_RHANDLE;
        size_t at;
        TPM2_RC rc;

        rc = check_handles(tpm, call, command->handles);
        if (!rc)
                rc = check_auths(tpm, call, command->n_auths);
        if (rc)
                return rc;
        tpm_read_bytes(&call->in, call->command.parameters);
        tpm_write_begin(&call->out, call->command.header.tag, TPM2_RC_SUCCESS);
        if (returns_handle)
                tpm_write_u32(&call->out, 0);
        if (sessions)
                tpm_write_u32(&call->out, 0);
        at = call->out.n_bytes;
        rc = command->run(tpm, call);
        if (rc)
                return rc;
        if (returns_handle)
                tpm_put_u32(call->out.bytes + TPM_HEADER_SIZE, call->handle);
        if (sessions) {
                tpm_put_u32(call->out.bytes + at - sizeof(uint32_t), call->out.n_bytes - at);
                write_auths(tpm, call);
        }
        return call->out.bad ? TPM2_RC_FAILURE : TPM2_RC_SUCCESS;
}

static size_t reply_rc(uint8_t *response, size_t size, TPM2_RC rc) {
        TpmWriter writer = TPM_WRITER(response, size);

        tpm_write_begin(&writer, TPM2_ST_NO_SESSIONS, rc);
        return tpm_write_end(&writer);
}

static TPM2_RC check_state(const FakeTpm *tpm, TPM2_CC code) {
        if (tpm->failed && code != TPM2_CC_GetCapability && code != TPM2_CC_GetTestResult)
                return TPM2_RC_FAILURE;
        return tpm->failed || tpm->started || code == TPM2_CC_Startup ? TPM2_RC_SUCCESS : TPM2_RC_INITIALIZE;
}

static size_t process(FakeTpm *tpm, const uint8_t *bytes, size_t n, uint8_t *response, size_t size) {
        FakeCall call = { .command = tpm_command_parse(&tpm->table, bytes, n), .in = TPM_READER(bytes, n) };
        const TpmHeader *header = &call.command.header;
        const FakeCommand *command;
        uint32_t i;
        TPM2_RC rc;

        if (n < TPM_HEADER_SIZE)
                return reply_rc(response, size, TPM2_RC_COMMAND_SIZE);
        if (header->tag != TPM2_ST_SESSIONS && header->tag != TPM2_ST_NO_SESSIONS)
                return reply_rc(response, size, TPM2_RC_VALUE);
        if (header->size != n || n > tpm->config.max_command_size)
                return reply_rc(response, size, TPM2_RC_COMMAND_SIZE);
        command = command_find(tpm, header->code, &i);
        rc = command ? check_state(tpm, header->code) : TPM2_RC_COMMAND_CODE;
        if (rc)
                return reply_rc(response, size, rc);
        call.out = TPM_WRITER(response, size < tpm->config.max_response_size ? size : tpm->config.max_response_size);
        rc = execute(tpm, &call, command);
        for (i = 0; i < tpm->config.object_slots; i++)
                if (tpm->objects[i].temporary)
                        tpm->objects[i] = (FakeObject){ 0 };
        return rc ? reply_rc(response, size, rc) : tpm_write_end(&call.out);
}

/* Faults */

static bool fault_take(FakeTpm *tpm, TPM2_CC code, FakeFault *ret_fault) {
        for (unsigned i = 0; i < tpm->n_faults; i++) {
                FakeFault *fault = &tpm->faults[i];

                if (fault->code != 0 && fault->code != code)
                        continue;
                if (fault->after > 0) {
                        fault->after--;
                        continue;
                }
                *ret_fault = *fault;
                if (fault->count != FAKE_ALWAYS && --fault->count == 0) {
                        memmove(fault, fault + 1, (tpm->n_faults - i - 1) * sizeof(*fault));
                        tpm->n_faults--;
                }
                return true;
        }
        return false;
}

static size_t spoil(FakeTpm *tpm, const FakeFault *fault, uint8_t *response, size_t n, size_t size) {
        switch (fault->kind) {
        case FAKE_LOSE_AFTER:
                return 0;
        case FAKE_BAD_SIZE:
                tpm_put_u32(response + 2, n + 1);
                break;
        case FAKE_TRUNCATED:
                n--;
                tpm_put_u32(response + 2, n);
                break;
        case FAKE_TRAILING:
                if (n < size)
                        response[n++] = 0;
                tpm_put_u32(response + 2, n);
                break;
        case FAKE_LATE:
                tpm->delay += fault->ms * 1000;
                break;
        default:
                break;
        }
        return n;
}

FakePace fake_pace_of(TPM2_CC code, const uint8_t *command, size_t n_command) {
        size_t at = TPM_HEADER_SIZE + (code == TPM2_CC_ContextLoad ? sizeof(uint64_t) : 0);
        bool session = n_command > at && command[at] < TPM2_HT_TRANSIENT;

        switch (code) {
        case TPM2_CC_ContextLoad:
        case TPM2_CC_ContextSave:
                return session ? FAKE_PACE_MOVE_SESSION : FAKE_PACE_MOVE_OBJECT;
        case TPM2_CC_StartAuthSession:
                return FAKE_PACE_START;
        case TPM2_CC_Load:
        case TPM2_CC_LoadExternal:
                return FAKE_PACE_LOAD;
        case TPM2_CC_Sign:
        case TPM2_CC_HMAC:
                return FAKE_PACE_USE;
        case TPM2_CC_CreatePrimary:
        case TPM2_CC_CreateLoaded:
        case TPM2_CC_Create:
                return FAKE_PACE_CREATE;
        default:
                return FAKE_PACE_CHEAP;
        }
}

size_t fake_tpm_run(FakeTpm *tpm, const uint8_t *command, size_t n_command, uint8_t *response, size_t size) {
        TpmReader reader = TPM_READER(command, n_command);
        TPM2_CC code = tpm_read_header(&reader).code;
        FakeFault fault = { 0 };
        bool faulty;
        uint32_t i;
        size_t n;

        tpm->delay = tpm->config.pace * 1000 + tpm->config.pace_us[fake_pace_of(code, command, n_command)];
        tpm->count++;
        if (command_find(tpm, code, &i))
                tpm->counts[i]++;
        faulty = fault_take(tpm, code, &fault);
        if (faulty && fault.kind == FAKE_LOSE_BEFORE)
                return 0;
        if (faulty && fault.kind == FAKE_RC)
                return reply_rc(response, size, fault.rc);
        n = process(tpm, command, n_command, response, size);
        return faulty && n > 0 ? spoil(tpm, &fault, response, n, size) : n;
}

bool fake_tpm_inject(FakeTpm *tpm, const FakeFault *fault) {
        if (tpm->n_faults == FAKE_FAULTS_MAX)
                return false;
        tpm->faults[tpm->n_faults] = *fault;
        tpm->faults[tpm->n_faults++].count += fault->count == 0;
        return true;
}

void fake_tpm_heal(FakeTpm *tpm) {
        tpm->n_faults = 0;
        tpm->failed = false;
}

unsigned fake_tpm_delay(const FakeTpm *tpm) {
        return tpm->delay;
}

unsigned fake_tpm_count(const FakeTpm *tpm, TPM2_CC code) {
        uint32_t i;

        if (code == 0)
                return tpm->count;
        return command_find(tpm, code, &i) ? tpm->counts[i] : 0;
}

void fake_tpm_fail(FakeTpm *tpm) {
        tpm->failed = true;
}

void fake_tpm_reset(FakeTpm *tpm) {
        tpm->started = false;
        tpm->failed = false;
}

static void table_init(FakeTpm *tpm) {
        TpmCommandTable *table = &tpm->table;
        uint32_t n_vendor = tpm->config.vendor_commands;

        for (unsigned i = 0; i < N_COMMANDS - N_VENDOR; i++)
                table->commands[table->n_commands++].attributes = COMMANDS[i].attributes;
        for (unsigned i = 0; i < n_vendor && table->n_commands < TPM_COMMANDS_MAX; i++)
                table->commands[table->n_commands++].attributes =
                        i < N_VENDOR ? COMMANDS[N_COMMANDS - N_VENDOR + i].attributes
                                     : FAKE_CC_VENDOR_MORE + i - N_VENDOR;
}

FakeTpm *fake_tpm_new(const FakeTpmConfig *config) {
        FakeTpm *tpm = calloc(1, sizeof(*tpm));

        if (!tpm)
                return NULL;
        tpm->config = config ? *config : FAKE_TPM_CONFIG;
        table_init(tpm);
        for (unsigned i = 0; i < FAKE_HIERARCHIES; i++)
                tpm->hierarchies[i] = (FakeHierarchy){ .enabled = true, .proof = fake_secret(tpm) };
        tpm->objects = calloc(tpm->config.object_slots, sizeof(FakeObject));
        tpm->sessions = calloc(tpm->config.active_sessions, sizeof(FakeSession));
        if (!tpm->objects || !tpm->sessions || tpm->config.object_context < 50 || tpm->config.session_context < 50 ||
            tpm->config.object_slots > SLOTS_MAX || (tpm->config.gap & (tpm->config.gap + 1)) != 0 ||
            tpm->config.gap <= tpm->config.session_slots + 1)
                return fake_tpm_free(tpm);
        return tpm;
}

FakeTpm *fake_tpm_free(FakeTpm *tpm) {
        if (!tpm)
                return NULL;
        free(tpm->objects);
        free(tpm->sessions);
        free(tpm);
        return NULL;
}
