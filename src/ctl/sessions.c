/* SPDX-License-Identifier: BSD-2-Clause */
#include "ctl/ctl.h"

#include "ctl/fields.h"
#include "ctl/format.h"
#include "ctl/json.h"

#include <inttypes.h>
#include <stdlib.h>

static char *session_owner(GVariant *session, const char *key) {
        g_autofree char *name = format_text(dict_text(session, "name"));
        uint64_t client = dict_number(session, key), pid = dict_number(session, "pid");

        if (client == 0)
                return g_strdup("-");
        if (pid == 0)
                return g_strdup_printf("%" PRIu64 " (%s)", client, name);
        return g_strdup_printf("%" PRIu64 " (pid %" PRIu64 " %s)", client, pid, name);
}

static char *session_user(GVariant *session, const char *key) {
        guint32 uid;

        return g_variant_lookup(session, key, "u", &uid) ? format_user(uid) : g_strdup("-");
}

/* Saved ones alone have a place in it. */
static char *session_gap(GVariant *session, const char *key) {
        guint64 n;

        return g_variant_lookup(session, key, "t", &n) ? g_strdup_printf("%" G_GUINT64_FORMAT, n) : g_strdup("-");
}

static char *session_handle(GVariant *session, const char *key) {
        return g_strdup_printf("0x%08" PRIx64, dict_number(session, key));
}

static char *session_yes_no(GVariant *session, const char *key) {
        return g_strdup(dict_number(session, key) ? "yes" : "no");
}

static const Field SESSION_FIELDS[] = {
        { "handle", { "HANDLE", false, 0, 0 }, FIELD_UNSORTED, session_handle },
        { "state", { "STATE", false, 0, 0 }, FIELD_UNSORTED, field_text },
        { "uid", { "USER", false, 8, 2 }, FIELD_UNSORTED, session_user },
        { "client", { "CLIENT", false, 12, 1 }, FIELD_UNSORTED, session_owner },
        { "loaded", { "IN TPM", false, 0, 4 }, FIELD_UNSORTED, session_yes_no },
        { "age", { "AGE", true, 0, 3 }, FIELD_UNSORTED, field_us },
        { "gap", { "GAP", true, 0, 6 }, FIELD_UNSORTED, session_gap },
        { "gap-left", { "LEFT", true, 0, 5 }, FIELD_UNSORTED, session_gap },
};

static void sessions_print(GVariant *sessions) {
        g_autoptr(GPtrArray) rows = g_ptr_array_new_with_free_func((GDestroyNotify)g_variant_unref);

        for (gsize i = 0; i < g_variant_n_children(sessions); i++)
                g_ptr_array_add(rows, g_variant_get_child_value(sessions, i));
        fields_print(SESSION_FIELDS, G_N_ELEMENTS(SESSION_FIELDS), rows);
}

static int sessions_run(Ctl *ctl, int argc, char **argv) {
        g_autoptr(GVariant) reply = NULL, sessions = NULL;
        g_autoptr(GError) error = NULL;
        int code;

        if (!ctl_parse(ctl, &verb_sessions, NULL, &argc, &argv, &code))
                return code;
        reply = ctl_call(ctl, "ListSessions", NULL, "(aa{sv})", NULL, &error);
        if (!reply)
                return ctl_fail(ctl, error);
        sessions = g_variant_get_child_value(reply, 0);
        if (ctl->json)
                json_print(sessions, true);
        else
                sessions_print(sessions);
        return EXIT_SUCCESS;
}

const Verb verb_sessions = { "sessions", "", "Show sessions, loaded and saved, and their owners", 0, sessions_run };
