/* SPDX-License-Identifier: BSD-2-Clause */

/* That the manager says what its XML file, and docs/MANAGER.md, the argument of this program, say that it does. */
#include "manager-interface.h"
#include "manager/test-visitors.h"
#include "tpm/writer.h"
#include "util/log.h"
#include "util/names.h"

#include <string.h>

static char *page;

/*
 * The keys in the first column of the table below @title in docs/MANAGER.md, each with what is in backticks in the
 * second. Return: a set; the second column is the value.
 */
static GHashTable *documented(const char *title) {
        GHashTable *keys = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
        g_autoptr(GRegex) regex = g_regex_new("^\\| `([a-z-]+)` \\| (?:`([a-z])` \\|)?", G_REGEX_MULTILINE, 0, NULL);
        g_autofree char *line = g_strdup_printf("%s:\n\n", title), *table = NULL;
        const char *begin = strstr(page, line), *end;
        g_autoptr(GMatchInfo) match = NULL;

        assert_non_null(begin);
        begin += strlen(line);
        end = strstr(begin, "\n\n");
        assert_non_null(end);
        table = g_strndup(begin, (gsize)(end - begin));
        for (g_regex_match(regex, table, 0, &match); g_match_info_matches(match); g_match_info_next(match, NULL))
                g_hash_table_insert(keys, g_match_info_fetch(match, 1), g_match_info_fetch(match, 2));
        assert_true(g_hash_table_size(keys) > 0);
        return keys;
}

/* Takes what is in the row out of those that were not seen yet; all of it is to be documented. */
static void check_row(GVariant *row, GHashTable *keys, GHashTable *unseen) {
        const char *key;
        GVariantIter iter;
        GVariant *value;

        g_variant_iter_init(&iter, row);
        while (g_variant_iter_loop(&iter, "{&sv}", &key, &value)) {
                const char *type = g_hash_table_lookup(keys, key);

                if (!type)
                        fail_msg("%s is not documented", key);
                assert_string_equal(g_variant_get_type_string(value), type);
                g_hash_table_remove(unseen, key);
        }
}

/* @always: keys of each row, with spaces around them; others may be missing from some. NULL: all. */
static void check_rows(GDBusConnection *visitor, const char *method, const char *always) {
        g_autofree char *title = g_strdup_printf(", of `%s`", method);
        g_autoptr(GHashTable) keys = documented(title);
        g_autoptr(GHashTable) unseen = documented(title);
        g_autoptr(GVariant) reply = visitor_call(visitor, MANAGER_INTERFACE, method, NULL);
        g_autoptr(GVariant) list = g_variant_get_child_value(reply, 0);
        GHashTableIter iter;
        gpointer key;

        assert_true(g_variant_n_children(list) > 0);
        for (gsize i = 0; i < g_variant_n_children(list); i++) {
                g_autoptr(GVariant) row = g_variant_get_child_value(list, i);

                check_row(row, keys, unseen);
                g_hash_table_iter_init(&iter, keys);
                while (g_hash_table_iter_next(&iter, &key, NULL)) {
                        g_autofree char *word = g_strdup_printf(" %s ", (const char *)key);
                        g_autoptr(GVariant) value = g_variant_lookup_value(row, key, NULL);

                        if (!value && (!always || strstr(always, word)))
                                fail_msg("%s: no %s in row %u", method, (const char *)key, (unsigned)i);
                }
        }
        g_hash_table_iter_init(&iter, unseen);
        while (g_hash_table_iter_next(&iter, &key, NULL))
                fail_msg("%s: %s is documented, and never there", method, (const char *)key);
}

static void run_command(unsigned client, TPM2_CC code) {
        unsigned n = clients[client].n_replies;

        client_submit(client, code);
        bench_until(fake_waits(&bench.fake) || clients[client].n_replies > n);
        if (fake_waits(&bench.fake))
                fake_answer(&bench.fake, TSS2_RC_SUCCESS);
        assert_int_equal(clients[client].n_replies, n + 1);
}

/* Return: a handle that it returns. */
static TPM2_HANDLE run_well(unsigned client, Message command) {
        unsigned n = clients[client].n_replies;

        client_send(client, &command);
        bench_until(clients[client].n_replies > n);
        assert_int_equal(clients[client].rc, TSS2_RC_SUCCESS);
        return clients[client].handle;
}

static TPM2_HANDLE start_session(unsigned client) {
        return run_well(client, cmd_start_session(TPM2_SE_POLICY));
}

static void test_keys(void **state) {
        g_autoptr(GDBusConnection) visitor = visitor_new();

        run_command(0, FAKE_SLOW);
        run_command(0, 0x20000123);
        start_session(0);
        run_well(1, cmd_with_handle(TPM2_CC_ContextSave, start_session(1)));
        check_rows(visitor, "ListClients", NULL);
        check_rows(visitor, "ListSessions", " handle state client loaded age ");
        check_rows(visitor, "ListCommands", NULL);
        check_rows(visitor, "ListPrograms", NULL);
}

