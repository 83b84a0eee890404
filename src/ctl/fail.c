/* SPDX-License-Identifier: BSD-2-Clause */
#include "ctl/ctl.h"

#include "ctl/format.h"
#include "util/names.h"

#include <string.h>
#include <sysexits.h>
#include <unistd.h>

#define WORDS_MAX 200 /* characters of what others say */

GQuark ctl_error_quark(void) {
        return g_quark_from_static_string("tabrmctl");
}

static bool is_dbus(const GError *error, int first, int second) {
        return error->domain == G_DBUS_ERROR && (error->code == first || error->code == second);
}

static bool is_io(const GError *error, int first, int second) {
        return error->domain == G_IO_ERROR && (error->code == first || error->code == second);
}

/* What somebody else said, in one line that is not too long; to be freed. */
static char *words_of(const GError *error) {
        g_autoptr(GError) copy = g_error_copy(error);
        g_autofree char *text = NULL;

        g_dbus_error_strip_remote_error(copy);
        text = format_text(copy->message);
        if (g_utf8_strlen(text, -1) > WORDS_MAX)
                memcpy(g_utf8_offset_to_pointer(text, WORDS_MAX - 3), "...", sizeof("..."));
        return g_steal_pointer(&text);
}

static const char *bus_of(const Ctl *ctl) {
        return ctl->session ? "session bus" : "system bus";
}

/* Where the daemon was asked; to be freed. */
static char *place_of(const Ctl *ctl) {
        return ctl->name ? g_strdup_printf("%s on the %s", ctl->name, bus_of(ctl)) : g_strdup(ctl->socket);
}

/* The manager's socket beside that of clients, if it is there; to be freed. */
static char *socket_beside(const char *path) {
        g_autofree char *folder = g_path_get_dirname(path);
        g_autofree char *beside = g_build_filename(folder, "manager.sock", NULL);

        return access(beside, F_OK) == 0 ? g_steal_pointer(&beside) : g_strdup(MANAGER_SOCKET_PATH);
}

static char *describe_own(const Ctl *ctl, const GError *error, int *ret_code) {
        g_autofree char *place = place_of(ctl);
        g_autofree char *beside = NULL;

        *ret_code = EX_UNAVAILABLE;
        switch ((CtlError)error->code) {
        case CTL_ERROR_CLIENTS_SOCKET:
                beside = socket_beside(error->message);
                *ret_code = EX_USAGE;
                return g_strdup_printf("%s is the socket of clients; the manager's is %s (--socket)", error->message,
                                       beside);
        case CTL_ERROR_NO_DBUS:
                *ret_code = EX_USAGE;
                return g_strdup_printf("%s does not speak D-Bus: it is not the manager's socket (--socket)",
                                       error->message);
        case CTL_ERROR_LATE:
                return g_strdup_printf("%s does not answer; see journalctl -u tpm2-abrmd", place);
        case CTL_ERROR_VERSION:
                break;
        }
        *ret_code = CTL_FAILED;
        return g_strdup_printf("%s answers in a way that is not understood; compare tabrmctl --version and "
                               "tpm2-abrmd --version",
                               place);
}

/* There was no way to ask. */
static char *describe_unconnected(const Ctl *ctl, const GError *error, int *ret_code) {
        g_autofree char *words = words_of(error);

        *ret_code = EX_UNAVAILABLE;
        if (ctl->name)
                return g_strdup_printf("no %s (%s); where there is none, name the private socket: --socket=%s",
                                       bus_of(ctl), words, MANAGER_SOCKET_PATH);
        if (is_io(error, G_IO_ERROR_NOT_FOUND, G_IO_ERROR_CONNECTION_REFUSED))
                return g_strdup_printf("no daemon listens at %s; see systemctl status tpm2-abrmd", ctl->socket);
        if (is_io(error, G_IO_ERROR_PERMISSION_DENIED, G_IO_ERROR_PERMISSION_DENIED) || geteuid() != 0) {
                *ret_code = EX_NOPERM;
                return g_strdup_printf("%s is for root alone; be root, or a member of group tss with --bus",
                                       ctl->socket);
        }
        return g_strdup_printf("%s lets nobody in (%s); see journalctl -u tpm2-abrmd", ctl->socket, words);
}

/* Nobody has the name. */
static char *describe_unnamed(const Ctl *ctl) {
        g_autofree char *place = place_of(ctl);

        if (ctl->socket_error && g_error_matches(ctl->socket_error, G_IO_ERROR, G_IO_ERROR_PERMISSION_DENIED))
                return g_strdup_printf("no daemon is %s, and %s is for root alone; be root, or see "
                                       "systemctl status tpm2-abrmd",
                                       place, ctl->socket);
        return g_strdup_printf("no daemon is %s; see systemctl status tpm2-abrmd; another name: --dbus-name", place);
}

char *ctl_describe(const Ctl *ctl, const GError *error, int *ret_code) {
        g_autofree char *place = place_of(ctl);
        g_autofree char *words = words_of(error);

        if (error->domain == CTL_ERROR)
                return describe_own(ctl, error, ret_code);
        if (!ctl->connection)
                return describe_unconnected(ctl, error, ret_code);
        *ret_code = EX_NOPERM;
        if (is_dbus(error, G_DBUS_ERROR_ACCESS_DENIED, G_DBUS_ERROR_AUTH_FAILED))
                return g_strdup(
                        "only root may do this; members of group tss may use status, clients, sessions and top, on "
                        "the bus");
        *ret_code = EX_UNAVAILABLE;
        if (is_dbus(error, G_DBUS_ERROR_SERVICE_UNKNOWN, G_DBUS_ERROR_NAME_HAS_NO_OWNER))
                return describe_unnamed(ctl);
        if (is_dbus(error, G_DBUS_ERROR_NO_REPLY, G_DBUS_ERROR_TIMEOUT) ||
            is_io(error, G_IO_ERROR_TIMED_OUT, G_IO_ERROR_TIMED_OUT))
                return g_strdup_printf("%s does not answer; see journalctl -u tpm2-abrmd", place);
        if (error->domain == G_IO_ERROR)
                return g_strdup_printf("the connection to %s broke (%s); see journalctl -u tpm2-abrmd", place, words);
        *ret_code = CTL_FAILED;
        if (is_dbus(error, G_DBUS_ERROR_UNKNOWN_METHOD, G_DBUS_ERROR_UNKNOWN_OBJECT) ||
            is_dbus(error, G_DBUS_ERROR_UNKNOWN_INTERFACE, G_DBUS_ERROR_UNKNOWN_PROPERTY))
                return g_strdup_printf("%s does not know what tabrmctl asks (%s); compare tabrmctl --version and "
                                       "tpm2-abrmd --version",
                                       place, words);
        return g_steal_pointer(&words);
}

int ctl_fail(const Ctl *ctl, const GError *error) {
        int code = CTL_FAILED;
        g_autofree char *text = ctl_describe(ctl, error, &code);

        g_printerr("tabrmctl: %s\n", text);
        return code;
}

int ctl_no_client(guint64 id) {
        g_printerr("tabrmctl: no client has the id %" G_GUINT64_FORMAT "; tabrmctl clients lists them\n", id);
        return CTL_FAILED;
}
