/* SPDX-License-Identifier: BSD-2-Clause */
#include "daemon/options.h"

#include "resmgr/resmgr.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define N_FDS 4096

static bool parse(const char *line, uint64_t n_fds, Options *ret_options, GError **error) {
        g_autofree char *whole = g_strdup_printf("tpm2-abrmd %s", line);
        g_auto(GStrv) arguments = g_strsplit(whole, " ", -1);

        if (!*line)
                g_clear_pointer(&arguments[1], g_free);
        return options_parse(&arguments, n_fds, ret_options, error);
}

static void assert_good(const char *line, uint64_t n_fds, Options *ret_options) {
        g_autoptr(GError) error = NULL;

        if (!parse(line, n_fds, ret_options, &error))
                fail_msg("\"%s\": %s", line, error->message);
}

/* Refused, with one line that has @word in it, and nothing written. */
static void assert_bad(const char *line, const char *word) {
        Options options = { .broker.limits.reserve = 4711 };
        g_autoptr(GError) error = NULL;

        if (parse(line, N_FDS, &options, &error))
                fail_msg("\"%s\" was accepted", line);
        assert_non_null(error);
        assert_null(strchr(error->message, '\n'));
        if (!strstr(error->message, word))
                fail_msg("\"%s\": no \"%s\" in \"%s\"", line, word, error->message);
        assert_int_equal(options.broker.limits.reserve, 4711);
        assert_null(options.tcti);
}

static void test_defaults(void **state) {
        g_auto(Options) options = { 0 };

        assert_good("", N_FDS, &options);
        assert_string_equal(options.tcti, "device:/dev/tpm0");
        assert_string_equal(options.dbus_name, "com.intel.tss2.Tabrmd");
        assert_int_equal(options.n_sockets, 0);
        assert_false(options.no_socket);
        assert_true(options.dbus);
        assert_false(options.session);
        assert_false(options.allow_root);
        assert_false(options.allow_locality);
        assert_false(options.broker.limits.flush_all);
        assert_false(options.broker.wait);
        assert_false(options.version);
        assert_int_equal(options.logger, LOG_TARGET_STDOUT);
        assert_int_equal(options.broker.max_connections, 1024);
        assert_int_equal(options.broker.limits.sessions_per_space, 64);
        assert_int_equal(options.broker.limits.objects_per_space, 1024);
        assert_int_equal(options.broker.limits.objects, 16384);
        assert_int_equal(options.broker.limits.abandoned, RM_NONE);
        assert_int_equal(options.broker.limit_ms, 60000);
        assert_int_equal(options.broker.limit_long_ms, 300000);
        assert_int_equal(options.broker.limits.reserve, OPTIONS_BY_BACKEND);
        assert_int_equal(options.broker.idle_evict_ms, OPTIONS_BY_BACKEND);
}

/* Every name of tpm2-abrmd 3.0, long. */
static void test_long_names(void **state) {
        g_auto(Options) options = { 0 };

        assert_good("--tcti=swtpm:host=localhost,port=2321 --session --dbus-name=org.example.Tpm --max-connections=9 "
                    "--max-sessions=3 --max-transients=27 --flush-all --logger=syslog --prng-seed-file=/dev/urandom "
                    "--allow-root --version",
                    N_FDS, &options);
        assert_string_equal(options.tcti, "swtpm:host=localhost,port=2321");
        assert_true(options.session);
        assert_string_equal(options.dbus_name, "org.example.Tpm");
        assert_int_equal(options.broker.max_connections, 9);
        assert_int_equal(options.broker.limits.sessions_per_space, 3);
        assert_int_equal(options.broker.limits.objects_per_space, 27);
        assert_true(options.broker.limits.flush_all);
        assert_int_equal(options.logger, LOG_TARGET_SYSLOG);
        assert_true(options.allow_root);
        assert_true(options.version);
}

