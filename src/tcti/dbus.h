/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef TCTI_DBUS_H
#define TCTI_DBUS_H

#include "tcti/dbus-message.h"
#include "tcti/log.h"

#include <stdbool.h>
#include <stdint.h>

/*
 * A D-Bus client of three calls
 *
 * GIO would leave threads behind for ever and hang in forked children, and neither libdbus nor sd-bus hands out a
 * descriptor that the signature of a message does not mention, as that of CreateConnection does. So this is one, over
 * Unix sockets, blocking, with bounds on everything that a bus may send, and a limit of time for every call.
 */
typedef struct Dbus {
        int fd;        /* -1: not connected */
        uint64_t mark; /* io_mark() of it */
        uint32_t serial;
} Dbus;

/* Return: false when no bus takes us in: see @ret_why. */
bool dbus_open(Dbus *dbus, bool session, Why *ret_why);
void dbus_close(Dbus *dbus);

typedef struct DbusReply {
        DbusMessage message; /* in bytes */
        int fd;              /* the first that came with it, or -1; the caller's to close */
        uint8_t bytes[DBUS_MESSAGE_MAX];
} DbusReply;

/* Return: false when there was no answer; the connection is closed then. Else the answer, which may be an error. */
bool dbus_call(Dbus *dbus, const DbusCall *call, DbusReply *ret_reply);

#endif
