/* SPDX-License-Identifier: BSD-2-Clause */
#include "ctl/ctl.h"

#include "ctl/fields.h"
#include "ctl/format.h"
#include "ctl/json.h"
#include "ctl/unit.h"

#include <pwd.h>
#include <stdlib.h>

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
        { "id", { "ID", true, 0, 0 }, FIELD_ASCENDS, field_number },
        { "uid", { "USER", false, 8, 1 }, FIELD_ASCENDS, field_user },
        { "pid", { "PID", true, 0, 3 }, FIELD_ASCENDS, field_known },
        { "name", { "COMMAND", false, 12, 0 }, FIELD_UNSORTED, field_text },
        { "unit", { "UNIT", false, 12, 7 }, FIELD_UNSORTED, field_text },
        { "door", { "DOOR", false, 0, 9 }, FIELD_UNSORTED, field_text },
        { "objects", { "OBJECTS", true, 0, 2 }, FIELD_DESCENDS, field_number },
        { "sessions", { "SESSIONS", true, 0, 2 }, FIELD_DESCENDS, field_number },
        { "commands", { "COMMANDS", true, 0, 1 }, FIELD_DESCENDS, field_number },
        { "failed", { "FAILED", true, 0, 4 }, FIELD_DESCENDS, field_number },
        { "tpm-commands", { "TO TPM", true, 0, 8 }, FIELD_UNSORTED, field_number },
        { "busy", { "BUSY", true, 0, 3 }, FIELD_DESCENDS, field_us },
        { "wait", { "MEAN WAIT", true, 0, 5 }, FIELD_DESCENDS, client_mean_wait },
        { "longest-wait", { "LONGEST", true, 0, 6 }, FIELD_UNSORTED, field_us },
        { "state", { "STATE", false, 7, 2 }, FIELD_UNSORTED, client_doing },
};
#define N_CLIENT_FIELDS G_N_ELEMENTS(CLIENT_FIELDS)

static char *program_user(GVariant *program, const char *key) {
        g_autoptr(GVariant) uid = g_variant_lookup_value(program, key, G_VARIANT_TYPE_UINT32);

        return uid ? format_user(g_variant_get_uint32(uid)) : g_strdup("-");
}

static char *program_name(GVariant *program, const char *key) {
        return *dict_text(program, key) ? field_text(program, key) : g_strdup("(others)");
}

static char *program_ago(GVariant *program, const char *key) {
        uint64_t now = (uint64_t)g_get_real_time(), then = dict_number(program, key);

        return format_us(now > then ? now - then : 0);
}

static const Field PROGRAM_FIELDS[] = {
        { "last", { "LAST", true, 0, 1 }, FIELD_DESCENDS, program_ago },
        { "uid", { "USER", false, 8, 0 }, FIELD_ASCENDS, program_user },
        { "name", { "COMMAND", false, 12, 0 }, FIELD_UNSORTED, program_name },
        { "clients", { "CLIENTS", true, 0, 3 }, FIELD_DESCENDS, field_number },
        { "connections", { "CONNECTIONS", true, 0, 2 }, FIELD_DESCENDS, field_number },
        { "commands", { "COMMANDS", true, 0, 1 }, FIELD_DESCENDS, field_number },
        { "failed", { "FAILED", true, 0, 4 }, FIELD_DESCENDS, field_number },
        { "tpm-commands", { "TO TPM", true, 0, 7 }, FIELD_UNSORTED, field_number },
        { "busy", { "BUSY", true, 0, 3 }, FIELD_DESCENDS, field_us },
        { "wait", { "MEAN WAIT", true, 0, 5 }, FIELD_DESCENDS, client_mean_wait },
        { "longest-wait", { "LONGEST", true, 0, 6 }, FIELD_UNSORTED, field_us },
};
#define N_PROGRAM_FIELDS G_N_ELEMENTS(PROGRAM_FIELDS)

