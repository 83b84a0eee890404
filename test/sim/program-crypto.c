/* SPDX-License-Identifier: BSD-2-Clause */
#include "program.h"

#include <glib.h>
#include <string.h>

uint64_t hash_bytes(uint64_t hash, const void *bytes, size_t n) {
        for (size_t i = 0; i < n; i++)
                hash = (hash ^ ((const uint8_t *)bytes)[i]) * 0x100000001B3;
        return hash;
}

void sha256(uint8_t *ret_digest, const void *a, size_t n_a, const void *b, size_t n_b) {
        GChecksum *checksum = g_checksum_new(G_CHECKSUM_SHA256);
        gsize n = DIGEST_SIZE;

        g_checksum_update(checksum, a, (gssize)n_a);
        g_checksum_update(checksum, b, (gssize)n_b);
        g_checksum_get_digest(checksum, ret_digest, &n);
        g_checksum_free(checksum);
}

void hmac256(uint8_t *ret_digest, const uint8_t *key, size_t n_key, const void *a, size_t n_a) {
        GHmac *hmac = g_hmac_new(G_CHECKSUM_SHA256, key, n_key);
        gsize n = DIGEST_SIZE;

        g_hmac_update(hmac, a, (gssize)n_a);
        g_hmac_get_digest(hmac, ret_digest, &n);
        g_hmac_unref(hmac);
}

size_t program_auth_value(uint8_t number, uint8_t *ret_value) {
        if (number == 0)
                return 0;
        memset(ret_value, 'a' + number % 26, 8);
        return 8;
}

void program_session_key(ProgramSession *session, const uint8_t *auth, size_t n_auth, const uint8_t *caller) {
        uint8_t bytes[64];
        TpmWriter writer = TPM_WRITER(bytes, sizeof(bytes));

        /* KDFa (Part 1, section 11.4.10.2): one round gives all 256 bits. */
        tpm_write_u32(&writer, 1);
        tpm_write_bytes(&writer, (const uint8_t *)"ATH", 4);
        tpm_write_bytes(&writer, session->nonce, sizeof(session->nonce));
        tpm_write_bytes(&writer, caller, sizeof(session->nonce));
        tpm_write_u32(&writer, 8 * DIGEST_SIZE);
        hmac256(session->key, auth, n_auth, bytes, writer.n_bytes);
        session->n_key = DIGEST_SIZE;
}

void program_key(const ProgramSession *session, ProgramAuth *auth) {
        const ProgramObject *entity = auth->entity;
        bool policy = session->type == TPM2_SE_POLICY;
        bool with_auth = !policy || session->with_auth;

        memcpy(auth->key, session->key, session->n_key);
        auth->n_key = session->n_key;
        if (!policy && entity && session->bound && memcmp(session->bound_name, entity->name, NAME_SIZE) == 0)
                with_auth = false;
        if (with_auth && entity)
                auth->n_key += program_auth_value(entity->auth, auth->key + auth->n_key);
}

void program_hmac(const ProgramSession *session, const ProgramAuth *auth, const uint8_t *hash, bool command,
                  uint8_t *ret_hmac) {
        uint8_t bytes[DIGEST_SIZE + 33];
        uint8_t *newer = bytes + DIGEST_SIZE;

        memcpy(bytes, hash, DIGEST_SIZE);
        memcpy(newer, command ? auth->nonce : session->nonce, 16);
        memcpy(newer + 16, command ? session->nonce : auth->nonce, 16);
        bytes[DIGEST_SIZE + 32] = auth->attributes;
        hmac256(ret_hmac, auth->key, auth->n_key, bytes, sizeof(bytes));
}
