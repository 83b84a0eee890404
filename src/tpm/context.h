/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef TPM_CONTEXT_H
#define TPM_CONTEXT_H

#include "tpm/reader.h"

#include <tss2/tss2_tpm2_types.h>

/* The open part of a TPMS_CONTEXT (Part 2, section 14.5); its contents are the TPM's secret. */
typedef struct TpmContext {
        uint64_t sequence;
        TPM2_HANDLE saved_handle; /* of a session: its handle; else 0x80000000, or what follows */
        TPM2_HANDLE hierarchy;
} TpmContext;

#define TPM_CONTEXT_SEQUENCE 0x80000001 /* a sequence object: it changes with every use */

/* Return: false unless @bytes are exactly one context. */
bool tpm_context_parse(const uint8_t *bytes, size_t n_bytes, TpmContext *ret_context);

#endif
