/* SPDX-License-Identifier: BSD-2-Clause */
#include "ctl/top-model.h"

#include <inttypes.h>
#include <string.h>

static TopLine *line_new(void) {
        TopLine *line = g_new0(TopLine, 1);

        line->pieces = g_array_new(FALSE, FALSE, sizeof(TopPiece));
        return line;
}

void top_line_free(TopLine *line) {
        for (guint i = 0; i < line->pieces->len; i++)
                g_free(g_array_index(line->pieces, TopPiece, i).text);
        g_array_unref(line->pieces);
        g_free(line);
}

static void line_add(TopLine *line, Colour colour, const char *format, ...) G_GNUC_PRINTF(3, 4);

static void line_add(TopLine *line, Colour colour, const char *format, ...) {
        TopPiece *piece;
        va_list arguments;

        g_array_set_size(line->pieces, line->pieces->len + 1);
        piece = &g_array_index(line->pieces, TopPiece, line->pieces->len - 1);
        piece->colour = colour;
        va_start(arguments, format);
        piece->text = g_strdup_vprintf(format, arguments);
        va_end(arguments);
}

char *top_line_text(const TopLine *line) {
        GString *text = g_string_new(NULL);

        for (guint i = 0; i < line->pieces->len; i++)
                g_string_append(text, g_array_index(line->pieces, TopPiece, i).text);
        while (text->len > 0 && text->str[text->len - 1] == ' ')
                g_string_truncate(text, text->len - 1);
        return g_string_free(text, FALSE);
}

#define BAR_WIDTH 20

static void add_bar(TopLine *line, double share) {
        double part = share < 0 ? 0 : share > 1 ? 1 : share;
        int n = (int)(part * BAR_WIDTH + 0.5);
        char bar[BAR_WIDTH + 1];

        memset(bar, '|', sizeof(bar));
        bar[n] = '\0';
        line_add(line, COLOUR_NONE, "[");
        line_add(line, part > 0.9 ? COLOUR_RED : part > 0.7 ? COLOUR_YELLOW : COLOUR_GREEN, "%s", bar);
        line_add(line, COLOUR_NONE, "%*s] %5.1f %%", BAR_WIDTH - n, "", part * 100);
}

static void add_title(TopLine *line, const char *title) {
        line_add(line, COLOUR_BOLD, "%-9s", title);
}

/* Per second, of a counter or of all that the rows have. */
typedef struct Rates {
        double commands, tpm_commands, failed, evictions;
        double busy;
        double hits; /* share; negative: there was nothing */
} Rates;

static bool look_is_whole(const TopLook *look) {
        return look->status && dict_is_whole(look->status);
}

static double latency_sum(GVariant *status, const char *name) {
        Latency latency;

        return status && dict_latency(status, name, &latency) ? (double)latency.sum_us : 0;
}

static Rates rates_of(const TopModel *model) {
        GVariant *then = model->before.status, *now = model->now.status;
        g_autoptr(GVariant) before = then ? g_variant_lookup_value(then, "Counters", G_VARIANT_TYPE("a{st}")) : NULL;
        g_autoptr(GVariant) after = now ? g_variant_lookup_value(now, "Counters", G_VARIANT_TYPE("a{st}")) : NULL;
        gint64 from = then ? model->before.at : now ? (gint64)dict_number(now, "Started") : 0;
        double seconds = MAX((double)(model->now.at - from) / 1e6, 1e-3);
        Rates rates = { .hits = -1 };
        uint64_t hits, misses;

        if (!after) {
                for (guint i = 0; i < model->rows->len; i++) {
                        const TopRow *row = model->rows->pdata[i];

                        rates.commands += row->commands;
                        rates.tpm_commands += row->tpm_commands;
                        rates.busy += row->busy;
                }
                return rates;
        }
        rates.commands = (double)top_growth(before, after, "commands") / seconds;
        rates.tpm_commands = (double)top_growth(before, after, "tpm-commands") / seconds;
        rates.failed = (double)top_growth(before, after, "failed") / seconds;
        rates.evictions = (double)top_growth(before, after, "evictions") / seconds;
        rates.busy = MAX((latency_sum(now, "tpm") - latency_sum(then, "tpm")) / 1e6 / seconds, 0);
        /* What is not over is not in the sum. */
        rates.busy = MAX(rates.busy, MIN((double)dict_running(now).elapsed_us / 1e6 / seconds, 1));
        hits = top_growth(before, after, "hits");
        misses = top_growth(before, after, "misses");
        if (hits + misses > 0)
                rates.hits = (double)hits / (double)(hits + misses);
        return rates;
}

