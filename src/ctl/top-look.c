/* SPDX-License-Identifier: BSD-2-Clause */
#include "ctl/top-look.h"

bool top_look(Ctl *ctl, TopLook *ret_look, GError **error) {
        g_autoptr(GVariant) reply = NULL, programs = NULL;
        g_autoptr(GError) denied = NULL, unknown = NULL;
        TopLook look = { 0 };

        /* First, so that what clients do meanwhile is theirs, and not that of others who have left. */
        programs = ctl_call(ctl, "ListPrograms", NULL, "(aa{sv})", NULL, &unknown);
        reply = ctl_call(ctl, "ListClients", NULL, "(aa{sv})", NULL, error);
        if (!reply)
                return false;
        look.status = ctl_get_all(ctl, &denied);
        if (!look.status && !g_error_matches(denied, G_DBUS_ERROR, G_DBUS_ERROR_ACCESS_DENIED)) {
                g_propagate_error(error, g_steal_pointer(&denied));
                return false;
        }
        look.clients = g_variant_get_child_value(reply, 0);
        look.programs = programs ? g_variant_get_child_value(programs, 0) : NULL;
        look.at = g_get_real_time();
        *ret_look = look;
        return true;
}
