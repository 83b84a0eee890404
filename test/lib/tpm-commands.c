/* SPDX-License-Identifier: BSD-2-Clause */
#include "test/lib/tpm-commands.h"

#include <string.h>

static const TestAuth PASSWORD = { TPM2_RH_PW, 0 };

static TpmWriter begin(Message *message, uint16_t tag, TPM2_CC code) {
        TpmWriter writer = TPM_WRITER(message->bytes, sizeof(message->bytes));

        tpm_write_begin(&writer, tag, code);
        return writer;
}

static void write_auths(TpmWriter *writer, const TestAuth *auths, unsigned n) {
        tpm_write_u32(writer, n * 9);
        for (unsigned i = 0; i < n; i++) {
                tpm_write_u32(writer, auths[i].session);
                tpm_write_u16(writer, 0);
                tpm_write_u8(writer, auths[i].attributes);
                tpm_write_u16(writer, 0);
        }
}

static void write_2b(TpmWriter *writer, const void *bytes, size_t n) {
        tpm_write_u16(writer, n);
        tpm_write_bytes(writer, bytes, n);
}

/* A TPM2B around what has been written since @at, where its size is. */
static void close_2b(TpmWriter *writer, size_t at) {
        size_t n = writer->n_bytes - at - 2;

        writer->bytes[at] = n >> 8;
        writer->bytes[at + 1] = n;
}

static Message end(Message *message, TpmWriter *writer) {
        message->n = tpm_write_end(writer);
        return *message;
}

Message cmd_simple(TPM2_CC code) {
        Message m;
        TpmWriter w = begin(&m, TPM2_ST_NO_SESSIONS, code);

        return end(&m, &w);
}

Message cmd_with_handle(TPM2_CC code, TPM2_HANDLE handle) {
        Message m;
        TpmWriter w = begin(&m, TPM2_ST_NO_SESSIONS, code);

        tpm_write_u32(&w, handle);
        return end(&m, &w);
}

Message cmd_startup(TPM2_SU type) {
        Message m;
        TpmWriter w = begin(&m, TPM2_ST_NO_SESSIONS, TPM2_CC_Startup);

        tpm_write_u16(&w, type);
        return end(&m, &w);
}

Message cmd_get_random(uint16_t n) {
        Message m;
        TpmWriter w = begin(&m, TPM2_ST_NO_SESSIONS, TPM2_CC_GetRandom);

        tpm_write_u16(&w, n);
        return end(&m, &w);
}

Message cmd_get_random_auth(uint16_t n, const TestAuth *auths, unsigned n_auths) {
        Message m;
        TpmWriter w = begin(&m, TPM2_ST_SESSIONS, TPM2_CC_GetRandom);

        write_auths(&w, auths, n_auths);
        tpm_write_u16(&w, n);
        return end(&m, &w);
}

Message cmd_get_capability(TPM2_CAP capability, uint32_t property, uint32_t count) {
        Message m;
        TpmWriter w = begin(&m, TPM2_ST_NO_SESSIONS, TPM2_CC_GetCapability);

        tpm_write_u32(&w, capability);
        tpm_write_u32(&w, property);
        tpm_write_u32(&w, count);
        return end(&m, &w);
}

#define KEYEDHASH_ATTRIBUTES                                                                                           \
        (TPMA_OBJECT_FIXEDTPM | TPMA_OBJECT_FIXEDPARENT | TPMA_OBJECT_SENSITIVEDATAORIGIN | TPMA_OBJECT_USERWITHAUTH | \
         TPMA_OBJECT_NODA | TPMA_OBJECT_SIGN_ENCRYPT)
#define PARENT_ATTRIBUTES                                                                                              \
        (TPMA_OBJECT_FIXEDTPM | TPMA_OBJECT_FIXEDPARENT | TPMA_OBJECT_SENSITIVEDATAORIGIN | TPMA_OBJECT_USERWITHAUTH | \
         TPMA_OBJECT_NODA | TPMA_OBJECT_RESTRICTED | TPMA_OBJECT_DECRYPT)

static void write_sensitive(TpmWriter *writer) {
        tpm_write_u16(writer, 4);
        tpm_write_u16(writer, 0);
        tpm_write_u16(writer, 0);
}

