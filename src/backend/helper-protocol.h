/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef BACKEND_HELPER_PROTOCOL_H
#define BACKEND_HELPER_PROTOCOL_H

#include "tpm/header.h"
#include "util/protocol.h"

/*
 * What the helper says beyond the stream protocol
 *
 * It speaks first, when its TPM is open: a response of success with one byte behind the header, flags of what it can
 * do.
 *
 *      tag u16 = TPM2_ST_NO_SESSIONS | size u32 = 11 | rc u32 = 0 | flags u8
 *
 * Whatever goes wrong, then or later, is its last message: a response with HELPER_RC_FAILURE and the reason as text,
 * one line, after which it ends. In place of its greeting, HELPER_RC_CONF says that the configuration is a mistake. No
 * TPM makes codes of that layer, so no answer of a TPM looks like these.
 *
 *      tag u16 = TPM2_ST_NO_SESSIONS | size u32 | rc u32 | UTF-8, at most HELPER_REASON_MAX bytes
 *
 * End of input ends it. Set locality is answered with code 0, or another: refused, nothing has changed. One without a
 * locality is answered as a command that nobody knows.
 */
#define HELPER_FD 3
#define HELPER_READY_SIZE (TPM_HEADER_SIZE + 1)
#define HELPER_LOCALITIES 0x01 /* takes TPM_STREAM_CC_SET_LOCALITY */
#define HELPER_CANCEL 0x02     /* takes TPM_STREAM_CC_CANCEL */
#define HELPER_RC_FAILURE ((10u << 16) | 0x0001)
#define HELPER_RC_CONF ((10u << 16) | 0x0002)
#define HELPER_REASON_MAX 512

#endif
