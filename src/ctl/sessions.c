/* SPDX-License-Identifier: BSD-2-Clause */
#include "ctl/ctl.h"

#include "ctl/format.h"
#include "ctl/json.h"

#include <inttypes.h>
#include <stdlib.h>

static char *session_owner(GVariant *session) {
        g_autofree char *name = format_text(dict_text(session, "name"));
        uint64_t client = dict_number(session, "client");

        if (client == 0)
                return g_strdup("-");
        return g_strdup_printf("%" PRIu64 " (pid %" PRIu64 " %s)", client, dict_number(session, "pid"), name);
}

static char *session_user(GVariant *session) {
        guint32 uid;

        return g_variant_lookup(session, "uid", "u", &uid) ? format_user(uid) : g_strdup("-");
}

/* Saved ones alone have a place in it. */
static char *session_gap(GVariant *session, const char *key) {
        guint64 n;

        return g_variant_lookup(session, key, "t", &n) ? g_strdup_printf("%" G_GUINT64_FORMAT, n) : g_strdup("-");
}

static void print_table(GVariant *sessions) {
        static const Column COLUMNS[] = {
                { "HANDLE", false }, { "STATE", false }, { "USER", false }, { "CLIENT", false },
                { "IN TPM", false }, { "AGE", true },    { "GAP", true },   { "LEFT", true },
        };
        Table *table = table_new(COLUMNS, G_N_ELEMENTS(COLUMNS));

        for (gsize i = 0; i < g_variant_n_children(sessions); i++) {
                g_autoptr(GVariant) session = g_variant_get_child_value(sessions, i);

                table_add(table, g_strdup_printf("0x%08" PRIx64, dict_number(session, "handle")));
                table_add(table, g_strdup(dict_text(session, "state")));
                table_add(table, session_user(session));
                table_add(table, session_owner(session));
                table_add(table, g_strdup(dict_number(session, "loaded") ? "yes" : "no"));
                table_add(table, format_us(dict_number(session, "age")));
                table_add(table, session_gap(session, "gap"));
                table_add(table, session_gap(session, "gap-left"));
        }
        table_print(table);
}

static int sessions_run(Ctl *ctl, int argc, char **argv) {
        g_autoptr(GVariant) reply = NULL, sessions = NULL;
        g_autoptr(GError) error = NULL;
        int code;

        if (!ctl_parse(&verb_sessions, NULL, &argc, &argv, &code))
                return code;
        reply = ctl_call(ctl, "ListSessions", NULL, "(aa{sv})", NULL, &error);
        if (!reply)
                return ctl_fail(error);
        sessions = g_variant_get_child_value(reply, 0);
        if (ctl->json)
                json_print(sessions, true);
        else
                print_table(sessions);
        return EXIT_SUCCESS;
}

const Verb verb_sessions = { "sessions", "", "Sessions that are loaded or saved, and whose they are", sessions_run };
