/* SPDX-License-Identifier: BSD-2-Clause */
#include "daemon/options.h"

#include "frontend/frontend-unix.h"

#include <string.h>

#define LOCALITY_LAST 4 /* of those that can be selected (Part 2, section 8.5) */

/* "0+2+3". Return: false when it is anything else. */
static bool parse_localities(const char *text, uint32_t *ret_localities) {
        g_auto(GStrv) numbers = g_strsplit(text, "+", -1);
        uint32_t localities = 1;

        for (size_t i = 0; numbers[i]; i++) {
                guint64 locality;

                if (!g_ascii_string_to_unsigned(numbers[i], 10, 0, LOCALITY_LAST, &locality, NULL))
                        return false;
                localities |= 1u << locality;
        }
        *ret_localities = localities;
        return numbers[0] != NULL;
}

static bool parse_right(const char *text, SocketOption *socket) {
        guint64 mode, linger;

        if (g_str_has_prefix(text, "mode=")) {
                if (!g_ascii_string_to_unsigned(text + strlen("mode="), 8, 0, 0777, &mode, NULL))
                        return false;
                socket->mode = (unsigned)mode;
                return true;
        }
        if (g_str_has_prefix(text, "group=")) {
                g_free(socket->group);
                socket->group = g_strdup(text + strlen("group="));
                return socket->group[0] != '\0';
        }
        if (g_str_has_prefix(text, "linger=")) {
                if (!g_ascii_string_to_unsigned(text + strlen("linger="), 10, 1, FRONTEND_UNIX_LINGER_MAX, &linger,
                                                NULL))
                        return false;
                socket->linger = (unsigned)linger;
                return true;
        }
        return g_str_has_prefix(text, "locality=") && parse_localities(text + strlen("locality="), &socket->localities);
}

/* How many settings before this one have the same key. */
static unsigned count_twins(char *const *parts, size_t i) {
        size_t n_key = strcspn(parts[i], "=") + 1;
        unsigned n = 0;

        for (size_t k = 1; k < i; k++)
                n += strncmp(parts[k], parts[i], n_key) == 0;
        return n;
}

bool socket_option_parse(const char *text, SocketOption *ret_socket, GError **error) {
        g_auto(GStrv) parts = g_strsplit(text, ",", -1);
        SocketOption socket = { .mode = FRONTEND_UNIX_MODE, .localities = 1 };
        const char *bad = parts[0] && parts[0][0] ? NULL : text;

        for (size_t i = 1; !bad && parts[i]; i++)
                if (count_twins(parts, i) > 0 || !parse_right(parts[i], &socket))
                        bad = parts[i];
        if (bad) {
                g_set_error(
                        error, G_OPTION_ERROR, G_OPTION_ERROR_BAD_VALUE,
                        "--socket=%s: \"%s\" is none of mode=0660, group=NAME, locality=0+3 and linger=30, each once",
                        text, bad);
                socket_option_clear(&socket);
                return false;
        }
        socket.path = g_strdup(parts[0]);
        *ret_socket = socket;
        return true;
}

void socket_option_clear(SocketOption *socket) {
        g_clear_pointer(&socket->path, g_free);
        g_clear_pointer(&socket->group, g_free);
}
