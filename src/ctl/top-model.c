/* SPDX-License-Identifier: BSD-2-Clause */
#include "ctl/top-model.h"

#include "ctl/unit.h"

#include <inttypes.h>
#include <string.h>

static void top_look_clear(TopLook *look) {
        g_clear_pointer(&look->status, g_variant_unref);
        g_clear_pointer(&look->clients, g_variant_unref);
}

static void row_free(gpointer data) {
        TopRow *row = data;

        g_free(row->user);
        g_free(row->name);
        g_free(row->unit);
        g_free(row->state);
        g_free(row);
}

void top_model_init(TopModel *model) {
        *model = (TopModel){
                .rows = g_ptr_array_new_with_free_func(row_free),
                .sort = TOP_BUSY,
        };
}

void top_model_clear(TopModel *model) {
        top_look_clear(&model->before);
        top_look_clear(&model->now);
        g_clear_pointer(&model->rows, g_ptr_array_unref);
}

/* The same client at the last look; NULL: it is new. Ids ascend. */
static GVariant *find_before(const TopModel *model, uint64_t id) {
        gsize low = 0, high = model->before.clients ? g_variant_n_children(model->before.clients) : 0;

        while (low < high) {
                gsize middle = low + (high - low) / 2;
                g_autoptr(GVariant) client = g_variant_get_child_value(model->before.clients, middle);
                uint64_t found = dict_number(client, "id");

                if (found == id)
                        return g_steal_pointer(&client);
                if (found < id)
                        low = middle + 1;
                else
                        high = middle;
        }
        return NULL;
}

uint64_t top_growth(GVariant *before, GVariant *now, const char *key) {
        uint64_t then = before ? dict_number(before, key) : 0, value = dict_number(now, key);

        return value >= then ? value - then : value;
}

/* A client that is new did all it has done since it came. */
static double seconds_of(const TopModel *model, GVariant *before, GVariant *client) {
        gint64 from = before ? model->before.at : (gint64)dict_number(client, "since");
        double seconds = (double)(model->now.at - from) / 1e6;

        return seconds > 1e-3 ? seconds : 1e-3;
}

static char *describe_state(GVariant *client) {
        uint32_t code = (uint32_t)dict_number(client, "command");
        g_autofree char *command = code ? format_command(code) : NULL;

        if (!command)
                return g_strdup(dict_text(client, "state"));
        return g_strdup_printf("%s %s", dict_text(client, "state"), command);
}

static TopRow *row_new(const TopModel *model, GVariant *client) {
        uint64_t id = dict_number(client, "id");
        g_autoptr(GVariant) before = find_before(model, id);
        double seconds = seconds_of(model, before, client);
        uint64_t n_commands = top_growth(before, client, "commands");
        TopRow *row = g_new0(TopRow, 1);

        *row = (TopRow){
                .id = id,
                .uid = (uint32_t)dict_number(client, "uid"),
                .pid = (uint32_t)dict_number(client, "pid"),
                .user = format_user((uint32_t)dict_number(client, "uid")),
                .name = format_text(dict_text(client, "name")),
                .unit = unit_of((uint32_t)dict_number(client, "pid")),
                .state = describe_state(client),
                .door = g_str_equal(dict_text(client, "door"), "bus") ? "bus" : "socket",
                .n_objects = dict_number(client, "objects"),
                .n_sessions = dict_number(client, "sessions"),
                .n_failed = dict_number(client, "failed"),
                .commands = (double)n_commands / seconds,
                .tpm_commands = (double)top_growth(before, client, "tpm-commands") / seconds,
                .busy = (double)top_growth(before, client, "busy") / 1e6 / seconds,
                .mean_wait_us = n_commands > 0 ? top_growth(before, client, "wait") / n_commands : 0,
        };
        return row;
}

void top_model_update(TopModel *model, TopLook look) {
        top_look_clear(&model->before);
        model->before = model->now;
        model->now = look;
        g_ptr_array_set_size(model->rows, 0);
        for (gsize i = 0; look.clients && i < g_variant_n_children(look.clients); i++) {
                g_autoptr(GVariant) client = g_variant_get_child_value(look.clients, i);

                g_ptr_array_add(model->rows, row_new(model, client));
        }
        top_model_sort(model);
}

