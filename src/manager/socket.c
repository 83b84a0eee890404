/* SPDX-License-Identifier: BSD-2-Clause */
#include "manager/private.h"

#include "broker/policy.h"
#include "door/greeting.h"
#include "door/peer.h"
#include "util/log.h"
#include "util/names.h"
#include "util/platform.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/socket.h>

/*
 * The private socket
 *
 * Nobody but uid 0 gets in. The first bytes are looked at before GDBus reads them, which waits for a line of D-Bus from
 * whatever else is spoken. GDBus then has a thread for each connection whose other end is silent, so those are few, and
 * are let go after a while.
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
        LoopFd first; /* its socket, until the first bytes have come; fd -1: it is GDBus's */
        GCancellable *cancellable;
        guint timer;                 /* until it is connected */
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
        loop_remove(&visitor->first);
        if (visitor->first.fd >= 0)
                listener_refuse(visitor->socket->listener, visitor->first.fd);
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

/* Why one was let go that uid 0 is, and could have come in. */
static void visitor_log_end(const Visitor *visitor, const char *why) {
        log_limited(LOG_NOTICE, PEER_FORMAT " is let go by the manager: %s", PEER_ARGUMENTS(&visitor->peer), why);
}

static void on_connected(GObject *source, GAsyncResult *result, gpointer userdata) {
        g_autoptr(GDBusConnection) connection = NULL;
        g_autoptr(GError) error = NULL;
        Visitor *visitor = userdata;
        Manager *manager;

        connection = g_dbus_connection_new_finish(result, &error);
        if (!connection || !visitor->socket) {
                if (visitor->socket)
                        visitor_log_end(visitor, visitor->timer ? error->message
                                                                : "it did not get through the handshake of D-Bus");
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
        if (visitor->first.fd < 0)
                return G_SOURCE_REMOVE; /* on_connected() is still to come */
        visitor_log_end(visitor, "it says nothing");
        visitor_free(visitor);
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

/*
 * Who it is was asked of the kernel when it came, so that what GDBus finds out by itself does not matter: it knows
 * nobody whose process number it cannot see, which is 0 for the root of another PID namespace. Such a one is let in as
 * ANONYMOUS.
 */
#define CONNECTION_FLAGS                                                                                               \
        (G_DBUS_CONNECTION_FLAGS_AUTHENTICATION_SERVER | G_DBUS_CONNECTION_FLAGS_AUTHENTICATION_ALLOW_ANONYMOUS |      \
         G_DBUS_CONNECTION_FLAGS_DELAY_MESSAGE_PROCESSING)

/* What it says is D-Bus, as far as can be seen. */
static void visitor_hand_over(Visitor *visitor) {
        ManagerSocket *socket = visitor->socket;
        g_autoptr(GError) error = NULL;
        g_autoptr(GSocketConnection) stream = NULL;
        g_autoptr(GSocket) accepted = NULL;

        loop_remove(&visitor->first);
        accepted = g_socket_new_from_fd(visitor->first.fd, &error);
        if (!accepted) {
                visitor_log_end(visitor, error->message);
                visitor_free(visitor);
                return;
        }
        visitor->first.fd = -1;
        stream = g_socket_connection_factory_create_connection(accepted);
        g_dbus_connection_new(G_IO_STREAM(stream), socket->guid, CONNECTION_FLAGS, socket->observer,
                              visitor->cancellable, on_connected, visitor);
}

/* D-Bus begins with a zero. */
static void on_first_bytes(LoopFd *first, uint32_t events) {
        Visitor *visitor = list_entry(first, Visitor, first);
        g_autofree char *why = NULL;
        uint8_t bytes[4096];
        ssize_t n = recv(first->fd, bytes, sizeof(bytes), MSG_PEEK | MSG_DONTWAIT);
        const char *protocol;

        if (n < 0 && (errno == EAGAIN || errno == EINTR))
                return;
        if (n > 0 && bytes[0] == 0) {
                visitor_hand_over(visitor);
                return;
        }
        if (n > 0) {
                protocol = greeting_protocol(bytes, (size_t)n);
                why = g_strdup_printf(
                        "this socket is for D-Bus, and it sent %s%s", protocol,
                        g_str_equal(protocol, GREETING_TPM) ? "; clients have a socket of their own (--socket)" : "");
                visitor_log_end(visitor, why);
                /* To close over unread bytes is to reset. */
                (void)recv(first->fd, bytes, sizeof(bytes), MSG_DONTWAIT);
        }
        visitor_free(visitor);
}

static void visitor_new(ManagerSocket *socket, int fd, const Peer *peer) {
        Visitor *visitor = g_new0(Visitor, 1);
        int r;

        visitor->socket = socket;
        visitor->peer = *peer;
        visitor->cancellable = g_cancellable_new();
        visitor->timer = g_timeout_add(HANDSHAKE_MS, on_silent, visitor);
        list_append(&socket->visitors, &visitor->link);
        r = loop_add(socket->manager->config.loop, &visitor->first, fd, EPOLLIN, on_first_bytes);
        visitor->first.fd = fd;
        if (r == 0)
                return;
        visitor_log_end(visitor, g_strerror(-r));
        visitor_free(visitor);
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

/* Not DBUS_COOKIE_SHA1, which has files in the home of uid 0. */
static gboolean on_mechanism(GDBusAuthObserver *observer, const char *mechanism, gpointer userdata) {
        return g_str_equal(mechanism, "EXTERNAL") || g_str_equal(mechanism, "ANONYMOUS");
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

        while ((link = list_first(&socket->visitors))) {
                Visitor *visitor = list_entry(link, Visitor, link);

                g_cancellable_cancel(visitor->cancellable);
                if (visitor->connection || visitor->first.fd >= 0) {
                        visitor_free(visitor);
                } else {
                        /* on_connected() is still to come, and frees it. */
                        list_unlink(&visitor->link);
                        visitor->socket = NULL;
                }
        }
        socket->listener = listener_free(socket->listener);
        g_object_unref(socket->observer);
        g_free(socket->guid);
        g_free(socket);
        return NULL;
}