static void test_letters(void **state) {
        g_auto(Options) options = { 0 };

        assert_good("-t libtpms -s -n a.b -m 1 -e 2 -r 3 -f -l stdout -g x -o -v", N_FDS, &options);
        assert_string_equal(options.tcti, "libtpms");
        assert_true(options.session);
        assert_string_equal(options.dbus_name, "a.b");
        assert_int_equal(options.broker.max_connections, 1);
        assert_int_equal(options.broker.limits.sessions_per_space, 2);
        assert_int_equal(options.broker.limits.objects_per_space, 3);
        assert_true(options.broker.limits.flush_all);
        assert_int_equal(options.logger, LOG_TARGET_STDOUT);
        assert_true(options.allow_root);
        assert_true(options.version);
}

static void test_new_names(void **state) {
        g_auto(Options) options = { 0 };

        assert_good("--socket /x/y --no-dbus --max-abandoned 0 --max-objects 65536 --reserve 0 --idle-evict 0 "
                    "--allow-locality --wait",
                    N_FDS, &options);
        assert_int_equal(options.n_sockets, 1);
        assert_string_equal(options.sockets[0].path, "/x/y");
        assert_int_equal(options.sockets[0].mode, 0660);
        assert_null(options.sockets[0].group);
        assert_int_equal(options.sockets[0].localities, 1);
        assert_int_equal(options.sockets[0].linger, 0);
        assert_false(options.dbus);
        assert_int_equal(options.broker.limits.abandoned, 0);
        assert_int_equal(options.broker.limits.objects, 65536);
        assert_int_equal(options.broker.limits.reserve, 0);
        assert_int_equal(options.broker.idle_evict_ms, 0);
        assert_true(options.allow_locality);
        assert_true(options.broker.wait);
}

static void test_reserve(void **state) {
        static const char *const bad[] = { "-1", "65", "4294967296", "2x", "", "automatic", "+2", "0x2" };
        static const char *const good[] = { "auto", "0", "64" };
        static const uint32_t numbers[] = { OPTIONS_BY_BACKEND, 0, 64 };

        for (size_t i = 0; i < G_N_ELEMENTS(good); i++) {
                g_autofree char *line = g_strdup_printf("--reserve=%s", good[i]);
                g_auto(Options) options = { 0 };

                assert_good(line, N_FDS, &options);
                assert_int_equal(options.broker.limits.reserve, numbers[i]);
        }
        for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
                g_autofree char *line = g_strdup_printf("--reserve=%s", bad[i]);

                assert_bad(line, "--reserve must be auto, or a number from 0 to 64");
        }
}

static void test_no_socket(void **state) {
        g_auto(Options) options = { 0 };

        assert_good("--no-socket", N_FDS, &options);
        assert_true(options.no_socket);
        assert_true(options.dbus);
}

static void test_sockets(void **state) {
        static const char *const bad[] = {
                "--socket=/x,mode=0800",   "--socket=/x,mode=01000",
                "--socket=/x,mode=",       "--socket=/x,mode=u+x",
                "--socket=/x,group=",      "--socket=/x,locality=5",
                "--socket=/x,locality=",   "--socket=/x,locality=1,locality=2",
                "--socket=/x,what=1",      "--socket=/x,",
                "--socket=,mode=0600",     "--socket=/x,mode=0600,mode=0600",
                "--socket=/x,locality=1+", "--socket=/x,locality=-1",
                "--socket=/x,linger=0",    "--socket=/x,linger=86401",
                "--socket=/x,linger=",     "--socket=/x,linger=1,linger=1",
        };
        g_auto(Options) options = { 0 };

        assert_good("--socket=/a --socket /b,mode=0606,locality=3+4,group=wheel --socket=/c,locality=0,linger=30",
                    N_FDS, &options);
        assert_int_equal(options.n_sockets, 3);
        assert_string_equal(options.sockets[0].path, "/a");
        assert_string_equal(options.sockets[1].path, "/b");
        assert_int_equal(options.sockets[1].mode, 0606);
        assert_string_equal(options.sockets[1].group, "wheel");
        assert_int_equal(options.sockets[1].localities, 1 | 1 << 3 | 1 << 4);
        assert_int_equal(options.sockets[2].localities, 1);
        assert_int_equal(options.sockets[2].linger, 30);
        for (size_t i = 0; i < G_N_ELEMENTS(bad); i++)
                assert_bad(bad[i], "--socket");
        assert_bad("--socket=/a --socket=/b --socket=/a", "twice");
        assert_bad("--socket=/1 --socket=/2 --socket=/3 --socket=/4 --socket=/5 --socket=/6 --socket=/7 --socket=/8 "
                   "--socket=/9",
                   "more than 8");
}

