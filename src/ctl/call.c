/* SPDX-License-Identifier: BSD-2-Clause */
#include "ctl/ctl.h"

#include "ctl/format.h"
#include "ctl/probe.h"
#include "util/names.h"

/* A connection that is made: GDBus has no limit of time for what comes before the first call. */
typedef struct Arrival {
        GCancellable *cancellable;
        guint timer; /* 0: it is over */
        bool done;
        GDBusConnection *connection;
        GError *error;
} Arrival;

static void on_arrived(GObject *source, GAsyncResult *result, gpointer userdata) {
        Arrival *arrival = userdata;

        arrival->connection = g_dbus_connection_new_for_address_finish(result, &arrival->error);
        arrival->done = true;
}

static gboolean on_late(gpointer userdata) {
        Arrival *arrival = userdata;

        arrival->timer = 0;
        g_cancellable_cancel(arrival->cancellable);
        return G_SOURCE_REMOVE;
}

static GDBusConnection *connect_address(const Ctl *ctl, const char *address, GDBusConnectionFlags flags,
                                        GError **error) {
        g_autoptr(GCancellable) cancellable = g_cancellable_new();
        Arrival arrival = { .cancellable = cancellable };

        arrival.timer = g_timeout_add(ctl->timeout_ms, on_late, &arrival);
        g_dbus_connection_new_for_address(address, flags | G_DBUS_CONNECTION_FLAGS_AUTHENTICATION_CLIENT, NULL,
                                          cancellable, on_arrived, &arrival);
        while (!arrival.done)
                g_main_context_iteration(NULL, TRUE);
        if (arrival.timer)
                g_source_remove(arrival.timer);
        else if (arrival.error)
                g_set_error_literal(error, CTL_ERROR, CTL_ERROR_LATE, "");
        if (arrival.error && arrival.timer)
                g_propagate_error(error, g_steal_pointer(&arrival.error));
        g_clear_error(&arrival.error);
        return arrival.connection;
}

/* Somebody is there, and is not understood: who is it? */
static bool is_other_protocol(const char *path, GError **error) {
        switch (probe_socket(path)) {
        case PROBE_TPM:
                g_set_error_literal(error, CTL_ERROR, CTL_ERROR_CLIENTS_SOCKET, path);
                return true;
        case PROBE_OTHER:
                g_set_error_literal(error, CTL_ERROR, CTL_ERROR_NO_DBUS, path);
                return true;
        default:
                return false;
        }
}

static GDBusConnection *connect_socket(const Ctl *ctl, GError **error) {
        g_autofree char *escaped = g_dbus_address_escape_value(ctl->socket);
        g_autofree char *address = g_strdup_printf("unix:path=%s", escaped);
        g_autoptr(GError) why = NULL;
        GDBusConnection *connection = connect_address(ctl, address, G_DBUS_CONNECTION_FLAGS_NONE, &why);

        if (!connection && !is_other_protocol(ctl->socket, error))
                g_propagate_error(error, g_steal_pointer(&why));
        return connection;
}

/* One of our own: the one that GIO shares ends the process when the bus goes. */
static GDBusConnection *connect_bus(const Ctl *ctl, GError **error) {
        g_autofree char *address =
                g_dbus_address_get_for_bus_sync(ctl->session ? G_BUS_TYPE_SESSION : G_BUS_TYPE_SYSTEM, NULL, error);

        if (!address)
                return NULL;
        return connect_address(ctl, address, G_DBUS_CONNECTION_FLAGS_MESSAGE_BUS_CONNECTION, error);
}

static bool ctl_connect(Ctl *ctl, GError **error) {
        if (ctl->connection && !g_dbus_connection_is_closed(ctl->connection))
                return true;
        g_clear_object(&ctl->connection);
        g_clear_error(&ctl->socket_error);
        ctl->name = NULL;
        if (ctl->socket)
                ctl->connection = connect_socket(ctl, ctl->bus_name ? &ctl->socket_error : error);
        if (ctl->connection || !ctl->bus_name)
                return ctl->connection != NULL;
        ctl->name = ctl->bus_name;
        ctl->connection = connect_bus(ctl, error);
        return ctl->connection != NULL;
}

