/* SPDX-License-Identifier: BSD-2-Clause */
#include "ctl/fields.h"

#include "ctl/format.h"

#include <inttypes.h>

char *field_number(GVariant *row, const char *key) {
        return g_strdup_printf("%" PRIu64, dict_number(row, key));
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

static void print_cell(const char *text, size_t width, bool right, bool last) {
        int n_pad = (int)(width - (size_t)g_utf8_strlen(text, -1));

        if (right)
                g_print("%*s%s", n_pad, "", text);
        else
                g_print("%s%*s", text, last ? 0 : n_pad, "");
        g_print("%s", last ? "\n" : "  ");
}

void fields_print(const Field *fields, size_t n_fields, const GPtrArray *rows) {
        g_autoptr(GPtrArray) cells = g_ptr_array_new_with_free_func(g_free);
        g_autofree size_t *widths = g_new0(size_t, n_fields);

        for (size_t k = 0; k < n_fields; k++)
                g_ptr_array_add(cells, g_strdup(fields[k].title));
        for (guint i = 0; i < rows->len; i++)
                for (size_t k = 0; k < n_fields; k++)
                        g_ptr_array_add(cells, fields[k].text(rows->pdata[i], fields[k].key));
        for (guint i = 0; i < cells->len; i++) {
                size_t width = (size_t)g_utf8_strlen(cells->pdata[i], -1);

                widths[i % n_fields] = MAX(widths[i % n_fields], width);
        }
        for (guint i = 0; i < cells->len; i++) {
                size_t k = i % n_fields;

                print_cell(cells->pdata[i], widths[k], fields[k].right, k == n_fields - 1);
        }
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
