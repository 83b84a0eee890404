/* SPDX-License-Identifier: BSD-2-Clause */
#include "tpm/reader.h"

const uint8_t *tpm_read_bytes(TpmReader *reader, size_t n) {
        const uint8_t *bytes;

        if (reader->bad || tpm_reader_left(reader) < n) {
                reader->bad = true;
                return NULL;
        }
        bytes = reader->bytes + reader->at;
        reader->at += n;
        return bytes;
}

static uint64_t read_number(TpmReader *reader, size_t n) {
        const uint8_t *bytes = tpm_read_bytes(reader, n);
        uint64_t number = 0;

        for (size_t i = 0; bytes && i < n; i++)
                number = number << 8 | bytes[i];
        return number;
}

uint8_t tpm_read_u8(TpmReader *reader) {
        return read_number(reader, sizeof(uint8_t));
}

uint16_t tpm_read_u16(TpmReader *reader) {
        return read_number(reader, sizeof(uint16_t));
}

uint32_t tpm_read_u32(TpmReader *reader) {
        return read_number(reader, sizeof(uint32_t));
}

uint64_t tpm_read_u64(TpmReader *reader) {
        return read_number(reader, sizeof(uint64_t));
}