static void write_keyedhash(TpmWriter *writer, const void *unique, size_t n_unique) {
        size_t at = writer->n_bytes;

        tpm_write_u16(writer, 0);
        tpm_write_u16(writer, TPM2_ALG_KEYEDHASH);
        tpm_write_u16(writer, TPM2_ALG_SHA256);
        tpm_write_u32(writer, KEYEDHASH_ATTRIBUTES);
        tpm_write_u16(writer, 0);
        tpm_write_u16(writer, TPM2_ALG_HMAC);
        tpm_write_u16(writer, TPM2_ALG_SHA256);
        write_2b(writer, unique, n_unique);
        close_2b(writer, at);
}

static void write_parent(TpmWriter *writer) {
        size_t at = writer->n_bytes;

        tpm_write_u16(writer, 0);
        tpm_write_u16(writer, TPM2_ALG_ECC);
        tpm_write_u16(writer, TPM2_ALG_SHA256);
        tpm_write_u32(writer, PARENT_ATTRIBUTES);
        tpm_write_u16(writer, 0);
        tpm_write_u16(writer, TPM2_ALG_AES);
        tpm_write_u16(writer, 128);
        tpm_write_u16(writer, TPM2_ALG_CFB);
        tpm_write_u16(writer, TPM2_ALG_NULL);
        tpm_write_u16(writer, TPM2_ECC_NIST_P256);
        tpm_write_u16(writer, TPM2_ALG_NULL);
        tpm_write_u16(writer, 0);
        tpm_write_u16(writer, 0);
        close_2b(writer, at);
}

static TpmWriter begin_create(Message *message, TPM2_CC code, TPM2_HANDLE parent) {
        TpmWriter w = begin(message, TPM2_ST_SESSIONS, code);

        tpm_write_u32(&w, parent);
        write_auths(&w, &PASSWORD, 1);
        write_sensitive(&w);
        return w;
}

static Message end_create(Message *message, TpmWriter *w) {
        tpm_write_u16(w, 0); /* outsideInfo */
        tpm_write_u32(w, 0); /* creationPCR */
        return end(message, w);
}

Message cmd_create_primary(TPM2_HANDLE hierarchy, uint8_t unique) {
        uint8_t bytes[32] = { unique };
        Message m;
        TpmWriter w = begin_create(&m, TPM2_CC_CreatePrimary, hierarchy);

        write_keyedhash(&w, bytes, sizeof(bytes));
        return end_create(&m, &w);
}

Message cmd_create_primary_parent(TPM2_HANDLE hierarchy) {
        Message m;
        TpmWriter w = begin_create(&m, TPM2_CC_CreatePrimary, hierarchy);

        write_parent(&w);
        return end_create(&m, &w);
}

Message cmd_create(TPM2_HANDLE parent) {
        Message m;
        TpmWriter w = begin_create(&m, TPM2_CC_Create, parent);

        write_keyedhash(&w, NULL, 0);
        return end_create(&m, &w);
}

Message cmd_load(TPM2_HANDLE parent, const Message *created) {
        Message m;
        TpmWriter w = begin(&m, TPM2_ST_SESSIONS, TPM2_CC_Load);
        TpmReader r = TPM_READER(created->bytes, created->n);
        const uint8_t *bytes;
        size_t n;

        tpm_write_u32(&w, parent);
        write_auths(&w, &PASSWORD, 1);
        tpm_read_bytes(&r, TPM_HEADER_SIZE + sizeof(uint32_t));
        for (unsigned i = 0; i < 2; i++) { /* outPrivate, outPublic */
                n = tpm_read_u16(&r);
                bytes = tpm_read_bytes(&r, n);
                write_2b(&w, bytes, n);
        }
        return end(&m, &w);
}

Message cmd_start_session(TPM2_SE type) {
        static const uint8_t NONCE[16] = { 1, 2, 3 };
        Message m;
        TpmWriter w = begin(&m, TPM2_ST_NO_SESSIONS, TPM2_CC_StartAuthSession);

        tpm_write_u32(&w, TPM2_RH_NULL);
        tpm_write_u32(&w, TPM2_RH_NULL);
        write_2b(&w, NONCE, sizeof(NONCE));
        tpm_write_u16(&w, 0);
        tpm_write_u8(&w, type);
        tpm_write_u16(&w, TPM2_ALG_NULL);
        tpm_write_u16(&w, TPM2_ALG_SHA256);
        return end(&m, &w);
}

