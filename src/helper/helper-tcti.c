/* SPDX-License-Identifier: BSD-2-Clause */
#include "helper/helper.h"

#include <tss2/tss2_rc.h>
#include <tss2/tss2_tcti.h>
#include <tss2/tss2_tctildr.h>

/*
 * A TPM behind a TCTI library
 *
 * Its cancel is not used: libtss2's mssim leaves the answer of the cancelled command in the socket for the next one.
 */
static TSS2_TCTI_CONTEXT *tcti;

static bool tcti_run(uint8_t *command, size_t n_command, uint8_t response[static TPM_MESSAGE_MAX], size_t *ret_n,
                     HelperReason *reason) {
        size_t n = TPM_MESSAGE_MAX;
        TSS2_RC rc;

        rc = Tss2_Tcti_Transmit(tcti, n_command, command);
        if (rc != TSS2_RC_SUCCESS) {
                helper_reason(reason, "the TCTI cannot send: %s (0x%08x)", Tss2_RC_Decode(rc), rc);
                return false;
        }
        do
                rc = Tss2_Tcti_Receive(tcti, &n, response, TSS2_TCTI_TIMEOUT_BLOCK);
        while (rc == TSS2_TCTI_RC_TRY_AGAIN);
        if (rc != TSS2_RC_SUCCESS) {
                helper_reason(reason, "the TCTI does not receive: %s (0x%08x)", Tss2_RC_Decode(rc), rc);
                return false;
        }
        *ret_n = n;
        return true;
}

static bool tcti_set_locality(uint8_t locality) {
        return Tss2_Tcti_SetLocality(tcti, locality) == TSS2_RC_SUCCESS;
}

static void tcti_close(void) {
        Tss2_TctiLdr_Finalize(&tcti);
}

bool helper_tcti_open(const char *conf, HelperTpm *ret_tpm, HelperReason *reason) {
        TSS2_RC rc;

        rc = Tss2_TctiLdr_Initialize(conf, &tcti);
        if (rc != TSS2_RC_SUCCESS) {
                helper_reason(reason, "%s (0x%08x)%s", Tss2_RC_Decode(rc), rc,
                              rc == TSS2_TCTI_RC_NOT_SUPPORTED ? "; is there a TCTI library of that name?"
                              : rc == TSS2_TCTI_RC_BAD_VALUE   ? "; a setting of it is unknown or malformed"
                                                               : "");
                /* Every TCTI of tpm2-tss says so of settings that it cannot read, and of nothing else. */
                reason->is_conf = rc == TSS2_TCTI_RC_BAD_VALUE;
                return false;
        }
        *ret_tpm = (HelperTpm){
                /* Most TCTIs know of no locality, and whoever had this TPM before may have left another than 0. */
                .flags = tcti_set_locality(0) ? HELPER_LOCALITIES : 0,
                .run = tcti_run,
                .set_locality = tcti_set_locality,
                .close = tcti_close,
        };
        return true;
}
