/* SPDX-License-Identifier: BSD-2-Clause */
#include "ctl/record.h"

#include "manager/record.h"

#include <tss2/tss2_rc.h>

static const uint8_t *bytes_of(GVariant *variant, guint child, gsize *ret_n) {
        g_autoptr(GVariant) bytes = g_variant_get_child_value(variant, child);

        *ret_n = g_variant_get_size(bytes);
        return g_variant_get_data(bytes);
}

/* The handle of FlushContext is a parameter. */
static void find_handles(Record *record) {
        TpmReader reader = TPM_READER(record->command, record->n_command);

        for (unsigned i = 0; i < record->parsed.n_handles; i++)
                record->handles[record->n_handles++] = record->parsed.handles[i];
        if (record->parsed.info.kind != TPM_COMMAND_FLUSH_CONTEXT)
                return;
        tpm_read_header(&reader);
        if (tpm_reader_left(&reader) == sizeof(TPM2_HANDLE))
                record->handles[record->n_handles++] = tpm_read_u32(&reader);
}

bool record_parse(TpmCommandTable *table, const uint8_t *bytes, size_t n_bytes, Record *ret_record) {
        GVariant *variant = g_variant_ref_sink(
                g_variant_new_from_data(G_VARIANT_TYPE(MANAGER_RECORD_TYPE), bytes, n_bytes, FALSE, NULL, NULL));
        Record record = { .variant = variant };
        guint8 kind;

        if (!g_variant_is_normal_form(variant)) {
                g_variant_unref(variant);
                return false;
        }
        g_variant_get(variant, "(ytttuu&syttuayay)", &kind, &record.when_us, &record.n_dropped, &record.client,
                      &record.uid, &record.pid, &record.name, &record.locality, &record.wait_us, &record.took_us,
                      &record.n_transmits, NULL, NULL);
        record.tpm = kind == MANAGER_RECORD_TPM;
        record.command = bytes_of(variant, 11, &record.n_command);
        record.response = bytes_of(variant, 12, &record.n_response);
        record.parsed = tpm_command_parse(table, record.command, record.n_command);
        record.answered = tpm_response_parse(&record.parsed, record.response, record.n_response, &record.answer);
        find_handles(&record);
        *ret_record = record;
        return true;
}

void record_clear(Record *record) {
        g_clear_pointer(&record->variant, g_variant_unref);
}

const char *record_answer_text(const Record *record) {
        TpmReader reader = TPM_READER(record->response, record->n_response);
        TpmHeader header = tpm_read_header(&reader);

        if (record->n_response == 0)
                return "no answer";
        if (reader.bad)
                return "no whole answer";
        return header.code == TPM2_RC_SUCCESS ? "success" : Tss2_RC_Decode(header.code);
}
