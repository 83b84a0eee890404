/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef CTL_SUGGEST_H
#define CTL_SUGGEST_H

#include <stddef.h>

/* The word that somebody meant who wrote another one; NULL: none is near. */
const char *suggest(const char *written, const char *const *words, size_t n_words);

#endif