static void test_counters(void **state) {
        g_autoptr(GHashTable) keys = documented("\nCounters");
        bool known;
        g_autoptr(GVariant) counters = g_variant_ref_sink(manager_property(manager, 0, "Counters", &known));
        GVariantIter iter;
        const char *key;

        g_variant_iter_init(&iter, counters);
        while (g_variant_iter_next(&iter, "{&st}", &key, NULL))
                if (!g_hash_table_remove(keys, key))
                        fail_msg("%s is not documented, or there twice", key);
        assert_int_equal(g_hash_table_size(keys), 0);
}

/* All that are declared, with their types, and no other. */
static void test_properties(void **state) {
        g_autoptr(GDBusConnection) visitor = visitor_new();
        g_autoptr(GVariant) reply =
                visitor_call(visitor, PROPERTIES, "GetAll", g_variant_new("(s)", MANAGER_INTERFACE));
        g_autoptr(GVariant) all = g_variant_get_child_value(reply, 0);
        g_autoptr(GVariant) signalled = g_variant_ref_sink(manager_signalled_properties(manager));
        unsigned n = 0, n_signalled = 0;

        for (GDBusPropertyInfo **info = manager1_interface.properties; *info; info++) {
                const char *name = (*info)->name;
                const char *emits = g_dbus_annotation_info_lookup((*info)->annotations,
                                                                  "org.freedesktop.DBus.Property.EmitsChangedSignal");
                g_autoptr(GVariant) value = g_variant_lookup_value(all, name, NULL);
                g_autoptr(GVariant) told = g_variant_lookup_value(signalled, name, NULL);
                g_autoptr(GVariant) answer =
                        visitor_call(visitor, PROPERTIES, "Get", g_variant_new("(ss)", MANAGER_INTERFACE, name));
                g_autoptr(GVariant) one = NULL;

                if (!value)
                        fail_msg("%s is not there", name);
                assert_string_equal(g_variant_get_type_string(value), (*info)->signature);
                g_variant_get(answer, "(v)", &one);
                assert_string_equal(g_variant_get_type_string(one), (*info)->signature);
                /* Nothing in the XML file means that it is told. */
                if ((told != NULL) != (emits == NULL))
                        fail_msg("whether changes of %s are told is not as declared", name);
                n_signalled += told != NULL;
                n++;
        }
        assert_int_equal(g_variant_n_children(all), n);
        assert_int_equal(g_variant_n_children(signalled), n_signalled);
}

/* Others may read why the TPM does not work, and no more. */
static void test_properties_of_others(void **state) {
        g_autoptr(GVariant) all = g_variant_ref_sink(manager_all_properties(manager, 65534));
        static const char *const NAMES[] = { "Version", "State",    "Reason",  "Manufacturer",
                                             "Vendor",  "Firmware", "Revision" };
        bool known;

        for (size_t i = 0; i < G_N_ELEMENTS(NAMES); i++) {
                g_autoptr(GVariant) value = manager_property(manager, 65534, NAMES[i], &known);
                g_autoptr(GVariant) one = g_variant_lookup_value(all, NAMES[i], NULL);

                assert_non_null(value);
                assert_true(known && one && g_variant_equal(value, one));
        }
        assert_int_equal(g_variant_n_children(all), G_N_ELEMENTS(NAMES));
        assert_null(manager_property(manager, 65534, "Clients", &known));
        assert_true(known);
        assert_null(manager_property(manager, 65534, "Nonsense", &known));
        assert_false(known);
}

/* GLib answers most of these by itself, and not always by the same name. */
static void test_bad_properties(void **state) {
        static const struct {
                const char *method, *parameters;
        } rows[] = {
                { "Get", "('" MANAGER_INTERFACE "', 'Nonsense')" },
                { "Get", "('" MANAGER_INTERFACE "', '')" },
                { "Get", "('org.example', 'Version')" },
                { "Get", "('" MANAGER_INTERFACE "',)" },
                { "GetAll", "('org.example',)" },
                { "GetAll", "(uint32 1,)" },
                { "Set", "('" MANAGER_INTERFACE "', 'Nonsense', <'x'>)" },
                { "Set", "('" MANAGER_INTERFACE "', 'Version', <'x'>)" },
                { "Set", "('" MANAGER_INTERFACE "', 'Clients', <uint32 1>)" },
                { "Set", "('" MANAGER_INTERFACE "', 'LogLevel', <uint32 1>)" },
                { "Set", "('" MANAGER_INTERFACE "', 'LogLevel', <<'info'>>)" },
                { "Set", "('" MANAGER_INTERFACE "', 'LogLevel', <'loud'>)" },
                { "Set", "('" MANAGER_INTERFACE "', 'LogLevel', <''>)" },
        };
        g_autoptr(GDBusConnection) visitor = visitor_new();
        int level = log_level();

        for (size_t i = 0; i < G_N_ELEMENTS(rows); i++)
                assert_call_fails(visitor, PROPERTIES, rows[i].method, g_variant_new_parsed(rows[i].parameters), NULL);
        assert_int_equal(log_level(), level);
}

