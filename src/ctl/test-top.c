/* SPDX-License-Identifier: BSD-2-Clause */
#include "ctl/top-model.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static TopModel model;

static int setup(void **state) {
        top_model_init(&model);
        return 0;
}

static int teardown(void **state) {
        top_model_clear(&model);
        return 0;
}

static void look(gint64 at, const char *status, const char *clients) {
        TopLook look = { .at = at };

        if (status)
                look.status = g_variant_ref_sink(g_variant_new_parsed(status));
        look.clients = g_variant_ref_sink(g_variant_new_parsed(clients));
        top_model_update(&model, look);
}

static const TopRow *row(guint i) {
        return model.rows->pdata[i];
}

#define S G_USEC_PER_SEC

static void look_at_programs(gint64 at, const char *clients, const char *programs) {
        TopLook look = { .at = at };

        look.clients = g_variant_ref_sink(g_variant_new_parsed(clients));
        look.programs = g_variant_ref_sink(g_variant_new_parsed(programs));
        top_model_update(&model, look);
}

/* Of a tool there are many, none of which lives until the next look; of a service one stays, and two have left. */
static void look_twice(void) {
        model.sort = TOP_NAME;
        look_at_programs(10 * S, "[{'id': <uint64 1>, 'name': <'service'>, 'uid': <uint32 0>, 'commands': <uint64 5>}]",
                         "[{'uid': <uint32 0>, 'name': <'service'>, 'clients': <uint32 1>, 'connections': <uint64 1>, "
                         "'commands': <uint64 5>, 'since': <uint64 0>}, {'uid': <uint32 0>, 'name': <'idle'>, "
                         "'connections': <uint64 9>, 'since': <uint64 0>}]");
        look_at_programs(12 * S,
                         "[{'id': <uint64 1>, 'name': <'service'>, 'uid': <uint32 0>, 'commands': <uint64 25>, "
                         "'objects': <uint32 3>}]",
                         "[{'uid': <uint32 0>, 'name': <'service'>, 'clients': <uint32 1>, 'connections': <uint64 3>, "
                         "'commands': <uint64 35>}, {'uid': <uint32 0>, 'name': <'idle'>, 'connections': <uint64 9>}, "
                         "{'uid': <uint32 0>, 'name': <'tool'>, 'connections': <uint64 40>, 'commands': <uint64 80>, "
                         "'failed': <uint64 4>, 'busy': <uint64 1000000>, 'wait': <uint64 800>, 'since': <uint64 "
                         "11000000>}, {'name': <''>, 'connections': <uint64 7>, 'commands': <uint64 2>, 'since': "
                         "<uint64 10000000>}]");
}

static void test_those_that_have_left(void **state) {
        look_twice();
        assert_int_equal(model.rows->len, 4);
        assert_string_equal(row(0)->name, "(others)");
        assert_string_equal(row(0)->state, "7 gone");
        assert_string_equal(row(0)->user, "-");
        assert_true(row(1)->id == 1 && !row(1)->dim && row(1)->commands == 10);
        /* Thirty more commands of the service, of which the one that is there has done twenty. */
        assert_true(row(2)->id == 0 && row(2)->dim && row(2)->commands == 5);
        assert_string_equal(row(2)->state, "2 gone");
        assert_string_equal(row(3)->name, "tool");
        assert_string_equal(row(3)->state, "40 gone");
        assert_true(row(3)->commands == 80 && row(3)->busy == 1 && row(3)->mean_wait_us == 10);
        assert_int_equal(row(3)->n_failed, 4);
        assert_true(row(2)->key != row(3)->key && row(3)->key & TOP_KEY_OF_PROGRAM);
        look_at_programs(14 * S, "@aa{sv} []",
                         "[{'uid': <uint32 0>, 'name': <'service'>, 'connections': <uint64 3>, 'commands': <uint64 "
                         "41>}]");
        assert_int_equal(model.rows->len, 1);
        assert_string_equal(row(0)->state, "1 gone");
        assert_true(row(0)->commands == 3);
}

