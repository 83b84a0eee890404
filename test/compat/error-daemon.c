/* SPDX-License-Identifier: BSD-2-Clause */
#include "util/names.h"

#include <gio/gio.h>
#include <gio/gunixfdlist.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

/*
 * error-daemon ERROR...
 *
 * Has the name of tpm2-abrmd on the session bus. CreateConnection works; each Cancel and SetLocality fails with the
 * next ERROR, a D-Bus name.
 */
static const char introspection[] = "<node><interface name='" TABRMD_DBUS_INTERFACE "'>"
                                    "<method name='CreateConnection'><arg type='t' direction='out'/></method>"
                                    "<method name='Cancel'><arg type='t' direction='in'/>"
                                    "<arg type='u' direction='out'/></method>"
                                    "<method name='SetLocality'><arg type='t' direction='in'/>"
                                    "<arg type='y' direction='in'/><arg type='u' direction='out'/></method>"
                                    "</interface></node>";

static void on_call(GDBusConnection *bus, const char *sender, const char *path, const char *interface,
                    const char *method, GVariant *parameters, GDBusMethodInvocation *invocation, gpointer userdata) {
        char ***next = userdata;
        g_autoptr(GUnixFDList) fds = NULL;
        int pair[2];

        if (!g_str_equal(method, "CreateConnection")) {
                g_dbus_method_invocation_return_dbus_error(invocation, **next ? *(*next)++ : "org.example.NoMore",
                                                           "as asked");
                return;
        }
        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
                exit(EXIT_FAILURE);
        fds = g_unix_fd_list_new_from_array(&pair[1], 1); /* the other end stays open, and says nothing */
        g_dbus_method_invocation_return_value_with_unix_fd_list(invocation, g_variant_new("(t)", (guint64)1), fds);
}

static void on_name(GDBusConnection *bus, const char *name, gpointer userdata) {
        puts("ready");
        fflush(stdout);
}

static void on_bus(GDBusConnection *bus, const char *name, gpointer userdata) {
        static const GDBusInterfaceVTable vtable = { .method_call = on_call };
        GDBusNodeInfo *node = g_dbus_node_info_new_for_xml(introspection, NULL);

        g_dbus_connection_register_object(bus, TABRMD_DBUS_PATH, node->interfaces[0], &vtable, userdata, NULL, NULL);
        g_dbus_node_info_unref(node);
}

int main(int argc, char **argv) {
        g_autoptr(GMainLoop) loop = g_main_loop_new(NULL, FALSE);
        char **next = argv + 1;

        g_bus_own_name(G_BUS_TYPE_SESSION, TABRMD_DBUS_NAME, G_BUS_NAME_OWNER_FLAGS_NONE, on_bus, on_name, NULL, &next,
                       NULL);
        g_main_loop_run(loop);
        return EXIT_SUCCESS;
}
