/* SPDX-License-Identifier: BSD-2-Clause */
#include "ctl/top-model.h"

#include "ctl/unit.h"

#include <inttypes.h>
#include <string.h>

#define KEY_DIGITS 15 /* as many as fit: nobody makes another program's key by choosing a name */

static void top_look_clear(TopLook *look) {
        g_clear_pointer(&look->status, g_variant_unref);
        g_clear_pointer(&look->clients, g_variant_unref);
        g_clear_pointer(&look->programs, g_variant_unref);
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

static TopWork work_of(GVariant *before, GVariant *now) {
        return (TopWork){
                .n_commands = top_growth(before, now, "commands"),
                .n_transmits = top_growth(before, now, "tpm-commands"),
                .n_failed = top_growth(before, now, "failed"),
                .wait_us = top_growth(before, now, "wait"),
                .busy_us = top_growth(before, now, "busy"),
        };
}

static uint64_t less(uint64_t n, uint64_t by) {
        return n > by ? n - by : 0;
}

static TopWork work_less(TopWork work, const TopWork *by) {
        return (TopWork){
                .n_commands = less(work.n_commands, by->n_commands),
                .n_transmits = less(work.n_transmits, by->n_transmits),
                .n_failed = less(work.n_failed, by->n_failed),
                .wait_us = less(work.wait_us, by->wait_us),
                .busy_us = less(work.busy_us, by->busy_us),
        };
}

/* What it did, in so many seconds, from which its rates follow. */
static void row_add_work(TopRow *row, const TopWork *work, double seconds) {
        row->work.n_commands += work->n_commands;
        row->work.n_transmits += work->n_transmits;
        row->work.n_failed += work->n_failed;
        row->work.wait_us += work->wait_us;
        row->work.busy_us += work->busy_us;
        row->commands += (double)work->n_commands / seconds;
        row->tpm_commands += (double)work->n_transmits / seconds;
        row->busy += (double)work->busy_us / 1e6 / seconds;
        row->mean_wait_us = row->work.n_commands > 0 ? row->work.wait_us / row->work.n_commands : 0;
}

static TopRow *row_of_client(const TopModel *model, GVariant *client) {
        uint64_t id = dict_number(client, "id");
        g_autoptr(GVariant) before = find_before(model, id);
        TopWork work = work_of(before, client);
        TopRow *row = g_new0(TopRow, 1);

        *row = (TopRow){
                .key = id,
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
        };
        row_add_work(row, &work, seconds_of(model, before, client));
        return row;
}

/* Programs */

static bool is_same_program(GVariant *one, GVariant *other) {
        return dict_number(one, "uid") == dict_number(other, "uid") &&
               g_str_equal(dict_text(one, "name"), dict_text(other, "name"));
}

/* The same program at the last look; NULL: it is new. */
static GVariant *find_program_before(const TopModel *model, GVariant *program) {
        GVariant *programs = model->before.programs;

        for (gsize i = 0; programs && i < g_variant_n_children(programs); i++) {
                g_autoptr(GVariant) other = g_variant_get_child_value(programs, i);

                if (is_same_program(program, other))
                        return g_steal_pointer(&other);
        }
        return NULL;
}

/* How many of its connections were there at the last look, or came since then, and are gone. */
static uint64_t count_gone(GVariant *before, GVariant *program) {
        uint64_t n_before = before ? dict_number(before, "clients") : 0;

        return less(n_before + top_growth(before, program, "connections"), dict_number(program, "clients"));
}

static char *program_name(GVariant *program) {
        const char *name = dict_text(program, "name");

        return *name ? format_text(name) : g_strdup("(others)");
}

/* Not of a client. @name: it takes that. */
static TopRow *row_new(GVariant *program, char *name) {
        g_autoptr(GVariant) uid = g_variant_lookup_value(program, "uid", G_VARIANT_TYPE_UINT32);
        TopRow *row = g_new0(TopRow, 1);
        g_autofree char *hashed = NULL, *sum = NULL;

        *row = (TopRow){
                .uid = (uint32_t)dict_number(program, "uid"),
                .user = uid ? format_user(g_variant_get_uint32(uid)) : g_strdup("-"),
                .name = name,
                .unit = g_strdup("-"),
                .door = "-",
        };
        hashed = g_strdup_printf("%s/%s", row->user, name);
        sum = g_compute_checksum_for_string(G_CHECKSUM_SHA256, hashed, -1);
        sum[KEY_DIGITS] = '\0';
        row->key = TOP_KEY_OF_PROGRAM | g_ascii_strtoull(sum, NULL, 16);
        return row;
}

/* Those of a program that have left since the last look, if there are any. */
static void add_gone(TopModel *model, GVariant *program) {
        g_autoptr(GVariant) before = find_program_before(model, program);
        uint64_t n_gone = count_gone(before, program);
        TopWork work = work_of(before, program);
        TopRow *gone;

        if (n_gone == 0)
                return;
        gone = row_new(program, program_name(program));
        for (guint i = 0; i < model->rows->len; i++) {
                const TopRow *row = model->rows->pdata[i];

                if (row->id > 0 && row->uid == gone->uid && g_str_equal(row->name, gone->name))
                        work = work_less(work, &row->work);
        }
        gone->dim = true;
        gone->n_failed = work.n_failed;
        gone->state = g_strdup_printf("%" PRIu64 " gone", n_gone);
        row_add_work(gone, &work, seconds_of(model, before, program));
        g_ptr_array_add(model->rows, gone);
}

/* Folding */

static TopRow *find_row(const TopModel *model, uint64_t key) {
        for (guint i = 0; i < model->rows->len; i++)
                if (((TopRow *)model->rows->pdata[i])->key == key)
                        return model->rows->pdata[i];
        return NULL;
}

/* The row of a program, or of its user. Return: NULL: there is none, and it is not to be made. */
static TopRow *fold_row(TopModel *model, GVariant *of, bool make) {
        bool by_user = model->fold == TOP_FOLD_USERS;
        TopRow *fresh = row_new(of, by_user ? g_strdup("-") : program_name(of));
        TopRow *row = find_row(model, fresh->key);

        if (row || !make) {
                row_free(fresh);
                return row;
        }
        g_ptr_array_add(model->rows, fresh);
        return fresh;
}

static void fold_program(TopModel *model, GVariant *program) {
        g_autoptr(GVariant) before = find_program_before(model, program);
        TopRow *row = fold_row(model, program, true);
        TopWork work = work_of(before, program);

        row->n_failed += dict_number(program, "failed");
        row->n_clients += dict_number(program, "clients");
        row->n_gone += count_gone(before, program);
        row_add_work(row, &work, seconds_of(model, before, program));
}

/* What a client has in the TPM. */
static void fold_client(TopModel *model, GVariant *client) {
        TopRow *row = fold_row(model, client, false);

        if (!row)
                return;
        row->n_objects += dict_number(client, "objects");
        row->n_sessions += dict_number(client, "sessions");
}

static void fold_end(TopModel *model) {
        for (guint i = model->rows->len; i > 0; i--) {
                TopRow *row = model->rows->pdata[i - 1];

                row->dim = row->n_clients == 0;
                row->state = g_strdup_printf("%" PRIu64 " here, %" PRIu64 " gone", row->n_clients, row->n_gone);
                if (row->dim && row->n_gone == 0)
                        g_ptr_array_remove_index(model->rows, i - 1);
        }
}

static void each_of(TopModel *model, GVariant *list, void (*each)(TopModel *model, GVariant *row)) {
        for (gsize i = 0; list && i < g_variant_n_children(list); i++) {
                g_autoptr(GVariant) row = g_variant_get_child_value(list, i);

                each(model, row);
        }
}

static void add_client(TopModel *model, GVariant *client) {
        g_ptr_array_add(model->rows, row_of_client(model, client));
}

void top_model_build(TopModel *model) {
        g_ptr_array_set_size(model->rows, 0);
        if (model->fold == TOP_FOLD_NOTHING) {
                each_of(model, model->now.clients, add_client);
                each_of(model, model->now.programs, add_gone);
        } else {
                each_of(model, model->now.programs, fold_program);
                each_of(model, model->now.clients, fold_client);
                fold_end(model);
        }
        top_model_sort(model);
}

void top_model_update(TopModel *model, TopLook look) {
        top_look_clear(&model->before);
        model->before = model->now;
        model->now = look;
        top_model_build(model);
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
        case TOP_ID:
        case TOP_PID:
                return value > 0 ? g_strdup_printf("%.0f", value) : g_strdup("-");
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
        return order ? order : left->key < right->key ? -1 : left->key > right->key;
}

void top_model_sort(TopModel *model) {
        g_ptr_array_sort_with_data(model->rows, row_compare, model);
}
