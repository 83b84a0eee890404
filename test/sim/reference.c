/* SPDX-License-Identifier: BSD-2-Clause */
#include "reference.h"

#include "chip.h"
#include "random.h"

#include <string.h>

#define OBJECTS 32
#define SESSIONS 64
#define NOWHERE 0x80FFFFFE

typedef struct Saved {
        bool used;
        TPM2_HANDLE handle; /* of an object, the client's name for it; of a session, its own */
        TPM2_HANDLE loaded; /* 0, or where it is at the moment */
        bool given;         /* a session that the client saved: it has its only context */
        bool abandoned;     /* ... and then left */
        Message load;       /* ContextLoad of it */
} Saved;

static Saved objects[OBJECTS];
static Saved sessions[SESSIONS];
static ReferenceLimits limits;

static Message direct(const Message *command) {
        Message response;

        /* A TPM that still tests itself says so once; whoever asks asks again. */
        do
                response.n = chip_run(command->bytes, command->n, response.bytes, sizeof(response.bytes));
        while (message_rc(&response) == TPM2_RC_RETRY);
        return response;
}

static bool is_session(TPM2_HANDLE handle) {
        return handle >> 24 == TPM2_HT_HMAC_SESSION || handle >> 24 == TPM2_HT_POLICY_SESSION;
}

static Saved *find(Saved *saved, unsigned n, TPM2_HANDLE handle) {
        for (unsigned i = 0; i < n; i++)
                if (saved[i].used && saved[i].handle == handle)
                        return &saved[i];
        return NULL;
}

static void load(Saved *saved) {
        if (saved && !saved->loaded && !saved->given) {
                Message response = direct(&saved->load);

                saved->loaded = message_rc(&response) ? 0 : message_handle(&response);
        }
}

static void unload(Saved *saved, bool session) {
        Message save = cmd_with_handle(TPM2_CC_ContextSave, saved->loaded);
        Message flush = cmd_with_handle(TPM2_CC_FlushContext, saved->loaded);
        Message response;

        if (!saved->used || !saved->loaded)
                return;
        response = direct(&save);
        saved->used = message_rc(&response) == TPM2_RC_SUCCESS;
        if (saved->used)
                saved->load = cmd_context_load(response.bytes + TPM_HEADER_SIZE, response.n - TPM_HEADER_SIZE);
        if (saved->used && !session)
                direct(&flush);
        saved->loaded = 0;
}

/* Handles in the handle area, for the commands that programs use (Part 3). */
static unsigned handles_of(TPM2_CC code) {
        switch (code) {
        case TPM2_CC_Startup:
        case TPM2_CC_GetRandom:
        case TPM2_CC_Hash:
        case TPM2_CC_LoadExternal:
        case TPM2_CC_HashSequenceStart:
        case TPM2_CC_ContextLoad:
        case TPM2_CC_FlushContext:
        case TPM2_CC_GetCapability:
        case TPM2_CC_PCR_Read:
                return 0;
        case TPM2_CC_StartAuthSession:
        case TPM2_CC_Certify:
        case TPM2_CC_EvictControl:
        case TPM2_CC_EventSequenceComplete:
        case TPM2_CC_PolicySecret:
        case TPM2_CC_NV_Write:
        case TPM2_CC_NV_Read:
        case TPM2_CC_NV_UndefineSpace:
                return 2;
        default:
                return 1;
        }
}

static bool returns_object(TPM2_CC code) {
        switch (code) {
        case TPM2_CC_CreatePrimary:
        case TPM2_CC_Load:
        case TPM2_CC_LoadExternal:
        case TPM2_CC_CreateLoaded:
        case TPM2_CC_HashSequenceStart:
        case TPM2_CC_HMAC_Start:
        case TPM2_CC_ContextLoad:
                return true;
        default:
                return false;
        }
}

static unsigned count_sessions(void) {
        unsigned n = 0;

        for (unsigned i = 0; i < SESSIONS; i++)
                n += sessions[i].used && !sessions[i].abandoned;
        return n;
}

static unsigned count_objects(void) {
        unsigned n = 0;

        for (unsigned i = 0; i < OBJECTS; i++)
                n += objects[i].used;
        return n;
}

static Message reply(TPM2_RC rc, const uint8_t *bytes, size_t n) {
        Message response;
        TpmWriter writer = TPM_WRITER(response.bytes, sizeof(response.bytes));

        tpm_write_begin(&writer, TPM2_ST_NO_SESSIONS, rc);
        tpm_write_bytes(&writer, bytes, n);
        response.n = tpm_write_end(&writer);
        return response;
}

