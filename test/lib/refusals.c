/* SPDX-License-Identifier: BSD-2-Clause */
#include "test/lib/refusals.h"

#include "resmgr/report.h"

static bool is_same(TPM2_HANDLE a, TPM2_HANDLE b) {
        return a == b || (tpm_handle_is_session(a) && tpm_handle_is_session(b) && (a ^ b) << 8 == 0);
}

static unsigned find(const Refusals *refusals, TPM2_HANDLE handle) {
        unsigned i = 0;

        while (i < refusals->n && !is_same(refusals->handles[i], handle))
                i++;
        return i;
}

static void forget(Refusals *refusals, TPM2_HANDLE handle) {
        unsigned i = find(refusals, handle);

        if (i < refusals->n)
                refusals->handles[i] = refusals->handles[--refusals->n];
}

/* Return: ContextSave or FlushContext, and *ret_handle is what the command saves or flushes; or 0. */
static TPM2_CC takes_out(const uint8_t *command, size_t n_command, TPM2_HANDLE *ret_handle) {
        TpmReader reader = TPM_READER(command, n_command);
        TPM2_CC code = tpm_read_header(&reader).code;

        *ret_handle = tpm_read_u32(&reader);
        return (code == TPM2_CC_ContextSave || code == TPM2_CC_FlushContext) && !reader.bad ? code : 0;
}

void refusals_note_answer(Refusals *refusals, const Rm *rm, const uint8_t *command, size_t n_command,
                          const Message *answer) {
        TPM2_HANDLE handle;

        if (answer->n < TPM_HEADER_SIZE || message_rc(answer) != TPM2_RC_SUCCESS)
                return;
        if (takes_out(command, n_command, &handle))
                forget(refusals, handle);
        else if (rm_report_parse(rm, command, n_command).info.attributes & TPMA_CC_RHANDLE)
                forget(refusals, message_handle(answer));
}

void refusals_note_lie(Refusals *refusals, const uint8_t *command, size_t n_command, const Message *answer) {
        TPM2_HANDLE handle;
        TPM2_CC code = takes_out(command, n_command, &handle);
        uint32_t rc = answer->n >= TPM_HEADER_SIZE ? message_rc(answer) : TPM2_RC_FAILURE;

        if (!code || rc == TPM2_RC_RETRY || rc == TPM2_RC_YIELDED || rc == TPM2_RC_TESTING)
                return;
        /* What is said to be flushed is not asked for again. */
        if (code == TPM2_CC_FlushContext && rc == TPM2_RC_SUCCESS)
                return;
        if (find(refusals, handle) == refusals->n && refusals->n < sizeof(refusals->handles) / sizeof(handle))
                refusals->handles[refusals->n++] = handle;
}

bool refusals_include(const Refusals *refusals, TPM2_HANDLE handle) {
        return find(refusals, handle) < refusals->n;
}

unsigned refusals_count_others(const Refusals *refusals, const TPM2_HANDLE *handles, unsigned n) {
        unsigned n_others = 0;

        for (unsigned i = 0; i < n; i++)
                n_others += !refusals_include(refusals, handles[i]);
        return n_others;
}