static void test_folding(void **state) {
        look_twice();
        model.fold = TOP_FOLD_PROGRAMS;
        top_model_build(&model);
        assert_int_equal(model.rows->len, 3);
        assert_string_equal(row(1)->name, "service");
        assert_string_equal(row(1)->state, "1 here, 2 gone");
        assert_true(row(1)->commands == 15 && !row(1)->dim);
        assert_int_equal(row(1)->n_objects, 3);
        assert_true(row(2)->dim);
        model.fold = TOP_FOLD_USERS;
        model.sort = TOP_BUSY;
        top_model_build(&model);
        assert_int_equal(model.rows->len, 2);
        assert_string_equal(row(0)->user, "root");
        assert_string_equal(row(0)->name, "-");
        assert_string_equal(row(0)->state, "1 here, 42 gone");
        assert_true(row(0)->commands == 95);
        assert_int_equal(row(0)->mean_wait_us, 800 / 110);
        model.fold = TOP_FOLD_NOTHING;
        top_model_build(&model);
        assert_int_equal(model.rows->len, 4);
}

/* A process calls itself what it likes, such as another name that has the same hash. */
static void test_folding_what_looks_alike(void **state) {
        model.fold = TOP_FOLD_PROGRAMS;
        model.sort = TOP_NAME;
        look_at_programs(10 * S, "@aa{sv} []",
                         "[{'uid': <uint32 0>, 'name': <'tpm2Aa'>, 'connections': <uint64 1>}, {'uid': <uint32 0>, "
                         "'name': <'tpm2B@'>, 'connections': <uint64 70>}]");
        assert_int_equal(model.rows->len, 2);
        assert_string_equal(row(0)->state, "0 here, 1 gone");
        assert_string_equal(row(1)->name, "tpm2B@");
        assert_true(row(0)->key != row(1)->key);
}

static void test_rates(void **state) {
        look(10 * S, NULL,
             "[{'id': <uint64 1>, 'since': <uint64 5000000>, 'commands': <uint64 100>, 'busy': <uint64 1000000>}]");
        assert_true(row(0)->commands == 20);
        look(12 * S, NULL,
             "[{'id': <uint64 1>, 'commands': <uint64 150>, 'tpm-commands': <uint64 20>, 'busy': <uint64 2000000>, "
             "'wait': <uint64 5000>}, {'id': <uint64 7>, 'since': <uint64 11000000>, 'commands': <uint64 3>}]");
        assert_true(row(0)->commands == 25);
        assert_true(row(0)->tpm_commands == 10);
        assert_true(row(0)->busy == 0.5);
        assert_int_equal(row(0)->mean_wait_us, 100);
        assert_true(row(1)->commands == 3);
        /* A daemon that was started anew counts from the beginning. */
        look(14 * S, NULL, "[{'id': <uint64 1>, 'commands': <uint64 4>}]");
        assert_true(row(0)->commands == 2);
}

static void test_sorting(void **state) {
        look(10 * S, NULL,
             "[{'id': <uint64 1>, 'objects': <uint32 5>, 'name': <'b'>}, {'id': <uint64 2>, 'objects': <uint32 9>, "
             "'name': <'a'>}, {'id': <uint64 3>, 'objects': <uint32 5>, 'name': <'c'>}]");
        for (model.sort = 0; strcmp(top_columns[model.sort].column.title, "OBJ") != 0; model.sort++)
                continue;
        top_model_sort(&model);
        assert_int_equal(row(0)->id, 2);
        assert_int_equal(row(1)->id, 1);
        assert_int_equal(row(2)->id, 3);
        model.reversed = true;
        top_model_sort(&model);
        assert_int_equal(row(0)->id, 1);
        assert_int_equal(row(2)->id, 2);
        model.reversed = false;
        for (model.sort = 0; strcmp(top_columns[model.sort].column.title, "COMMAND") != 0; model.sort++)
                continue;
        top_model_sort(&model);
        assert_string_equal(row(0)->name, "a");
        assert_string_equal(row(2)->name, "c");
}

