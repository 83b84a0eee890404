/* SPDX-License-Identifier: BSD-2-Clause */
#include "ctl/fields.h"

#include "ctl/format.h"

#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#define GAP "  "

char *field_number(GVariant *row, const char *key) {
        return g_strdup_printf("%" PRIu64, dict_number(row, key));
}

char *field_known(GVariant *row, const char *key) {
        return dict_number(row, key) ? field_number(row, key) : g_strdup("-");
}

char *field_us(GVariant *row, const char *key) {
        return format_us(dict_number(row, key));
}

char *field_text(GVariant *row, const char *key) {
        return format_text(dict_text(row, key));
}

char *field_user(GVariant *row, const char *key) {
        return format_user((uint32_t)dict_number(row, key));
}

static void append_row(GString *to, const Column *columns, size_t n, const int *widths, char *const *cells) {
        size_t from = to->len;

        for (size_t k = 0; k < n; k++) {
                g_autofree char *cell = widths[k] > 0 ? columns_cell(&columns[k], cells[k], widths[k]) : NULL;

                if (cell)
                        g_string_append_printf(to, "%s%s", to->len > from ? GAP : "", cell);
        }
        while (to->len > from && to->str[to->len - 1] == ' ')
                g_string_truncate(to, to->len - 1);
        g_string_append_c(to, '\n');
}

char *fields_text(const Field *fields, size_t n_fields, const GPtrArray *rows, int room) {
        g_autoptr(GPtrArray) cells = g_ptr_array_new_with_free_func(g_free);
        g_autofree Column *columns = g_new(Column, n_fields);
        g_autofree int *widths = g_new0(int, n_fields);
        GString *text = g_string_new(NULL);

        for (size_t k = 0; k < n_fields; k++) {
                columns[k] = fields[k].column;
                g_ptr_array_add(cells, g_strdup(columns[k].title));
        }
        for (guint i = 0; i < rows->len; i++)
                for (size_t k = 0; k < n_fields; k++)
                        g_ptr_array_add(cells, fields[k].text(rows->pdata[i], fields[k].key));
        for (guint i = 0; i < cells->len; i++) {
                int width = (int)g_utf8_strlen(cells->pdata[i], -1);

                widths[i % n_fields] = MAX(widths[i % n_fields], width);
        }
        columns_fit(columns, n_fields, room, (int)strlen(GAP), widths);
        for (guint i = 0; i < cells->len; i += (guint)n_fields)
                append_row(text, columns, n_fields, widths, (char *const *)&cells->pdata[i]);
        return g_string_free(text, FALSE);
}

void fields_print(const Field *fields, size_t n_fields, const GPtrArray *rows) {
        g_autofree char *text = fields_text(fields, n_fields, rows, columns_of_terminal(STDOUT_FILENO));

        g_print("%s", text);
}

const Field *fields_find_sort(const Field *fields, size_t n_fields, const char *key) {
        for (size_t k = 0; k < n_fields; k++)
                if (fields[k].sort != FIELD_UNSORTED && g_str_equal(fields[k].key, key))
                        return &fields[k];
        return NULL;
}

char *fields_sort_keys(const Field *fields, size_t n_fields) {
        GString *text = g_string_new(NULL);
        const char *last = NULL;

        for (size_t k = 0; k < n_fields; k++) {
                if (fields[k].sort == FIELD_UNSORTED)
                        continue;
                if (last)
                        g_string_append_printf(text, text->len > 0 ? ", %s" : "%s (default)", last);
                last = fields[k].key;
        }
        if (last)
                g_string_append_printf(text, " or %s", last);
        return g_string_free(text, FALSE);
}

static gint row_compare_by(gconstpointer a, gconstpointer b, gpointer userdata) {
        const Field *field = userdata;
        uint64_t left = dict_number(*(GVariant *const *)a, field->key);
        uint64_t right = dict_number(*(GVariant *const *)b, field->key);

        if (left == right)
                return 0;
        return (left < right) == (field->sort == FIELD_ASCENDS) ? -1 : 1;
}

void fields_sort(const Field *field, GPtrArray *rows) {
        g_ptr_array_sort_with_data(rows, row_compare_by, (gpointer)field);
}