/* The lists that a TPM with room would give. */
static Message list(TPM2_HANDLE from, uint32_t count) {
        uint8_t bytes[9 + 4 * SESSIONS] = { 0 };
        bool transient = from >> 24 == TPM2_HT_TRANSIENT;
        Saved *saved = transient ? objects : sessions;
        uint32_t n = 0;

        for (unsigned i = 0; i < (transient ? OBJECTS : SESSIONS); i++) {
                TPM2_HANDLE handle = saved[i].handle;

                if (!saved[i].used || (!transient && saved[i].given != (from >> 24 == TPM2_HT_SAVED_SESSION)) ||
                    (transient && handle < from))
                        continue;
                if (n < count)
                        tpm_put_u32(bytes + 9 + 4 * n++, handle);
                else
                        bytes[0] = 1;
        }
        tpm_put_u32(bytes + 1, TPM2_CAP_HANDLES);
        tpm_put_u32(bytes + 5, n);
        return reply(TPM2_RC_SUCCESS, bytes, 9 + 4 * n);
}

/* What a command names. */
typedef struct Named {
        TPM2_CC code;
        unsigned n_handles;
        unsigned n; /* handles, and sessions of the authorization area behind them */
        TPM2_HANDLE handles[6];
        bool whole;
} Named;

static Named parse(const Message *command) {
        TpmReader reader = TPM_READER(command->bytes, command->n);
        uint16_t tag = tpm_read_u16(&reader);
        Named named = { 0 };
        size_t end;

        tpm_read_u32(&reader);
        named.code = tpm_read_u32(&reader);
        named.n_handles = handles_of(named.code);
        while (named.n < named.n_handles)
                named.handles[named.n++] = tpm_read_u32(&reader);
        if (tag == TPM2_ST_SESSIONS) {
                end = tpm_read_u32(&reader);
                end += reader.at;
                while (!reader.bad && reader.at < end && named.n < 6) {
                        named.handles[named.n++] = tpm_read_u32(&reader);
                        tpm_read_bytes(&reader, tpm_read_u16(&reader));
                        tpm_read_u8(&reader);
                        tpm_read_bytes(&reader, tpm_read_u16(&reader));
                }
                named.whole = !reader.bad && reader.at == end;
        } else {
                named.whole = !reader.bad && tag == TPM2_ST_NO_SESSIONS;
        }
        return named;
}

static TPM2_HANDLE presented(const Named *named, const Message *command) {
        TpmReader reader = TPM_READER(command->bytes + TPM_HEADER_SIZE + 8, command->n > 22 ? 4 : 0);

        return named->code == TPM2_CC_ContextLoad ? tpm_read_u32(&reader) : 0;
}

/* Where the TPM would say that there is no room, if its room were the quota. Return: 0, or what it says. */
static TPM2_RC refuse(const Named *named, const Message *command) {
        if (is_session(presented(named, command))) {
                const Saved *session = find(sessions, SESSIONS, presented(named, command));

                return session && session->abandoned && count_sessions() >= limits.sessions ? TPM2_RC_SESSION_MEMORY
                                                                                            : TPM2_RC_SUCCESS;
        }
        if (named->code == TPM2_CC_StartAuthSession)
                return count_sessions() >= limits.sessions ? TPM2_RC_SESSION_MEMORY : TPM2_RC_SUCCESS;
        return returns_object(named->code) && count_objects() >= limits.objects ? TPM2_RC_OBJECT_MEMORY
                                                                                : TPM2_RC_SUCCESS;
}

/* Load what is named, and put handles as the TPM knows them into @command. Return: whether all of it exists. */
static bool prepare(const Named *named, Message *command) {
        bool whole = named->whole;

        for (unsigned i = 0; i < named->n; i++) {
                TPM2_HANDLE handle = named->handles[i];
                Saved *saved = is_session(handle) ? find(sessions, SESSIONS, handle) : find(objects, OBJECTS, handle);

                if (!is_session(handle) && handle >> 24 != TPM2_HT_TRANSIENT)
                        continue;
                load(saved);
                whole = whole && saved && saved->loaded;
                if (i < named->n_handles && !is_session(handle))
                        tpm_put_u32(command->bytes + TPM_HEADER_SIZE + 4 * i, saved ? saved->loaded : NOWHERE);
        }
        return whole;
}

static void add_object(Message *response) {
        unsigned i = 0;

        while (objects[i].used)
                i++;
        objects[i] = (Saved){ .used = true, .handle = 0x80000000 + i, .loaded = message_handle(response) };
        tpm_put_u32(response->bytes + TPM_HEADER_SIZE, objects[i].handle);
}

static void add_session(TPM2_HANDLE handle) {
        Saved *session = find(sessions, SESSIONS, handle);

        for (unsigned i = 0; !session; i++)
                if (!sessions[i].used)
                        session = &sessions[i];
        *session = (Saved){ .used = true, .handle = handle, .loaded = handle };
}

