/* SPDX-License-Identifier: BSD-2-Clause */
#include "manager/private.h"

#include "door/peer.h"
#include "util/fd.h"
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

struct Door {
        Manager *manager;
        Listener *listener;
        char *guid;
        GDBusAuthObserver *observer;
        struct list visitors; /* Visitor.link */
};

typedef struct Visitor {
        struct list link;
        Door *door; /* NULL: it is gone */
        Peer peer;
        GCancellable *cancellable;
        guint timer;                 /* of the handshake */
        GDBusConnection *connection; /* NULL: not yet */
        guint object;
        gulong closed;
        GVariant *told; /* of the properties */
        bool telling;   /* what it was told last is still on its way ... */
        bool outdated;  /* ... and is no longer true */
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
        g_clear_pointer(&visitor->told, g_variant_unref);
        g_object_unref(visitor->cancellable);
        g_free(visitor);
}

static void tell(Visitor *visitor);

static void on_told(GObject *source, GAsyncResult *result, gpointer userdata) {
        g_autoptr(GError) error = NULL;
        Visitor *visitor = userdata;

        (void)g_dbus_connection_flush_finish(G_DBUS_CONNECTION(source), result, &error);
        if (g_error_matches(error, G_IO_ERROR, G_IO_ERROR_CANCELLED))
                return;
        visitor->telling = false;
        if (visitor->outdated)
                tell(visitor);
}

/* One message at a time: for somebody who does not read, GDBus would keep them all. */
static void tell(Visitor *visitor) {
        g_autoptr(GVariant) changed = NULL;
        g_autoptr(GVariant) now = NULL;

        visitor->outdated = visitor->telling;
        if (visitor->telling)
                return;
        now = g_variant_ref_sink(manager_signalled_properties(visitor->door->manager));
        changed = manager_difference(visitor->told, now);
        if (!changed)
                return;
        g_variant_unref(visitor->told);
        visitor->told = g_steal_pointer(&now);
        g_dbus_connection_emit_signal(visitor->connection, NULL, MANAGER_PATH, "org.freedesktop.DBus.Properties",
                                      "PropertiesChanged",
                                      g_variant_new("(s@a{sv}as)", MANAGER_INTERFACE, changed, NULL), NULL);
        visitor->telling = true;
        g_dbus_connection_flush(visitor->connection, visitor->cancellable, on_told, visitor);
}

void door_tell(Door *door) {
        list_for_each(link, &door->visitors) {
                Visitor *visitor = list_entry(link, Visitor, link);

                if (visitor->connection)
                        tell(visitor);
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
        if (!connection || !visitor->door) {
                visitor_free(visitor);
                return;
        }
        g_clear_handle_id(&visitor->timer, g_source_remove);
        manager = visitor->door->manager;
        visitor->object = manager_register(manager, connection, &visitor->peer, &error);
        if (visitor->object == 0) {
                log_limited(LOG_WARNING, "no object for a visitor of the manager: %s", error->message);
                visitor_free(visitor);
                return;
        }
        visitor->told = g_variant_ref_sink(manager_signalled_properties(manager));
        visitor->connection = g_steal_pointer(&connection);
        visitor->closed = g_signal_connect(visitor->connection, "closed", G_CALLBACK(on_closed), visitor);
        g_dbus_connection_start_message_processing(visitor->connection);
        /* Who left before now is not told of any more. */
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
static const char *refuse(const Door *door, const Peer *peer) {
        unsigned n = 0, n_silent = 0;

        if (peer->uid != 0)
                return "this socket is for uid 0 alone";
        list_for_each(link, &door->visitors) {
                n++;
                n_silent += list_entry(link, Visitor, link)->connection == NULL;
        }
        return n >= DOOR_VISITORS_MAX || n_silent >= DOOR_SILENT_MAX ? "there are too many" : NULL;
}

static void visitor_new(Door *door, int fd, const Peer *peer) {
        g_autoptr(GError) error = NULL;
        g_autoptr(GSocketConnection) stream = NULL;
        g_autoptr(GSocket) socket = g_socket_new_from_fd(fd, &error);
        Visitor *visitor;

        if (!socket) {
                log_limited(LOG_WARNING, "a visitor of the manager is refused: %s", error->message);
                fd_close(fd);
                return;
        }
        visitor = g_new0(Visitor, 1);
        visitor->door = door;
        visitor->peer = *peer;
        visitor->cancellable = g_cancellable_new();
        visitor->timer = g_timeout_add(HANDSHAKE_MS, on_silent, visitor);
        list_append(&door->visitors, &visitor->link);
        stream = g_socket_connection_factory_create_connection(socket);
        g_dbus_connection_new(G_IO_STREAM(stream), door->guid,
                              G_DBUS_CONNECTION_FLAGS_AUTHENTICATION_SERVER |
                                      G_DBUS_CONNECTION_FLAGS_DELAY_MESSAGE_PROCESSING,
                              door->observer, visitor->cancellable, on_connected, visitor);
}

static void on_accepted(void *userdata, int fd) {
        const char *refusal;
        Door *door = userdata;
        uid_t uid = 0;
        pid_t pid = 0;
        Peer peer;

        if (!platform_peer(fd, &uid, &pid)) {
                log_limited(LOG_WARNING, "a visitor of the manager is refused: %s", g_strerror(errno));
                fd_close(fd);
                return;
        }
        peer = peer_make(uid, pid);
        refusal = refuse(door, &peer);
        if (!refusal) {
                visitor_new(door, fd, &peer);
                return;
        }
        log_limited(LOG_NOTICE, PEER_FORMAT " is refused by the manager: %s", PEER_ARGUMENTS(&peer), refusal);
        fd_close(fd);
}

/* Who is at the other end is known by the socket: the mechanism that asks the kernel for the same is enough. */
static gboolean on_mechanism(GDBusAuthObserver *observer, const char *mechanism, gpointer userdata) {
        return g_str_equal(mechanism, "EXTERNAL");
}

Door *door_new(Manager *manager, const ListenerConfig *config, GError **error) {
        Door *door = g_new0(Door, 1);

        door->manager = manager;
        list_init(&door->visitors);
        door->guid = g_dbus_generate_guid();
        door->observer = g_dbus_auth_observer_new();
        g_signal_connect(door->observer, "allow-mechanism", G_CALLBACK(on_mechanism), NULL);
        door->listener = listener_new(manager->config.loop, config, on_accepted, door, error);
        return door->listener ? door : door_free(door);
}

Door *door_free(Door *door) {
        struct list *link;

        if (!door)
                return NULL;

        door->listener = listener_free(door->listener);
        while ((link = list_first(&door->visitors))) {
                Visitor *visitor = list_entry(link, Visitor, link);

                g_cancellable_cancel(visitor->cancellable);
                if (visitor->connection) {
                        visitor_free(visitor);
                } else {
                        /* Its end is still to be told. */
                        list_unlink(&visitor->link);
                        visitor->door = NULL;
                }
        }
        g_object_unref(door->observer);
        g_free(door->guid);
        g_free(door);
        return NULL;
}
