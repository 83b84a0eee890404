/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef TEST_WORLDS_SET_H
#define TEST_WORLDS_SET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A set of hashes other than 0, by open addressing; each may have a value. */
typedef struct Set {
        bool has_values;
        uint64_t *hashes;
        uint64_t *values; /* NULL unless has_values */
        size_t size;      /* a power of two, or 0 */
        size_t n;
} Set;

bool set_has(const Set *set, uint64_t hash);

/* Return: false when memory runs out. */
bool set_add(Set *set, uint64_t hash, uint64_t value);

/* The value of a hash that is in the set. */
uint64_t set_value(const Set *set, uint64_t hash);

void set_free(Set *set);

#endif
