/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef BROKER_CONNECTION_H
#define BROKER_CONNECTION_H

#include "broker/peer.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <tss2/tss2_tpm2_types.h>

/*
 * Connection: a client's line to the broker, with one command under way at a time
 *
 * broker/broker.h makes one.
 */
typedef struct Connection Connection;

/* A place among the connections of a user (broker/quota.h). */
typedef struct QuotaUser Charge;

typedef struct ConnectionOps {
        /* The answer to the command submitted last. @bytes are valid during the call only. */
        void (*reply)(void *userdata, const uint8_t *bytes, size_t n_bytes);
} ConnectionOps;

const Peer *connection_peer(const Connection *connection);

/*
 * The client is gone. A waiting command is dropped; a running one is carried to its end, and what it made is flushed.
 * No callback comes any more. Takes NULL, returns NULL.
 */
Connection *connection_close(Connection *connection);

/*
 * Takes what pays for the connection's place, which stays taken until the charge is returned, also when the connection
 * is closed. Return: NULL when it was taken before.
 */
Charge *connection_take_charge(Connection *connection);
void charge_return(Charge *charge); /* takes NULL; the broker may be gone */

/*
 * The client is gone, and may come back: what it has in the TPM stays. A waiting command is dropped; the answer to a
 * running one is not wanted any more. The locality is 0 again. No callback of the former ops comes any more, but
 * @given_up, should its place be needed for another client: the connection is closed then.
 */
void connection_leave(Connection *connection, void (*given_up)(void *userdata), void *userdata);

/* It is back, with another stream. What it submits before the command that ran when it left is answered waits for that.
 */
void connection_return(Connection *connection, const ConnectionOps *ops, void *userdata);

/*
 * Submit a command: a whole one whose header says @n_command, at most broker_max_command(). @command must stay as it is
 * until ops->reply(), connection_close() or connection_leave(). The reply may come before this returns. One at a time:
 * false when one is under way, but for the one that ran when the client left.
 */
bool connection_submit(Connection *connection, const uint8_t *command, size_t n_command);

/*
 * Cancel the command under way, if any. A waiting one is answered TPM_RC_CANCELED at once; a running one is cancelled
 * where the back end can. Return: TSS2_RC_SUCCESS, or RM_RC_NOT_IMPLEMENTED: it runs, and cannot be stopped.
 */
TSS2_RC connection_cancel(Connection *connection);

/* Return: TSS2_RC_SUCCESS; RM_RC(TPM2_RC_LOCALITY): not allowed for this client; RM_RC_NOT_IMPLEMENTED: no such back
 * end. */
TSS2_RC connection_set_locality(Connection *connection, uint8_t locality);

#endif
