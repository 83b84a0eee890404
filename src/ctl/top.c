/* SPDX-License-Identifier: BSD-2-Clause */
#include "ctl/ctl.h"

#include "ctl/json.h"
#include "ctl/top-look.h"
#include "ctl/top-screen.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sysexits.h>
#include <unistd.h>

/* Calls are waited for: a daemon that does not answer keeps keys waiting for so long. */
#define TIMEOUT_MS 2000
#define BATCH_WIDTH 200

static void print_line(TopLine *line) {
        g_autofree char *text = top_line_text(line);

        g_print("%s\n", text);
}

static void print_text(const TopModel *model) {
        g_autoptr(GPtrArray) header = top_header(model);
        int widths[TOP_COLUMNS];
        TopLine *line;

        for (guint i = 0; i < header->len; i++)
                print_line(header->pdata[i]);
        top_layout(model, BATCH_WIDTH, widths);
        line = top_titles(model, widths);
        g_print("\n");
        print_line(line);
        top_line_free(line);
        for (guint i = 0; i < model->rows->len; i++) {
                line = top_row(model->rows->pdata[i], widths);
                print_line(line);
                top_line_free(line);
        }
        g_print("\n");
}

static void print_json(const TopModel *model) {
        GVariantDict dict;

        g_variant_dict_init(&dict, NULL);
        g_variant_dict_insert(&dict, "time", "x", model->now.at);
        if (model->now.status)
                g_variant_dict_insert_value(&dict, "status", json_of_properties(model->now.status));
        g_variant_dict_insert_value(&dict, "clients", json_of_clients(model->now.clients));
        if (model->now.programs)
                g_variant_dict_insert_value(&dict, "programs", model->now.programs);
        json_print(g_variant_dict_end(&dict), false);
}

static int run_batch(Ctl *ctl, const TopOptions *options) {
        g_autoptr(GError) error = NULL;
        TopModel model;
        int code = EXIT_SUCCESS;

        (void)signal(SIGPIPE, SIG_DFL);
        top_model_init(&model);
        for (int n = 0; options->count == 0 || n < options->count; n++) {
                TopLook look;

                if (n > 0)
                        g_usleep((gulong)(options->delay * G_USEC_PER_SEC));
                if (!top_look(ctl, &look, &error)) {
                        code = ctl_fail(ctl, error);
                        break;
                }
                top_model_update(&model, look);
                if (ctl->json)
                        print_json(&model);
                else
                        print_text(&model);
                (void)fflush(stdout);
        }
        top_model_clear(&model);
        return code;
}

static int top_run(Ctl *ctl, int argc, char **argv) {
        gboolean batch = FALSE;
        TopOptions options = { .delay = TOP_DELAY };
        const GOptionEntry entries[] = {
                { "delay", 'd', 0, G_OPTION_ARG_DOUBLE, &options.delay,
                  "Time between two looks (default: " G_STRINGIFY(TOP_DELAY) ")", "SECONDS" },
                { "count", 'c', 0, G_OPTION_ARG_INT, &options.count, "Exit after so many looks", "COUNT" },
                { "batch", 0, 0, G_OPTION_ARG_NONE, &batch, "Print text, one look below the other", NULL },
                { 0 },
        };
        int code;

        if (!ctl_parse(ctl, &verb_top, entries, &argc, &argv, &code))
                return code;
        if (!top_delay_is_good(options.delay))
                return ctl_usage("top", "%s", TOP_DELAY_WRONG);
        if (options.count < 0)
                return ctl_usage("top", "a number is negative");
        ctl->timeout_ms = TIMEOUT_MS;
        if (batch || ctl->json || !isatty(STDOUT_FILENO) || !isatty(STDIN_FILENO))
                return run_batch(ctl, &options);
        return top_screen_run(ctl, &options);
}

const Verb verb_top = { "top", "[--delay SECONDS]", "Show clients and the TPM, live", 0, top_run };