Message cmd_policy_pcr(TPM2_HANDLE session) {
        Message m;
        TpmWriter w = begin(&m, TPM2_ST_NO_SESSIONS, TPM2_CC_PolicyPCR);

        tpm_write_u32(&w, session);
        tpm_write_u16(&w, 0);
        tpm_write_u32(&w, 1);
        tpm_write_u16(&w, TPM2_ALG_SHA256);
        tpm_write_u8(&w, 3);
        tpm_write_bytes(&w, (const uint8_t[]){ 0, 0, 1 }, 3); /* PCR 16 */
        return end(&m, &w);
}

Message cmd_context_load(const uint8_t *context, size_t n) {
        Message m;
        TpmWriter w = begin(&m, TPM2_ST_NO_SESSIONS, TPM2_CC_ContextLoad);

        tpm_write_bytes(&w, context, n);
        return end(&m, &w);
}

Message cmd_hash_start(void) {
        Message m;
        TpmWriter w = begin(&m, TPM2_ST_NO_SESSIONS, TPM2_CC_HashSequenceStart);

        tpm_write_u16(&w, 0);
        tpm_write_u16(&w, TPM2_ALG_SHA256);
        return end(&m, &w);
}

Message cmd_sequence_update(TPM2_HANDLE sequence, const char *text) {
        Message m;
        TpmWriter w = begin(&m, TPM2_ST_SESSIONS, TPM2_CC_SequenceUpdate);

        tpm_write_u32(&w, sequence);
        write_auths(&w, &PASSWORD, 1);
        write_2b(&w, text, strlen(text));
        return end(&m, &w);
}

Message cmd_sequence_complete(TPM2_HANDLE sequence, TPM2_HANDLE hierarchy) {
        Message m;
        TpmWriter w = begin(&m, TPM2_ST_SESSIONS, TPM2_CC_SequenceComplete);

        tpm_write_u32(&w, sequence);
        write_auths(&w, &PASSWORD, 1);
        tpm_write_u16(&w, 0);
        tpm_write_u32(&w, hierarchy);
        return end(&m, &w);
}

Message cmd_hmac(TPM2_HANDLE key, const char *text) {
        Message m;
        TpmWriter w = begin(&m, TPM2_ST_SESSIONS, TPM2_CC_HMAC);

        tpm_write_u32(&w, key);
        write_auths(&w, &PASSWORD, 1);
        write_2b(&w, text, strlen(text));
        tpm_write_u16(&w, TPM2_ALG_NULL);
        return end(&m, &w);
}

Message cmd_sign(TPM2_HANDLE key) {
        static const uint8_t DIGEST[32] = { 1 };
        Message m;
        TpmWriter w = begin(&m, TPM2_ST_SESSIONS, TPM2_CC_Sign);

        tpm_write_u32(&w, key);
        write_auths(&w, &PASSWORD, 1);
        write_2b(&w, DIGEST, sizeof(DIGEST));
        tpm_write_u16(&w, TPM2_ALG_NULL);
        tpm_write_u16(&w, TPM2_ST_HASHCHECK); /* an empty ticket: the key is not restricted */
        tpm_write_u32(&w, TPM2_RH_NULL);
        write_2b(&w, NULL, 0);
        return end(&m, &w);
}

Message cmd_hmac_start(TPM2_HANDLE key) {
        Message m;
        TpmWriter w = begin(&m, TPM2_ST_SESSIONS, TPM2_CC_HMAC_Start);

        tpm_write_u32(&w, key);
        write_auths(&w, &PASSWORD, 1);
        tpm_write_u16(&w, 0);
        tpm_write_u16(&w, TPM2_ALG_NULL);
        return end(&m, &w);
}

Message cmd_event_complete(TPM2_HANDLE pcr, TPM2_HANDLE sequence) {
        const TestAuth passwords[] = { PASSWORD, PASSWORD };
        Message m;
        TpmWriter w = begin(&m, TPM2_ST_SESSIONS, TPM2_CC_EventSequenceComplete);

        tpm_write_u32(&w, pcr);
        tpm_write_u32(&w, sequence);
        write_auths(&w, passwords, 2);
        tpm_write_u16(&w, 0);
        return end(&m, &w);
}

