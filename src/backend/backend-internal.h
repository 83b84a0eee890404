/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef BACKEND_BACKEND_INTERNAL_H
#define BACKEND_BACKEND_INTERNAL_H

#include "backend/backend.h"

/*
 * What back ends share with the dispatcher
 *
 * ops->close() is also called after an open() that failed halfway, and must be able to take that. The two functions
 * below end in a callback of the owner, which may send, close or free: nothing of the back end is to be touched after
 * them.
 */
void backend_answered(Backend *backend, const uint8_t *response, size_t n_response);
void backend_lose(Backend *backend, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Answer the command in hand with TPM_RC_LOCALITY: the TPM does not take its locality. */
void backend_refuse_locality(Backend *backend);

bool backend_swtpm_speaks(const char *conf); /* "swtpm" with no other keys than host= and port= */
Backend *backend_swtpm_new(const char *conf, GError **error);
Backend *backend_helper_new(const char *conf);

#endif
