/* SPDX-License-Identifier: BSD-2-Clause */
#include "ctl/suggest.h"

#include <glib.h>
#include <stdbool.h>
#include <string.h>

#define WORD_MAX 24 /* longer ones are near to none */

static unsigned least(unsigned a, unsigned b, unsigned c) {
        return MIN(MIN(a, b), c);
}

/* How many letters have to be added, left out, changed, or swapped with the next one. */
static unsigned distance(const char *from, const char *to) {
        unsigned rows[3][WORD_MAX + 1];
        size_t n_from = strlen(from), n_to = strlen(to);
        unsigned *before = rows[0], *above = rows[1], *row = rows[2];

        if (n_from > WORD_MAX || n_to > WORD_MAX)
                return WORD_MAX;
        for (unsigned k = 0; k <= n_to; k++)
                row[k] = k;
        for (unsigned i = 1; i <= n_from; i++) {
                unsigned *spare = before;

                before = above;
                above = row;
                row = spare;
                row[0] = i;
                for (unsigned k = 1; k <= n_to; k++) {
                        row[k] = least(above[k] + 1, row[k - 1] + 1, above[k - 1] + (from[i - 1] != to[k - 1]));
                        if (i > 1 && k > 1 && from[i - 1] == to[k - 2] && from[i - 2] == to[k - 1])
                                row[k] = MIN(row[k], before[k - 2] + 1);
                }
        }
        return row[n_to];
}

const char *suggest(const char *written, const char *const *words, size_t n_words) {
        const char *found = NULL;
        unsigned nearest = 3;

        for (size_t i = 0; i < n_words; i++) {
                bool begins = strlen(written) > 1 && g_str_has_prefix(words[i], written);
                unsigned n = begins ? 1 : distance(written, words[i]);

                /* Of a short word not most letters may be wrong. */
                if (n < nearest && 2 * n < strlen(words[i])) {
                        nearest = n;
                        found = words[i];
                }
        }
        return found;
}
