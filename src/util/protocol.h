/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef UTIL_PROTOCOL_H
#define UTIL_PROTOCOL_H

/*
 * The stream protocol
 *
 * What clients and daemon, and daemon and helper, say to each other: bare TPM commands one way, bare TPM responses the
 * other way. Three reserved command codes carry what TPM commands cannot. docs/PROTOCOL.md is the description; every
 * number of it stands here.
 */

/*
 * Set locality: header, then the locality as one byte; answered like a TPM command. The code is that of Linux's virtual
 * TPM driver.
 */
#define TPM_STREAM_CC_SET_LOCALITY 0x20001000
#define TPM_STREAM_SET_LOCALITY_SIZE 11

/* Cancel: a header alone, allowed while a command is outstanding; has no answer of its own. */
#define TPM_STREAM_CC_CANCEL 0x20001001
#define TPM_STREAM_CANCEL_SIZE 10

/*
 * Hello: header, then 32 bits of what the client knows, and what later versions may add. The answer, with the same size
 * and 32 bits of what the daemon knows, comes at the latest with that to the next command, so that both can be sent in
 * one go. Daemon to helper: none.
 */
#define TPM_STREAM_CC_HELLO 0x20001002
#define TPM_STREAM_HELLO_SIZE 14
#define TPM_STREAM_LAYERS 0x01 /* refusals of the daemon's own have codes of layer 11 */

#endif
