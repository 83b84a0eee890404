/* SPDX-License-Identifier: BSD-2-Clause */
#include "test/lib/fake-tpm-private.h"

#define NONCE_MIN 16
#define NONCE_MAX 64

bool fake_session_in_range(const FakeTpm *tpm, TPM2_HANDLE handle) {
        return tpm_handle_is_session(handle) && (handle & TPM2_HR_HANDLE_MASK) < tpm->config.active_sessions;
}

FakeSession *fake_session_find(FakeTpm *tpm, TPM2_HANDLE handle) {
        FakeSession *session;

        if (!fake_session_in_range(tpm, handle))
                return NULL;
        session = &tpm->sessions[handle & TPM2_HR_HANDLE_MASK];
        if (session->state != FAKE_SESSION_LOADED ||
            session->policy != (handle >> TPM2_HR_SHIFT == TPM2_HT_POLICY_SESSION))
                return NULL;
        return session;
}

void fake_session_flush(FakeTpm *tpm, FakeSession *session) {
        tpm->n_loaded -= session->state == FAKE_SESSION_LOADED;
        session->state = FAKE_SESSION_NONE;
}

void fake_sessions_start(FakeTpm *tpm, bool reset) {
        for (unsigned i = 0; i < tpm->config.active_sessions; i++)
                if (reset || tpm->sessions[i].state == FAKE_SESSION_LOADED)
                        tpm->sessions[i].state = FAKE_SESSION_NONE;
        tpm->n_loaded = 0;
        /* The low bits of a counter tell a saved session from a slot's number, plus one, and from nothing. */
        if (reset)
                tpm->session_sequence = tpm->config.session_slots + 1;
}

static FakeSession *oldest_saved(FakeTpm *tpm) {
        FakeSession *oldest = NULL;

        for (unsigned i = 0; i < tpm->config.active_sessions; i++)
                if (tpm->sessions[i].state == FAKE_SESSION_SAVED &&
                    (!oldest || tpm->sessions[i].sequence < oldest->sequence))
                        oldest = &tpm->sessions[i];
        return oldest;
}

/* The next context would get the low bits of the oldest one. */
static bool gap_is_full(FakeTpm *tpm, const FakeSession *oldest) {
        return oldest && ((tpm->session_sequence ^ oldest->sequence) & tpm->config.gap) == 0;
}

/* The last free slot is for the oldest session, while the gap is full: otherwise there would be no way out. */
static TPM2_RC slot_for(FakeTpm *tpm, const FakeSession *session) {
        const FakeSession *oldest = oldest_saved(tpm);

        if (tpm->n_loaded == tpm->config.session_slots)
                return TPM2_RC_SESSION_MEMORY;
        if (tpm->n_loaded + 1 == tpm->config.session_slots && session != oldest && gap_is_full(tpm, oldest))
                return TPM2_RC_CONTEXT_GAP;
        return TPM2_RC_SUCCESS;
}

static void read_sym_def(FakeCall *call) {
        TPM2_ALG_ID algorithm = fake_read_u16(call);

        if (algorithm != TPM2_ALG_NULL)
                tpm_read_u16(&call->in);
        if (algorithm != TPM2_ALG_NULL && algorithm != TPM2_ALG_XOR)
                tpm_read_u16(&call->in);
}

TPM2_RC fake_start_session(FakeTpm *tpm, FakeCall *call) {
        size_t n_nonce, n_salt;
        const uint8_t *nonce = fake_read_2b(call, &n_nonce);
        TPM2_SE type = (fake_read_2b(call, &n_salt), fake_read_u8(call));
        bool policy = type == TPM2_SE_POLICY || type == TPM2_SE_TRIAL;
        unsigned i = 0;
        TPM2_RC rc;

        if (!call->in.bad && !policy && type != TPM2_SE_HMAC)
                return FAKE_P(TPM2_RC_VALUE, 3);
        read_sym_def(call);
        fake_read_u16(call); /* authHash */
        rc = fake_read_end(call);
        if (rc)
                return rc;
        if (n_nonce < NONCE_MIN || n_nonce > NONCE_MAX)
                return FAKE_P(TPM2_RC_SIZE, 1);
        rc = slot_for(tpm, NULL);
        if (rc)
                return rc;
        while (i < tpm->config.active_sessions && tpm->sessions[i].state != FAKE_SESSION_NONE)
                i++;
        if (i == tpm->config.active_sessions)
                return TPM2_RC_SESSION_HANDLES;
        tpm->sessions[i] = (FakeSession){ .state = FAKE_SESSION_LOADED, .policy = policy };
        tpm->n_loaded++;
        call->handle = (policy ? TPM2_HR_POLICY_SESSION : TPM2_HR_HMAC_SESSION) + i;
        fake_write_2b(call, nonce, n_nonce);
        return TPM2_RC_SUCCESS;
}

