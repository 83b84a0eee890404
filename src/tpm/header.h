/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef TPM_HEADER_H
#define TPM_HEADER_H

#include "tpm/reader.h"

#define TPM_HEADER_SIZE 10    /* tag u16 | size u32 | command or response code u32, big endian (Part 1, section 18) */
#define TPM_MESSAGE_MAX 16384 /* the largest command or response that is ever believed */
#define TPM_MESSAGE_DEFAULT 4096 /* ... until TPM_PT_MAX_COMMAND_SIZE and TPM_PT_MAX_RESPONSE_SIZE are known */

/* Codes that the resource manager makes itself: TPM format, in layer 11 (TSS2_RESMGR_RC_LAYER). */
#define RM_RC_LAYER (11u << 16)
#define RM_RC(rc) (RM_RC_LAYER | (rc))
#define RM_RC_NOT_IMPLEMENTED RM_RC(0x0002) /* the lower layer cannot do it */

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