static void test_ranges(void **state) {
        static const struct {
                const char *name;
                long long min, max;
        } rows[] = {
                { "max-connections", 1, N_FDS - OPTIONS_FDS_RESERVED },
                { "max-sessions", 1, 65535 },
                { "max-transients", 1, 65536 },
                { "max-objects", 1, 65536 },
                { "max-abandoned", 0, 65535 },
                { "idle-evict", 0, 86400000 },
                { "time-limit", 1, 86400 },
                { "time-limit-long", 1, 86400 },
        };

        for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
                const long long good[] = { rows[i].min, rows[i].max };
                const long long bad[] = { rows[i].min - 1, rows[i].max + 1, G_MININT + 1LL, G_MAXINT, 1LL << 32 };

                for (size_t k = 0; k < G_N_ELEMENTS(good); k++) {
                        g_autofree char *line = g_strdup_printf("--%s=%lld", rows[i].name, good[k]);
                        g_auto(Options) options = { 0 };

                        assert_good(line, N_FDS, &options);
                }
                for (size_t k = 0; k < G_N_ELEMENTS(bad); k++) {
                        g_autofree char *line = g_strdup_printf("--%s=%lld", rows[i].name, bad[k]);

                        assert_bad(line, bad[k] == 1LL << 32 ? "4294967296" : rows[i].name);
                }
        }
}

#define OWN OPTIONS_FDS_RESERVED

/* The default gives way to a low descriptor limit, whatever that is. */
static void test_few_files(void **state) {
        static const struct {
                uint64_t n_fds;
                uint32_t connections;
        } rows[] = { { 0, 1 },
                     { OWN, 1 },
                     { OWN + 1, 1 },
                     { OWN + 2, 2 },
                     { 1024, 1024 - OWN },
                     { OWN + 1024, 1024 },
                     { UINT64_MAX, 1024 } };

        for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
                g_auto(Options) options = { 0 };

                assert_good("", rows[i].n_fds, &options);
                assert_int_equal(options.broker.max_connections, rows[i].connections);
        }
}

static void test_nonsense(void **state) {
        assert_bad("--frobnicate", "--frobnicate");
        assert_bad("-x", "-x");
        assert_bad("stray", "stray");
        assert_bad("-- stray", "stray");
        assert_bad("-m", "-m");
        assert_bad("-m ten", "ten");
        assert_bad("-m 1x", "1x");
        assert_bad("--logger=stderr", "stderr");
        assert_bad("--dbus-name=nodot", "nodot");
        assert_bad("--dbus-name=:1.7", ":1.7");
        assert_bad("--tcti=", "tcti");
        assert_bad("--socket=", "socket");
        assert_bad("--socket=/x --no-socket", "--no-socket");
        assert_bad("--no-dbus --no-socket", "no door");
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_defaults),  cmocka_unit_test(test_long_names), cmocka_unit_test(test_letters),
                cmocka_unit_test(test_new_names), cmocka_unit_test(test_reserve),    cmocka_unit_test(test_sockets),
                cmocka_unit_test(test_new_names), cmocka_unit_test(test_no_socket),  cmocka_unit_test(test_sockets),
                cmocka_unit_test(test_ranges),    cmocka_unit_test(test_few_files),  cmocka_unit_test(test_nonsense),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