/* Whatever the width, no line is wider, and what is shown is shown whole columns at a time. */
static void test_layout(void **state) {
        int widths[TOP_COLUMNS], last = 0;

        look(10 * S, NULL,
             "[{'id': <uint64 1>, 'name': <'a name that is longer than its column'>, 'state': <'idle'>}]");
        for (int width = 0; width < 400; width++) {
                int n_shown = 0, sum = 0;
                g_autofree char *text = NULL;
                TopLine *line;

                top_layout(&model, width, widths);
                for (int i = 0; i < TOP_COLUMNS; i++) {
                        n_shown += widths[i] > 0;
                        sum += widths[i] > 0 ? widths[i] + 1 : 0;
                        assert_true(widths[i] == 0 || (widths[i] >= top_columns[i].column.least &&
                                                       widths[i] <= top_columns[i].width_most));
                }
                assert_true(sum <= width + 1);
                assert_true(n_shown >= last - 1);
                last = n_shown;
                line = top_row(row(0), widths);
                text = top_line_text(line);
                assert_true(g_utf8_strlen(text, -1) <= width);
                top_line_free(line);
        }
        assert_int_equal(last, TOP_COLUMNS);
}

static void assert_line(guint i, const char *expected) {
        g_autoptr(GPtrArray) header = top_header(&model);
        g_autofree char *text = NULL;

        assert_true(i < header->len);
        text = top_line_text(header->pdata[i]);
        assert_string_equal(text, expected);
}

static void test_header(void **state) {
        const char *const STATUS =
                "{'State': <'ready'>, 'Version': <'1'>, 'Started': <uint64 1000000>, 'Waiting': <uint32 2>, "
                "'LongestWait': <uint64 1500>, 'Running': <(uint32 379, uint64 4, uint64 2000000, uint64 60000000)>, "
                "'Gap': <uint64 3>, 'MaxGap': <uint64 4>, 'Counters': <{'commands': uint64 %d, 'tpm-commands': %d, "
                "'failed': %d, 'hits': %d, 'misses': %d}>}";
        g_autofree char *first = g_strdup_printf(STATUS, 100, 200, 1, 10, 10);
        g_autofree char *second = g_strdup_printf(STATUS, 120, 230, 1, 13, 11);

        look(10 * S, first, "@aa{sv} []");
        assert_line(
                1,
                "Commands on average so far: 11.1/s  to the TPM 22.2/s (2.00 each)  failed 0.1/s  waiting 2 (1.5 ms)");
        look(12 * S, second, "@aa{sv} []");
        assert_line(1, "Commands 10.0/s  to the TPM 15.0/s (1.50 each)  failed 0.0/s  waiting 2 (1.5 ms)");
        assert_line(2, "TPM      [||||||||||||||||||||] 100.0 %  hits 75.0 %  evictions 0.0/s");
        assert_line(4, "Gap      [|||||||||||||||     ]  75.0 %  3 of 4");
        assert_line(5, "Running  late: GetRandom of client 4 for 2.0 s of 1 min 0 s at most");
}

/* Nothing is there, or of another type. */
static void test_what_a_daemon_should_not_say(void **state) {
        g_autoptr(GPtrArray) header = NULL;

        look(10 * S, "{'State': <5>, 'Counters': <@a{st} {}>, 'Latencies': <{'tpm': 'x'}>, 'Running': <true>}",
             "[{'id': <'x'>, 'name': <7>, 'since': <uint64 18446744073709551615>}, @a{sv} {}]");
        look(9 * S, "{'Counters': <@a{st} {}>}", "[@a{sv} {}]");
        header = top_header(&model);
        assert_true(header->len > 3);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_rates, setup, teardown),
                cmocka_unit_test_setup_teardown(test_those_that_have_left, setup, teardown),
                cmocka_unit_test_setup_teardown(test_folding, setup, teardown),
                cmocka_unit_test_setup_teardown(test_folding_what_looks_alike, setup, teardown),
                cmocka_unit_test_setup_teardown(test_sorting, setup, teardown),
                cmocka_unit_test_setup_teardown(test_layout, setup, teardown),
                cmocka_unit_test_setup_teardown(test_header, setup, teardown),
                cmocka_unit_test_setup_teardown(test_what_a_daemon_should_not_say, setup, teardown),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