static TopLine *line_of_state(const TopModel *model) {
        GVariant *status = model->now.status;
        const char *state = dict_text(status, "State");
        bool ready = g_str_equal(state, "ready");
        g_autofree char *reason = format_text(dict_text(status, "Reason"));
        g_autofree char *up = format_us((uint64_t)MAX(model->now.at - (gint64)dict_number(status, "Started"), 0));
        TopLine *line = line_new();

        line_add(line, COLOUR_BOLD, "tpm2-abrmd %s  ", dict_text(status, "Version"));
        line_add(line, ready ? COLOUR_GREEN : COLOUR_RED, "%s", state);
        if (ready)
                line_add(line, COLOUR_NONE, "  %s %s %s", dict_text(status, "Manufacturer"),
                         dict_text(status, "Vendor"), dict_text(status, "Firmware"));
        else
                line_add(line, COLOUR_NONE, "  %s", reason);
        if (dict_number(status, "Started"))
                line_add(line, COLOUR_NONE, "  up %s", up);
        return line;
}

static TopLine *line_of_slots(GVariant *status) {
        uint64_t objects = dict_number(status, "ObjectSlots"), sessions = dict_number(status, "SessionSlots");
        g_autofree char *object_slots = objects ? g_strdup_printf("%" PRIu64, objects) : g_strdup("?");
        g_autofree char *session_slots = sessions ? g_strdup_printf("%" PRIu64, sessions) : g_strdup("?");
        TopLine *line = line_new();

        add_title(line, "Slots");
        line_add(line, COLOUR_NONE,
                 "objects %" PRIu64 " of %s, %" PRIu64 " in all  sessions %" PRIu64 " of %s  clients %" PRIu64,
                 dict_number(status, "ObjectsLoaded"), object_slots, dict_number(status, "Objects"),
                 dict_number(status, "SessionsLoaded"), session_slots, dict_number(status, "Clients"));
        return line;
}

static TopLine *line_of_gap(GVariant *status) {
        uint64_t gap = dict_number(status, "Gap"), max = dict_number(status, "MaxGap");
        TopLine *line = line_new();

        add_title(line, "Gap");
        add_bar(line, max > 0 ? (double)gap / (double)max : 0);
        line_add(line, COLOUR_NONE, "  %" PRIu64 " of %" PRIu64, gap, max);
        return line;
}

static TopLine *line_of_running(GVariant *status) {
        Running running = dict_running(status);
        g_autofree char *command = format_command(running.code);
        g_autofree char *since = format_us(running.elapsed_us);
        g_autofree char *limit = format_us(running.limit_us);
        TopLine *line = line_new();

        add_title(line, "Running");
        if (running.code == 0) {
                line_add(line, COLOUR_NONE, "nothing");
                return line;
        }
        line_add(line, running.late ? COLOUR_RED : COLOUR_NONE, "%s%s", running.late ? "late: " : "", command);
        if (running.client > 0)
                line_add(line, COLOUR_NONE, " of client %" PRIu64, running.client);
        line_add(line, COLOUR_NONE, " for %s of %s at most", since, limit);
        return line;
}

static TopLine *line_of_commands(const TopModel *model, const Rates *rates) {
        GVariant *status = model->now.status;
        uint64_t n_waiting = look_is_whole(&model->now) ? dict_number(status, "Waiting") : 0;
        g_autofree char *longest = format_us(n_waiting ? dict_number(status, "LongestWait") : 0);
        TopLine *line = line_new();

        add_title(line, "Commands");
        /* One look makes no rate, but what the daemon and each client have done since they began. */
        if (!model->before.clients)
                line_add(line, COLOUR_BOLD, "on average so far: ");
        line_add(line, COLOUR_NONE, "%.1f/s  to the TPM %.1f/s", rates->commands, rates->tpm_commands);
        if (rates->commands > 0)
                line_add(line, COLOUR_NONE, " (%.2f each)", rates->tpm_commands / rates->commands);
        if (!look_is_whole(&model->now))
                return line;
        line_add(line, rates->failed > 0 ? COLOUR_YELLOW : COLOUR_NONE, "  failed %.1f/s", rates->failed);
        line_add(line, COLOUR_NONE, "  waiting %" PRIu64, n_waiting);
        if (n_waiting > 0)
                line_add(line, COLOUR_NONE, " (%s)", longest);
        return line;
}

