/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef MANAGER_REDACT_H
#define MANAGER_REDACT_H

#include "tpm/command.h"

/*
 * Take the secrets out of a command or response that is to be shown: what stays is header, handles, of each
 * authorization the session, its attributes and the sizes of its fields, and the sizes of areas. All else becomes zero,
 * parameters first of all, since those may be what was unsealed, decrypted, or read; but for that of FlushContext,
 * which is a handle. What cannot be parsed keeps its header alone.
 *
 * @command: what tpm_command_parse() made of these bytes
 */
void redact_command(const TpmCommand *command, uint8_t *bytes, size_t n_bytes);

/* @command: what this is the response to. */
void redact_response(const TpmCommand *command, uint8_t *bytes, size_t n_bytes);

#endif
