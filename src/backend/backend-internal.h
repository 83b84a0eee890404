/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef BACKEND_BACKEND_INTERNAL_H
#define BACKEND_BACKEND_INTERNAL_H

#include "backend/backend.h"

#include <tss2/tss2_tpm2_types.h>

/*
 * What back ends share with the dispatcher
 *
 * ops->close() is also called while opening, and must be able to take that. The functions below end in a callback of
 * the owner, which may send, close or free: nothing of the back end is to be touched after them.
 */
void backend_opened(Backend *backend);
void backend_answered(Backend *backend, const uint8_t *response, size_t n_response);
void backend_lose(Backend *backend, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Answer the command in hand with a code of ours, in layer 11: it cannot be brought to the TPM. */
void backend_refuse(Backend *backend, TPM2_RC rc);

#endif
