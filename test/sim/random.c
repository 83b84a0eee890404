/* SPDX-License-Identifier: BSD-2-Clause */
#define OPENSSL_API_COMPAT 0x10100000L /* the last in which a source of random numbers is simply a function */
#include "random.h"

#include <openssl/rand.h>

static Random source;

static int source_bytes(unsigned char *bytes, int n) {
        for (int i = 0; i < n; i++)
                bytes[i] = (unsigned char)random_next(&source);
        return 1;
}

static int source_status(void) {
        return 1;
}

void random_seed_tpm(uint64_t seed) {
        static const RAND_METHOD method = {
                .bytes = source_bytes,
                .pseudorand = source_bytes,
                .status = source_status,
        };

        RAND_set_rand_method(&method);
        source.state = seed;
}
