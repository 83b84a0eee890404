/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef MANAGER_PRIVATE_H
#define MANAGER_PRIVATE_H

#include "broker/report.h"
#include "door/callers.h"
#include "manager/manager.h"
#include "manager/trace.h"
#include "resmgr/report.h"

/*
 * The insides of the manager, for manager/
 */
typedef struct Door Door;

struct Manager {
        ManagerConfig config;
        char *tcti;
        gint64 started;    /* of the day, in us */
        struct list calls; /* that wait for their turn */
        unsigned n_calls;
        guint turn;           /* runs until there are none */
        struct list requests; /* that wait for the broker */
        Traces *traces;
        GDBusConnection *bus; /* NULL: none */
        guint object;         /* on the bus */
        Callers *callers;
        Door *door; /* NULL: no private socket */

        GVariant *told; /* a{sv}: what was last said to have changed */
        guint timer;    /* runs until the next time it may be said */
};

/* manager.c */

/* Put the object on a connection. @peer: who is at its other end; NULL: a bus, which is to be asked. Return: its id, 0
 * with @error. */
guint manager_register(Manager *manager, GDBusConnection *connection, const Peer *peer, GError **error);

/* Return: what of @now, a{sv}, is not in @then, as a{sv}; NULL: nothing. */
GVariant *manager_difference(GVariant *then, GVariant *now);

/* properties.c */

GVariant *manager_property(Manager *manager, const char *name); /* floating; NULL: there is no such property */
GVariant *manager_all_properties(Manager *manager);             /* a{sv}, floating */
GVariant *manager_signalled_properties(Manager *manager);       /* ... those whose changes are told */

/* lists.c: aa{sv}, floating; @uid: whose, 0: everybody's */

const char *manager_kind_name(RmKind kind); /* of the state of a session */
GVariant *manager_list_clients(Manager *manager, uid_t uid);
GVariant *manager_list_sessions(Manager *manager, uid_t uid);
GVariant *manager_list_commands(Manager *manager);

/* door.c: the private socket */

#define DOOR_VISITORS_MAX 8
#define DOOR_SILENT_MAX 4 /* of them */

Door *door_new(Manager *manager, const ListenerConfig *config, GError **error);
Door *door_free(Door *door); /* takes NULL, returns NULL */
void door_tell(Door *door);  /* everybody there that properties have changed */

#endif
