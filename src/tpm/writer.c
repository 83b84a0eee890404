/* SPDX-License-Identifier: BSD-2-Clause */
#include "tpm/writer.h"

#include <string.h>

#define SIZE_OFFSET 2 /* of the size in a header */

void tpm_write_bytes(TpmWriter *writer, const uint8_t *bytes, size_t n) {
        if (writer->bad || writer->size - writer->n_bytes < n) {
                writer->bad = true;
                return;
        }
        if (n > 0)
                memcpy(writer->bytes + writer->n_bytes, bytes, n);
        writer->n_bytes += n;
}

static void write_number(TpmWriter *writer, uint64_t value, size_t n) {
        uint8_t bytes[sizeof(value)];

        for (size_t i = 0; i < n; i++)
                bytes[i] = value >> 8 * (n - 1 - i);
        tpm_write_bytes(writer, bytes, n);
}

void tpm_write_u8(TpmWriter *writer, uint8_t value) {
        write_number(writer, value, sizeof(value));
}

void tpm_write_u16(TpmWriter *writer, uint16_t value) {
        write_number(writer, value, sizeof(value));
}

void tpm_write_u32(TpmWriter *writer, uint32_t value) {
        write_number(writer, value, sizeof(value));
}

void tpm_write_u64(TpmWriter *writer, uint64_t value) {
        write_number(writer, value, sizeof(value));
}

void tpm_write_begin(TpmWriter *writer, uint16_t tag, uint32_t code) {
        tpm_write_u16(writer, tag);
        tpm_write_u32(writer, 0);
        tpm_write_u32(writer, code);
}

size_t tpm_write_end(TpmWriter *writer) {
        if (writer->bad)
                return 0;
        tpm_put_u32(writer->bytes + SIZE_OFFSET, writer->n_bytes);
        return writer->n_bytes;
}

void tpm_put_u32(uint8_t *at, uint32_t value) {
        for (size_t i = 0; i < sizeof(value); i++)
                at[i] = value >> 8 * (sizeof(value) - 1 - i);
}
