/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef TPM_RESPONSE_H
#define TPM_RESPONSE_H

#include "tpm/command.h"

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

#endif
