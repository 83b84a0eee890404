/* SPDX-License-Identifier: BSD-2-Clause */
#include "frontend/stream-message.h"

#include "broker/broker.h"
#include "tpm/reader.h"
#include "tpm/writer.h"

#define SIZE_AT 2 /* where a header has its size */
#define SIZE_END 6

bool stream_message_may_begin(const uint8_t *header, size_t n_header, uint32_t max_command) {
        uint32_t size = 0;

        for (size_t i = SIZE_AT; i < SIZE_END; i++)
                size = size << 8 | (i < n_header ? header[i] : 0);
        return (size >= TPM_HEADER_SIZE || n_header < SIZE_END) && size <= max_command;
}

static TSS2_RC code_for(TSS2_RC rc, bool layers) {
        if (layers || (rc & TSS2_RC_LAYER_MASK) != RM_RC_LAYER)
                return rc;
        return rc == RM_RC_NOT_IMPLEMENTED ? TPM2_RC_COMMAND_CODE : rc & ~TSS2_RC_LAYER_MASK;
}

static size_t write_greeting(uint8_t *answer) {
        TpmWriter writer = TPM_WRITER(answer, TPM_STREAM_HELLO_SIZE);

        tpm_write_begin(&writer, TPM2_ST_NO_SESSIONS, TSS2_RC_SUCCESS);
        tpm_write_u32(&writer, TPM_STREAM_LAYERS);
        return tpm_write_end(&writer);
}

size_t stream_message_answer(uint8_t answer[static STREAM_ANSWER_MAX], const uint8_t *bytes, size_t n_bytes,
                             bool layers, bool greets) {
        TpmReader reader = TPM_READER(bytes, n_bytes);
        TpmHeader header = tpm_read_header(&reader);
        size_t n_greeting = greets ? write_greeting(answer) : 0;
        TpmWriter writer = TPM_WRITER(answer + n_greeting, TPM_MESSAGE_MAX);

        if (n_bytes == TPM_HEADER_SIZE) {
                tpm_write_begin(&writer, header.tag, code_for(header.code, layers));
                tpm_write_end(&writer);
        } else if (greets) {
                tpm_write_bytes(&writer, bytes, n_bytes);
        } else {
                return 0;
        }
        return n_greeting + n_bytes;
}
