/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef TPM_WRITER_H
#define TPM_WRITER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * Writer
 *
 * Appends big-endian numbers to a buffer of fixed size. What does not fit is not written and marks the writer bad for
 * good.
 */
typedef struct TpmWriter {
        uint8_t *bytes;
        size_t size;
        size_t n_bytes;
        bool bad;
} TpmWriter;

#define TPM_WRITER(b, s) ((TpmWriter){ .bytes = (b), .size = (s) })

void tpm_write_u8(TpmWriter *writer, uint8_t value);
void tpm_write_u16(TpmWriter *writer, uint16_t value);
void tpm_write_u32(TpmWriter *writer, uint32_t value);
void tpm_write_u64(TpmWriter *writer, uint64_t value);
void tpm_write_bytes(TpmWriter *writer, const uint8_t *bytes, size_t n);

/* A header whose size is put right by tpm_write_end(). */
void tpm_write_begin(TpmWriter *writer, uint16_t tag, uint32_t code);

/* Return: the size of the message, or 0: it did not fit. */
size_t tpm_write_end(TpmWriter *writer);

/* Put a number into bytes that are there already. */
void tpm_put_u32(uint8_t *at, uint32_t value);

#endif
