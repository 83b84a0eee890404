/* SPDX-License-Identifier: BSD-2-Clause */
#include "ctl/ctl.h"
#include "ctl/suggest.h"
#include "util/fd.h"

#include <locale.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

/* The daemon answers at once, or is stopped. */
#define TIMEOUT_MS 10000

static int help_run(Ctl *ctl, int argc, char **argv);

static const Verb verb_help = { "help", "[VERB]", "Print this, or the help of a verb", 1, help_run };

static const Verb *const verbs[] = {
        &verb_status, &verb_clients, &verb_top,       &verb_sessions, &verb_flush,
        &verb_trace,  &verb_metrics, &verb_log_level, &verb_help,
};
#define N_VERBS G_N_ELEMENTS(verbs)

static char *verb_synopsis(const Verb *verb) {
        return g_strdup_printf("%s%s%s", verb->name, *verb->arguments ? " " : "", verb->arguments);
}

static char *verbs_summary(void) {
        GString *text =
                g_string_new("Shows and manages a running tpm2-abrmd.\n\nVerbs; each has a --help of its own:\n");
        size_t width = 0;

        for (size_t i = 0; i < N_VERBS; i++) {
                g_autofree char *synopsis = verb_synopsis(verbs[i]);

                width = MAX(width, strlen(synopsis));
        }
        for (size_t i = 0; i < N_VERBS; i++) {
                g_autofree char *synopsis = verb_synopsis(verbs[i]);

                g_string_append_printf(text, "  %-*s  %s\n", (int)width, synopsis, verbs[i]->summary);
        }
        return g_string_free(text, FALSE);
}

/* Of what stands before the verb; to be freed. */
static GOptionContext *main_context(CtlOptions *options) {
        GOptionContext *context = g_option_context_new("VERB [ARGUMENTS]");
        g_autofree char *text = verbs_summary();

        g_option_context_set_summary(context, text);
        g_option_context_set_description(context, "These options may stand behind the verb, too.");
        g_option_context_set_strict_posix(context, TRUE);
        ctl_add_options(context, options, 0);
        return context;
}

/* Return: NULL: there is none, and it was said. */
static const Verb *find_verb(const char *name) {
        const char *names[N_VERBS], *near;

        for (size_t i = 0; i < N_VERBS; i++) {
                if (g_str_equal(verbs[i]->name, name))
                        return verbs[i];
                names[i] = verbs[i]->name;
        }
        near = suggest(name, names, N_VERBS);
        if (near)
                ctl_usage(NULL, "there is no verb %s (did you mean %s?)", name, near);
        else
                ctl_usage(NULL, "there is no verb %s", name);
        return NULL;
}

static int help_run(Ctl *ctl, int argc, char **argv) {
        static char option[] = "--help";
        GOptionContext *context;
        g_autofree char *text = NULL;
        const Verb *verb;
        int code;

        if (!ctl_parse(ctl, &verb_help, NULL, &argc, &argv, &code))
                return code;
        if (argc > 1) {
                char *asking[] = { argv[1], option, NULL };

                verb = find_verb(argv[1]);
                return verb ? verb->run(ctl, 2, asking) : EX_USAGE;
        }
        g_set_prgname("tabrmctl");
        context = main_context(&ctl->options);
        text = g_option_context_get_help(context, TRUE, NULL);
        g_option_context_free(context);
        g_print("%s", text);
        return EXIT_SUCCESS;
}

static int ctl_run(Ctl *ctl, int argc, char **argv) {
        GOptionContext *context = main_context(&ctl->options);
        g_autoptr(GError) error = NULL;
        bool good = g_option_context_parse(context, &argc, &argv, &error);
        const Verb *verb;

        g_option_context_free(context);
        if (!good)
                return ctl_usage(NULL, "%s", error->message);
        if (ctl->options.version) {
                g_print("tabrmctl version %s\n", TABRMD_VERSION);
                return EXIT_SUCCESS;
        }
        if (argc < 2)
                return ctl_usage(NULL, "missing verb");
        verb = find_verb(argv[1]);
        return verb ? verb->run(ctl, argc - 1, argv + 1) : EX_USAGE;
}

int main(int argc, char **argv) {
        Ctl ctl = { .timeout_ms = TIMEOUT_MS };
        int code;

        if (!fd_fill_standard())
                return EX_OSERR;
        setlocale(LC_ALL, "");
        code = ctl_run(&ctl, argc, argv);
        g_clear_object(&ctl.connection);
        g_clear_error(&ctl.socket_error);
        ctl_options_clear(&ctl.options);
        return code;
}
