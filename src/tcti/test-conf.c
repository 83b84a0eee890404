/* SPDX-License-Identifier: BSD-2-Clause */

/* Configurations, and what is told to the user. */
#include "tcti/conf.h"
#include "tcti/log.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static char reason[WHY_MAX]; /* why the last configuration was refused */

static bool parse(const char *text, Conf *conf) {
        Why why = { 0 };
        bool ok = conf_parse(text, conf, &why);

        memcpy(reason, why.text, sizeof(reason));
        assert_int_equal(ok, *reason == '\0');
        return ok;
}

static void test_conf(void **state) {
        char text[600];
        Conf c;

        assert_true(parse(NULL, &c) && c.kind == CONF_DEFAULT && !c.session_bus);
        assert_string_equal(c.path, "/run/tpm2-abrmd/tpm.sock");
        assert_string_equal(c.bus_name, "com.intel.tss2.Tabrmd");
        assert_true(parse("", &c) && c.kind == CONF_DEFAULT);
        assert_true(parse("socket=/a/b", &c) && c.kind == CONF_SOCKET);
        assert_string_equal(c.path, "/a/b");
        assert_true(parse("socket=/a=b", &c));
        assert_string_equal(c.path, "/a=b");
        assert_true(parse("bus_type=session", &c) && c.kind == CONF_BUS && c.session_bus);
        assert_true(parse("bus_type=system,bus_name=a.b,", &c) && c.kind == CONF_BUS && !c.session_bus);
        assert_string_equal(c.bus_name, "a.b");
        assert_true(parse("bus_name=a.b,bus_type=session", &c) && c.session_bus);

        c.kind = CONF_SOCKET;
        assert_false(parse("bus_type=both", &c));
        assert_false(parse("bus_type=sessions", &c));
        assert_false(parse("bus_type=", &c));
        assert_false(parse("bus_type", &c));
        assert_false(parse("socket=", &c));
        assert_false(parse("=x", &c));
        assert_false(parse("bus_typ=session", &c));
        assert_string_equal(reason,
                            "\"bus_typ\": no such key (socket=PATH, or bus_type=system|session and bus_name=NAME)");
        assert_false(parse("/run/tpm.sock", &c));
        assert_memory_equal(reason, "\"/run/tpm.sock\": no key with a value (socket=PATH", 48);
        assert_false(parse("bus_type=foo,bus_type=session", &c));
        assert_string_equal(reason, "bus_type=foo: no such bus (system or session)");
        assert_false(parse("socket=/a,bus_type=session", &c));
        assert_memory_equal(reason, "a socket and a bus at once", 26);
        assert_int_equal(c.kind, CONF_SOCKET); /* as it was */

        snprintf(text, sizeof(text), "bus_name=%0300d", 1);
        assert_false(parse(text, &c));
        snprintf(text, sizeof(text), "socket=/%0107d", 1);
        assert_false(parse(text, &c));
        snprintf(text, sizeof(text), "socket=/%0106d", 1);
        assert_true(parse(text, &c));
}

/* What the library of tpm2-abrmd 3.0 makes of each, found by running it. */
static void test_conf_as_in_3_0(void **state) {
        static const struct {
                const char *text;
                bool taken, session;
                const char *bus_name;
        } rows[] = {
                { "bus_type=session,", true, true, NULL },
                { "bus_type=session,bus_type=session", true, true, NULL },
                { ",bus_type=session", true, true, NULL },
                { "bus_type=system,bus_type=session", true, true, NULL },
                { "bus_type=session,bus_type=system", true, false, NULL },
                { "bus_type=session,,", true, true, NULL },
                { ",,bus_type=session,,,bus_name=a.b", true, true, "a.b" },
                { ",", true, false, NULL },
                { ",,", true, false, NULL },
                { "bus_type==session", true, true, NULL },
                { "=bus_type=session", true, true, NULL },
                { "bus_type=session=x", true, true, NULL },
                { "bus_type=session=", true, true, NULL },
                { "bus_name=a.b=c", true, false, "a.b" },
                { "bus_name=x.y,bus_name=a.b,bus_type=session", true, true, "a.b" },
                { "=", false, false, NULL },
                { "==", false, false, NULL },
                { "=session", false, false, NULL },
                { "bus_name", false, false, NULL },
                { "bus_name=", false, false, NULL },
                { "bus_name==", false, false, NULL },
                { "bus_type=session,=,", false, false, NULL },
                { "bus_type=session,x=", false, false, NULL },
                { "bus_type=session, bus_name=a.b", false, false, NULL },
                { " bus_type=session", false, false, NULL },
                { "bus_type=Session", false, false, NULL },
        };

        for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
                Conf c;

                assert_int_equal(parse(rows[i].text, &c), rows[i].taken);
                if (!rows[i].taken)
                        continue;
                assert_int_equal(c.session_bus, rows[i].session);
                assert_string_equal(c.bus_name, rows[i].bus_name ? rows[i].bus_name : "com.intel.tss2.Tabrmd");
        }
}

