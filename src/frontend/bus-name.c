/* SPDX-License-Identifier: BSD-2-Clause */
#include "frontend/bus-name.h"

#include "door/callers.h"
#include "door/peer.h"

#include <unistd.h>

#define BUS_TIMEOUT_MS 5000
#define CONNECT_TIMEOUT_SECONDS 30

/* Of RequestName, in the D-Bus specification. */
#define NAME_DO_NOT_QUEUE 0x4
#define NAME_PRIMARY_OWNER 1

struct BusName {
        BusNameConfig config;
        char *owned;               /* config.name */
        GDBusConnection *bus;      /* NULL: not connected */
        GCancellable *cancellable; /* cancelled: this is freed, and callbacks must not touch it */
        guint timer;               /* runs until the name is owned; 0: none */
        gulong closed;
        bool ended;       /* config.lost() was called */
        char *no_address; /* why there is no bus to connect to */
};

static void bus_name_call(BusName *name, const char *method, GVariant *parameters, const char *type,
                          GAsyncReadyCallback callback, gpointer userdata) {
        g_dbus_connection_call(name->bus, "org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus",
                               method, parameters, G_VARIANT_TYPE(type), G_DBUS_CALL_FLAGS_NO_AUTO_START,
                               BUS_TIMEOUT_MS, name->cancellable, callback, userdata);
}

/* The callback may free it: nothing of it is used afterwards. */
static void bus_name_lose(BusName *name, const char *reason) {
        if (name->ended)
                return;
        name->ended = true;
        g_clear_handle_id(&name->timer, g_source_remove);
        name->config.lost(name->config.userdata, reason);
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
        bus_name_lose(name, reason);
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
                (void)g_dbus_error_strip_remote_error(error);
                reason = g_strdup_printf("uid %u may not have the name %s: %s", (unsigned)geteuid(), name->config.name,
                                         error->message);
                bus_name_lose(name, reason);
                return;
        }
        g_variant_get(reply, "(u)", &answer);
        if (answer != NAME_PRIMARY_OWNER) {
                bus_name_call(name, "GetConnectionCredentials", g_variant_new("(s)", name->config.name), "(a{sv})",
                              on_owner, name);
                return;
        }
        g_clear_handle_id(&name->timer, g_source_remove);
        name->config.ready(name->config.userdata);
}

static void on_closed(GDBusConnection *bus, gboolean by_peer, GError *error, gpointer userdata) {
        bus_name_lose(userdata, "it is gone, and so are the clients who came by it");
}

static char *no_bus(const char *why) {
        return g_strdup_printf("%s; --no-dbus does without one", why);
}

static void on_bus(GObject *source, GAsyncResult *result, gpointer userdata) {
        g_autoptr(GDBusConnection) bus = NULL;
        g_autoptr(GError) error = NULL;
        g_autofree char *reason = NULL;
        BusName *name = userdata;

        bus = g_dbus_connection_new_for_address_finish(result, &error);
        if (g_error_matches(error, G_IO_ERROR, G_IO_ERROR_CANCELLED))
                return;
        if (!bus) {
                reason = no_bus(error->message);
                bus_name_lose(name, reason);
                return;
        }
        g_dbus_connection_set_exit_on_close(bus, FALSE);
        name->bus = g_steal_pointer(&bus);
        name->closed = g_signal_connect(name->bus, "closed", G_CALLBACK(on_closed), name);

        if (!name->config.connected(name->config.userdata, name->bus, &error)) {
                bus_name_lose(name, error->message);
                return;
        }
        /* Nobody can take a name away that was requested like this: it goes with the connection only. */
        bus_name_call(name, "RequestName", g_variant_new("(su)", name->config.name, NAME_DO_NOT_QUEUE), "(u)", on_name,
                      name);
}

static gboolean on_timeout(gpointer userdata) {
        BusName *name = userdata;

        name->timer = 0;
        bus_name_lose(name, "it does not answer; --no-dbus does without one");
        return G_SOURCE_REMOVE;
}

/* An address that cannot be had is reported from the main loop, too. */
static gboolean on_no_address(gpointer userdata) {
        BusName *name = userdata;

        name->timer = 0;
        bus_name_lose(name, name->no_address);
        return G_SOURCE_REMOVE;
}

BusName *bus_name_new(const BusNameConfig *config) {
        BusName *name = g_new0(BusName, 1);
        g_autofree char *address = NULL;
        g_autoptr(GError) error = NULL;

        name->config = *config;
        name->config.name = name->owned = g_strdup(config->name);
        name->cancellable = g_cancellable_new();
        address = g_dbus_address_get_for_bus_sync(config->bus, NULL, &error);
        if (!address) {
                name->no_address = no_bus(error->message);
                name->timer = g_idle_add(on_no_address, name);
                return name;
        }
        name->timer = g_timeout_add_seconds(CONNECT_TIMEOUT_SECONDS, on_timeout, name);
        g_dbus_connection_new_for_address(
                address, G_DBUS_CONNECTION_FLAGS_AUTHENTICATION_CLIENT | G_DBUS_CONNECTION_FLAGS_MESSAGE_BUS_CONNECTION,
                NULL, name->cancellable, on_bus, name);
        return name;
}

BusName *bus_name_free(BusName *name) {
        if (!name)
                return NULL;

        /* From here on nothing calls back but on_bus(), on_name() and on_owner(), which see that they were cancelled.
         */
        g_cancellable_cancel(name->cancellable);
        g_clear_handle_id(&name->timer, g_source_remove);
        if (name->bus) {
                g_signal_handler_disconnect(name->bus, name->closed);
                g_dbus_connection_close(name->bus, NULL, NULL, NULL);
        }
        g_clear_object(&name->bus);
        g_clear_object(&name->cancellable);
        g_free(name->no_address);
        g_free(name->owned);
        g_free(name);
        return NULL;
}
