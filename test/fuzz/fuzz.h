/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef FUZZ_FUZZ_H
#define FUZZ_FUZZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What libFuzzer, or replay.c, calls. */
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n_bytes);

/* A fault was found: here, and here only, a program ends itself. */
#define DEMAND(condition)                                                                                              \
        do {                                                                                                           \
                if (!(condition)) {                                                                                    \
                        fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition);                        \
                        abort();                                                                                       \
                }                                                                                                      \
        } while (0)

/* The input, taken byte by byte; zeros when it is used up. */
typedef struct Input {
        const uint8_t *bytes;
        size_t n, at;
} Input;

static inline bool input_left(const Input *input) {
        return input->at < input->n;
}

static inline uint8_t input_u8(Input *input) {
        return input_left(input) ? input->bytes[input->at++] : 0;
}

static inline uint32_t input_u32(Input *input) {
        uint32_t value = 0;

        for (unsigned i = 0; i < 4; i++)
                value = value << 8 | input_u8(input);
        return value;
}

/* Return: how many of @n bytes there were. */
static inline size_t input_bytes(Input *input, uint8_t *to, size_t n) {
        if (n > input->n - input->at)
                n = input->n - input->at;
        memcpy(to, input->bytes + input->at, n);
        input->at += n;
        return n;
}

#endif
