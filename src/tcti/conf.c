/* SPDX-License-Identifier: BSD-2-Clause */
#include "tcti/conf.h"

#include "util/names.h"

#include <string.h>

#define KEYS "socket=PATH, or bus_type=system|session and bus_name=NAME"

/* A part of the configuration. */
typedef struct Word {
        const char *text;
        size_t n;
} Word;

#define WORD_FORMAT "\"%.*s\""
#define WORD_ARGUMENTS(word) (int)(word)->n, (word)->text

static bool is(const Word *word, const char *text) {
        return word->n == strlen(text) && memcmp(word->text, text, word->n) == 0;
}

/* Return: whether @value fitted. */
static bool conf_take(char *to, size_t size, const Word *key, const Word *value, Why *why) {
        if (value->n >= size) {
                why_add(why, "%.*s: the value has %zu bytes; at most %zu are possible", WORD_ARGUMENTS(key), value->n,
                        size - 1);
                return false;
        }
        memcpy(to, value->text, value->n);
        to[value->n] = '\0';
        return true;
}

/*
 * "key=value". As in tpm2-abrmd 3.0, equals signs may be repeated, and of values without any in them the first counts;
 * a path may have one.
 */
static bool parse_pair(Word pair, Word *ret_key, Word *ret_value) {
        size_t n = strspn(pair.text, "=");

        n = n < pair.n ? n : pair.n;
        pair.text += n;
        pair.n -= n;
        n = strcspn(pair.text, "=");
        *ret_key = (Word){ pair.text, n < pair.n ? n : pair.n };
        pair.text += ret_key->n;
        pair.n -= ret_key->n;
        n = strspn(pair.text, "=");
        n = n < pair.n ? n : pair.n;
        *ret_value = (Word){ pair.text + n, pair.n - n };
        return ret_key->n > 0 && ret_value->n > 0;
}

static bool conf_take_pair(Conf *conf, Word pair, Why *why) {
        Word key, value, first;

        if (!parse_pair(pair, &key, &value)) {
                why_add(why, WORD_FORMAT ": no key with a value (" KEYS ")", WORD_ARGUMENTS(&pair));
                return false;
        }
        if (is(&key, "socket")) {
                conf->kind |= CONF_SOCKET;
                return conf_take(conf->path, sizeof(conf->path), &key, &value, why);
        }
        conf->kind |= CONF_BUS;
        first = (Word){ value.text, strcspn(value.text, "=") };
        first.n = first.n < value.n ? first.n : value.n;
        if (is(&key, "bus_name"))
                return conf_take(conf->bus_name, sizeof(conf->bus_name), &key, &first, why);
        if (!is(&key, "bus_type")) {
                why_add(why, WORD_FORMAT ": no such key (" KEYS ")", WORD_ARGUMENTS(&key));
                return false;
        }
        conf->session_bus = is(&first, "session");
        if (!conf->session_bus && !is(&first, "system")) {
                why_add(why, "bus_type=%.*s: no such bus (system or session)", WORD_ARGUMENTS(&first));
                return false;
        }
        return true;
}

/* Commas may be repeated, keys too: the last counts. */
bool conf_parse(const char *text, Conf *ret_conf, Why *why) {
        Conf conf = { .path = TABRMD_SOCKET_PATH, .bus_name = TABRMD_DBUS_NAME };

        if (text && strnlen(text, CONF_MAX + 1) > CONF_MAX) {
                why_add(why, "the configuration has more than %d bytes (" KEYS ")", CONF_MAX);
                return false;
        }
        while (text && *text) {
                Word pair = { text, strcspn(text, ",") };

                if (pair.n > 0 && !conf_take_pair(&conf, pair, why))
                        return false;
                text += pair.n + (text[pair.n] == ',');
        }
        if (conf.kind == (CONF_SOCKET | CONF_BUS)) {
                why_add(why, "a socket and a bus at once (" KEYS ")");
                return false;
        }
        *ret_conf = conf;
        return true;
}
