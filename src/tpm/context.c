/* SPDX-License-Identifier: BSD-2-Clause */
#include "tpm/context.h"

bool tpm_context_parse(const uint8_t *bytes, size_t n_bytes, TpmContext *ret_context) {
        TpmReader reader = TPM_READER(bytes, n_bytes);
        TpmContext context;

        context.sequence = tpm_read_u64(&reader);
        context.saved_handle = tpm_read_u32(&reader);
        context.hierarchy = tpm_read_u32(&reader);
        tpm_read_bytes(&reader, tpm_read_u16(&reader));
        if (!tpm_reader_done(&reader))
                return false;
        *ret_context = context;
        return true;
}
