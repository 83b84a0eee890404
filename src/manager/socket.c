/* SPDX-License-Identifier: BSD-2-Clause */
#include "manager/private.h"

#include "broker/policy.h"
#include "door/peer.h"
#include "util/log.h"
#include "util/names.h"
#include "util/platform.h"

/*
 * The private socket
 *
 * GDBus has a thread for each connection whose other end is silent, so those are few, and are let go after a while; and
 * nobody but uid 0 gets so far.
 */
#define HANDSHAKE_MS 5000

struct ManagerSocket {
        Manager *manager;
        Listener *listener;
        char *guid;
        GDBusAuthObserver *observer;
        struct list visitors; /* Visitor.link */
};

typedef struct Visitor {
        struct list link;
        ManagerSocket *socket; /* NULL: it is gone */
        Peer peer;
        GCancellable *cancellable;
        guint timer;                 /* of the handshake */
        GDBusConnection *connection; /* NULL: not yet */
        guint object;
        gulong closed;
        GVariant *signalled; /* a{sv}: the properties as it has them */
        bool sending;        /* what was signalled last is still on its way ... */
        bool outdated;       /* ... and is no longer true */
} Visitor;

static void visitor_free(Visitor *visitor) {
        list_unlink(&visitor->link);
        g_clear_handle_id(&visitor->timer, g_source_remove);
        if (visitor->connection) {
                g_signal_handler_disconnect(visitor->connection, visitor->closed);
                g_dbus_connection_unregister_object(visitor->connection, visitor->object);
                g_dbus_connection_close(visitor->connection, NULL, NULL, NULL);
                g_object_unref(visitor->connection);
        }
        g_clear_pointer(&visitor->signalled, g_variant_unref);
        g_object_unref(visitor->cancellable);
        g_free(visitor);
}

static void visitor_signal(Visitor *visitor);

static void visitor_on_flushed(GObject *source, GAsyncResult *result, gpointer userdata) {
        g_autoptr(GError) error = NULL;
        Visitor *visitor = userdata;

        (void)g_dbus_connection_flush_finish(G_DBUS_CONNECTION(source), result, &error);
        if (g_error_matches(error, G_IO_ERROR, G_IO_ERROR_CANCELLED))
                return;
        visitor->sending = false;
        if (visitor->outdated)
                visitor_signal(visitor);
}

/* One message at a time: for somebody who does not read, GDBus would keep them all. */
static void visitor_signal(Visitor *visitor) {
        g_autoptr(GVariant) changed = NULL;
        g_autoptr(GVariant) now = NULL;

        visitor->outdated = visitor->sending;
        if (visitor->sending)
                return;
        now = g_variant_ref_sink(manager_signalled_properties(visitor->socket->manager));
        changed = manager_difference(visitor->signalled, now);
        if (!changed)
                return;
        g_variant_unref(visitor->signalled);
        visitor->signalled = g_steal_pointer(&now);
        g_dbus_connection_emit_signal(visitor->connection, NULL, MANAGER_PATH, PROPERTIES_INTERFACE,
                                      "PropertiesChanged",
                                      g_variant_new("(s@a{sv}as)", MANAGER_INTERFACE, changed, NULL), NULL);
        visitor->sending = true;
        g_dbus_connection_flush(visitor->connection, visitor->cancellable, visitor_on_flushed, visitor);
}

void manager_socket_signal(ManagerSocket *socket) {
        list_for_each(link, &socket->visitors) {
                Visitor *visitor = list_entry(link, Visitor, link);

                if (visitor->connection)
                        visitor_signal(visitor);
        }
}

static void on_closed(GDBusConnection *connection, gboolean vanished, GError *error, gpointer userdata) {
        Visitor *visitor = userdata;

        g_cancellable_cancel(visitor->cancellable);
        visitor_free(visitor);
}

static void on_connected(GObject *source, GAsyncResult *result, gpointer userdata) {
        g_autoptr(GDBusConnection) connection = NULL;
        g_autoptr(GError) error = NULL;
        Visitor *visitor = userdata;
        Manager *manager;

        connection = g_dbus_connection_new_finish(result, &error);
        if (!connection || !visitor->socket) {
                visitor_free(visitor);
                return;
        }
        g_clear_handle_id(&visitor->timer, g_source_remove);
        manager = visitor->socket->manager;
        visitor->object = manager_register(manager, connection, &visitor->peer, &error);
        if (visitor->object == 0) {
                log_limited(LOG_WARNING, "no object for a visitor of the manager: %s", error->message);
                visitor_free(visitor);
                return;
        }
        visitor->signalled = g_variant_ref_sink(manager_signalled_properties(manager));
        visitor->connection = g_steal_pointer(&connection);
        visitor->closed = g_signal_connect(visitor->connection, "closed", G_CALLBACK(on_closed), visitor);
        g_dbus_connection_start_message_processing(visitor->connection);
        /* For one that left before now, "closed" is not emitted any more. */
        if (g_dbus_connection_is_closed(visitor->connection))
                visitor_free(visitor);
}

