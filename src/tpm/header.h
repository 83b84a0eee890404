/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef TPM_HEADER_H
#define TPM_HEADER_H

#include "tpm/reader.h"

/* What every command and response begins with (Part 1, section 18). */
typedef struct TpmHeader {
        uint16_t tag;
        uint32_t size; /* of the whole message, header included */
        uint32_t code; /* TPM2_CC of a command, TSS2_RC of a response */
} TpmHeader;

static inline TpmHeader tpm_read_header(TpmReader *reader) {
        TpmHeader header;

        header.tag = tpm_read_u16(reader);
        header.size = tpm_read_u32(reader);
        header.code = tpm_read_u32(reader);
        return header;
}

#endif
