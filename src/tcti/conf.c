/* SPDX-License-Identifier: BSD-2-Clause */
#include "tcti/conf.h"

#include "tpm/protocol.h"

#include <string.h>

/* A value in the text; the key was not given when it is NULL. */
typedef struct Value {
        const char *bytes;
        size_t n;
} Value;

typedef struct Values {
        Value socket;
        Value bus_type;
        Value bus_name;
} Values;

static bool is(const char *bytes, size_t n, const char *text) {
        return n == strlen(text) && memcmp(bytes, text, n) == 0;
}

static bool read_pair(const char *pair, size_t n, Values *values) {
        const char *equals = memchr(pair, '=', n);
        Value *value;
        size_t n_key;

        if (!equals)
                return false;
        n_key = equals - pair;
        if (is(pair, n_key, "socket"))
                value = &values->socket;
        else if (is(pair, n_key, "bus_type"))
                value = &values->bus_type;
        else if (is(pair, n_key, "bus_name"))
                value = &values->bus_name;
        else
                return false;

        if (value->bytes)
                return false;
        *value = (Value){ .bytes = equals + 1, .n = n - n_key - 1 };
        return value->n > 0;
}

static bool read_pairs(const char *text, Values *values) {
        while (*text) {
                const char *end = strchrnul(text, ',');

                if (!read_pair(text, end - text, values))
                        return false;
                text = *end ? end + 1 : end;
        }
        return true;
}

static bool copy(char *to, size_t size, Value value) {
        if (value.n >= size)
                return false;
        memcpy(to, value.bytes, value.n);
        to[value.n] = '\0';
        return true;
}

/* A bus ends the connection of who sends a name that cannot be one. */
static bool name_is_valid(const char *name) {
        static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_-0123456789";

        if (name[0] == ':')
                name++;
        for (bool dot = false;; dot = true) {
                size_t n = strspn(name, letters);

                if (n == 0)
                        return false;
                if (name[n] == '\0')
                        return dot;
                if (name[n] != '.')
                        return false;
                name += n + 1;
        }
}

bool conf_parse(const char *text, Conf *ret) {
        Values values = { 0 };
        Conf conf = { 0 };

        if (!text || !*text) {
                *ret = (Conf){ .socket = TABRMD_SOCKET_PATH, .bus_name = TABRMD_DBUS_NAME };
                return true;
        }
        if (strnlen(text, CONF_MAX + 1) > CONF_MAX || !read_pairs(text, &values))
                return false;

        if (values.socket.bytes) {
                if (values.bus_type.bytes || values.bus_name.bytes)
                        return false;
                if (!copy(conf.socket, sizeof(conf.socket), values.socket))
                        return false;
                *ret = conf;
                return true;
        }

        conf.session = values.bus_type.bytes && is(values.bus_type.bytes, values.bus_type.n, "session");
        if (values.bus_type.bytes && !conf.session && !is(values.bus_type.bytes, values.bus_type.n, "system"))
                return false;
        if (!values.bus_name.bytes)
                values.bus_name = (Value){ TABRMD_DBUS_NAME, strlen(TABRMD_DBUS_NAME) };
        if (!copy(conf.bus_name, sizeof(conf.bus_name), values.bus_name) || !name_is_valid(conf.bus_name))
                return false;
        *ret = conf;
        return true;
}
