/* SPDX-License-Identifier: BSD-2-Clause */
#include "ctl/json.h"

#include <json-glib/json-glib.h>

char *json_text(GVariant *value, bool pretty) {
        g_autoptr(GVariant) taken = g_variant_ref_sink(value);
        g_autoptr(JsonNode) node = json_gvariant_serialize(taken);

        return json_to_string(node, pretty);
}

void json_print(GVariant *value, bool pretty) {
        g_autofree char *text = json_text(value, pretty);

        g_print("%s\n", text);
}
