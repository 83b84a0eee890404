/* SPDX-License-Identifier: BSD-2-Clause */
#include "tpm/response.h"

static bool parse_auths(TpmResponse *response, TpmReader *reader, unsigned n_auths) {
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
        if (!parse_auths(&response, &reader, response.header.tag == TPM2_ST_SESSIONS ? command->n_auths : 0))
                return false;
        *ret_response = response;
        return true;
}
