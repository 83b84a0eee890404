/* SPDX-License-Identifier: BSD-2-Clause */
#include "test/worlds/set.h"

#include <stdlib.h>

#define SIZE_FIRST (1u << 12)

static size_t slot_of(const Set *set, uint64_t hash) {
        size_t i = hash & (set->size - 1);

        while (set->hashes[i] != 0 && set->hashes[i] != hash)
                i = (i + 1) & (set->size - 1);
        return i;
}

static bool grow(Set *set) {
        Set bigger = { .has_values = set->has_values, .size = set->size ? 2 * set->size : SIZE_FIRST };

        bigger.hashes = calloc(bigger.size, sizeof(uint64_t));
        bigger.values = set->has_values ? calloc(bigger.size, sizeof(uint64_t)) : NULL;
        if (!bigger.hashes || (set->has_values && !bigger.values)) {
                set_free(&bigger);
                return false;
        }
        for (size_t i = 0; i < set->size; i++)
                if (set->hashes[i] != 0)
                        set_add(&bigger, set->hashes[i], set->has_values ? set->values[i] : 0);
        set_free(set);
        *set = bigger;
        return true;
}

bool set_has(const Set *set, uint64_t hash) {
        return set->size > 0 && set->hashes[slot_of(set, hash)] == hash;
}

bool set_add(Set *set, uint64_t hash, uint64_t value) {
        size_t i;

        if (2 * set->n >= set->size && !grow(set))
                return false;
        i = slot_of(set, hash);
        set->n += set->hashes[i] == 0;
        set->hashes[i] = hash;
        if (set->has_values)
                set->values[i] = value;
        return true;
}

uint64_t set_value(const Set *set, uint64_t hash) {
        return set->values[slot_of(set, hash)];
}

void set_free(Set *set) {
        free(set->hashes);
        free(set->values);
}
