/* SPDX-License-Identifier: BSD-2-Clause */
#include "ctl/ctl.h"

#include "ctl/format.h"
#include "ctl/json.h"
#include "ctl/unit.h"

#include <inttypes.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

static const char *const SORT_KEYS[] = { "id",       "uid",    "pid",  "objects", "sessions",
                                         "commands", "failed", "wait", "busy",    NULL };

/* The largest first, but for what tells clients apart. */
static gint clients_compare(gconstpointer a, gconstpointer b, gpointer userdata) {
        const char *key = userdata;
        uint64_t left = dict_number(*(GVariant *const *)a, key), right = dict_number(*(GVariant *const *)b, key);
        bool ascending = g_str_equal(key, "id") || g_str_equal(key, "uid") || g_str_equal(key, "pid");

        if (left == right)
                return 0;
        return (left < right) == ascending ? -1 : 1;
}

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
static GPtrArray *clients_collect(GVariant *clients, const char *user, uint32_t uid, const char *key) {
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
        g_ptr_array_sort_with_data(rows, clients_compare, (gpointer)key);
        return rows;
}

static char *client_number(GVariant *client, const char *key) {
        return g_strdup_printf("%" PRIu64, dict_number(client, key));
}

static char *client_mean_wait(GVariant *client) {
        uint64_t n = dict_number(client, "commands");

        return n > 0 ? format_us(dict_number(client, "wait") / n) : g_strdup("-");
}

static char *client_doing(GVariant *client) {
        g_autofree char *command = NULL, *elapsed = NULL;

        if (dict_number(client, "command") == 0)
                return g_strdup(dict_text(client, "state"));
        command = format_command((uint32_t)dict_number(client, "command"));
        elapsed = format_us(dict_number(client, "elapsed"));
        return g_strdup_printf("%s: %s for %s", dict_text(client, "state"), command, elapsed);
}

static void print_table(GPtrArray *rows) {
        static const Column COLUMNS[] = {
                { "ID", true },        { "USER", false },   { "PID", true },     { "COMMAND", false },
                { "UNIT", false },     { "DOOR", false },   { "OBJECTS", true }, { "SESSIONS", true },
                { "COMMANDS", true },  { "FAILED", true },  { "TO TPM", true },  { "BUSY", true },
                { "MEAN WAIT", true }, { "LONGEST", true }, { "STATE", false },
        };
        Table *table = table_new(COLUMNS, G_N_ELEMENTS(COLUMNS));

        for (guint i = 0; i < rows->len; i++) {
                GVariant *client = rows->pdata[i];

                table_add(table, client_number(client, "id"));
                table_add(table, format_user((uint32_t)dict_number(client, "uid")));
                table_add(table, client_number(client, "pid"));
                table_add(table, format_text(dict_text(client, "name")));
                table_add(table, format_text(dict_text(client, "unit")));
                table_add(table, g_strdup(dict_text(client, "door")));
                table_add(table, client_number(client, "objects"));
                table_add(table, client_number(client, "sessions"));
                table_add(table, client_number(client, "commands"));
                table_add(table, client_number(client, "failed"));
                table_add(table, client_number(client, "tpm-commands"));
                table_add(table, format_us(dict_number(client, "busy")));
                table_add(table, client_mean_wait(client));
                table_add(table, format_us(dict_number(client, "longest-wait")));
                table_add(table, client_doing(client));
        }
        table_print(table);
}

static int clients_usage(const char *what) {
        g_printerr("tabrmctl: %s; see tabrmctl clients --help\n", what);
        return EX_USAGE;
}

static int clients_list(Ctl *ctl, const char *user, const char *key) {
        g_autoptr(GVariant) reply = NULL, clients = NULL;
        g_autoptr(GPtrArray) rows = NULL;
        g_autoptr(GError) error = NULL;
        uint32_t uid = 0;

        if (!g_strv_contains(SORT_KEYS, key))
                return clients_usage("there is no such key to sort by");
        if (user && !find_user(user, &uid))
                return clients_usage("there is no such user");
        reply = ctl_call(ctl, "ListClients", NULL, "(aa{sv})", NULL, &error);
        if (!reply)
                return ctl_fail(error);
        clients = g_variant_get_child_value(reply, 0);
        rows = clients_collect(clients, user, uid, key);
        if (ctl->json)
                json_print(g_variant_new_array(G_VARIANT_TYPE_VARDICT, (GVariant *const *)rows->pdata, rows->len),
                           true);
        else
                print_table(rows);
        return EXIT_SUCCESS;
}

static int clients_run(Ctl *ctl, int argc, char **argv) {
        g_autofree char *user = NULL, *key = NULL;
        const GOptionEntry entries[] = {
                { "sort", 'k', 0, G_OPTION_ARG_STRING, &key,
                  "id (default), uid, pid, objects, sessions, commands, failed, wait or busy", "KEY" },
                { "user", 'u', 0, G_OPTION_ARG_STRING, &user, "Those of this user alone", "USER" },
                { 0 },
        };
        int code;

        if (!ctl_parse(&verb_clients, entries, &argc, &argv, &code))
                return code;
        return clients_list(ctl, user, key ?: "id");
}

const Verb verb_clients = { "clients", "[--sort KEY] [--user USER]", "Who is connected, and what it holds and does",
                            clients_run };
