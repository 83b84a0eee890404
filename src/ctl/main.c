/* SPDX-License-Identifier: BSD-2-Clause */
#include "ctl/ctl.h"

#include "util/names.h"

#include <locale.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

/* The daemon answers at once, or is stopped. */
#define TIMEOUT_MS 10000

static const Verb *const verbs[] = {
        &verb_status, &verb_clients, &verb_top,     &verb_sessions,
        &verb_flush,  &verb_trace,   &verb_metrics, &verb_log_level,
};

/* What every verb takes, before its name. */
typedef struct Where {
        gboolean bus;
        gboolean session;
        char *socket;
        char *name;
        gboolean json;
        gboolean version;
} Where;

static void where_clear(Where *where) {
        g_free(where->socket);
        g_free(where->name);
}

G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Where, where_clear)

static char *verbs_summary(void) {
        GString *text =
                g_string_new("Shows and manages a running tpm2-abrmd.\n\nVerbs; each has a --help of its own:\n");

        for (size_t i = 0; i < G_N_ELEMENTS(verbs); i++) {
                g_autofree char *usage = g_strdup_printf("%s %s", verbs[i]->name, verbs[i]->arguments);

                g_string_append_printf(text, "  %-44s %s\n", usage, verbs[i]->summary);
        }
        return g_string_free(text, FALSE);
}

static bool parse_where(int *argc, char ***argv, Where *where, GError **error) {
        const GOptionEntry entries[] = {
                { "bus", 'b', 0, G_OPTION_ARG_NONE, &where->bus, "Ask on the system bus", NULL },
                { "session", 's', 0, G_OPTION_ARG_NONE, &where->session, "Ask on the session bus", NULL },
                { "dbus-name", 'n', 0, G_OPTION_ARG_STRING, &where->name,
                  "The daemon's name on the bus (default: " TABRMD_DBUS_NAME ")", "NAME" },
                { "socket", 'S', 0, G_OPTION_ARG_FILENAME, &where->socket,
                  "Ask on this private socket (default: " MANAGER_SOCKET_PATH ", else the system bus)", "PATH" },
                { "json", 'j', 0, G_OPTION_ARG_NONE, &where->json, "Print JSON", NULL },
                { "version", 'V', 0, G_OPTION_ARG_NONE, &where->version, "Print the version", NULL },
                { 0 },
        };
        GOptionContext *context = g_option_context_new("VERB [ARGUMENTS]");
        g_autofree char *text = verbs_summary();
        bool good;

        g_option_context_set_summary(context, text);
        g_option_context_set_strict_posix(context, TRUE);
        g_option_context_add_main_entries(context, entries, NULL);
        good = g_option_context_parse(context, argc, argv, error);
        g_option_context_free(context);
        if (good && where->bus + where->session + (where->socket != NULL) > 1) {
                g_set_error_literal(error, G_OPTION_ERROR, G_OPTION_ERROR_BAD_VALUE,
                                    "--bus, --session and --socket exclude each other");
                return false;
        }
        return good;
}

bool ctl_parse(const Verb *verb, const GOptionEntry *entries, int *argc, char ***argv, int *ret_code) {
        GOptionContext *context = g_option_context_new(verb->arguments);
        g_autofree char *name = g_strdup_printf("tabrmctl %s", verb->name);
        g_autoptr(GError) error = NULL;
        bool good;

        g_set_prgname(name);
        g_option_context_set_summary(context, verb->summary);
        if (entries)
                g_option_context_add_main_entries(context, entries, NULL);
        good = g_option_context_parse(context, argc, argv, &error);
        g_option_context_free(context);
        if (good)
                return true;
        g_printerr("tabrmctl: %s; see tabrmctl %s --help\n", error->message, verb->name);
        *ret_code = EX_USAGE;
        return false;
}

/* With nothing said, wherever it is: the private socket needs no bus. */
static void set_place(const Where *where, Ctl *ctl) {
        bool anywhere = !where->bus && !where->session && !where->name && !where->socket;

        if (where->socket || anywhere)
                ctl->socket = where->socket ?: MANAGER_SOCKET_PATH;
        if (!where->socket)
                ctl->bus_name = where->name ?: TABRMD_DBUS_NAME;
        ctl->session = where->session;
}

static const Verb *find_verb(const char *name) {
        for (size_t i = 0; i < G_N_ELEMENTS(verbs); i++)
                if (g_str_equal(verbs[i]->name, name))
                        return verbs[i];
        return NULL;
}

int main(int argc, char **argv) {
        g_auto(Where) where = { 0 };
        g_autoptr(GError) error = NULL;
        const Verb *verb;
        Ctl ctl = { 0 };
        int code;

        setlocale(LC_ALL, "");
        if (!parse_where(&argc, &argv, &where, &error)) {
                g_printerr("tabrmctl: %s; see --help\n", error->message);
                return EX_USAGE;
        }
        if (where.version) {
                g_print("tabrmctl version %s\n", TABRMD_VERSION);
                return EXIT_SUCCESS;
        }
        verb = argc > 1 ? find_verb(argv[1]) : NULL;
        if (!verb) {
                g_printerr("tabrmctl: %s; see --help\n", argc > 1 ? "there is no such verb" : "which verb?");
                return EX_USAGE;
        }
        ctl.json = where.json;
        ctl.timeout_ms = TIMEOUT_MS;
        set_place(&where, &ctl);
        /* The help of a verb needs no daemon. */
        if (argc > 2 && (g_str_equal(argv[2], "--help") || g_str_equal(argv[2], "-h")))
                return verb->run(&ctl, argc - 1, argv + 1);
        if (!ctl_connect(&ctl, &error))
                return ctl_fail(error);
        code = verb->run(&ctl, argc - 1, argv + 1);
        g_clear_object(&ctl.connection);
        return code;
}
