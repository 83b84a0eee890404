/* SPDX-License-Identifier: BSD-2-Clause */
#include "tpm/command.h"

#include <string.h>

#define NONCE_MAX sizeof(TPMU_HA) /* largest nonce and HMAC, in bytes */
#define AUTH_MIN 9                /* handle, empty nonce, attributes, empty HMAC */

static void parse_handles(TpmCommand *command, TpmReader *reader) {
        unsigned n_handles = (command->info.attributes & TPMA_CC_CHANDLES_MASK) >> TPMA_CC_CHANDLES_SHIFT;

        while (command->n_handles < n_handles) {
                TPM2_HANDLE handle = tpm_read_u32(reader);

                if (reader->bad)
                        return;
                command->handles[command->n_handles++] = handle;
        }
        command->handles_whole = true;
}

static bool parse_auth(TpmReader *area, size_t area_at, TpmAuth *ret_auth) {
        TpmAuth auth = { .at = area_at + area->at };
        uint16_t n;

        auth.session = tpm_read_u32(area);
        n = tpm_read_u16(area);
        if (n > NONCE_MAX)
                return false;
        tpm_read_bytes(area, n);
        auth.attributes = tpm_read_u8(area);
        n = tpm_read_u16(area);
        if (n > NONCE_MAX)
                return false;
        tpm_read_bytes(area, n);
        if (area->bad)
                return false;
        *ret_auth = auth;
        return true;
}

static void parse_auths(TpmCommand *command, TpmReader *reader) {
        uint32_t size = tpm_read_u32(reader);
        const uint8_t *bytes = tpm_read_bytes(reader, size);
        TpmReader area = TPM_READER(bytes, size);

        if (!bytes || size < AUTH_MIN)
                return;
        while (tpm_reader_left(&area) > 0) {
                if (command->n_auths == TPM_SESSIONS_MAX ||
                    !parse_auth(&area, reader->at - size, &command->auths[command->n_auths]))
                        return;
                command->n_auths++;
        }
        command->auths_whole = true;
}

TpmCommand tpm_command_parse(TpmCommandTable *table, const uint8_t *bytes, size_t n_bytes) {
        TpmReader reader = TPM_READER(bytes, n_bytes);
        TpmCommand command = { .header = tpm_read_header(&reader) };
        TpmCommandInfo *info = tpm_command_table_find(table, command.header.code);

        if (!info || (command.header.tag != TPM2_ST_SESSIONS && command.header.tag != TPM2_ST_NO_SESSIONS))
                return command;
        command.known = true;
        command.info = *info;

        parse_handles(&command, &reader);
        if (!command.handles_whole)
                return command;
        if (command.header.tag == TPM2_ST_SESSIONS)
                parse_auths(&command, &reader);
        else
                command.auths_whole = true;
        command.parameters = reader.at;
        return command;
}

static bool parse_response_auths(TpmResponse *response, TpmReader *reader, unsigned n_auths) {
        while (response->n_auths < n_auths) {
                TpmAuth *auth = &response->auths[response->n_auths++];

                tpm_read_bytes(reader, tpm_read_u16(reader));
                auth->attributes = tpm_read_u8(reader);
                tpm_read_bytes(reader, tpm_read_u16(reader));
        }
        return tpm_reader_done(reader);
}

bool tpm_response_parse(const TpmCommand *command, const uint8_t *bytes, size_t n_bytes, TpmResponse *ret_response) {
        TpmReader reader = TPM_READER(bytes, n_bytes);
        TpmResponse response = { .header = tpm_read_header(&reader) };

        if (reader.bad || response.header.size != n_bytes)
                return false;
        if (response.header.code != TPM2_RC_SUCCESS) {
                *ret_response = response;
                return n_bytes == TPM_HEADER_SIZE;
        }
        if (response.header.tag != command->header.tag)
                return false;

        if (command->info.attributes & TPMA_CC_RHANDLE)
                response.handle = tpm_read_u32(&reader);
        response.n_parameters =
                response.header.tag == TPM2_ST_SESSIONS ? tpm_read_u32(&reader) : tpm_reader_left(&reader);
        response.parameters = reader.at;
        tpm_read_bytes(&reader, response.n_parameters);
        if (!parse_response_auths(&response, &reader, response.header.tag == TPM2_ST_SESSIONS ? command->n_auths : 0))
                return false;
        *ret_response = response;
        return true;
}

/* Where the Name stands: behind so many sized buffers, and perhaps behind a ticket, whose last field is a buffer, too.
 */
static const struct NamePlace {
        TPM2_CC code;
        unsigned n_buffers;
        bool ticket;
} NAME_PLACES[] = {
        { TPM2_CC_Load, 0, false },         { TPM2_CC_LoadExternal, 0, false }, { TPM2_CC_CreateLoaded, 2, false },
        { TPM2_CC_CreatePrimary, 3, true }, { TPM2_CC_ReadPublic, 1, false },
};

static void skip_buffer(TpmReader *reader) {
        tpm_read_bytes(reader, tpm_read_u16(reader));
}

static size_t read_name(const struct NamePlace *place, TpmReader *reader, uint8_t *ret_name, size_t size) {
        const uint8_t *name;
        size_t n;

        for (unsigned i = 0; i < place->n_buffers; i++)
                skip_buffer(reader);
        if (place->ticket) {
                tpm_read_bytes(reader, sizeof(TPM2_ST) + sizeof(TPMI_RH_HIERARCHY));
                skip_buffer(reader);
        }
        n = tpm_read_u16(reader);
        name = tpm_read_bytes(reader, n);
        if (!name || n > size)
                return 0;
        memcpy(ret_name, name, n);
        return n;
}

size_t tpm_response_name(const TpmCommand *command, const TpmResponse *response, const uint8_t *bytes,
                         uint8_t *ret_name, size_t size) {
        bool encrypted = false;

        for (unsigned k = 0; k < response->n_auths; k++)
                encrypted |= (response->auths[k].attributes & TPMA_SESSION_ENCRYPT) != 0;
        for (size_t i = 0; i < sizeof(NAME_PLACES) / sizeof(NAME_PLACES[0]); i++) {
                const struct NamePlace *place = &NAME_PLACES[i];
                TpmReader reader = TPM_READER(bytes + response->parameters, response->n_parameters);

                /* Only the first parameter is encrypted, and not its size. */
                if (place->code == command->header.code && (!encrypted || place->n_buffers > 0))
                        return read_name(place, &reader, ret_name, size);
        }
        return 0;
}
