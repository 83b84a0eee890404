/* SPDX-License-Identifier: BSD-2-Clause */
#include "ctl/columns.h"
#include "ctl/format.h"
#include "ctl/record.h"

#define ANSWER (RECORD_COLUMNS - 1)
#define ANSWER_WIDTH 60

static const struct {
        Column column;
        int width;
} COLUMNS[RECORD_COLUMNS] = {
        { { "TIME", false, 8, 2 }, 15 },
        { { "CLIENT", true, 0, 1 }, 6 },
        { { "UID/PID/NAME", false, 16, 3 }, 26 },
        { { "COMMAND", false, 14, 0 }, 24 },
        { { "HANDLES", false, 8, 5 }, 17 },
        { { "SESSIONS", false, 8, 6 }, 17 },
        { { "SENT", true, 0, 8 }, 5 },
        { { "GOT", true, 0, 8 }, 5 },
        { { "WAITED/us", true, 0, 4 }, 9 },
        { { "TOOK/us", true, 0, 2 }, 9 },
        { { "TPM", true, 0, 7 }, 3 },
        { { "ANSWER", false, 20, 0 }, ANSWER_WIDTH },
};

RecordLayout record_layout(int room) {
        RecordLayout layout = { .whole = room <= 0 };
        Column columns[RECORD_COLUMNS];

        for (unsigned i = 0; i < RECORD_COLUMNS; i++) {
                columns[i] = COLUMNS[i].column;
                layout.widths[i] = COLUMNS[i].width;
        }
        columns_fit(columns, RECORD_COLUMNS, room, 1, layout.widths);
        return layout;
}

static void append_line(GString *to, const RecordLayout *layout, const char *const *cells) {
        size_t from = to->len;

        for (unsigned i = 0; i < RECORD_COLUMNS; i++) {
                int n = (int)g_utf8_strlen(cells[i], -1);
                /* What is wider than its column pushes the others aside only where there is room for all. */
                int width = layout->whole ? MAX(layout->widths[i], n) : layout->widths[i];
                g_autofree char *cell = width > 0 ? columns_cell(&COLUMNS[i].column, cells[i], width) : NULL;

                if (cell)
                        g_string_append_printf(to, "%s%s", to->len > from ? " " : "", cell);
        }
        while (to->len > from && to->str[to->len - 1] == ' ')
                g_string_truncate(to, to->len - 1);
        g_string_append_c(to, '\n');
}

void record_text_head(const RecordLayout *layout, GString *to) {
        const char *titles[RECORD_COLUMNS];

        for (unsigned i = 0; i < RECORD_COLUMNS; i++)
                titles[i] = COLUMNS[i].column.title;
        append_line(to, layout, titles);
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

static char *text_of_owner(const Record *record) {
        g_autofree char *pid = record->pid ? g_strdup_printf("%u", record->pid) : g_strdup("-");
        g_autofree char *name = format_text(record->name);

        return g_strdup_printf("%u/%s/%s", record->uid, pid, name);
}

static char *text_of_answer(const Record *record) {
        GString *text = g_string_new(record_answer_text(record));

        if (record->answered && record->answer.handle)
                g_string_append_printf(text, ", handle %08x", record->answer.handle);
        if (record->locality > 0)
                g_string_append_printf(text, ", locality %u", record->locality);
        return g_string_free(text, FALSE);
}

void record_text(const Record *record, const RecordLayout *layout, bool dump, GString *to) {
        g_autofree char *code = format_command(record->parsed.header.code);
        g_autofree char *command = g_strconcat(record->tpm ? "tpm:" : "", code, NULL);
        g_autofree char *owner = text_of_owner(record), *answer = text_of_answer(record);
        g_autofree char *time = text_of_time(record->when_us);
        g_autofree char *client = g_strdup_printf("%" G_GUINT64_FORMAT, record->client);
        g_autofree char *handles = text_of_handles(record), *sessions = text_of_sessions(record);
        g_autofree char *sent = g_strdup_printf("%zu", record->n_command);
        g_autofree char *got = g_strdup_printf("%zu", record->n_response);
        g_autofree char *waited = g_strdup_printf("%" G_GUINT64_FORMAT, record->wait_us);
        g_autofree char *took = g_strdup_printf("%" G_GUINT64_FORMAT, record->took_us);
        g_autofree char *transmits = g_strdup_printf("%u", record->n_transmits);
        const char *const cells[RECORD_COLUMNS] = {
                time,
                client,
                owner,
                command,
                handles,
                sessions,
                sent,
                got,
                record->tpm ? "-" : waited,
                took,
                record->tpm ? "-" : transmits,
                answer,
        };

        if (record->n_dropped > 0)
                g_string_append_printf(to,
                                       "-- %" G_GUINT64_FORMAT " records are lost here: they were not read in time\n",
                                       record->n_dropped);
        append_line(to, layout, cells);
        if (dump) {
                dump_bytes(record->command, record->n_command, '>', to);
                dump_bytes(record->response, record->n_response, '<', to);
        }
}
