/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef SIM_RANDOM_H
#define SIM_RANDOM_H

#include <stdint.h>

/* Numbers that follow from a seed. */
typedef struct Random {
        uint64_t state;
} Random;

static inline uint64_t random_next(Random *random) {
        uint64_t x = random->state += 0x9E3779B97F4A7C15;

        x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9;
        x = (x ^ x >> 27) * 0x94D049BB133111EB;
        return x ^ x >> 31;
}

/* 0 <= result < n */
static inline unsigned random_below(Random *random, unsigned n) {
        return n > 1 ? (unsigned)(random_next(random) >> 33) % n : 0;
}

/* From here on, what OpenSSL, and so libtpms, draws follows from @seed. */
void random_seed_tpm(uint64_t seed);

#endif
