/* SPDX-License-Identifier: BSD-2-Clause */
#include "ctl/unit.h"

#include "ctl/format.h"

/* Units may stand within units: the innermost is whose the process is. */
char *unit_in(const char *cgroups) {
        g_auto(GStrv) parts = g_strsplit_set(cgroups, "/\n", -1);
        const char *unit = "-";

        for (size_t i = 0; parts[i]; i++)
                if (g_str_has_suffix(parts[i], ".service") || g_str_has_suffix(parts[i], ".scope"))
                        unit = parts[i];
        return format_text(unit);
}

char *unit_of(uint32_t pid) {
        g_autofree char *path = g_strdup_printf("/proc/%u/cgroup", pid);
        g_autofree char *cgroups = NULL;

        if (pid == 0 || !g_file_get_contents(path, &cgroups, NULL, NULL))
                return g_strdup("-");
        return unit_in(cgroups);
}
