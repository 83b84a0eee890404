/* SPDX-License-Identifier: BSD-2-Clause */
#include "ctl/ctl.h"

#include "ctl/json.h"

#include <stdlib.h>

static int flush_print(Ctl *ctl, guint32 n_objects, guint32 n_sessions) {
        GVariantDict dict;

        if (ctl->json) {
                g_variant_dict_init(&dict, NULL);
                g_variant_dict_insert(&dict, "objects", "u", n_objects);
                g_variant_dict_insert(&dict, "sessions", "u", n_sessions);
                json_print(g_variant_dict_end(&dict), true);
        } else {
                g_print("flushed: %u objects, %u sessions\n", n_objects, n_sessions);
        }
        return EXIT_SUCCESS;
}

static int flush_client(Ctl *ctl, guint64 id) {
        g_autoptr(GVariant) reply = NULL;
        g_autoptr(GError) error = NULL;
        guint32 n_objects, n_sessions;

        reply = ctl_call(ctl, "FlushClient", g_variant_new("(t)", id), "(uu)", NULL, &error);
        if (g_error_matches(error, G_DBUS_ERROR, G_DBUS_ERROR_INVALID_ARGS))
                return ctl_no_client(id);
        if (!reply)
                return ctl_fail(ctl, error);
        g_variant_get(reply, "(uu)", &n_objects, &n_sessions);
        return flush_print(ctl, n_objects, n_sessions);
}

static int flush_sessions(Ctl *ctl, const char *method) {
        g_autoptr(GVariant) reply = NULL;
        g_autoptr(GError) error = NULL;
        guint32 n_sessions;

        reply = ctl_call(ctl, method, NULL, "(u)", NULL, &error);
        if (!reply)
                return ctl_fail(ctl, error);
        g_variant_get(reply, "(u)", &n_sessions);
        return flush_print(ctl, 0, n_sessions);
}

static int flush_run(Ctl *ctl, int argc, char **argv) {
        gint64 client = 0;
        gboolean abandoned = FALSE, left_over = FALSE;
        const GOptionEntry entries[] = {
                { "client", 'C', 0, G_OPTION_ARG_INT64, &client, "What this client has in the TPM or saved", "ID" },
                { "abandoned", 'a', 0, G_OPTION_ARG_NONE, &abandoned,
                  "Saved sessions of clients that have disconnected", NULL },
                { "left-over", 'l', 0, G_OPTION_ARG_NONE, &left_over, "Sessions saved before the daemon started",
                  NULL },
                { 0 },
        };
        int code;

        if (!ctl_parse(ctl, &verb_flush, entries, &argc, &argv, &code))
                return code;
        if ((client > 0) + abandoned + left_over != 1 || client < 0)
                return ctl_usage("flush", "give one of --client, --abandoned and --left-over");
        if (client > 0)
                return flush_client(ctl, (guint64)client);
        return flush_sessions(ctl, abandoned ? "FlushAbandoned" : "FlushLeftOver");
}

const Verb verb_flush = { "flush", "--client ID | --abandoned | --left-over", "Flush objects and sessions from the TPM",
                          0, flush_run };
