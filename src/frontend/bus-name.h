/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef FRONTEND_BUS_NAME_H
#define FRONTEND_BUS_NAME_H

#include <gio/gio.h>
#include <stdbool.h>

/*
 * A connection to a bus, and a name that is owned there
 *
 * The connection is one of our own: the one that GIO shares among all its users ends the process when the bus goes.
 * No callback comes before bus_name_new() returns.
 */
typedef struct BusName BusName;

typedef struct BusNameConfig {
        GBusType bus;
        const char *name;
        /* There is a bus, and the name is asked for next: whoever sees the name may call at once, so objects are put
         * there now. Return: false with @error: they cannot be, and lost() is called. */
        bool (*connected)(void *userdata, GDBusConnection *bus, GError **error);
        void (*ready)(void *userdata); /* the name is owned */
        /* The name could not be owned, or the bus is gone; @reason is one line. Called at most once, and may free the
         * BusName. */
        void (*lost)(void *userdata, const char *reason);
        void *userdata;
} BusNameConfig;

BusName *bus_name_new(const BusNameConfig *config);
BusName *bus_name_free(BusName *name); /* takes NULL, returns NULL; closes the connection, and with it the name goes */

#endif
