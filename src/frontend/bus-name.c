/* SPDX-License-Identifier: BSD-2-Clause */
#include "frontend/bus-name.h"

#include "door/callers.h"
#include "door/peer.h"

#include <unistd.h>

#define BUS_TIMEOUT_MS 5000
#define CONNECT_TIMEOUT_MS 30000

/* Until the bus is tried again. */
#define RETRY_FIRST_MS 500
#define RETRY_MAX_MS 30000

/* Of RequestName, in the D-Bus specification. */
#define NAME_DO_NOT_QUEUE 0x4
#define NAME_PRIMARY_OWNER 1

struct BusName {
        BusNameConfig config;
        char *owned;   /* config.name */
        char *address; /* of the bus; NULL: not known */
        Guard *guard;
        GDBusConnection *bus;       /* NULL: not connected */
        GDBusConnection *inquiries; /* another one to the same bus; see door/guard.h */
        GCancellable *cancellable;  /* cancelled: this try is over, or all of it freed; callbacks must not touch it */
        guint timer;                /* of this try, or until the next; 0: the name is owned */
        unsigned retry_ms;
        gulong closed, inquiries_closed;
};

static void bus_name_try(BusName *name);

static void bus_name_call(BusName *name, const char *method, GVariant *parameters, const char *type,
                          GAsyncReadyCallback callback, gpointer userdata) {
        g_dbus_connection_call(name->bus, "org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus",
                               method, parameters, G_VARIANT_TYPE(type), G_DBUS_CALL_FLAGS_NO_AUTO_START,
                               BUS_TIMEOUT_MS, name->cancellable, callback, userdata);
}

static gboolean on_retry(gpointer userdata) {
        BusName *name = userdata;

        name->timer = 0;
        bus_name_try(name);
        return G_SOURCE_REMOVE;
}

static void connection_drop(GDBusConnection **connection, gulong *closed) {
        if (!*connection)
                return;
        g_signal_handler_disconnect(*connection, *closed);
        g_dbus_connection_close(*connection, NULL, NULL, NULL);
        g_clear_object(connection);
}

/* From here on no callback of this try touches it: they see that they were cancelled. */
static void bus_name_close(BusName *name) {
        g_cancellable_cancel(name->cancellable);
        g_clear_object(&name->cancellable);
        g_clear_handle_id(&name->timer, g_source_remove);
        name->guard = guard_free(name->guard);
        connection_drop(&name->bus, &name->closed);
        connection_drop(&name->inquiries, &name->inquiries_closed);
}

/* The callback may free it: nothing of it is used afterwards. */
static void bus_name_lose(BusName *name, BusLoss loss, const char *reason) {
        const BusNameConfig config = name->config;
        GDBusConnection *bus = name->bus ? g_object_ref(name->bus) : NULL;
        GDBusConnection *inquiries = name->inquiries ? g_object_ref(name->inquiries) : NULL;
        Guard *guard = name->guard;

        name->guard = NULL; /* until it was told */
        bus_name_close(name);
        name->timer = g_timeout_add(name->retry_ms, on_retry, name);
        name->retry_ms = MIN(name->retry_ms * 2, RETRY_MAX_MS);
        config.lost(config.userdata, loss, reason);
        guard_free(guard);
        g_clear_object(&bus);
        g_clear_object(&inquiries);
}

/* Who has the name that was to be ours. */
static void on_owner(GObject *source, GAsyncResult *result, gpointer userdata) {
        g_autoptr(GVariant) reply = NULL;
        g_autoptr(GError) error = NULL;
        g_autofree char *reason = NULL;
        BusName *name = userdata;
        uid_t uid = 0;
        pid_t pid = 0;
        Peer peer;

        reply = g_dbus_connection_call_finish(G_DBUS_CONNECTION(source), result, &error);
        if (g_error_matches(error, G_IO_ERROR, G_IO_ERROR_CANCELLED))
                return;
        (void)callers_read(reply, &uid, &pid);
        peer = peer_make(uid, pid);
        reason = g_strdup_printf("the name %s is taken by " PEER_FORMAT "; end that one, or give another --dbus-name",
                                 name->config.name, PEER_ARGUMENTS(&peer));
        bus_name_lose(name, BUS_NAME, reason);
}

