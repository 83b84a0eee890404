/* SPDX-License-Identifier: BSD-2-Clause */
#include "manager/redact.h"

#include "tpm/command.h"

#include <string.h>

static void blank(TpmReader *reader, uint8_t *bytes, size_t n) {
        size_t at = reader->at;

        if (tpm_read_bytes(reader, n))
                memset(bytes + at, 0, n);
}

/* A nonce, or what proves the authorization. */
static void blank_field(TpmReader *reader, uint8_t *bytes) {
        blank(reader, bytes, tpm_read_u16(reader));
}

static void blank_from(size_t at, uint8_t *bytes, size_t n_bytes) {
        if (at < n_bytes)
                memset(bytes + at, 0, n_bytes - at);
}

/* Without a whole header there is nothing to keep. */
static void keep_header(uint8_t *bytes, size_t n_bytes) {
        blank_from(n_bytes < TPM_HEADER_SIZE ? 0 : TPM_HEADER_SIZE, bytes, n_bytes);
}

/* What stands where a session should, and is none, may be part of a password whose size is wrong. */
static bool is_clear(const TpmCommand *command) {
        for (unsigned i = 0; i < command->n_auths; i++)
                if (command->auths[i].session != TPM2_RS_PW && !tpm_handle_is_session(command->auths[i].session))
                        return false;
        return command->known && command->handles_whole && command->auths_whole;
}

/* The one parameter of FlushContext is a handle, too. */
static bool ends_in_handle(const TpmCommand *command, const TpmReader *reader) {
        return command->info.kind == TPM_COMMAND_FLUSH_CONTEXT && tpm_reader_left(reader) == sizeof(TPM2_HANDLE);
}

void redact_command(const TpmCommand *command, uint8_t *bytes, size_t n_bytes) {
        TpmReader reader = TPM_READER(bytes, n_bytes);

        if (!is_clear(command)) {
                keep_header(bytes, n_bytes);
                return;
        }
        tpm_read_bytes(&reader, tpm_handle_offset(command->n_handles));
        if (command->header.tag == TPM2_ST_SESSIONS)
                tpm_read_u32(&reader);
        for (unsigned i = 0; i < command->n_auths; i++) {
                tpm_read_u32(&reader);
                blank_field(&reader, bytes);
                tpm_read_u8(&reader);
                blank_field(&reader, bytes);
        }
        if (reader.bad)
                keep_header(bytes, n_bytes);
        else if (!ends_in_handle(command, &reader))
                blank_from(reader.at, bytes, n_bytes);
}

void redact_response(const TpmCommand *command, uint8_t *bytes, size_t n_bytes) {
        TpmReader reader = TPM_READER(bytes, n_bytes);
        TpmResponse response;

        if (!is_clear(command) || !tpm_response_parse(command, bytes, n_bytes, &response) ||
            response.header.code != TPM2_RC_SUCCESS) {
                keep_header(bytes, n_bytes);
                return;
        }
        tpm_read_bytes(&reader, response.parameters);
        blank(&reader, bytes, response.n_parameters);
        for (unsigned i = 0; i < response.n_auths; i++) {
                blank_field(&reader, bytes);
                tpm_read_u8(&reader);
                blank_field(&reader, bytes);
        }
        if (!tpm_reader_done(&reader))
                keep_header(bytes, n_bytes);
}
