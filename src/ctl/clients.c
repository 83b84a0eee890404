/* SPDX-License-Identifier: BSD-2-Clause */
#include "ctl/ctl.h"

#include "ctl/fields.h"
#include "ctl/format.h"
#include "ctl/json.h"
#include "ctl/unit.h"

#include <pwd.h>
#include <stdlib.h>
#include <sysexits.h>

/* Return: false: there is no such user. */
static bool find_user(const char *text, uint32_t *ret_uid) {
        const struct passwd *user;
        guint64 number;

        if (g_ascii_string_to_unsigned(text, 10, 0, G_MAXUINT32, &number, NULL)) {
                *ret_uid = (uint32_t)number;
                return true;
        }
        user = getpwnam(text);
        if (user)
                *ret_uid = user->pw_uid;
        return user;
}

/* The rows that are asked for, sorted; each with its unit, which the daemon does not know. */
static GPtrArray *clients_collect(GVariant *clients, const char *user, uint32_t uid, const Field *sort) {
        GPtrArray *rows = g_ptr_array_new_with_free_func((GDestroyNotify)g_variant_unref);

        for (gsize i = 0; i < g_variant_n_children(clients); i++) {
                g_autoptr(GVariant) client = g_variant_get_child_value(clients, i);
                g_autofree char *unit = NULL;
                GVariantDict dict;

                if (user && dict_number(client, "uid") != uid)
                        continue;
                unit = unit_of((uint32_t)dict_number(client, "pid"));
                g_variant_dict_init(&dict, client);
                g_variant_dict_insert(&dict, "unit", "s", unit);
                g_ptr_array_add(rows, g_variant_ref_sink(g_variant_dict_end(&dict)));
        }
        fields_sort(sort, rows);
        return rows;
}

static char *client_mean_wait(GVariant *client, const char *key) {
        uint64_t n = dict_number(client, "commands");

        return n > 0 ? format_us(dict_number(client, key) / n) : g_strdup("-");
}

static char *client_doing(GVariant *client, const char *key) {
        g_autofree char *command = NULL, *elapsed = NULL;

        if (dict_number(client, "command") == 0)
                return g_strdup(dict_text(client, key));
        command = format_command((uint32_t)dict_number(client, "command"));
        elapsed = format_us(dict_number(client, "elapsed"));
        return g_strdup_printf("%s: %s for %s", dict_text(client, key), command, elapsed);
}

static const Field CLIENT_FIELDS[] = {
        { "id", "ID", true, FIELD_ASCENDS, field_number },
        { "uid", "USER", false, FIELD_ASCENDS, field_user },
        { "pid", "PID", true, FIELD_ASCENDS, field_number },
        { "name", "COMMAND", false, FIELD_UNSORTED, field_text },
        { "unit", "UNIT", false, FIELD_UNSORTED, field_text },
        { "door", "DOOR", false, FIELD_UNSORTED, field_text },
        { "objects", "OBJECTS", true, FIELD_DESCENDS, field_number },
        { "sessions", "SESSIONS", true, FIELD_DESCENDS, field_number },
        { "commands", "COMMANDS", true, FIELD_DESCENDS, field_number },
        { "failed", "FAILED", true, FIELD_DESCENDS, field_number },
        { "tpm-commands", "TO TPM", true, FIELD_UNSORTED, field_number },
        { "busy", "BUSY", true, FIELD_DESCENDS, field_us },
        { "wait", "MEAN WAIT", true, FIELD_DESCENDS, client_mean_wait },
        { "longest-wait", "LONGEST", true, FIELD_UNSORTED, field_us },
        { "state", "STATE", false, FIELD_UNSORTED, client_doing },
};
#define N_CLIENT_FIELDS G_N_ELEMENTS(CLIENT_FIELDS)

static int clients_usage(const char *what) {
        g_printerr("tabrmctl: %s; see tabrmctl clients --help\n", what);
        return EX_USAGE;
}

static int clients_list(Ctl *ctl, const char *user, const char *key) {
        g_autoptr(GVariant) reply = NULL, clients = NULL;
        g_autoptr(GPtrArray) rows = NULL;
        g_autoptr(GError) error = NULL;
        const Field *sort = fields_find_sort(CLIENT_FIELDS, N_CLIENT_FIELDS, key);
        uint32_t uid = 0;

        if (!sort)
                return clients_usage("there is no such key to sort by");
        if (user && !find_user(user, &uid))
                return clients_usage("there is no such user");
        reply = ctl_call(ctl, "ListClients", NULL, "(aa{sv})", NULL, &error);
        if (!reply)
                return ctl_fail(error);
        clients = g_variant_get_child_value(reply, 0);
        rows = clients_collect(clients, user, uid, sort);
        if (ctl->json)
                json_print(g_variant_new_array(G_VARIANT_TYPE_VARDICT, (GVariant *const *)rows->pdata, rows->len),
                           true);
        else
                fields_print(CLIENT_FIELDS, N_CLIENT_FIELDS, rows);
        return EXIT_SUCCESS;
}

static int clients_run(Ctl *ctl, int argc, char **argv) {
        g_autofree char *user = NULL, *key = NULL, *keys = fields_sort_keys(CLIENT_FIELDS, N_CLIENT_FIELDS);
        const GOptionEntry entries[] = {
                { "sort", 'k', 0, G_OPTION_ARG_STRING, &key, keys, "KEY" },
                { "user", 'u', 0, G_OPTION_ARG_STRING, &user, "Those of this user alone", "USER" },
                { 0 },
        };
        int code;

        if (!ctl_parse(&verb_clients, entries, &argc, &argv, &code))
                return code;
        return clients_list(ctl, user, key ?: CLIENT_FIELDS[0].key);
}

const Verb verb_clients = { "clients", "[--sort KEY] [--user USER]", "Who is connected, and what it holds and does",
                            clients_run };
