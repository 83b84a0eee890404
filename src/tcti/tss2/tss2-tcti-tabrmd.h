/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef TSS2_TCTI_TABRMD_H
#define TSS2_TCTI_TABRMD_H

#include <stddef.h>
#include <tss2/tss2_tcti.h>

#ifdef __cplusplus
extern "C" {
#endif

/**
 * Tss2_Tcti_Tabrmd_Init() - connect to tpm2-abrmd (TSS 2.0 TCTI specification, section 3.5)
 * @context: memory for the context, or NULL: *size is set to the number of bytes it needs
 * @size:    size of @context in bytes
 * @conf:    "socket=PATH"; or "bus_type=session|system" and "bus_name=NAME", separated by a comma, each of them
 * optional. NULL or "": the socket of the system, and if there is none, the system bus
 *
 * The context holds nothing outside @context but descriptors and a page of memory, which Tss2_Tcti_Finalize() gives
 * back. It is for one thread at a time. After fork() the child gets a connection, and with it a TPM, of its own at its
 * first command. When the daemon is restarted, a command is answered 0xB0100 (not executed) or 0xB0101 (nobody knows),
 * and the next one connects anew.
 *
 * Return: TSS2_RC_SUCCESS; TSS2_TCTI_RC_BAD_VALUE: @size or @conf make no sense; TSS2_TCTI_RC_NO_CONNECTION: nobody is
 * there, or the daemon takes no more clients. A line on standard error says why, unless TSS2_LOG is against it.
 */
TSS2_RC Tss2_Tcti_Tabrmd_Init(TSS2_TCTI_CONTEXT *context, size_t *size, const char *conf);

#ifdef __cplusplus
}
#endif

#endif
