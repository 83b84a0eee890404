/* SPDX-License-Identifier: BSD-2-Clause */
#include "tcti/dbus-address.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SYSTEM_BUS "unix:path=/run/dbus/system_bus_socket;unix:path=/var/run/dbus/system_bus_socket"
#define SESSION_BUS "unix:runtime=yes"

const char *dbus_address_list(bool session) {
        /* Who runs a set-uid program does not say whom it trusts. */
        const char *list = secure_getenv(session ? "DBUS_SESSION_BUS_ADDRESS" : "DBUS_SYSTEM_BUS_ADDRESS");

        if (list && *list)
                return list;
        return session ? SESSION_BUS : SYSTEM_BUS;
}

static int hex_digit(char c) {
        if (c >= '0' && c <= '9')
                return c - '0';
        if (c >= 'a' && c <= 'f')
                return c - 'a' + 10;
        if (c >= 'A' && c <= 'F')
                return c - 'A' + 10;
        return -1;
}

/* Return: false when the value does not fit, or escapes what it cannot mean. */
static bool unescape(const char *value, const char *end, char *to, size_t size) {
        size_t n = 0;

        while (value < end) {
                char c = *value++;

                if (c == '%') {
                        int high = end - value >= 2 ? hex_digit(value[0]) : -1;
                        int low = high >= 0 ? hex_digit(value[1]) : -1;

                        if (low < 0)
                                return false;
                        c = (char)(high << 4 | low);
                        value += 2;
                }
                if (c == '\0' || n + 1 >= size)
                        return false;
                to[n++] = c;
        }
        to[n] = '\0';
        return n > 0;
}

static bool use_path(DbusAddress *address, const char *path) {
        size_t n = strlen(path);

        if (n >= sizeof(address->socket.sun_path))
                return false;
        memcpy(address->socket.sun_path, path, n + 1);
        address->size = sizeof(address->socket);
        return true;
}

static bool use_abstract(DbusAddress *address, const char *name) {
        size_t n = strlen(name);

        if (n + 1 > sizeof(address->socket.sun_path))
                return false;
        memcpy(address->socket.sun_path + 1, name, n);
        address->size = offsetof(struct sockaddr_un, sun_path) + 1 + n;
        return true;
}

static bool use_runtime(DbusAddress *address, const char *yes) {
        const char *folder = secure_getenv("XDG_RUNTIME_DIR");
        char path[sizeof(address->socket.sun_path)];
        int n;

        if (strcmp(yes, "yes") != 0 || !folder || folder[0] != '/')
                return false;
        n = snprintf(path, sizeof(path), "%s/bus", folder);
        return n > 0 && (size_t)n < sizeof(path) && use_path(address, path);
}

static bool use_pair(DbusAddress *address, const char *pair, const char *end) {
        static const struct {
                const char *key;
                bool (*use)(DbusAddress *address, const char *value);
        } keys[] = { { "path=", use_path }, { "abstract=", use_abstract }, { "runtime=", use_runtime } };
        char value[sizeof(address->socket.sun_path)];

        for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
                size_t n = strlen(keys[i].key);

                if ((size_t)(end - pair) < n || memcmp(pair, keys[i].key, n) != 0)
                        continue;
                return unescape(pair + n, end, value, sizeof(value)) && keys[i].use(address, value);
        }
        return false;
}

/* Only one of the keys says where; what else stands there, like a guid, does not matter. */
static bool parse(const char *entry, const char *end, DbusAddress *ret) {
        static const char transport[] = "unix:";
        size_t n = strlen(transport);

        if ((size_t)(end - entry) < n || memcmp(entry, transport, n) != 0)
                return false;
        for (entry += n; entry < end;) {
                const char *comma = memchr(entry, ',', end - entry);
                const char *stop = comma ? comma : end;
                DbusAddress address = { .socket.sun_family = AF_UNIX };

                if (use_pair(&address, entry, stop)) {
                        *ret = address;
                        return true;
                }
                entry = comma ? comma + 1 : end;
        }
        return false;
}

bool dbus_address_next(const char **list, DbusAddress *ret) {
        while (**list) {
                const char *entry = *list, *end = strchrnul(entry, ';');

                *list = *end ? end + 1 : end;
                if (parse(entry, end, ret))
                        return true;
        }
        return false;
}
