/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef BROKER_TELL_H
#define BROKER_TELL_H

#include "broker/broker-private.h"

/*
 * What the log is told
 *
 * Each line says what happened, to whom, and what whoever reads it can do; each is said once, until things change.
 */

/* Somebody may miss what was taken to make room, and this is where they can learn why. */
void tell_losses(Broker *broker);

/* A client was answered @rc: when it is that of a quota, that is said, once for each of its connections. */
void tell_quota(Connection *connection, TSS2_RC rc);

void tell_locality(Connection *connection, uint8_t locality); /* refused */

/* The TPM is lost, not back, or awaited: another reason than the last one is told. */
void tell_absent(Broker *broker, const char *reason);
void tell_present(Broker *broker); /* so whatever comes next is new */

char *tell_why_late(const Broker *broker); /* of the command that is out; g_free() it */
char *tell_why_unusable(TSS2_RC rc);       /* of a TPM that could not be started */

#endif
