/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef FRONTEND_FRONTEND_DBUS_H
#define FRONTEND_FRONTEND_DBUS_H

#include "broker/broker.h"
#include "frontend/bus-name.h"
#include "util/loop.h"

#include <gio/gio.h>

/*
 * The D-Bus door: CreateConnection, Cancel and SetLocality, as tpm2-abrmd 3.0 has them.
 *
 * Who a caller is comes from GetConnectionCredentials of the sender, asked asynchronously before the connection is
 * made. Cancel and SetLocality count only from the bus connection that created the id. Clients keep their streams, and
 * what they have, when the bus goes.
 */
typedef struct FrontendDbus FrontendDbus;

typedef struct FrontendDbusConfig {
        Loop *loop;
        Broker *broker;
        GBusType bus;
        const char *name;
        bool allow_locality; /* localities 1..4 for everyone, not only for uid 0 */
        /* See frontend/bus-name.h: what else is to be found on the bus is put there by connected(), and taken away by
         * lost(). */
        void (*connected)(void *userdata, GDBusConnection *bus, Guard *guard); /* may be NULL */
        void (*lost)(void *userdata, BusLoss loss, const char *reason);
        void (*ready)(void *userdata); /* the name is owned */
        void *userdata;
} FrontendDbusConfig;

FrontendDbus *frontend_dbus_new(const FrontendDbusConfig *config);
FrontendDbus *frontend_dbus_free(FrontendDbus *frontend); /* closes all its clients; NULL is fine */

#endif
