/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef TEST_TPM_COMMANDS_H
#define TEST_TPM_COMMANDS_H

#include "tpm/header.h"
#include "tpm/reader.h"
#include "tpm/writer.h"

#include <tss2/tss2_tpm2_types.h>

/* TPM commands for tests, built byte by byte; each function writes one whole command and returns its size. */
typedef struct Message {
        uint8_t bytes[TPM_MESSAGE_MAX];
        size_t n;
} Message;

typedef struct TestAuth {
        TPM2_HANDLE session;
        uint8_t attributes;
} TestAuth;

Message cmd_simple(TPM2_CC code);                          /* a header alone: with a response code, an answer */
Message cmd_with_handle(TPM2_CC code, TPM2_HANDLE handle); /* FlushContext, ContextSave, ReadPublic, PolicyGetDigest */
Message cmd_startup(TPM2_SU type);
Message cmd_get_random(uint16_t n);
Message cmd_get_random_auth(uint16_t n, const TestAuth *auths, unsigned n_auths);
Message cmd_get_capability(TPM2_CAP capability, uint32_t property, uint32_t count);
Message cmd_create_primary(TPM2_HANDLE hierarchy, uint8_t unique); /* a keyedhash object: cheap, differs by unique */
Message cmd_create_primary_parent(TPM2_HANDLE hierarchy);          /* an ECC storage key */
Message cmd_create(TPM2_HANDLE parent);                            /* a keyedhash child */
Message cmd_load(TPM2_HANDLE parent, const Message *created);      /* from the response of cmd_create() */
Message cmd_start_session(TPM2_SE type);
Message cmd_policy_pcr(TPM2_HANDLE session);
Message cmd_context_load(const uint8_t *context, size_t n);
Message cmd_hash_start(void);
Message cmd_sequence_update(TPM2_HANDLE sequence, const char *text);
Message cmd_sequence_complete(TPM2_HANDLE sequence, TPM2_HANDLE hierarchy);
Message cmd_hmac(TPM2_HANDLE key, const char *text);
Message cmd_sign(TPM2_HANDLE key);
Message cmd_hmac_start(TPM2_HANDLE key);
Message cmd_event_complete(TPM2_HANDLE pcr, TPM2_HANDLE sequence);
Message cmd_load_external(void);               /* a keyedhash public area */
Message cmd_create_loaded(TPM2_HANDLE parent); /* a keyedhash child */
Message cmd_evict_control(TPM2_HANDLE object, TPM2_HANDLE persistent);
Message cmd_policy_secret(TPM2_HANDLE session, const TestAuth *auth); /* of the endorsement hierarchy */
Message cmd_certify(TPM2_HANDLE object, TPM2_HANDLE key);
Message cmd_clear(void);                                          /* by lockout */
Message cmd_hierarchy_control(TPM2_HANDLE enable, uint8_t state); /* by platform */

uint32_t message_rc(const Message *response);
TPM2_HANDLE message_handle(const Message *response);

/* The handles that GetCapability listed, at most `size`. Return: how many */
unsigned message_handles(const Message *response, TPM2_HANDLE *ret_handles, unsigned size);

#endif
