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
typedef struct ManagerSocket ManagerSocket;

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
        ManagerSocket *socket; /* NULL: no private socket */

        GVariant *signalled; /* a{sv}: the properties as the last signal had them */
        guint timer;         /* runs until the next time it may be said */
};

/* manager.c */

/* Put the object on a connection. @peer: who is at its other end; NULL: a bus, which is to be asked. Return: its id, 0
 * with @error. */
guint manager_register(Manager *manager, GDBusConnection *connection, const Peer *peer, GError **error);

/* Return: what of @now, a{sv}, is not in @then, as a{sv}; NULL: nothing. */
GVariant *manager_difference(GVariant *then, GVariant *now);

/* PropertiesChanged may be due. */
void manager_changed(Manager *manager);

/* methods.c */

#define PROPERTIES_INTERFACE "org.freedesktop.DBus.Properties"

void manager_answer(Manager *manager, const Peer *peer, GDBusMethodInvocation *invocation);
void manager_return_error(GDBusMethodInvocation *invocation, GDBusError code, const char *message);
void manager_drop_flushes(Manager *manager); /* those that wait for the broker; their callers hear that it is ending */

/* properties.c */

/* Floating; NULL with *ret_known: not for that user; without: there is no such property. */
GVariant *manager_property(Manager *manager, uid_t uid, const char *name, bool *ret_known);
GVariant *manager_all_properties(Manager *manager, uid_t uid); /* a{sv}, floating: those that this user may read */
GVariant *manager_signalled_properties(Manager *manager);      /* ... those whose changes are signalled */

/* lists.c: aa{sv}, floating; @uid: who asks, and sees what policy_may_see() says */

const char *manager_state_name(RmState state); /* of the state of a session */
GVariant *manager_list_clients(Manager *manager, uid_t uid);
GVariant *manager_list_programs(Manager *manager, uid_t uid);
GVariant *manager_list_sessions(Manager *manager, uid_t uid);
GVariant *manager_list_commands(Manager *manager);

/* socket.c: the private socket */

#define SOCKET_VISITORS_MAX 8
#define SOCKET_SILENT_MAX 4 /* of them */

ManagerSocket *manager_socket_new(Manager *manager, const ListenerConfig *config, GError **error);
ManagerSocket *manager_socket_free(ManagerSocket *socket); /* takes NULL, returns NULL */
void manager_socket_signal(ManagerSocket *socket);         /* tell all visitors that properties have changed */

#endif