static GPtrArray *programs_collect(GVariant *programs, const char *user, uint32_t uid, const Field *sort) {
        GPtrArray *rows = g_ptr_array_new_with_free_func((GDestroyNotify)g_variant_unref);

        for (gsize i = 0; i < g_variant_n_children(programs); i++) {
                g_autoptr(GVariant) program = g_variant_get_child_value(programs, i);
                guint32 of = 0;

                if (!user || (g_variant_lookup(program, "uid", "u", &of) && of == uid))
                        g_ptr_array_add(rows, g_steal_pointer(&program));
        }
        fields_sort(sort, rows);
        return rows;
}

/* What is listed: connections, or programs. */
typedef struct Listing {
        const char *method;
        const Field *fields;
        size_t n_fields;
        GPtrArray *(*collect)(GVariant *rows, const char *user, uint32_t uid, const Field *sort);
        GVariant *(*json)(GVariant *row); /* NULL: as it is */
} Listing;

static const Listing CLIENTS = { "ListClients", CLIENT_FIELDS, N_CLIENT_FIELDS, clients_collect, json_of_client };
static const Listing PROGRAMS = { "ListPrograms", PROGRAM_FIELDS, N_PROGRAM_FIELDS, programs_collect, NULL };

typedef struct ClientsArguments {
        char *user, *key;
        gboolean recent;
} ClientsArguments;

static int clients_list(Ctl *ctl, const Listing *listing, const ClientsArguments *arguments) {
        g_autoptr(GVariant) reply = NULL, list = NULL;
        g_autoptr(GPtrArray) rows = NULL;
        g_autoptr(GError) error = NULL;
        g_autofree char *keys = fields_sort_keys(listing->fields, listing->n_fields);
        const Field *sort =
                fields_find_sort(listing->fields, listing->n_fields, arguments->key ?: listing->fields[0].key);
        uint32_t uid = 0;

        if (!sort)
                return ctl_usage("clients", "no key to sort by: %s; there are %s", arguments->key, keys);
        if (arguments->user && !find_user(arguments->user, &uid))
                return ctl_usage("clients", "no such user: %s", arguments->user);
        reply = ctl_call(ctl, listing->method, NULL, "(aa{sv})", NULL, &error);
        if (!reply)
                return ctl_fail(ctl, error);
        list = g_variant_get_child_value(reply, 0);
        rows = listing->collect(list, arguments->user, uid, sort);
        if (ctl->json)
                json_print_rows(rows, listing->json);
        else
                fields_print(listing->fields, listing->n_fields, rows);
        return EXIT_SUCCESS;
}

static int clients_run(Ctl *ctl, int argc, char **argv) {
        g_autofree char *keys = fields_sort_keys(CLIENT_FIELDS, N_CLIENT_FIELDS);
        g_autofree char *program_keys = fields_sort_keys(PROGRAM_FIELDS, N_PROGRAM_FIELDS);
        g_autofree char *recent = g_strdup_printf("Programs, those too that have left; KEY: %s", program_keys);
        ClientsArguments arguments = { 0 };
        const GOptionEntry entries[] = {
                { "sort", 'k', 0, G_OPTION_ARG_STRING, &arguments.key, keys, "KEY" },
                { "user", 'u', 0, G_OPTION_ARG_STRING, &arguments.user, "Those of this user alone", "USER" },
                { "recent", 'r', 0, G_OPTION_ARG_NONE, &arguments.recent, recent, NULL },
                { 0 },
        };
        int code;

        if (ctl_parse(ctl, &verb_clients, entries, &argc, &argv, &code))
                code = clients_list(ctl, arguments.recent ? &PROGRAMS : &CLIENTS, &arguments);
        g_free(arguments.user);
        g_free(arguments.key);
        return code;
}

const Verb verb_clients = { "clients", "[--recent] [--sort KEY] [--user USER]",
                            "Show connections, what they hold and do", 0, clients_run };
