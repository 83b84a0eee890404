/* SPDX-License-Identifier: BSD-2-Clause */
#include "ctl/fields.h"
#include "ctl/format.h"
#include "ctl/suggest.h"
#include "ctl/unit.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

static void assert_text(char *text, const char *expected) {
        assert_string_equal(text, expected);
        g_free(text);
}

static void test_durations(void **state) {
        assert_text(format_us(0), "0 us");
        assert_text(format_us(999), "999 us");
        assert_text(format_us(1000), "1.0 ms");
        assert_text(format_us(59900000), "59.9 s");
        assert_text(format_us(60000000), "1 min 0 s");
        assert_text(format_us(3599000000), "59 min 59 s");
        assert_text(format_us(3660000000), "1 h 1 min");
        assert_text(format_us(90000000000), "1 d 1 h");
        assert_text(format_us(UINT64_MAX), "213503982 d 8 h");
}

/* Nothing that a terminal would obey, whoever has written it. */
static void test_text(void **state) {
        assert_text(format_text("plain \xc3\xa4"), "plain \xc3\xa4");
        assert_text(format_text("\033[2J\n\r\t\x7f"), "?[2J????");
        assert_text(format_text("\xc2\x9b"
                                "2J"),
                    "?2J");
        assert_text(format_text("\xff\xc3"), "\xef\xbf\xbd\xef\xbf\xbd");
        assert_text(format_text("\xe2\x80\xae"), "?"); /* from right to left */
        /* as many columns as characters, for whoever counts these: two columns, and none */
        assert_text(format_text("\xe6\x97\xa5x"), "?x");
        assert_text(format_text("e\xcc\x81x"), "e?x");
        assert_text(format_text(""), "");
}

static void test_shares_and_names(void **state) {
        assert_text(format_share(1, 3), "33.3 %");
        assert_text(format_share(0, 0), "-");
        assert_text(format_command(0x17B), "GetRandom");
        assert_text(format_command(0x20001234), "0x20001234");
        assert_text(format_user(0), "root");
        assert_text(format_user(4294967294u), "4294967294");
}

static void test_quantiles(void **state) {
        Latency none = { .n_buckets = 4, .bounds = { 100, 200, 400 } }, even = none, late = none, one = none;

        even.counts[0] = even.counts[1] = 10;
        late.counts[3] = 5;
        one.counts[2] = 1;
        assert_text(format_quantile(&none, 0.5), "-");
        assert_int_equal(latency_bucket(&none, 0.5), 4);
        /* Of the first bucket and of the last one no more is known. */
        assert_text(format_quantile(&even, 0.5), "under 100 us");
        assert_text(format_quantile(&even, 0.25), "under 100 us");
        assert_text(format_quantile(&late, 0.5), "over 400 us");
        assert_text(format_quantile(&even, 0.75), "about 150 us");
        assert_text(format_quantile(&even, 1), "about 200 us");
        assert_text(format_quantile(&one, 0.5), "about 300 us");
        assert_int_equal(latency_bucket(&one, 0.5), 2);
}

static void test_units(void **state) {
        assert_text(unit_in("0::/system.slice/tpm2-abrmd.service\n"), "tpm2-abrmd.service");
        assert_text(unit_in("0::/user.slice/user-1000.slice/user@1000.service/app.slice/app-x.scope\n"), "app-x.scope");
        assert_text(unit_in("12:cpu:/\n1:name=systemd:/system.slice/ssh.service/inner\n"), "ssh.service");
        assert_text(unit_in("0::/\n"), "-");
        assert_text(unit_in(""), "-");
        assert_text(unit_in("0::/a\033b.service\n"), "a?b.service");
        assert_text(unit_of(0), "-");
        assert_text(unit_of(4194305), "-"); /* more than there can be */
}

/* Of a daemon that may say anything. */
static void test_dictionaries(void **state) {
        g_autoptr(GVariant) dict = g_variant_ref_sink(
                g_variant_new_parsed("{'u': <uint32 7>, 't': <uint64 8>, 'y': <byte 9>, 'b': <true>, 's': <'text'>}"));

        assert_int_equal(dict_number(dict, "u"), 7);
        assert_int_equal(dict_number(dict, "t"), 8);
        assert_int_equal(dict_number(dict, "y"), 9);
        assert_int_equal(dict_number(dict, "b"), 1);
        assert_int_equal(dict_number(dict, "s"), 0);
        assert_int_equal(dict_number(dict, "none"), 0);
        assert_string_equal(dict_text(dict, "s"), "text");
        assert_string_equal(dict_text(dict, "u"), "");
        assert_string_equal(dict_text(dict, "none"), "");
}

static bool latency_of(const char *text, Latency *ret_latency) {
        g_autoptr(GVariant) all = g_variant_ref_sink(g_variant_new_parsed(text));

        return dict_latency(all, "tpm", ret_latency);
}