TPM2_RC fake_policy_pcr(FakeTpm *tpm, FakeCall *call) {
        FakeSession *session = fake_session_find(tpm, call->command.handles[0]);
        size_t n;
        uint32_t n_banks = (fake_read_2b(call, &n), fake_read_u32(call));
        TPM2_RC rc;

        while (n_banks-- > 0 && !call->in.bad) {
                tpm_read_u16(&call->in);
                tpm_read_bytes(&call->in, tpm_read_u8(&call->in));
        }
        rc = fake_read_end(call);
        if (rc)
                return rc;
        session->digest++;
        return TPM2_RC_SUCCESS;
}

TPM2_RC fake_policy_secret(FakeTpm *tpm, FakeCall *call) {
        size_t n;
        TPM2_RC rc;

        for (unsigned i = 0; i < 3; i++) /* nonceTPM, cpHashA, policyRef */
                fake_read_2b(call, &n);
        fake_read_u32(call); /* expiration */
        rc = fake_read_end(call);
        if (rc)
                return rc;
        fake_session_find(tpm, call->command.handles[1])->digest++;
        fake_write_2b(call, NULL, 0); /* timeout */
        tpm_write_u16(&call->out, TPM2_ST_AUTH_SECRET);
        tpm_write_u32(&call->out, TPM2_RH_NULL);
        fake_write_2b(call, NULL, 0);
        return TPM2_RC_SUCCESS;
}

TPM2_RC fake_policy_digest(FakeTpm *tpm, FakeCall *call) {
        TPM2_RC rc = fake_read_end(call);

        if (rc)
                return rc;
        tpm_write_u16(&call->out, FAKE_DIGEST_SIZE);
        fake_write_digest(&call->out, fake_session_find(tpm, call->command.handles[0])->digest, 0);
        return TPM2_RC_SUCCESS;
}

TPM2_RC fake_policy_restart(FakeTpm *tpm, FakeCall *call) {
        TPM2_RC rc = fake_read_end(call);

        if (!rc)
                fake_session_find(tpm, call->command.handles[0])->digest = 0;
        return rc;
}

/* Over the whole context but its integrity value, which stands behind the four fields that are open. */
#define INTEGRITY_OFFSET (8 + 4 + 4 + 2)

static uint64_t integrity_of(FakeTpm *tpm, const uint8_t *context, size_t n) {
        TpmReader reader = TPM_READER(context, n);
        const FakeHierarchy *hierarchy;
        uint64_t value = tpm->reset_key;
        TPM2_HANDLE handle;

        tpm_read_u64(&reader);
        handle = tpm_read_u32(&reader);
        hierarchy = fake_hierarchy(tpm, tpm_read_u32(&reader));
        value = fake_mix(value, &hierarchy->proof, sizeof(hierarchy->proof));
        if (handle == 0x80000002)
                value = fake_mix(value, &tpm->clear_count, sizeof(tpm->clear_count));
        value = fake_mix(value, context, INTEGRITY_OFFSET);
        return fake_mix(value, context + INTEGRITY_OFFSET + 8, n - INTEGRITY_OFFSET - 8);
}

static void write_context(FakeTpm *tpm, FakeCall *call, const uint64_t open[static 3], const uint64_t secret[static 3],
                          size_t size) {
        uint8_t *context = call->out.bytes + call->out.n_bytes;
        size_t n = size - 8 - 4 - 4 - 2;
        TpmWriter integrity = TPM_WRITER(context + INTEGRITY_OFFSET, 8);

        tpm_write_u64(&call->out, open[0]);
        tpm_write_u32(&call->out, open[1]);
        tpm_write_u32(&call->out, open[2]);
        tpm_write_u16(&call->out, n);
        tpm_write_u64(&call->out, 0);
        for (unsigned i = 0; i < 3; i++)
                tpm_write_u64(&call->out, secret[i]);
        for (size_t i = 4 * 8; i < n; i++)
                tpm_write_u8(&call->out, 0);
        if (!call->out.bad)
                tpm_write_u64(&integrity, integrity_of(tpm, context, size));
}

static TPM2_RC save_session(FakeTpm *tpm, FakeCall *call) {
        FakeSession *session = fake_session_find(tpm, call->command.handles[0]);

        if (gap_is_full(tpm, oldest_saved(tpm)))
                return TPM2_RC_CONTEXT_GAP;
        session->state = FAKE_SESSION_SAVED;
        session->sequence = tpm->session_sequence++;
        if ((tpm->session_sequence & tpm->config.gap) == 0)
                tpm->session_sequence += tpm->config.session_slots + 1;
        tpm->n_loaded--;
        write_context(tpm, call, (uint64_t[]){ session->sequence, call->command.handles[0], TPM2_RH_NULL },
                      (uint64_t[]){ session->digest, session->uses, 0 }, tpm->config.session_context);
        return TPM2_RC_SUCCESS;
}