static TopLine *line_of_tpm(const TopModel *model, const Rates *rates) {
        TopLine *line = line_new();

        add_title(line, "TPM");
        add_bar(line, rates->busy);
        if (!look_is_whole(&model->now))
                return line;
        if (rates->hits >= 0)
                line_add(line, COLOUR_NONE, "  hits %.1f %%", rates->hits * 100);
        line_add(line, COLOUR_NONE, "  evictions %.1f/s", rates->evictions);
        return line;
}

GPtrArray *top_header(const TopModel *model) {
        GPtrArray *lines = g_ptr_array_new_with_free_func((GDestroyNotify)top_line_free);
        Rates rates = rates_of(model);
        TopLine *line;

        if (model->now.status)
                g_ptr_array_add(lines, line_of_state(model));
        if (!look_is_whole(&model->now)) {
                line = line_new();
                line_add(line, COLOUR_NONE, "your own clients; the rest is for root");
                g_ptr_array_add(lines, line);
        }
        g_ptr_array_add(lines, line_of_commands(model, &rates));
        g_ptr_array_add(lines, line_of_tpm(model, &rates));
        if (!look_is_whole(&model->now))
                return lines;
        g_ptr_array_add(lines, line_of_slots(model->now.status));
        g_ptr_array_add(lines, line_of_gap(model->now.status));
        g_ptr_array_add(lines, line_of_running(model->now.status));
        return lines;
}

/* As wide as what is in it, if there is room. */
static int content_width(const TopModel *model, int column) {
        int width = (int)strlen(top_columns[column].column.title) + 1;

        for (guint i = 0; i < model->rows->len; i++) {
                g_autofree char *cell = top_cell(model->rows->pdata[i], column);

                width = MAX(width, (int)g_utf8_strlen(cell, -1));
        }
        return width;
}

/* What a program does not have, or a user. */
static bool is_folded(const TopModel *model, int column) {
        if (model->fold == TOP_FOLD_NOTHING)
                return false;
        return column == TOP_ID || column == TOP_PID || column == TOP_UNIT || column == TOP_DOOR ||
               (column == TOP_NAME && model->fold == TOP_FOLD_USERS);
}

void top_layout(const TopModel *model, int width, int widths[TOP_COLUMNS]) {
        Column columns[TOP_COLUMNS];

        for (int i = 0; i < TOP_COLUMNS; i++) {
                columns[i] = top_columns[i].column;
                widths[i] = MAX(MIN(content_width(model, i), top_columns[i].width_most), columns[i].least);
                if (is_folded(model, i))
                        widths[i] = 0;
        }
        /* How many have left is at its end. */
        if (model->fold != TOP_FOLD_NOTHING)
                columns[TOP_STATE].least = top_columns[TOP_STATE].width_most;
        columns_fit(columns, TOP_COLUMNS, MAX(width, 1), 1, widths);
}

static void add_cell(TopLine *line, const Column *column, const char *text, int width, Colour colour) {
        g_autofree char *cell = columns_cell(column, text, width);

        line_add(line, colour, "%s%s", line->pieces->len > 0 ? " " : "", cell);
}

TopLine *top_titles(const TopModel *model, const int widths[TOP_COLUMNS]) {
        TopLine *line = line_new();

        for (int i = 0; i < TOP_COLUMNS; i++) {
                bool down = top_columns[i].descends != model->reversed;
                g_autofree char *title = g_strdup_printf("%s%s", top_columns[i].column.title,
                                                         i != model->sort ? ""
                                                         : down           ? "v"
                                                                          : "^");

                if (widths[i] > 0)
                        add_cell(line, &top_columns[i].column, title, widths[i], COLOUR_BOLD);
        }
        return line;
}

TopLine *top_row(const TopRow *row, const int widths[TOP_COLUMNS]) {
        TopLine *line = line_new();

        for (int i = 0; i < TOP_COLUMNS; i++) {
                g_autofree char *cell = top_cell(row, i);
                Colour colour = COLOUR_NONE;

                if (widths[i] == 0)
                        continue;
                if (row->dim)
                        colour = COLOUR_DIM;
                else if (i == TOP_STATE && !g_str_equal(row->state, "idle"))
                        colour = g_str_has_prefix(row->state, "running") ? COLOUR_GREEN : COLOUR_YELLOW;
                add_cell(line, &top_columns[i].column, cell, widths[i], colour);
        }
        return line;
}
