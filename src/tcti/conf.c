/* SPDX-License-Identifier: BSD-2-Clause */
#include "tcti/conf.h"

#include "util/names.h"

#include <string.h>

typedef struct Seen {
        bool socket, bus_type, bus_name;
} Seen;

static bool is_key(const char *key, size_t n_key, const char *name) {
        return n_key == strlen(name) && memcmp(key, name, n_key) == 0;
}

/* Return: whether @value fitted, and came for the first time. */
static bool conf_take(char *to, size_t size, const char *value, size_t n, bool *seen) {
        if (*seen || n == 0 || n >= size)
                return false;
        memcpy(to, value, n);
        to[n] = '\0';
        *seen = true;
        return true;
}

static bool conf_take_pair(Conf *conf, Seen *seen, const char *pair, size_t n_pair) {
        const char *equals = memchr(pair, '=', n_pair);
        size_t n_key = equals ? (size_t)(equals - pair) : n_pair;
        const char *value = equals ? equals + 1 : NULL;
        size_t n = equals ? n_pair - n_key - 1 : 0;
        char type[sizeof("session")];

        if (!value)
                return false;
        if (is_key(pair, n_key, "socket"))
                return conf_take(conf->path, sizeof(conf->path), value, n, &seen->socket);
        if (is_key(pair, n_key, "bus_name"))
                return conf_take(conf->bus_name, sizeof(conf->bus_name), value, n, &seen->bus_name);
        if (!is_key(pair, n_key, "bus_type") || !conf_take(type, sizeof(type), value, n, &seen->bus_type))
                return false;
        conf->session_bus = strcmp(type, "session") == 0;
        return conf->session_bus || strcmp(type, "system") == 0;
}

bool conf_parse(const char *text, Conf *ret_conf) {
        Conf conf = { .kind = CONF_DEFAULT, .path = TABRMD_SOCKET_PATH, .bus_name = TABRMD_DBUS_NAME };
        Seen seen = { 0 };

        if (text && strnlen(text, CONF_MAX + 1) > CONF_MAX)
                return false;
        while (text && *text) {
                size_t n = strcspn(text, ",");

                if (!conf_take_pair(&conf, &seen, text, n))
                        return false;
                text += n;
                if (*text == ',')
                        text++;
        }
        if (seen.socket && (seen.bus_type || seen.bus_name))
                return false;
        if (seen.socket)
                conf.kind = CONF_SOCKET;
        else if (seen.bus_type || seen.bus_name)
                conf.kind = CONF_BUS;
        *ret_conf = conf;
        return true;
}
