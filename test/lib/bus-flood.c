/* SPDX-License-Identifier: BSD-2-Clause */

/*
 * Sends messages to a name on a bus, as fast as the bus takes them, until it is killed
 *
 * usage: bus-flood ADDRESS NAME call|silent|signal
 */
#include <gio/gio.h>
#include <string.h>

#define PATH "/com/intel/tss2/Tabrmd/Tcti"
#define INTERFACE "com.intel.tss2.TctiTabrmd"
#define AT_ONCE 50

static GDBusMessage *message_make(const char *name, const char *kind) {
        GDBusMessage *message;

        if (strcmp(kind, "signal") == 0) {
                message = g_dbus_message_new_signal(PATH, INTERFACE, "Hello");
                g_dbus_message_set_destination(message, name);
                return message;
        }
        message = g_dbus_message_new_method_call(name, PATH, INTERFACE, "CreateConnection");
        if (strcmp(kind, "silent") == 0)
                g_dbus_message_set_flags(message, G_DBUS_MESSAGE_FLAGS_NO_REPLY_EXPECTED);
        return message;
}

int main(int argc, char **argv) {
        g_autoptr(GDBusConnection) bus = NULL;

        if (argc != 4)
                return 64;
        bus = g_dbus_connection_new_for_address_sync(
                argv[1], G_DBUS_CONNECTION_FLAGS_AUTHENTICATION_CLIENT | G_DBUS_CONNECTION_FLAGS_MESSAGE_BUS_CONNECTION,
                NULL, NULL, NULL);
        if (!bus)
                return 69;
        do {
                for (unsigned i = 0; i < AT_ONCE; i++) {
                        g_autoptr(GDBusMessage) message = message_make(argv[2], argv[3]);

                        (void)g_dbus_connection_send_message(bus, message, G_DBUS_SEND_MESSAGE_FLAGS_NONE, NULL, NULL);
                }
        } while (g_dbus_connection_flush_sync(bus, NULL, NULL));
        return 0;
}
