/* SPDX-License-Identifier: BSD-2-Clause */
#include "ctl/ctl.h"

#include "ctl/json.h"

#include <stdlib.h>

static int log_level_print(Ctl *ctl) {
        g_autoptr(GError) error = NULL;
        g_autoptr(GVariant) level = ctl_get(ctl, "LogLevel", &error);
        GVariantDict dict;

        if (level && !g_variant_is_of_type(level, G_VARIANT_TYPE_STRING))
                g_set_error_literal(&error, CTL_ERROR, CTL_ERROR_VERSION, "");
        if (error)
                return ctl_fail(ctl, error);
        if (ctl->json) {
                g_variant_dict_init(&dict, NULL);
                g_variant_dict_insert_value(&dict, "log-level", level);
                json_print(g_variant_dict_end(&dict), true);
        } else {
                g_print("%s\n", g_variant_get_string(level, NULL));
        }
        return EXIT_SUCCESS;
}

static int log_level_run(Ctl *ctl, int argc, char **argv) {
        g_autoptr(GError) error = NULL;
        int code;

        if (!ctl_parse(ctl, &verb_log_level, NULL, &argc, &argv, &code))
                return code;
        if (argc == 2 && !ctl_set(ctl, "LogLevel", g_variant_new_string(argv[1]), &error))
                return ctl_fail(ctl, error);
        return argc == 1 || ctl->json ? log_level_print(ctl) : EXIT_SUCCESS;
}

const Verb verb_log_level = { "log-level", "[error|warning|notice|info|debug]", "Show or set how much the daemon logs",
                              1, log_level_run };