static void forget_session(TPM2_HANDLE handle) {
        for (unsigned i = 0; i < SESSIONS; i++)
                if (sessions[i].used && (sessions[i].handle ^ handle) << 8 == 0)
                        sessions[i].used = false;
}

static void commit(const Named *named, const Message *command, Message *response) {
        if (is_session(presented(named, command)) || named->code == TPM2_CC_StartAuthSession) {
                add_session(message_handle(response));
        } else if (returns_object(named->code)) {
                add_object(response);
        } else if (named->code == TPM2_CC_ContextSave && is_session(named->handles[0])) {
                Saved *session = find(sessions, SESSIONS, named->handles[0]);

                session->given = true;
                session->loaded = 0;
        }
}

/* FlushContext names nothing in the handle area. */
static Message flush(Message *command) {
        TpmReader reader = TPM_READER(command->bytes + TPM_HEADER_SIZE, 4);
        TPM2_HANDLE handle = tpm_read_u32(&reader);
        Saved *object = find(objects, OBJECTS, handle);
        Message response;

        if (command->n == TPM_HEADER_SIZE + 4 && command->bytes[1] == (TPM2_ST_NO_SESSIONS & 0xFF) && object) {
                object->used = false;
                return reply(TPM2_RC_SUCCESS, NULL, 0);
        }
        /* A TPM with room would know the handle of an object that is not there. */
        if (command->n >= TPM_HEADER_SIZE + 4 && handle >> 24 == TPM2_HT_TRANSIENT)
                tpm_put_u32(command->bytes + TPM_HEADER_SIZE, 0x80000000);
        response = direct(command);
        if (message_rc(&response) == TPM2_RC_SUCCESS)
                forget_session(handle);
        return response;
}

static bool lists(const Message *command, Message *ret_response) {
        TpmReader reader = TPM_READER(command->bytes + TPM_HEADER_SIZE, command->n - TPM_HEADER_SIZE);
        uint32_t capability = tpm_read_u32(&reader);
        TPM2_HANDLE from = tpm_read_u32(&reader);
        uint32_t count = tpm_read_u32(&reader);

        if (!tpm_reader_done(&reader) || capability != TPM2_CAP_HANDLES || command->bytes[1] != 1 ||
            (from >> 24 != TPM2_HT_TRANSIENT && !is_session(from)))
                return false;
        *ret_response = list(from, count);
        return true;
}

Message reference_run(const Message *original) {
        Named named = parse(original);
        Message command = *original;
        Message response;
        TPM2_RC rc;

        if (limits.roomless)
                return direct(&command);
        if (named.code == TPM2_CC_FlushContext)
                return flush(&command);
        if (named.code == TPM2_CC_GetCapability && lists(&command, &response))
                return response;
        if (prepare(&named, &command) && (rc = refuse(&named, &command))) {
                response = reply(rc, NULL, 0);
        } else {
                response = direct(&command);
                if (message_rc(&response) == TPM2_RC_SUCCESS)
                        commit(&named, &command, &response);
        }
        for (unsigned i = 0; i < OBJECTS; i++)
                unload(&objects[i], false);
        for (unsigned i = 0; i < SESSIONS; i++)
                unload(&sessions[i], true);
        return response;
}

void reference_start(uint64_t seed, const ReferenceLimits *with) {
        Message startup = cmd_startup(TPM2_SU_CLEAR);

        memset(objects, 0, sizeof(objects));
        memset(sessions, 0, sizeof(sessions));
        limits = *with;
        random_seed_tpm(seed);
        chip_start(true);
        direct(&startup);
}

void reference_stop(void) {
        chip_stop();
}

/* On the bare TPM: whoever manages it flushes for the client what is loaded. */
static void flush_loaded(TPM2_HT type) {
        Message ask = cmd_get_capability(TPM2_CAP_HANDLES, (uint32_t)type << 24, 64);
        Message answer = direct(&ask);
        TPM2_HANDLE handles[64];
        unsigned n = message_handles(&answer, handles, 64);

        for (unsigned i = 0; i < n; i++) {
                Message flush = cmd_with_handle(TPM2_CC_FlushContext, handles[i]);

                direct(&flush);
        }
}

void reference_reconnect(void) {
        if (limits.roomless) {
                flush_loaded(TPM2_HT_TRANSIENT);
                flush_loaded(TPM2_HT_LOADED_SESSION);
        }
        memset(objects, 0, sizeof(objects));
        for (unsigned i = 0; i < SESSIONS; i++) {
                if (sessions[i].used && !sessions[i].given) {
                        Message flush = cmd_with_handle(TPM2_CC_FlushContext, sessions[i].handle);

                        direct(&flush);
                        sessions[i].used = false;
                }
                sessions[i].abandoned = sessions[i].given;
        }
}