Message cmd_load_external(void) {
        static const uint8_t UNIQUE[32] = { 7 };
        Message m;
        TpmWriter w = begin(&m, TPM2_ST_NO_SESSIONS, TPM2_CC_LoadExternal);
        size_t at;

        tpm_write_u16(&w, 0); /* no sensitive area */
        at = w.n_bytes;
        tpm_write_u16(&w, 0);
        tpm_write_u16(&w, TPM2_ALG_KEYEDHASH);
        tpm_write_u16(&w, TPM2_ALG_SHA256);
        tpm_write_u32(&w, TPMA_OBJECT_USERWITHAUTH | TPMA_OBJECT_SIGN_ENCRYPT);
        tpm_write_u16(&w, 0);
        tpm_write_u16(&w, TPM2_ALG_HMAC);
        tpm_write_u16(&w, TPM2_ALG_SHA256);
        write_2b(&w, UNIQUE, sizeof(UNIQUE));
        close_2b(&w, at);
        tpm_write_u32(&w, TPM2_RH_NULL);
        return end(&m, &w);
}

Message cmd_create_loaded(TPM2_HANDLE parent) {
        Message m;
        TpmWriter w = begin_create(&m, TPM2_CC_CreateLoaded, parent);

        write_keyedhash(&w, NULL, 0);
        return end(&m, &w);
}

Message cmd_evict_control(TPM2_HANDLE object, TPM2_HANDLE persistent) {
        Message m;
        TpmWriter w = begin(&m, TPM2_ST_SESSIONS, TPM2_CC_EvictControl);

        tpm_write_u32(&w, TPM2_RH_OWNER);
        tpm_write_u32(&w, object);
        write_auths(&w, &PASSWORD, 1);
        tpm_write_u32(&w, persistent);
        return end(&m, &w);
}

Message cmd_policy_secret(TPM2_HANDLE session, const TestAuth *auth) {
        Message m;
        TpmWriter w = begin(&m, TPM2_ST_SESSIONS, TPM2_CC_PolicySecret);

        tpm_write_u32(&w, TPM2_RH_ENDORSEMENT);
        tpm_write_u32(&w, session);
        write_auths(&w, auth ? auth : &PASSWORD, 1);
        tpm_write_u16(&w, 0);
        tpm_write_u16(&w, 0);
        tpm_write_u16(&w, 0);
        tpm_write_u32(&w, 0);
        return end(&m, &w);
}

Message cmd_certify(TPM2_HANDLE object, TPM2_HANDLE key) {
        const TestAuth passwords[] = { PASSWORD, PASSWORD };
        Message m;
        TpmWriter w = begin(&m, TPM2_ST_SESSIONS, TPM2_CC_Certify);

        tpm_write_u32(&w, object);
        tpm_write_u32(&w, key);
        write_auths(&w, passwords, 2);
        tpm_write_u16(&w, 0);
        tpm_write_u16(&w, TPM2_ALG_NULL);
        return end(&m, &w);
}

Message cmd_clear(void) {
        Message m;
        TpmWriter w = begin(&m, TPM2_ST_SESSIONS, TPM2_CC_Clear);

        tpm_write_u32(&w, TPM2_RH_LOCKOUT);
        write_auths(&w, &PASSWORD, 1);
        return end(&m, &w);
}

Message cmd_hierarchy_control(TPM2_HANDLE enable, uint8_t state) {
        Message m;
        TpmWriter w = begin(&m, TPM2_ST_SESSIONS, TPM2_CC_HierarchyControl);

        tpm_write_u32(&w, TPM2_RH_PLATFORM);
        write_auths(&w, &PASSWORD, 1);
        tpm_write_u32(&w, enable);
        tpm_write_u8(&w, state);
        return end(&m, &w);
}

uint32_t message_rc(const Message *response) {
        TpmReader r = TPM_READER(response->bytes, response->n);

        tpm_read_bytes(&r, 6);
        return tpm_read_u32(&r);
}

TPM2_HANDLE message_handle(const Message *response) {
        TpmReader r = TPM_READER(response->bytes, response->n);

        tpm_read_bytes(&r, TPM_HEADER_SIZE);
        return tpm_read_u32(&r);
}

unsigned message_handles(const Message *response, TPM2_HANDLE *ret_handles, unsigned size) {
        TpmReader reader = TPM_READER(response->bytes, response->n);
        unsigned n;

        tpm_read_bytes(&reader, TPM_HEADER_SIZE + 5);
        n = tpm_read_u32(&reader);
        for (unsigned i = 0; i < n && i < size; i++)
                ret_handles[i] = tpm_read_u32(&reader);
        return n < size ? n : size;
}
