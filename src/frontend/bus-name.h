/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef FRONTEND_BUS_NAME_H
#define FRONTEND_BUS_NAME_H

#include "door/guard.h"

#include <gio/gio.h>
#include <stdbool.h>

/*
 * A connection to a bus, and a name that is owned there
 *
 * The connection is one of our own: the one that GIO shares among all its users ends the process when the bus goes.
 * When it goes, or cannot be had, it is tried again, less and less often, until bus_name_free(). No callback comes
 * before bus_name_new() returns.
 */
typedef struct BusName BusName;

typedef enum BusLoss {
        BUS_AWAY, /* there is no bus, or it has ended */
        BUS_NAME, /* the name is somebody else's, or not for us */
} BusLoss;

typedef struct BusNameConfig {
        GBusType bus;
        const char *name;
        /* There is a bus, and the name is asked for next: whoever sees the name may call at once, so objects are put
         * there now. Return: false with @error: they cannot be, and lost() is called. */
        bool (*connected)(void *userdata, GDBusConnection *bus, Guard *guard, GError **error);
        void (*ready)(void *userdata); /* the name is owned */
        /* The name could not be owned, or the bus is gone: both arguments of connected(), if that was called, are still
         * there. @reason is one line. May free the BusName. */
        void (*lost)(void *userdata, BusLoss loss, const char *reason);
        void *userdata;
} BusNameConfig;

BusName *bus_name_new(const BusNameConfig *config);
BusName *bus_name_free(BusName *name); /* takes NULL, returns NULL; closes the connection, and with it the name goes */

#endif