const TopColumn top_columns[TOP_COLUMNS] = {
        [TOP_ID] = { { "ID", true, 4, 0 }, 'i', false, 6 },
        [TOP_USER] = { { "USER", false, 8, 2 }, 'u', false, 16 },
        [TOP_PID] = { { "PID", true, 7, 3 }, 'n', false, 7 },
        [TOP_NAME] = { { "COMMAND", false, 12, 0 }, 'm', false, 24 },
        [TOP_UNIT] = { { "UNIT", false, 16, 9 }, 'y', false, 40 },
        [TOP_DOOR] = { { "DOOR", false, 6, 10 }, 'g', false, 6 },
        [TOP_OBJECTS] = { { "OBJ", true, 4, 5 }, 'o', true, 6 },
        [TOP_SESSIONS] = { { "SES", true, 4, 5 }, 's', true, 6 },
        [TOP_COMMANDS] = { { "CMD/S", true, 7, 1 }, 'c', true, 9 },
        [TOP_TPM] = { { "TPM/S", true, 7, 6 }, 't', true, 9 },
        [TOP_BUSY] = { { "BUSY%", true, 6, 1 }, 'b', true, 6 },
        [TOP_WAIT] = { { "WAIT", true, 9, 7 }, 'w', true, 12 },
        [TOP_FAILED] = { { "FAILED", true, 7, 8 }, 'e', true, 9 },
        [TOP_STATE] = { { "STATE", false, 7, 4 }, 'x', false, 40 },
};

static double value_of(const TopRow *row, int column) {
        switch (column) {
        case TOP_ID:
                return (double)row->id;
        case TOP_PID:
                return row->pid;
        case TOP_OBJECTS:
                return (double)row->n_objects;
        case TOP_SESSIONS:
                return (double)row->n_sessions;
        case TOP_COMMANDS:
                return row->commands;
        case TOP_TPM:
                return row->tpm_commands;
        case TOP_BUSY:
                return row->busy;
        case TOP_WAIT:
                return (double)row->mean_wait_us;
        case TOP_FAILED:
                return (double)row->n_failed;
        default:
                return 0;
        }
}

static const char *text_of(const TopRow *row, int column) {
        switch (column) {
        case TOP_USER:
                return row->user;
        case TOP_NAME:
                return row->name;
        case TOP_UNIT:
                return row->unit;
        case TOP_DOOR:
                return row->door;
        case TOP_STATE:
                return row->state;
        default:
                return NULL;
        }
}

char *top_cell(const TopRow *row, int column) {
        const char *text = text_of(row, column);
        double value = value_of(row, column);

        if (text)
                return g_strdup(text);
        switch (column) {
        case TOP_COMMANDS:
        case TOP_TPM:
                return g_strdup_printf("%.1f", value);
        case TOP_BUSY:
                return g_strdup_printf("%.1f", value * 100);
        case TOP_WAIT:
                return format_us(row->mean_wait_us);
        case TOP_PID:
                return row->pid ? g_strdup_printf("%u", row->pid) : g_strdup("-");
        default:
                return g_strdup_printf("%.0f", value);
        }
}

static gint row_compare(gconstpointer a, gconstpointer b, gpointer userdata) {
        const TopRow *left = *(TopRow *const *)a, *right = *(TopRow *const *)b;
        const TopModel *model = userdata;
        const char *text = text_of(left, model->sort);
        double x = value_of(left, model->sort), y = value_of(right, model->sort);
        int order = text ? strcmp(text, text_of(right, model->sort)) : x < y ? -1 : x > y;

        if (top_columns[model->sort].descends)
                order = -order;
        if (model->reversed)
                order = -order;
        return order ? order : left->id < right->id ? -1 : left->id > right->id;
}

void top_model_sort(TopModel *model) {
        g_ptr_array_sort_with_data(model->rows, row_compare, model);
}
