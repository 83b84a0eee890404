/* SPDX-License-Identifier: BSD-2-Clause */
#include "ctl/format.h"
#include "ctl/record.h"

#define LINE "%-15s %6s %-26s %-24s %-17s %-17s %5s %5s %9s %9s %3s %s"

void record_text_head(GString *to) {
        g_string_append_printf(to, LINE "\n", "TIME", "CLIENT", "UID/PID/NAME", "COMMAND", "HANDLES", "SESSIONS",
                               "SENT", "GOT", "WAITED/us", "TOOK/us", "TPM", "ANSWER");
}

static char *text_of_time(guint64 us) {
        g_autoptr(GDateTime) time = g_date_time_new_from_unix_local((gint64)(us / G_USEC_PER_SEC));
        g_autofree char *text = time ? g_date_time_format(time, "%H:%M:%S") : g_strdup("?");

        return g_strdup_printf("%s.%06u", text, (unsigned)(us % G_USEC_PER_SEC));
}

static void append_item(GString *to, const char *item) {
        g_string_append_printf(to, "%s%s", to->len > 0 ? "," : "", item);
}

static char *text_of_handles(const Record *record) {
        GString *text = g_string_new(NULL);

        for (unsigned i = 0; i < record->n_handles; i++) {
                g_autofree char *handle = g_strdup_printf("%08x", record->handles[i]);

                append_item(text, handle);
        }
        return g_string_free(text->len > 0 ? text : g_string_append(text, "-"), FALSE);
}

static char *text_of_sessions(const Record *record) {
        GString *text = g_string_new(NULL);

        for (unsigned i = 0; i < record->parsed.n_auths; i++) {
                const TpmAuth *auth = &record->parsed.auths[i];
                g_autofree char *handle = g_strdup_printf("%08x", auth->session);

                append_item(text, auth->session == TPM2_RS_PW ? "pw" : handle);
        }
        return g_string_free(text->len > 0 ? text : g_string_append(text, "-"), FALSE);
}

static void dump_bytes(const uint8_t *bytes, size_t n, char mark, GString *to) {
        for (size_t at = 0; at < n; at += 16) {
                g_string_append_printf(to, "    %c %04zx ", mark, at);
                for (size_t i = at; i < at + 16; i++)
                        if (i < n)
                                g_string_append_printf(to, " %02x", bytes[i]);
                        else
                                g_string_append(to, "   ");
                g_string_append(to, "  ");
                for (size_t i = at; i < at + 16 && i < n; i++)
                        g_string_append_c(to, g_ascii_isprint(bytes[i]) ? (char)bytes[i] : '.');
                g_string_append_c(to, '\n');
        }
}

void record_text(const Record *record, bool dump, GString *to) {
        g_autofree char *name = format_command(record->parsed.header.code);
        g_autofree char *command = g_strconcat(record->tpm ? "tpm:" : "", name, NULL);
        g_autofree char *who = g_strdup_printf("%u/%u/%s", record->uid, record->pid, record->name);
        g_autofree char *time = text_of_time(record->when_us);
        g_autofree char *client = g_strdup_printf("%" G_GUINT64_FORMAT, record->client);
        g_autofree char *handles = text_of_handles(record);
        g_autofree char *sessions = text_of_sessions(record);
        g_autofree char *sent = g_strdup_printf("%zu", record->n_command);
        g_autofree char *got = g_strdup_printf("%zu", record->n_response);
        g_autofree char *waited = g_strdup_printf("%" G_GUINT64_FORMAT, record->wait_us);
        g_autofree char *took = g_strdup_printf("%" G_GUINT64_FORMAT, record->took_us);
        g_autofree char *transmits = g_strdup_printf("%u", record->n_transmits);

        if (record->n_dropped > 0)
                g_string_append_printf(to,
                                       "-- %" G_GUINT64_FORMAT " records are lost here: they were not read in time\n",
                                       record->n_dropped);
        g_string_append_printf(to, LINE, time, client, who, command, handles, sessions, sent, got,
                               record->tpm ? "-" : waited, took, record->tpm ? "-" : transmits,
                               record_answer_text(record));
        if (record->answered && record->answer.handle)
                g_string_append_printf(to, ", handle %08x", record->answer.handle);
        if (record->locality > 0)
                g_string_append_printf(to, ", locality %u", record->locality);
        g_string_append_c(to, '\n');
        if (dump) {
                dump_bytes(record->command, record->n_command, '>', to);
                dump_bytes(record->response, record->n_response, '<', to);
        }
}
