/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef TPM_COMMAND_H
#define TPM_COMMAND_H

#include "tpm/command-table.h"
#include "tpm/header.h"

#include <tss2/tss2_tpm2_types.h>

#define TPM_HANDLES_MAX 7  /* what TPMA_CC has room for */
#define TPM_SESSIONS_MAX 3 /* Part 1, section 18.6.2 */

/* The range of transient handles; the header's own macros shift into the sign bit. */
#define TPM_TRANSIENT_FIRST 0x80000000u
#define TPM_TRANSIENT_LAST 0x80FFFFFEu

/* One authorization of a command or response; the secrets stay where they are. */
typedef struct TpmAuth {
        TPM2_HANDLE session; /* commands only */
        size_t at;           /* its offset; commands only */
        TPMA_SESSION attributes;
} TpmAuth;

/*
 * A command, parsed as far as handles and authorizations go (Part 3, section 5). It holds offsets instead of pointers
 * and says where parsing ended, since the TPM refuses a malformed command itself, by the code that is right for it.
 */
typedef struct TpmCommand {
        TpmHeader header;
        TpmCommandInfo info;
        bool known;         /* the TPM lists the command code, and the tag is one of a command */
        bool handles_whole; /* the handle area is complete */
        bool auths_whole;   /* so is the authorization area, or there is none */
        unsigned n_handles;
        TPM2_HANDLE handles[TPM_HANDLES_MAX];
        unsigned n_auths;
        TpmAuth auths[TPM_SESSIONS_MAX];
        size_t parameters; /* offset of the parameters; meaningless unless both areas are whole */
} TpmCommand;

TpmCommand tpm_command_parse(TpmCommandTable *table, const uint8_t *bytes, size_t n_bytes);

/* A response, parsed as far as its handle and authorizations go (Part 3, section 6). */
typedef struct TpmResponse {
        TpmHeader header;
        TPM2_HANDLE handle; /* 0: none */
        unsigned n_auths;
        TpmAuth auths[TPM_SESSIONS_MAX]; /* in the order of the command's */
        size_t parameters;               /* their offset */
        size_t n_parameters;
} TpmResponse;

/*
 * Parse the answer to @command. Return: false when it cannot be one: not as long as it says, a failure with a body, or
 * areas that do not fit.
 */
bool tpm_response_parse(const TpmCommand *command, const uint8_t *bytes, size_t n_bytes, TpmResponse *ret_response);

/*
 * The Name (Part 1, section 16) of the object that a response returns. Return: its size in bytes, at most @size; 0: the
 * response does not tell, or a session encrypts it.
 */
size_t tpm_response_name(const TpmCommand *command, const TpmResponse *response, const uint8_t *bytes,
                         uint8_t *ret_name, size_t size);

/* Offset of handle i in a command; the one handle of a response stands at the same place as handle 0. */
static inline size_t tpm_handle_offset(unsigned i) {
        return TPM_HEADER_SIZE + i * sizeof(TPM2_HANDLE);
}

static inline bool tpm_handle_is_session(TPM2_HANDLE handle) {
        return handle >> TPM2_HR_SHIFT == TPM2_HT_HMAC_SESSION || handle >> TPM2_HR_SHIFT == TPM2_HT_POLICY_SESSION;
}

static inline bool tpm_handle_is_transient(TPM2_HANDLE handle) {
        return handle >> TPM2_HR_SHIFT == TPM2_HT_TRANSIENT;
}

static inline bool tpm_handle_is_persistent(TPM2_HANDLE handle) {
        return handle >> TPM2_HR_SHIFT == TPM2_HT_PERSISTENT;
}

#endif