static void test_what_has_parts(void **state) {
        g_autoptr(GVariant) all = g_variant_ref_sink(
                g_variant_new_parsed("{'Running': <(uint32 379, uint64 4, uint64 1000001, uint64 9)>}"));
        g_autoptr(GVariant) none = g_variant_ref_sink(g_variant_new_parsed("{'Running': <true>}"));
        Running running = dict_running(all);
        Latency latency;

        assert_int_equal(running.code, 379);
        assert_int_equal(running.client, 4);
        assert_int_equal(running.limit_us, 9);
        assert_true(running.late);
        assert_int_equal(dict_running(none).code, 0);
        assert_false(dict_running(none).late);

        assert_true(
                latency_of("{'Buckets': <[uint64 5]>, 'Latencies': <{'tpm': (uint64 7, [uint64 1, 2])}>}", &latency));
        assert_int_equal(latency.sum_us, 7);
        assert_int_equal(latency.n_buckets, 2);
        assert_int_equal(latency.counts[1], 2);
        assert_int_equal(latency.bounds[0], 5);
        assert_false(latency_of("{'Buckets': <[uint64 5]>, 'Latencies': <{'tpm': (uint64 7, [uint64 1])}>}", &latency));
        assert_false(
                latency_of("{'Buckets': <[uint64 5]>, 'Latencies': <{'x': (uint64 7, [uint64 1, 2])}>}", &latency));
        assert_false(latency_of("{'Buckets': <'x'>, 'Latencies': <{'tpm': 'x'}>}", &latency));
}

static void test_suggestions(void **state) {
        static const char *const VERBS[] = { "status", "clients", "top", "trace", "log-level" };
        static const struct {
                const char *written, *meant;
        } rows[] = {
                { "stats", "status" },
                { "sttaus", "status" },
                { "stat", "status" },
                { "client", "clients" },
                { "tpo", "top" },
                { "loglevel", "log-level" },
                { "trase", "trace" },
                { "log", "log-level" },
                { "", NULL },
                { "list", NULL },
                { "xyz", NULL },
                { "s", NULL },
                { "a word that is longer than any verb can be", NULL },
        };

        for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
                const char *near = suggest(rows[i].written, VERBS, G_N_ELEMENTS(VERBS));

                if (g_strcmp0(near, rows[i].meant) != 0)
                        fail_msg("%s: %s", rows[i].written, near ? near : "nothing");
        }
}

static void test_fields(void **state) {
        static const Field FIELDS[] = {
                { "a", { "A", true, 0, 0 }, FIELD_ASCENDS, field_number },
                { "b", { "B", false, 2, 1 }, FIELD_UNSORTED, field_text },
                { "c", { "C", true, 0, 3 }, FIELD_DESCENDS, field_us },
                { "d", { "D", false, 0, 2 }, FIELD_ASCENDS, field_user },
        };
        static const char *const ROWS[] = { "{'a': <uint64 2>, 'b': <'text\\n'>, 'c': <uint32 5>}",
                                            "{'a': <uint64 1>, 'c': <uint32 7>}" };
        g_autoptr(GPtrArray) rows = g_ptr_array_new_with_free_func((GDestroyNotify)g_variant_unref);
        const Field *field = fields_find_sort(FIELDS, G_N_ELEMENTS(FIELDS), "c");

        assert_text(fields_sort_keys(FIELDS, G_N_ELEMENTS(FIELDS)), "a (default), c or d");
        assert_null(fields_find_sort(FIELDS, G_N_ELEMENTS(FIELDS), "b"));
        assert_ptr_equal(field, &FIELDS[2]);
        for (size_t i = 0; i < G_N_ELEMENTS(ROWS); i++)
                g_ptr_array_add(rows, g_variant_parse(G_VARIANT_TYPE_VARDICT, ROWS[i], NULL, NULL, NULL));
        fields_sort(field, rows);
        assert_text(field_number(rows->pdata[0], "a"), "1");
        fields_sort(&FIELDS[0], rows);
        fields_sort(&FIELDS[0], rows);
        assert_text(FIELDS[2].text(rows->pdata[1], "c"), "5 us");
        assert_text(FIELDS[1].text(rows->pdata[0], "b"), "");
        assert_text(field_known(rows->pdata[0], "z"), "-");
        /* Of 20 columns one is shortened, then one after another left out. */
        assert_text(fields_text(FIELDS, G_N_ELEMENTS(FIELDS), rows, 0),
                    "A  B         C  D\n1         7 us  root\n2  text?  5 us  root\n");
        assert_text(fields_text(FIELDS, G_N_ELEMENTS(FIELDS), rows, 18),
                    "A  B       C  D\n1       7 us  root\n2  tex  5 us  root\n");
        assert_text(fields_text(FIELDS, G_N_ELEMENTS(FIELDS), rows, 14),
                    "A  B      D\n1         root\n2  text?  root\n");
        assert_text(fields_text(FIELDS, G_N_ELEMENTS(FIELDS), rows, 9), "A  B\n1\n2  text?\n");
        assert_text(fields_text(FIELDS, G_N_ELEMENTS(FIELDS), rows, 3), "A\n1\n2\n");
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_durations),
                cmocka_unit_test(test_fields),
                cmocka_unit_test(test_suggestions),
                cmocka_unit_test(test_text),
                cmocka_unit_test(test_shares_and_names),
                cmocka_unit_test(test_quantiles),
                cmocka_unit_test(test_units),
                cmocka_unit_test(test_dictionaries),
                cmocka_unit_test(test_what_has_parts),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
