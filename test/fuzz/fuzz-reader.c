/* SPDX-License-Identifier: BSD-2-Clause */
#include "fuzz.h"

#include "manager/redact.h"
#include "tpm/command.h"
#include "tpm/context.h"
#include "tpm/writer.h"

/*
 * Everything of tpm/ that reads bytes, on any bytes: a command table, a command, an answer to it, a context. What it
 * hands out must lie within what it was given, and be what stands there.
 *
 * Input: entries of the table u8, the table; size of the command u16, the command; what is left is an answer.
 */
#define ENTRIES_MAX 64

static TpmCommandTable table;

static void check_table(void) {
        DEMAND(table.n_commands <= TPM_COMMANDS_MAX);
        for (uint32_t i = 0; i < table.n_commands; i++) {
                TPM2_CC code = tpm_command_code(table.commands[i].attributes);

                DEMAND(i == 0 || code > tpm_command_code(table.commands[i - 1].attributes));
                DEMAND(tpm_command_table_find(&table, code) == &table.commands[i]);
        }
}

static void make_table(Input *input) {
        uint8_t bytes[4 * ENTRIES_MAX];
        unsigned n = input_u8(input) % (ENTRIES_MAX + 1);
        TpmReader reader = TPM_READER(bytes, input_bytes(input, bytes, 4 * n));

        table.n_commands = 0;
        tpm_command_table_add(&table, &reader, n + (n & 1)); /* the count may be a lie */
        check_table();
}

static uint32_t u32_at(const uint8_t *bytes, size_t n, size_t at) {
        TpmReader reader = TPM_READER(bytes, n);

        DEMAND(at <= n && n - at >= 4);
        DEMAND(at == 0 || tpm_read_bytes(&reader, at));
        return tpm_read_u32(&reader);
}

static void check_command(const TpmCommand *command, const uint8_t *bytes, size_t n) {
        DEMAND(command->n_handles <= TPM_HANDLES_MAX && command->n_auths <= TPM_SESSIONS_MAX);
        for (unsigned i = 0; i < command->n_handles; i++)
                DEMAND(u32_at(bytes, n, tpm_handle_offset(i)) == command->handles[i]);
        for (unsigned i = 0; i < command->n_auths; i++)
                DEMAND(u32_at(bytes, n, command->auths[i].at) == command->auths[i].session);
        DEMAND(!command->auths_whole || command->handles_whole || !command->known);
        /* Nobody asks about less than a header. */
        if (n >= TPM_HEADER_SIZE && command->known && command->handles_whole && command->auths_whole)
                DEMAND(command->parameters <= n && command->parameters >= tpm_handle_offset(command->n_handles));
}

static void check_response(const TpmCommand *command, const uint8_t *bytes, size_t n) {
        TpmResponse response;

        if (!tpm_response_parse(command, bytes, n, &response))
                return;
        DEMAND(response.header.size == n);
        DEMAND(response.header.code == TPM2_RC_SUCCESS || n == TPM_HEADER_SIZE);
        DEMAND(response.n_auths <= TPM_SESSIONS_MAX);
        DEMAND(response.parameters <= n && response.n_parameters <= n - response.parameters);
        if (response.handle)
                DEMAND(u32_at(bytes, n, TPM_HEADER_SIZE) == response.handle);
}

static void check_context(const uint8_t *bytes, size_t n) {
        uint8_t again[16];
        TpmWriter writer = TPM_WRITER(again, sizeof(again));
        TpmContext context;

        if (!tpm_context_parse(bytes, n, &context))
                return;
        tpm_write_u64(&writer, context.sequence);
        tpm_write_u32(&writer, context.saved_handle);
        tpm_write_u32(&writer, context.hierarchy);
        DEMAND(n >= 18 && memcmp(again, bytes, sizeof(again)) == 0);
        DEMAND((size_t)(bytes[16] << 8 | bytes[17]) == n - 18);
}

/* What is left of a message is what was there, and no more of it than handles, sessions and sizes. */
static void check_redacted(const TpmCommand *command, const uint8_t *bytes, size_t n,
                           void (*redact)(const TpmCommand *command, uint8_t *bytes, size_t n_bytes)) {
        uint8_t *copy = malloc(n + 1);
        size_t n_left = 0;

        DEMAND(copy);
        memcpy(copy, bytes, n);
        redact(command, copy, n);
        DEMAND(n < TPM_HEADER_SIZE || memcmp(copy, bytes, TPM_HEADER_SIZE) == 0);
        for (size_t i = 0; i < n; i++)
                DEMAND(copy[i] == bytes[i] || copy[i] == 0);
        for (size_t i = n < TPM_HEADER_SIZE ? 0 : TPM_HEADER_SIZE; i < n; i++)
                n_left += copy[i] != 0;
        DEMAND(n_left <= 4 * (command->n_handles + 1) + 4 + 9 * command->n_auths);
        free(copy);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n_bytes) {
        Input input = { bytes, n_bytes, 0 };
        const uint8_t *rest;
        TpmCommand command;
        size_t n;

        make_table(&input);
        n = (size_t)input_u8(&input) << 8;
        n |= input_u8(&input);
        rest = bytes + input.at;
        if (n > n_bytes - input.at)
                n = n_bytes - input.at;
        command = tpm_command_parse(&table, rest, n);
        check_command(&command, rest, n);
        check_redacted(&command, rest, n, redact_command);
        check_context(rest, n);
        check_response(&command, rest + n, n_bytes - input.at - n);
        check_redacted(&command, rest + n, n_bytes - input.at - n, redact_response);
        check_context(rest + n, n_bytes - input.at - n);
        return 0;
}
