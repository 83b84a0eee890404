/* SPDX-License-Identifier: BSD-2-Clause */
#include "ctl/ctl.h"

#include "util/names.h"

#include <sysexits.h>

static GDBusConnection *connect_socket(const char *path, GError **error) {
        g_autofree char *escaped = g_dbus_address_escape_value(path);
        g_autofree char *address = g_strdup_printf("unix:path=%s", escaped);

        return g_dbus_connection_new_for_address_sync(address, G_DBUS_CONNECTION_FLAGS_AUTHENTICATION_CLIENT, NULL,
                                                      NULL, error);
}

/* One of our own: the one that GIO shares ends the process when the bus goes. */
static GDBusConnection *connect_bus(bool session, GError **error) {
        g_autofree char *address =
                g_dbus_address_get_for_bus_sync(session ? G_BUS_TYPE_SESSION : G_BUS_TYPE_SYSTEM, NULL, error);

        if (!address)
                return NULL;
        return g_dbus_connection_new_for_address_sync(
                address, G_DBUS_CONNECTION_FLAGS_AUTHENTICATION_CLIENT | G_DBUS_CONNECTION_FLAGS_MESSAGE_BUS_CONNECTION,
                NULL, NULL, error);
}

bool ctl_connect(Ctl *ctl, GError **error) {
        g_clear_object(&ctl->connection);
        ctl->name = NULL;
        if (ctl->socket)
                ctl->connection = connect_socket(ctl->socket, ctl->bus_name ? NULL : error);
        if (ctl->connection || !ctl->bus_name)
                return ctl->connection != NULL;
        ctl->name = ctl->bus_name;
        ctl->connection = connect_bus(ctl->session, error);
        return ctl->connection != NULL;
}

/* Asking how the daemon is must not start one. */
static GVariant *ctl_call_interface(Ctl *ctl, const char *interface, const char *method, GVariant *parameters,
                                    const char *reply_type, GUnixFDList **ret_fds, GError **error) {
        return g_dbus_connection_call_with_unix_fd_list_sync(
                ctl->connection, ctl->name, MANAGER_PATH, interface, method, parameters, G_VARIANT_TYPE(reply_type),
                G_DBUS_CALL_FLAGS_NO_AUTO_START, (gint)ctl->timeout_ms, NULL, ret_fds, NULL, error);
}

GVariant *ctl_call(Ctl *ctl, const char *method, GVariant *parameters, const char *reply_type, GUnixFDList **ret_fds,
                   GError **error) {
        return ctl_call_interface(ctl, MANAGER_INTERFACE, method, parameters, reply_type, ret_fds, error);
}

/* Whether those properties are there that have parts, so that whoever looks at these need not ask. */
static bool properties_are_whole(GVariant *all, GError **error) {
        static const struct {
                const char *name, *type;
        } PARTS[] = {
                { "Sessions", "a{su}" },
                { "Counters", "a{st}" },
                { "Buckets", "at" },
                { "Latencies", "a{s(tat)}" },
        };

        for (size_t i = 0; i < G_N_ELEMENTS(PARTS); i++) {
                g_autoptr(GVariant) value = g_variant_lookup_value(all, PARTS[i].name, G_VARIANT_TYPE(PARTS[i].type));

                if (value)
                        continue;
                g_set_error(error, G_DBUS_ERROR, G_DBUS_ERROR_INVALID_SIGNATURE,
                            "the daemon does not say %s as it should: is it of another version?", PARTS[i].name);
                return false;
        }
        return true;
}

GVariant *ctl_get_all(Ctl *ctl, GError **error) {
        g_autoptr(GVariant) reply = ctl_call_interface(ctl, "org.freedesktop.DBus.Properties", "GetAll",
                                                       g_variant_new("(s)", MANAGER_INTERFACE), "(a{sv})", NULL, error);

        g_autoptr(GVariant) all = reply ? g_variant_get_child_value(reply, 0) : NULL;

        if (!all || !properties_are_whole(all, error))
                return NULL;
        return g_steal_pointer(&all);
}

bool ctl_set(Ctl *ctl, const char *property, GVariant *value, GError **error) {
        g_autoptr(GVariant) reply =
                ctl_call_interface(ctl, "org.freedesktop.DBus.Properties", "Set",
                                   g_variant_new("(ssv)", MANAGER_INTERFACE, property, value), "()", NULL, error);

        return reply != NULL;
}

int ctl_fail(const GError *error) {
        g_autoptr(GError) copy = g_error_copy(error);

        g_dbus_error_strip_remote_error(copy);
        g_printerr("tabrmctl: %s\n", copy->message);
        if (g_error_matches(error, G_DBUS_ERROR, G_DBUS_ERROR_ACCESS_DENIED) ||
            g_error_matches(error, G_IO_ERROR, G_IO_ERROR_PERMISSION_DENIED))
                return EX_NOPERM;
        if (g_error_matches(error, G_DBUS_ERROR, G_DBUS_ERROR_SERVICE_UNKNOWN) ||
            g_error_matches(error, G_DBUS_ERROR, G_DBUS_ERROR_NAME_HAS_NO_OWNER) ||
            g_error_matches(error, G_DBUS_ERROR, G_DBUS_ERROR_NO_REPLY) || error->domain == G_IO_ERROR)
                return EX_UNAVAILABLE;
        return CTL_FAILED;
}
