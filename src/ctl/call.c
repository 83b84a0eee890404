/* SPDX-License-Identifier: BSD-2-Clause */
#include "ctl/ctl.h"

#include "manager/names.h"

#include <sysexits.h>

/* The daemon answers at once, or is stopped. */
#define TIMEOUT_MS 10000

/* Asking how the daemon is must not start one. */
static GVariant *call(Ctl *ctl, const char *interface, const char *method, GVariant *parameters, const char *reply_type,
                      GUnixFDList **ret_fds, GError **error) {
        return g_dbus_connection_call_with_unix_fd_list_sync(
                ctl->connection, ctl->name, MANAGER_PATH, interface, method, parameters, G_VARIANT_TYPE(reply_type),
                G_DBUS_CALL_FLAGS_NO_AUTO_START, TIMEOUT_MS, NULL, ret_fds, NULL, error);
}

GVariant *ctl_call(Ctl *ctl, const char *method, GVariant *parameters, const char *reply_type, GUnixFDList **ret_fds,
                   GError **error) {
        return call(ctl, MANAGER_INTERFACE, method, parameters, reply_type, ret_fds, error);
}

GVariant *ctl_get_all(Ctl *ctl, GError **error) {
        g_autoptr(GVariant) reply = call(ctl, "org.freedesktop.DBus.Properties", "GetAll",
                                         g_variant_new("(s)", MANAGER_INTERFACE), "(a{sv})", NULL, error);

        return reply ? g_variant_get_child_value(reply, 0) : NULL;
}

bool ctl_set(Ctl *ctl, const char *property, GVariant *value, GError **error) {
        g_autoptr(GVariant) reply = call(ctl, "org.freedesktop.DBus.Properties", "Set",
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