static void test_bad_calls(void **state) {
        static const struct {
                const char *method, *parameters, *error;
        } rows[] = {
                { "Nonsense", "()", "UnknownMethod" },
                { "ListClients", "(1,)", "InvalidArgs" },
                { "FlushClient", "()", "InvalidArgs" },
                { "FlushClient", "('x',)", "InvalidArgs" },
                { "FlushClient", "(uint64 0,)", "InvalidArgs" },
                { "FlushClient", "(uint64 12345,)", "InvalidArgs" },
                { "Trace", "(@a{sv} {'tpm': <'yes'>},)", "InvalidArgs" },
                { "Trace", "(@a{sv} {'tpm': <true>, 'colour': <'red'>},)", "InvalidArgs" },
        };
        g_autoptr(GDBusConnection) visitor = visitor_new();

        for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
                g_autofree char *error = g_strconcat(ERROR, rows[i].error, NULL);

                assert_call_fails(visitor, MANAGER_INTERFACE, rows[i].method, g_variant_new_parsed(rows[i].parameters),
                                  error);
        }
}

static void assert_flushes(GDBusConnection *visitor, const char *method, GVariant *parameters, const char *wanted) {
        g_autoptr(GVariant) reply = visitor_call(visitor, MANAGER_INTERFACE, method, parameters);
        g_autofree char *text = g_variant_print(reply, FALSE);

        assert_string_equal(text, wanted);
}

static void test_flush(void **state) {
        g_autoptr(GDBusConnection) visitor = visitor_new();

        run_well(1, cmd_with_handle(TPM2_CC_ContextSave, start_session(1)));
        client_close(1);
        run_command(0, TPM2_CC_CreatePrimary);
        start_session(0);
        assert_flushes(visitor, "FlushClient", g_variant_new("(t)", first_client(visitor)), "(1, 1)");
        assert_flushes(visitor, "FlushAbandoned", NULL, "(1,)");
        assert_flushes(visitor, "FlushLeftOver", NULL, "(0,)");
}

typedef struct Told {
        unsigned n;
        GVariant *last;
} Told;

static void on_told(GDBusConnection *connection, const char *sender, const char *path, const char *interface,
                    const char *signal, GVariant *parameters, gpointer userdata) {
        Told *told = userdata;

        told->n++;
        g_clear_pointer(&told->last, g_variant_unref);
        g_variant_get(parameters, "(&s@a{sv}as)", NULL, &told->last, NULL);
}

/* Together, once, and only what has changed. */
static void test_changes(void **state) {
        g_autoptr(GDBusConnection) visitor = visitor_new();
        int level = log_level();
        Told told = { 0 };
        guint32 n = 0;

        g_dbus_connection_signal_subscribe(visitor, NULL, PROPERTIES, "PropertiesChanged", MANAGER_PATH, NULL,
                                           G_DBUS_SIGNAL_FLAGS_NONE, on_told, &told, NULL);
        log_set_level(LOG_WARNING);
        g_variant_unref(
                visitor_call(visitor, PROPERTIES, "Set",
                             g_variant_new("(ssv)", MANAGER_INTERFACE, "LogLevel", g_variant_new_string("error"))));
        assert_int_equal(log_level(), LOG_ERR);
        client_close(2);
        client_close(3);
        client_open(3, 1000);
        bench_until(told.n > 0);
        assert_int_equal(g_variant_n_children(told.last), 2);
        assert_true(g_variant_lookup(told.last, "Clients", "u", &n));
        assert_int_equal(n, CLIENTS - 1);

        /* There and back again is nothing. */
        client_close(3);
        client_open(3, 1000);
        bench_run_ms(700);
        assert_int_equal(told.n, 1);
        g_variant_unref(told.last);
        log_set_level(level);
}

#define TEST(test) cmocka_unit_test_setup_teardown(test, manager_setup, manager_teardown)

int main(int argc, char **argv) {
        const struct CMUnitTest tests[] = {
                TEST(test_keys),
                TEST(test_counters),
                TEST(test_properties),
                TEST(test_bad_properties),
                TEST(test_properties_of_others),
                TEST(test_bad_calls),
                TEST(test_flush),
                TEST(test_changes),
        };

        if (argc != 2 || !g_file_get_contents(argv[1], &page, NULL, NULL))
                return 2;
        return cmocka_run_group_tests(tests, NULL, NULL);
}
