/* SPDX-License-Identifier: BSD-2-Clause */
#include "ctl/json.h"
#include "ctl/record.h"

static void json_add(GVariantBuilder *builder, const char *key, GVariant *value) {
        g_variant_builder_add(builder, "{sv}", key, value);
}

static void add_number(GVariantBuilder *builder, const char *key, guint64 value) {
        json_add(builder, key, g_variant_new_uint64(value));
}

static void add_hex(GVariantBuilder *builder, const char *key, const uint8_t *bytes, size_t n) {
        GString *hex = g_string_sized_new(2 * n + 1);

        for (size_t i = 0; i < n; i++)
                g_string_append_printf(hex, "%02x", bytes[i]);
        json_add(builder, key, g_variant_new_take_string(g_string_free(hex, FALSE)));
}

static GVariant *list_sessions(const TpmCommand *command) {
        GVariantBuilder list = G_VARIANT_BUILDER_INIT(G_VARIANT_TYPE("aa{sv}"));

        for (unsigned i = 0; i < command->n_auths; i++) {
                g_variant_builder_open(&list, G_VARIANT_TYPE_VARDICT);
                add_number(&list, "handle", command->auths[i].session);
                add_number(&list, "attributes", command->auths[i].attributes);
                g_variant_builder_close(&list);
        }
        return g_variant_builder_end(&list);
}

static void add_command(GVariantBuilder *builder, const Record *record) {
        add_number(builder, "code", record->parsed.header.code);
        json_add(builder, "command", json_command_name(record->parsed.header.code));
        json_add(
                builder, "handles",
                g_variant_new_fixed_array(G_VARIANT_TYPE_UINT32, record->handles, record->n_handles, sizeof(uint32_t)));
        json_add(builder, "sessions", list_sessions(&record->parsed));
        add_number(builder, "command-size", record->n_command);
}

static void add_response(GVariantBuilder *builder, const Record *record) {
        TpmReader reader = TPM_READER(record->response, record->n_response);
        TpmHeader header = tpm_read_header(&reader);

        add_number(builder, "response-size", record->n_response);
        if (!reader.bad)
                add_number(builder, "response-code", header.code);
        json_add(builder, "response", g_variant_new_string(record_answer_text(record)));
        if (record->answered && record->answer.handle)
                add_number(builder, "response-handle", record->answer.handle);
}

void record_json(const Record *record, bool dump, GString *to) {
        GVariantBuilder builder = G_VARIANT_BUILDER_INIT(G_VARIANT_TYPE_VARDICT);
        g_autofree char *text = NULL;

        json_add(&builder, "kind", g_variant_new_string(record->tpm ? "tpm" : "client"));
        add_number(&builder, "time", record->when_us);
        add_number(&builder, "lost", record->n_dropped);
        add_number(&builder, "client", record->client);
        add_number(&builder, "uid", record->uid);
        add_number(&builder, "pid", record->pid);
        json_add(&builder, "name", g_variant_new_string(record->name));
        add_number(&builder, "locality", record->locality);
        if (!record->tpm) {
                add_number(&builder, "wait", record->wait_us);
                add_number(&builder, "tpm-commands", record->n_transmits);
        }
        add_number(&builder, "took", record->took_us);
        add_command(&builder, record);
        add_response(&builder, record);
        if (dump) {
                add_hex(&builder, "command-bytes", record->command, record->n_command);
                add_hex(&builder, "response-bytes", record->response, record->n_response);
        }
        text = json_text(g_variant_builder_end(&builder), false);
        g_string_append_printf(to, "%s\n", text);
}
