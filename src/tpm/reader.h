/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef TPM_READER_H
#define TPM_READER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * Reader
 *
 * Takes big-endian numbers from a range of bytes. Reading past the end yields zeros and marks the reader bad for good,
 * so that a message can be read straight through and asked about once, at the end.
 */
typedef struct TpmReader {
        const uint8_t *bytes;
        size_t n_bytes;
        size_t at; /* offset of what is read next */
        bool bad;
} TpmReader;

#define TPM_READER(b, n) ((TpmReader){ .bytes = (b), .n_bytes = (n) })

uint8_t tpm_read_u8(TpmReader *reader);
uint16_t tpm_read_u16(TpmReader *reader);
uint32_t tpm_read_u32(TpmReader *reader);
uint64_t tpm_read_u64(TpmReader *reader);

/* Return: the next n bytes, borrowed, or NULL when there are fewer. */
const uint8_t *tpm_read_bytes(TpmReader *reader, size_t n);

static inline size_t tpm_reader_left(const TpmReader *reader) {
        return reader->n_bytes - reader->at;
}

/* Read whole, and nothing behind it. */
static inline bool tpm_reader_done(const TpmReader *reader) {
        return !reader->bad && tpm_reader_left(reader) == 0;
}

#endif
