/* SPDX-License-Identifier: BSD-2-Clause */
#include "ctl/ctl.h"

#include "ctl/format.h"
#include "ctl/json.h"

#include <stdlib.h>
#include <sysexits.h>

static int log_level_print(Ctl *ctl) {
        g_autoptr(GError) error = NULL;
        g_autoptr(GVariant) all = ctl_get_all(ctl, &error);
        GVariantDict dict;

        if (!all)
                return ctl_fail(error);
        if (ctl->json) {
                g_variant_dict_init(&dict, NULL);
                g_variant_dict_insert(&dict, "LogLevel", "s", dict_text(all, "LogLevel"));
                json_print(g_variant_dict_end(&dict), true);
        } else {
                g_print("%s\n", dict_text(all, "LogLevel"));
        }
        return EXIT_SUCCESS;
}

static int log_level_run(Ctl *ctl, int argc, char **argv) {
        g_autoptr(GError) error = NULL;
        int code;

        if (!ctl_parse(&verb_log_level, NULL, &argc, &argv, &code))
                return code;
        if (argc > 2) {
                g_printerr("tabrmctl: one level; see tabrmctl log-level --help\n");
                return EX_USAGE;
        }
        if (argc == 2 && !ctl_set(ctl, "LogLevel", g_variant_new_string(argv[1]), &error))
                return ctl_fail(error);
        return argc == 1 || ctl->json ? log_level_print(ctl) : EXIT_SUCCESS;
}

const Verb verb_log_level = { "log-level", "[error|warning|notice|info|debug]",
                              "Show how much is logged, or set it until the daemon ends", log_level_run };