static char log_path[] = "/tmp/test-conf-XXXXXX";

/* What was written since the last time. */
static size_t read_log(char *text, size_t size) {
        int fd = open(log_path, O_RDONLY | O_CLOEXEC);
        ssize_t n = read(fd, text, size - 1);

        assert_true(n >= 0);
        text[n] = '\0';
        close(fd);
        assert_int_equal(truncate(log_path, 0), 0);
        return (size_t)n;
}

static bool is_said(LogLevel level) {
        char line[200];

        LOG(level, "x");
        return read_log(line, sizeof(line)) > 0;
}

/* What the line of a level needs of TSS2_LOG; found by running libtss2-tctildr 3.2.1 with each. */
static void test_levels(void **state) {
        static const struct {
                const char *text;
                bool error, warning;
        } rows[] = {
                { NULL, true, true },
                { "", true, true },
                { "all+none", false, false },
                { "ALL+None", false, false },
                { "tcti+NONE", false, false },
                { "tcti+error", true, false },
                { "all+error,tcti+none", false, false },
                { "tcti+none,all+error", true, false },
                { "all+none, tcti+debug", true, true },
                { "all+none;tcti+warning", true, true },
                { "esys+none", true, true },
                { "tctix+none", true, true },
                { "all+nonesuch", false, false },
                { "all+none,tcti+bogus", false, false },
                { "all+bogus", true, true },
                { "all=none", true, true },
                { "all +none", true, true },
                { "+none", true, true },
                { "all+", true, true },
                { "tcti+(unused)", false, false },
                { "all+trace", true, true },
        };

        for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
                if (rows[i].text)
                        setenv("TSS2_LOG", rows[i].text, 1);
                else
                        unsetenv("TSS2_LOG");
                assert_int_equal(is_said(LOG_ERROR), rows[i].error);
                assert_int_equal(is_said(LOG_WARNING), rows[i].warning);
        }
        unsetenv("TSS2_LOG");
}

static void test_line(void **state) {
        const char *expected = "ERROR:tcti:src/tcti/test-conf.c:";
        char line[2000], *rest;

        errno = ENODATA;
        LOG(LOG_ERROR, "%s: a\nb\x1b[31m\x7f \xc3\xa9", "thing");
        assert_int_equal(errno, ENODATA);
        read_log(line, sizeof(line));
        assert_memory_equal(line, expected, strlen(expected));
        rest = strchr(line + strlen(expected), ':');
        assert_non_null(rest);
        assert_string_equal(rest, ":test_line() tabrmd: thing: a?b?[31m? \xc3\xa9\n");

        LOG(LOG_WARNING, "%01500d", 7);
        read_log(line, sizeof(line));
        assert_memory_equal(line, "WARNING:", 8);
        assert_in_range(strlen(line), 1000, 1023);
        assert_ptr_equal(strchr(line, '\n'), line + strlen(line) - 1);
}

static void test_reasons(void **state) {
        Why why = { 0 };

        why_add(&why, "%s: x", "a");
        assert_string_equal(why.text, "a: x");
        why_add(&why, "%s: y", "b");
        assert_string_equal(why.text, "a: x; b: y");
        for (unsigned i = 0; i < WHY_MAX; i++)
                why_add(&why, "more and more");
        assert_int_equal(strlen(why.text), WHY_MAX - 1);
}

static int setup(void **state) {
        int fd = mkstemp(log_path);

        close(fd);
        return fd < 0 || setenv("TSS2_LOGFILE", log_path, 1);
}

static int teardown(void **state) {
        return unlink(log_path);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_conf), cmocka_unit_test(test_conf_as_in_3_0), cmocka_unit_test(test_levels),
                cmocka_unit_test(test_line), cmocka_unit_test(test_reasons),
        };

        return cmocka_run_group_tests(tests, setup, teardown);
}
