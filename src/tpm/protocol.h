/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef TPM_PROTOCOL_H
#define TPM_PROTOCOL_H

/*
 * The stream protocol
 *
 * What clients and daemon, and daemon and helper, say to each other: bare TPM commands one way, bare TPM responses the
 * other way. Two reserved command codes carry what TPM commands cannot. docs/PROTOCOL.md is the description; every
 * number of it stands here.
 */

#define TPM_HEADER_SIZE 10   /* tag u16 | size u32 | command or response code u32, big endian (Part 1, section 18) */
#define TPM_MESSAGE_MAX 8192 /* the largest command or response that is ever believed */
#define TPM_MESSAGE_DEFAULT 4096 /* ... until TPM_PT_MAX_COMMAND_SIZE and TPM_PT_MAX_RESPONSE_SIZE are known */

/*
 * Set locality: header, then the locality as one byte; answered like a TPM command. The code is that of Linux's virtual
 * TPM driver.
 */
#define TPM_STREAM_CC_SET_LOCALITY 0x20001000
#define TPM_STREAM_SET_LOCALITY_SIZE 11

/* Cancel: a header alone, allowed while a command is outstanding; has no answer of its own. */
#define TPM_STREAM_CC_CANCEL 0x20001001
#define TPM_STREAM_CANCEL_SIZE TPM_HEADER_SIZE

/* Codes that the resource manager makes itself: TPM format, in layer 11 (TSS2_RESMGR_RC_LAYER). */
#define RM_RC_LAYER (11u << 16)
#define RM_RC(rc) (RM_RC_LAYER | (rc))
#define RM_RC_NOT_IMPLEMENTED RM_RC(0x0002) /* the lower layer cannot do it */

#endif
