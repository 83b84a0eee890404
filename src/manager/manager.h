/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef MANAGER_MANAGER_H
#define MANAGER_MANAGER_H

#include "broker/broker.h"
#include "door/guard.h"
#include "door/listener.h"

#include <gio/gio.h>

/*
 * The manager shows administrators by D-Bus what the daemon does, and lets them change some of it
 *
 * com.intel.tss2.Tabrmd.Manager1.xml beside this file is the interface. It is on the bus, where uid 0 may ask for all,
 * and others for what is theirs; and on a private socket, which is for uid 0 alone and needs no bus.
 */
typedef struct Manager Manager;

typedef struct ManagerConfig {
        Loop *loop;
        Broker *broker;
        const char *tcti; /* for people */
        uint32_t max_clients;
        uint32_t max_objects;
} ManagerConfig;

Manager *manager_new(const ManagerConfig *config);
Manager *manager_free(Manager *manager); /* takes NULL, returns NULL */

/* To be called when the bus is connected, and before the name is asked for; and when it is gone. */
void manager_export(Manager *manager, GDBusConnection *bus, Guard *guard);
void manager_unexport(Manager *manager); /* harmless where it was not exported */

/* Return: false with @error. config->mode is to be 0600. */
bool manager_listen(Manager *manager, const ListenerConfig *config, GError **error);

#endif