static gboolean on_silent(gpointer userdata) {
        Visitor *visitor = userdata;

        visitor->timer = 0;
        g_cancellable_cancel(visitor->cancellable);
        return G_SOURCE_REMOVE;
}

/* Return: why it may not come in; NULL: it may. */
static const char *socket_refusal(const ManagerSocket *socket, const Peer *peer) {
        unsigned n = 0, n_silent = 0;

        if (!policy_may_manage(peer->uid))
                return "this socket is for uid 0 alone";
        list_for_each(link, &socket->visitors) {
                n++;
                n_silent += list_entry(link, Visitor, link)->connection == NULL;
        }
        return n >= SOCKET_VISITORS_MAX || n_silent >= SOCKET_SILENT_MAX ? "there are too many" : NULL;
}

static void visitor_new(ManagerSocket *socket, int fd, const Peer *peer) {
        g_autoptr(GError) error = NULL;
        g_autoptr(GSocketConnection) stream = NULL;
        g_autoptr(GSocket) accepted = g_socket_new_from_fd(fd, &error);
        Visitor *visitor;

        if (!accepted) {
                log_limited(LOG_WARNING, "a visitor of the manager is refused: %s", error->message);
                listener_refuse(socket->listener, fd);
                return;
        }
        visitor = g_new0(Visitor, 1);
        visitor->socket = socket;
        visitor->peer = *peer;
        visitor->cancellable = g_cancellable_new();
        visitor->timer = g_timeout_add(HANDSHAKE_MS, on_silent, visitor);
        list_append(&socket->visitors, &visitor->link);
        stream = g_socket_connection_factory_create_connection(accepted);
        g_dbus_connection_new(G_IO_STREAM(stream), socket->guid,
                              G_DBUS_CONNECTION_FLAGS_AUTHENTICATION_SERVER |
                                      G_DBUS_CONNECTION_FLAGS_DELAY_MESSAGE_PROCESSING,
                              socket->observer, visitor->cancellable, on_connected, visitor);
}

static void on_accepted(void *userdata, int fd) {
        const char *refusal;
        ManagerSocket *socket = userdata;
        uid_t uid = 0;
        pid_t pid = 0;
        Peer peer;

        if (!platform_peer(fd, &uid, &pid)) {
                log_limited(LOG_WARNING, "a visitor of the manager is refused: %s", g_strerror(errno));
                listener_refuse(socket->listener, fd);
                return;
        }
        peer = peer_make(uid, pid);
        refusal = socket_refusal(socket, &peer);
        if (!refusal) {
                visitor_new(socket, fd, &peer);
                return;
        }
        log_limited(LOG_NOTICE, PEER_FORMAT " is refused by the manager: %s", PEER_ARGUMENTS(&peer), refusal);
        listener_refuse(socket->listener, fd);
}

/* Who is at the other end is known by the socket: the mechanism that asks the kernel for the same is enough. */
static gboolean on_mechanism(GDBusAuthObserver *observer, const char *mechanism, gpointer userdata) {
        return g_str_equal(mechanism, "EXTERNAL");
}

ManagerSocket *manager_socket_new(Manager *manager, const ListenerConfig *config, GError **error) {
        ManagerSocket *socket = g_new0(ManagerSocket, 1);

        socket->manager = manager;
        list_init(&socket->visitors);
        socket->guid = g_dbus_generate_guid();
        socket->observer = g_dbus_auth_observer_new();
        g_signal_connect(socket->observer, "allow-mechanism", G_CALLBACK(on_mechanism), NULL);
        socket->listener = listener_new(manager->config.loop, config, on_accepted, socket, error);
        return socket->listener ? socket : manager_socket_free(socket);
}

ManagerSocket *manager_socket_free(ManagerSocket *socket) {
        struct list *link;

        if (!socket)
                return NULL;

        socket->listener = listener_free(socket->listener);
        while ((link = list_first(&socket->visitors))) {
                Visitor *visitor = list_entry(link, Visitor, link);

                g_cancellable_cancel(visitor->cancellable);
                if (visitor->connection) {
                        visitor_free(visitor);
                } else {
                        /* on_connected() is still to come, and frees it. */
                        list_unlink(&visitor->link);
                        visitor->socket = NULL;
                }
        }
        g_object_unref(socket->observer);
        g_free(socket->guid);
        g_free(socket);
        return NULL;
}