static void on_name(GObject *source, GAsyncResult *result, gpointer userdata) {
        g_autoptr(GVariant) reply = NULL;
        g_autoptr(GError) error = NULL;
        g_autofree char *reason = NULL;
        BusName *name = userdata;
        guint32 answer = 0;

        reply = g_dbus_connection_call_finish(G_DBUS_CONNECTION(source), result, &error);
        if (g_error_matches(error, G_IO_ERROR, G_IO_ERROR_CANCELLED))
                return;
        if (!reply) {
                bool refused = g_dbus_error_is_remote_error(error);

                (void)g_dbus_error_strip_remote_error(error);
                reason = g_strdup_printf("uid %u may not have the name %s: %s", (unsigned)geteuid(), name->config.name,
                                         error->message);
                bus_name_lose(name, refused ? BUS_NAME : BUS_AWAY, reason);
                return;
        }
        g_variant_get(reply, "(u)", &answer);
        if (answer != NAME_PRIMARY_OWNER) {
                bus_name_call(name, "GetConnectionCredentials", g_variant_new("(s)", name->config.name), "(a{sv})",
                              on_owner, name);
                return;
        }
        g_clear_handle_id(&name->timer, g_source_remove);
        name->retry_ms = RETRY_FIRST_MS;
        name->config.ready(name->config.userdata);
}

static void on_closed(GDBusConnection *bus, gboolean by_peer, GError *error, gpointer userdata) {
        bus_name_lose(userdata, BUS_AWAY, "it is gone; it is tried again");
}

static void bus_name_lose_bus(BusName *name, const char *why) {
        g_autofree char *reason = g_strdup_printf("%s; --no-dbus does without one", why);

        bus_name_lose(name, BUS_AWAY, reason);
}

/* Return: NULL when there is none: it is lost then, or the try was over. */
static GDBusConnection *bus_finish(BusName *name, GAsyncResult *result) {
        g_autoptr(GError) error = NULL;
        GDBusConnection *bus = g_dbus_connection_new_for_address_finish(result, &error);

        if (bus)
                g_dbus_connection_set_exit_on_close(bus, FALSE);
        else if (!g_error_matches(error, G_IO_ERROR, G_IO_ERROR_CANCELLED))
                bus_name_lose_bus(name, error->message);
        return bus;
}

static void bus_connect(BusName *name, GAsyncReadyCallback callback) {
        g_dbus_connection_new_for_address(name->address,
                                          G_DBUS_CONNECTION_FLAGS_AUTHENTICATION_CLIENT |
                                                  G_DBUS_CONNECTION_FLAGS_MESSAGE_BUS_CONNECTION,
                                          NULL, name->cancellable, callback, name);
}

static void on_inquiries(GObject *source, GAsyncResult *result, gpointer userdata) {
        g_autoptr(GDBusConnection) inquiries = bus_finish(userdata, result);
        g_autoptr(GError) error = NULL;
        BusName *name = userdata;

        if (!inquiries)
                return;
        name->inquiries = g_steal_pointer(&inquiries);
        guard_inquire_by(name->guard, name->inquiries);
        name->inquiries_closed = g_signal_connect(name->inquiries, "closed", G_CALLBACK(on_closed), name);
        if (g_dbus_connection_is_closed(name->inquiries)) {
                on_closed(name->inquiries, TRUE, NULL, name);
                return;
        }
        if (!name->config.connected(name->config.userdata, name->bus, name->guard, &error)) {
                bus_name_lose(name, BUS_AWAY, error->message);
                return;
        }
        /* Nobody can take a name away that was requested like this: it goes with the connection only. */
        bus_name_call(name, "RequestName", g_variant_new("(su)", name->config.name, NAME_DO_NOT_QUEUE), "(u)", on_name,
                      name);
}

static void on_bus(GObject *source, GAsyncResult *result, gpointer userdata) {
        g_autoptr(GDBusConnection) bus = bus_finish(userdata, result);
        BusName *name = userdata;

        if (!bus)
                return;
        name->bus = g_steal_pointer(&bus);
        name->guard = guard_new(name->bus);
        name->closed = g_signal_connect(name->bus, "closed", G_CALLBACK(on_closed), name);
        bus_connect(name, on_inquiries);
}

static gboolean on_timeout(gpointer userdata) {
        BusName *name = userdata;

        name->timer = 0;
        bus_name_lose_bus(name, "it does not answer");
        return G_SOURCE_REMOVE;
}

static void bus_name_try(BusName *name) {
        g_autoptr(GError) error = NULL;

        name->cancellable = g_cancellable_new();
        if (!name->address)
                name->address = g_dbus_address_get_for_bus_sync(name->config.bus, NULL, &error);
        if (!name->address) {
                bus_name_lose_bus(name, error->message);
                return;
        }
        name->timer = g_timeout_add(CONNECT_TIMEOUT_MS, on_timeout, name);
        bus_connect(name, on_bus);
}

BusName *bus_name_new(const BusNameConfig *config) {
        BusName *name = g_new0(BusName, 1);

        name->config = *config;
        name->config.name = name->owned = g_strdup(config->name);
        name->retry_ms = RETRY_FIRST_MS;
        /* From the main loop, so that what cannot be had at once is told from there, too. */
        name->timer = g_idle_add(on_retry, name);
        return name;
}

BusName *bus_name_free(BusName *name) {
        if (!name)
                return NULL;

        bus_name_close(name);
        g_free(name->address);
        g_free(name->owned);
        g_free(name);
        return NULL;
}
