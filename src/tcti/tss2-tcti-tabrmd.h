/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef TSS2_TCTI_TABRMD_H
#define TSS2_TCTI_TABRMD_H

#include <tss2/tss2_tcti.h>

#ifdef __cplusplus
extern "C" {
#endif

/**
 * Tss2_Tcti_Tabrmd_Init() - connect to tpm2-abrmd
 * @context: memory for the context, or NULL: tell how much is needed
 * @size:    bytes at @context; with NULL for @context, set to the bytes needed
 * @conf:    key=value, separated by commas; NULL or "": the daemon's socket, and the system bus where there is none
 *
 * Keys are "socket" (the path of the daemon's Unix socket), or "bus_type" ("system" or "session") and "bus_name" (the
 * daemon's name on that bus).
 *
 * The context is used by one thread at a time, and needs no others. Nothing is written to the standard streams, no
 * signal is raised, descriptors are close-on-exec. The context may be used on after fork(): the child gets a connection
 * of its own, at locality 0, which knows none of the parent's objects and sessions.
 *
 * Return: TSS2_RC_SUCCESS, TSS2_TCTI_RC_BAD_VALUE (the arguments; nothing was written),
 * TSS2_TCTI_RC_NO_CONNECTION, or TSS2_TCTI_RC_IO_ERROR.
 */
TSS2_RC Tss2_Tcti_Tabrmd_Init(TSS2_TCTI_CONTEXT *context, size_t *size, const char *conf);

#ifdef __cplusplus
}
#endif

#endif
