/* SPDX-License-Identifier: BSD-2-Clause */
#include "ctl/json.h"

#include "ctl/format.h"
#include "ctl/names.h"

#include <json-glib/json-glib.h>

/* json-glib leaves some characters as they are that a terminal obeys, or that JSON does not have in a string. */
static char *json_escape(const char *text) {
        GString *escaped = g_string_new(NULL);

        for (const char *c = text; *c; c = g_utf8_next_char(c)) {
                gunichar character = g_utf8_get_char(c);

                if (g_unichar_iscntrl(character) && character != '\n')
                        g_string_append_printf(escaped, "\\u%04x", character);
                else
                        g_string_append_unichar(escaped, character);
        }
        return g_string_free(escaped, FALSE);
}

char *json_text(GVariant *value, bool pretty) {
        g_autoptr(GVariant) taken = g_variant_ref_sink(value);
        g_autoptr(JsonNode) node = json_gvariant_serialize(taken);
        g_autofree char *text = json_to_string(node, pretty);

        return json_escape(text);
}

void json_print(GVariant *value, bool pretty) {
        g_autofree char *text = json_text(value, pretty);

        g_print("%s\n", text);
}

static GVariant *json_maybe(const char *type, GVariant *value) {
        return g_variant_new_maybe(G_VARIANT_TYPE(type), value);
}

GVariant *json_command_name(guint32 code) {
        const char *name = command_name(code);

        return json_maybe("s", name ? g_variant_new_string(name) : NULL);
}

/* MaxClients: max-clients. To be freed. */
static char *json_key(const char *property) {
        GString *key = g_string_new(NULL);

        for (const char *c = property; *c; c++) {
                if (g_ascii_isupper(*c) && c > property)
                        g_string_append_c(key, '-');
                g_string_append_c(key, g_ascii_tolower(*c));
        }
        return g_string_free(key, FALSE);
}

/* What the TPM is at; null: nothing */
static GVariant *json_of_running(GVariant *all) {
        Running running = dict_running(all);
        GVariantDict dict;

        if (running.code == 0)
                return json_maybe("a{sv}", NULL);
        g_variant_dict_init(&dict, NULL);
        g_variant_dict_insert(&dict, "code", "u", running.code);
        g_variant_dict_insert_value(&dict, "command", json_command_name(running.code));
        g_variant_dict_insert(&dict, "client", "t", running.client);
        g_variant_dict_insert(&dict, "elapsed", "t", running.elapsed_us);
        g_variant_dict_insert(&dict, "limit", "t", running.limit_us);
        return g_variant_dict_end(&dict);
}

/* The upper bound of its bucket; null: there is none. */
static GVariant *json_quantile(const Latency *latency, double q) {
        size_t i = latency_bucket(latency, q);

        return json_maybe("t", i + 1 < latency->n_buckets ? g_variant_new_uint64(latency->bounds[i]) : NULL);
}

static GVariant *json_of_latency(const Latency *latency) {
        GVariantDict dict;

        g_variant_dict_init(&dict, NULL);
        g_variant_dict_insert(&dict, "sum", "t", latency->sum_us);
        g_variant_dict_insert_value(&dict, "counts",
                                    g_variant_new_fixed_array(G_VARIANT_TYPE_UINT64, latency->counts,
                                                              latency->n_buckets, sizeof(latency->counts[0])));
        g_variant_dict_insert_value(&dict, "p50", json_quantile(latency, 0.5));
        g_variant_dict_insert_value(&dict, "p90", json_quantile(latency, 0.9));
        g_variant_dict_insert_value(&dict, "p99", json_quantile(latency, 0.99));
        return g_variant_dict_end(&dict);
}

static GVariant *json_of_latencies(GVariant *all) {
        g_autoptr(GVariant) latencies = g_variant_lookup_value(all, "Latencies", G_VARIANT_TYPE("a{s(tat)}"));
        GVariantDict dict;
        GVariantIter iter;
        Latency latency;
        const char *name;

        g_variant_dict_init(&dict, NULL);
        g_variant_iter_init(&iter, latencies);
        while (latencies && g_variant_iter_next(&iter, "{&s@(tat)}", &name, NULL))
                if (dict_latency(all, name, &latency))
                        g_variant_dict_insert_value(&dict, name, json_of_latency(&latency));
        return g_variant_dict_end(&dict);
}

GVariant *json_of_properties(GVariant *all) {
        GVariantBuilder builder = G_VARIANT_BUILDER_INIT(G_VARIANT_TYPE_VARDICT);
        GVariantIter iter;
        const char *name;
        GVariant *value;

        g_variant_iter_init(&iter, all);
        while (g_variant_iter_loop(&iter, "{&sv}", &name, &value)) {
                g_autofree char *key = json_key(name);

                if (g_str_equal(name, "Running"))
                        g_variant_builder_add(&builder, "{sv}", key, json_of_running(all));
                else if (g_str_equal(name, "Latencies"))
                        g_variant_builder_add(&builder, "{sv}", key, json_of_latencies(all));
                else
                        g_variant_builder_add(&builder, "{sv}", key, value);
        }
        return g_variant_builder_end(&builder);
}

GVariant *json_of_client(GVariant *client) {
        guint32 code = (guint32)dict_number(client, "command");
        GVariantDict dict;

        g_variant_dict_init(&dict, client);
        g_variant_dict_insert(&dict, "code", "u", code);
        g_variant_dict_insert_value(&dict, "command", json_command_name(code));
        return g_variant_dict_end(&dict);
}

GVariant *json_of_clients(GVariant *clients) {
        GVariantBuilder builder = G_VARIANT_BUILDER_INIT(G_VARIANT_TYPE("aa{sv}"));

        for (gsize i = 0; i < g_variant_n_children(clients); i++) {
                g_autoptr(GVariant) client = g_variant_get_child_value(clients, i);

                g_variant_builder_add_value(&builder, json_of_client(client));
        }
        return g_variant_builder_end(&builder);
}

void json_print_rows(const GPtrArray *rows, GVariant *(*translate)(GVariant *row)) {
        GVariantBuilder builder = G_VARIANT_BUILDER_INIT(G_VARIANT_TYPE("aa{sv}"));

        for (guint i = 0; i < rows->len; i++)
                g_variant_builder_add_value(&builder, translate ? translate(rows->pdata[i]) : rows->pdata[i]);
        json_print(g_variant_builder_end(&builder), true);
}
