/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef BROKER_REFUSAL_H
#define BROKER_REFUSAL_H

#include "broker/peer.h"

#include <stdint.h>
#include <tss2/tss2_tpm2_types.h>

/*
 * Refusals that the log has: each kind once for each connection, with what can be done about it
 *
 * @logged: a bit for each kind, of the connection
 */

/* A client was answered @rc, which is logged if it is that of a quota. */
void refusal_log_quota(uint8_t *logged, const Peer *peer, TSS2_RC rc);

void refusal_log_locality(uint8_t *logged, const Peer *peer, uint8_t locality);

#endif