/* Asking how the daemon is must not start one. */
static GVariant *ctl_call_interface(Ctl *ctl, const char *interface, const char *method, GVariant *parameters,
                                    const char *reply_type, GUnixFDList **ret_fds, GError **error) {
        g_autoptr(GVariant) taken = parameters ? g_variant_ref_sink(parameters) : NULL;
        g_autoptr(GVariant) reply = NULL;

        if (!ctl_connect(ctl, error))
                return NULL;
        reply = g_dbus_connection_call_with_unix_fd_list_sync(
                ctl->connection, ctl->name, MANAGER_PATH, interface, method, taken, G_VARIANT_TYPE(reply_type),
                G_DBUS_CALL_FLAGS_NO_AUTO_START, (gint)ctl->timeout_ms, NULL, ret_fds, NULL, error);
        /* Whoever has answered may have written anything; JSON has a way to say it. */
        return reply && !ctl->json ? format_texts(reply) : g_steal_pointer(&reply);
}

GVariant *ctl_call(Ctl *ctl, const char *method, GVariant *parameters, const char *reply_type, GUnixFDList **ret_fds,
                   GError **error) {
        return ctl_call_interface(ctl, MANAGER_INTERFACE, method, parameters, reply_type, ret_fds, error);
}

#define PROPERTIES_INTERFACE "org.freedesktop.DBus.Properties"

/* Those that have parts are of the type that they should be, so that nobody who looks at these needs to ask. */
static bool properties_are_sound(GVariant *all, GError **error) {
        static const struct {
                const char *name, *type;
        } PARTS[] = {
                { "Sessions", "a{su}" },
                { "Counters", "a{st}" },
                { "Buckets", "at" },
                { "Latencies", "a{s(tat)}" },
        };
        g_autoptr(GVariant) state = g_variant_lookup_value(all, "State", G_VARIANT_TYPE_STRING);
        g_autoptr(GVariant) counters = g_variant_lookup_value(all, "Counters", NULL);

        for (size_t i = 0; state && counters && i < G_N_ELEMENTS(PARTS); i++) {
                g_autoptr(GVariant) value = g_variant_lookup_value(all, PARTS[i].name, G_VARIANT_TYPE(PARTS[i].type));

                if (!value)
                        g_clear_pointer(&state, g_variant_unref);
        }
        if (!state)
                g_set_error_literal(error, CTL_ERROR, CTL_ERROR_VERSION, "");
        return state != NULL;
}

GVariant *ctl_get_all(Ctl *ctl, GError **error) {
        g_autoptr(GVariant) reply = ctl_call_interface(ctl, PROPERTIES_INTERFACE, "GetAll",
                                                       g_variant_new("(s)", MANAGER_INTERFACE), "(a{sv})", NULL, error);
        g_autoptr(GVariant) all = reply ? g_variant_get_child_value(reply, 0) : NULL;

        if (!all || !properties_are_sound(all, error))
                return NULL;
        return g_steal_pointer(&all);
}

GVariant *ctl_get(Ctl *ctl, const char *property, GError **error) {
        g_autoptr(GVariant) reply =
                ctl_call_interface(ctl, PROPERTIES_INTERFACE, "Get", g_variant_new("(ss)", MANAGER_INTERFACE, property),
                                   "(v)", NULL, error);
        g_autoptr(GVariant) value = reply ? g_variant_get_child_value(reply, 0) : NULL;

        return value ? g_variant_get_variant(value) : NULL;
}

bool ctl_set(Ctl *ctl, const char *property, GVariant *value, GError **error) {
        g_autoptr(GVariant) reply =
                ctl_call_interface(ctl, PROPERTIES_INTERFACE, "Set",
                                   g_variant_new("(ssv)", MANAGER_INTERFACE, property, value), "()", NULL, error);

        return reply != NULL;
}
