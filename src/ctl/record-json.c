/* SPDX-License-Identifier: BSD-2-Clause */
#include "ctl/names.h"
#include "ctl/record.h"

#include <json-glib/json-glib.h>

static void add_number(JsonBuilder *builder, const char *name, guint64 value) {
        json_builder_set_member_name(builder, name);
        json_builder_add_int_value(builder, (gint64)value);
}

/* @value: NULL: null */
static void add_text(JsonBuilder *builder, const char *name, const char *value) {
        json_builder_set_member_name(builder, name);
        json_builder_add_string_value(builder, value);
}

static void add_bytes(JsonBuilder *builder, const char *name, const uint8_t *bytes, size_t n) {
        g_autoptr(GString) hex = g_string_sized_new(2 * n + 1);

        for (size_t i = 0; i < n; i++)
                g_string_append_printf(hex, "%02x", bytes[i]);
        add_text(builder, name, hex->str);
}

static void add_command(JsonBuilder *builder, const Record *record) {
        add_number(builder, "code", record->parsed.header.code);
        add_text(builder, "command", command_name(record->parsed.header.code));
        json_builder_set_member_name(builder, "handles");
        json_builder_begin_array(builder);
        for (unsigned i = 0; i < record->n_handles; i++)
                json_builder_add_int_value(builder, record->handles[i]);
        json_builder_end_array(builder);
        json_builder_set_member_name(builder, "sessions");
        json_builder_begin_array(builder);
        for (unsigned i = 0; i < record->parsed.n_auths; i++) {
                json_builder_begin_object(builder);
                add_number(builder, "handle", record->parsed.auths[i].session);
                add_number(builder, "attributes", record->parsed.auths[i].attributes);
                json_builder_end_object(builder);
        }
        json_builder_end_array(builder);
        add_number(builder, "command-size", record->n_command);
}

static void add_response(JsonBuilder *builder, const Record *record) {
        TpmReader reader = TPM_READER(record->response, record->n_response);
        TpmHeader header = tpm_read_header(&reader);

        add_number(builder, "response-size", record->n_response);
        if (!reader.bad)
                add_number(builder, "response-code", header.code);
        add_text(builder, "response", record_answer_text(record));
        if (record->answered && record->answer.handle)
                add_number(builder, "response-handle", record->answer.handle);
}

void record_json(const Record *record, bool dump, GString *to) {
        g_autoptr(JsonBuilder) builder = json_builder_new();
        g_autoptr(JsonNode) root = NULL;
        g_autofree char *text = NULL;

        json_builder_begin_object(builder);
        add_text(builder, "kind", record->tpm ? "tpm" : "client");
        add_number(builder, "time", record->when_us);
        add_number(builder, "lost", record->n_lost);
        add_number(builder, "client", record->client);
        add_number(builder, "uid", record->uid);
        add_number(builder, "pid", record->pid);
        add_text(builder, "name", record->name);
        add_number(builder, "locality", record->locality);
        if (!record->tpm) {
                add_number(builder, "wait", record->wait_us);
                add_number(builder, "tpm-commands", record->n_transmits);
        }
        add_number(builder, "took", record->took_us);
        add_command(builder, record);
        add_response(builder, record);
        if (dump) {
                add_bytes(builder, "command-bytes", record->command, record->n_command);
                add_bytes(builder, "response-bytes", record->response, record->n_response);
        }
        json_builder_end_object(builder);
        root = json_builder_get_root(builder);
        text = json_to_string(root, FALSE);
        g_string_append_printf(to, "%s\n", text);
}
