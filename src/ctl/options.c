/* SPDX-License-Identifier: BSD-2-Clause */
#include "ctl/ctl.h"

#include "util/names.h"

#include <stdlib.h>
#include <sysexits.h>

void ctl_add_options(GOptionContext *context, CtlOptions *options, int flags) {
        const GOptionEntry entries[] = {
                { "bus", 'b', flags, G_OPTION_ARG_NONE, &options->bus, "Ask on the system bus", NULL },
                { "session", 's', flags, G_OPTION_ARG_NONE, &options->session, "Ask on the session bus", NULL },
                { "dbus-name", 'n', flags, G_OPTION_ARG_STRING, &options->name,
                  "The daemon's name on the bus (default: " TABRMD_DBUS_NAME ")", "NAME" },
                { "socket", 'S', flags, G_OPTION_ARG_FILENAME, &options->socket,
                  "Ask on this private socket (default: " MANAGER_SOCKET_PATH ", else the system bus)", "PATH" },
                { "json", 'j', flags, G_OPTION_ARG_NONE, &options->json, "Print JSON", NULL },
                { "version", 'V', flags, G_OPTION_ARG_NONE, &options->version, "Print the version", NULL },
                { 0 },
        };

        g_option_context_add_main_entries(context, entries, NULL);
}

void ctl_options_clear(CtlOptions *options) {
        g_clear_pointer(&options->socket, g_free);
        g_clear_pointer(&options->name, g_free);
}

/* What stands behind the verb counts, where the same stands before it. */
static void options_take(CtlOptions *options, CtlOptions *behind) {
        options->bus |= behind->bus;
        options->session |= behind->session;
        options->json |= behind->json;
        options->version |= behind->version;
        if (behind->socket) {
                g_free(options->socket);
                options->socket = g_steal_pointer(&behind->socket);
        }
        if (behind->name) {
                g_free(options->name);
                options->name = g_steal_pointer(&behind->name);
        }
}

/* With nothing said, wherever it is: the private socket needs no bus. */
static void set_place(Ctl *ctl) {
        const CtlOptions *options = &ctl->options;
        bool anywhere = !options->bus && !options->session && !options->name && !options->socket;

        if (options->socket || anywhere)
                ctl->socket = options->socket ?: MANAGER_SOCKET_PATH;
        if (!options->socket)
                ctl->bus_name = options->name ?: TABRMD_DBUS_NAME;
        ctl->session = options->session;
        ctl->json = options->json;
}

int ctl_usage(const char *verb, const char *format, ...) {
        g_autofree char *text = NULL;
        va_list arguments;

        va_start(arguments, format);
        text = g_strdup_vprintf(format, arguments);
        va_end(arguments);
        g_printerr("tabrmctl: %s; see tabrmctl %s%s--help\n", text, verb ? verb : "", verb ? " " : "");
        return EX_USAGE;
}

static bool parse(const Verb *verb, const GOptionEntry *entries, CtlOptions *behind, int *argc, char ***argv,
                  GError **error) {
        GOptionContext *context = g_option_context_new(verb->arguments);
        g_autofree char *name = g_strdup_printf("tabrmctl %s", verb->name);
        bool good;

        g_set_prgname(name);
        g_option_context_set_summary(context, verb->summary);
        g_option_context_set_description(
                context, "Options of all verbs, such as --json, may stand here, too; tabrmctl --help lists them.");
        if (entries)
                g_option_context_add_main_entries(context, entries, NULL);
        ctl_add_options(context, behind, G_OPTION_FLAG_HIDDEN);
        good = g_option_context_parse(context, argc, argv, error);
        g_option_context_free(context);
        return good;
}

bool ctl_parse(Ctl *ctl, const Verb *verb, const GOptionEntry *entries, int *argc, char ***argv, int *ret_code) {
        const CtlOptions *options = &ctl->options;
        CtlOptions behind = { 0 };
        g_autoptr(GError) error = NULL;
        bool good = parse(verb, entries, &behind, argc, argv, &error);

        options_take(&ctl->options, &behind);
        ctl_options_clear(&behind);
        ctl->verb = verb->name;
        *ret_code = EX_USAGE;
        if (!good) {
                ctl_usage(verb->name, "%s", error->message);
        } else if (options->version) {
                g_print("tabrmctl version %s\n", TABRMD_VERSION);
                *ret_code = EXIT_SUCCESS;
        } else if (options->bus + options->session + (options->socket != NULL) > 1) {
                ctl_usage(verb->name, "--bus, --session and --socket exclude each other");
        } else if (options->name && options->socket) {
                ctl_usage(verb->name, "--dbus-name and --socket exclude each other");
        } else if (options->name && !g_dbus_is_name(options->name)) {
                ctl_usage(verb->name, "%s cannot be a name on the bus (--dbus-name)", options->name);
        } else if (*argc - 1 > verb->n_words_max) {
                ctl_usage(verb->name, "surplus argument: %s", (*argv)[1 + verb->n_words_max]);
        } else {
                set_place(ctl);
                return true;
        }
        return false;
}