TPM2_RC fake_context_save(FakeTpm *tpm, FakeCall *call) {
        const FakeObject *object = call->objects[0];
        TPM2_RC rc = fake_read_end(call);
        TPM2_HANDLE handle;

        if (rc)
                return rc;
        tpm->shut_down = false;
        if (!object)
                return save_session(tpm, call);
        handle = object->state != FAKE_OBJECT_KEY ? 0x80000001 : object->stclear ? 0x80000002 : 0x80000000;
        write_context(tpm, call, (uint64_t[]){ ++tpm->object_sequence, handle, object->hierarchy },
                      (uint64_t[]){ object->identity, object->value, object->state }, tpm->config.object_context);
        return TPM2_RC_SUCCESS;
}

static TPM2_RC load_object(FakeTpm *tpm, FakeCall *call, TPM2_HANDLE handle, TPM2_HANDLE hierarchy, TpmReader *secret) {
        FakeObject *object;

        if (!fake_hierarchy(tpm, hierarchy)->enabled)
                return FAKE_P(TPM2_RC_HIERARCHY, 1);
        object = fake_object_new(tpm);
        if (!object)
                return TPM2_RC_OBJECT_MEMORY;
        object->hierarchy = hierarchy;
        object->stclear = handle == 0x80000002;
        object->identity = tpm_read_u64(secret);
        object->value = tpm_read_u64(secret);
        object->state = tpm_read_u64(secret);
        call->handle = fake_object_handle(tpm, object);
        return TPM2_RC_SUCCESS;
}

static TPM2_RC load_session(FakeTpm *tpm, FakeCall *call, TPM2_HANDLE handle, uint64_t sequence, TpmReader *secret) {
        FakeSession *session = &tpm->sessions[handle & TPM2_HR_HANDLE_MASK];
        TPM2_RC rc;

        if (session->state != FAKE_SESSION_SAVED || session->sequence != sequence)
                return FAKE_P(TPM2_RC_HANDLE, 1);
        rc = slot_for(tpm, session);
        if (rc)
                return rc;
        tpm->shut_down = false;
        session->state = FAKE_SESSION_LOADED;
        session->policy = handle >> TPM2_HR_SHIFT == TPM2_HT_POLICY_SESSION;
        session->digest = tpm_read_u64(secret);
        session->uses = tpm_read_u64(secret);
        tpm->n_loaded++;
        call->handle = handle;
        return TPM2_RC_SUCCESS;
}

TPM2_RC fake_context_load(FakeTpm *tpm, FakeCall *call) {
        const uint8_t *context = call->in.bytes + call->in.at;
        uint64_t sequence = tpm_read_u64(&call->in);
        TPM2_HANDLE handle = tpm_read_u32(&call->in);
        TPM2_HANDLE hierarchy = fake_read_u32(call); /* four fields, one parameter */
        size_t n = tpm_read_u16(&call->in);
        const uint8_t *secret = tpm_read_bytes(&call->in, n);
        TpmReader reader = TPM_READER(secret, n);
        bool object = handle >= 0x80000000 && handle <= 0x80000002;
        TPM2_RC rc;

        if (call->in.bad)
                return FAKE_P(TPM2_RC_INSUFFICIENT, 1);
        rc = fake_read_end(call);
        if (rc)
                return rc;
        if (!fake_hierarchy(tpm, hierarchy) || (!object && !fake_session_in_range(tpm, handle)))
                return FAKE_P(TPM2_RC_VALUE, 1);
        if (n < 4 * 8 || tpm_read_u64(&reader) != integrity_of(tpm, context, INTEGRITY_OFFSET + n))
                return FAKE_P(TPM2_RC_INTEGRITY, 1);
        if (object)
                return load_object(tpm, call, handle, hierarchy, &reader);
        return load_session(tpm, call, handle, sequence, &reader);
}

TPM2_RC fake_flush_context(FakeTpm *tpm, FakeCall *call) {
        TPM2_HANDLE handle = fake_read_u32(call);
        TPM2_RC rc = fake_read_end(call);
        FakeObject *object = fake_object_find(tpm, handle);
        FakeSession *session = NULL;

        if (rc)
                return rc;
        if (fake_session_in_range(tpm, handle))
                session = &tpm->sessions[handle & TPM2_HR_HANDLE_MASK];
        else if (handle - TPM_TRANSIENT_FIRST >= tpm->config.object_slots)
                return FAKE_P(TPM2_RC_VALUE, 1);
        if (object)
                object->state = FAKE_OBJECT_NONE;
        else if (session && session->state != FAKE_SESSION_NONE)
                fake_session_flush(tpm, session);
        else
                return FAKE_P(TPM2_RC_HANDLE, 1);
        return TPM2_RC_SUCCESS;
}
