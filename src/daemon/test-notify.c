/* SPDX-License-Identifier: BSD-2-Clause */
#include "daemon/notify.h"

#include <errno.h>
#include <glib.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

/* The service manager: its socket, which has no file. */
static int manager;

static int setup(void **state) {
        g_autofree char *name = g_strdup_printf("@test-notify-%d", getpid());
        struct sockaddr_un address = { .sun_family = AF_UNIX };

        memcpy(address.sun_path, name, strlen(name));
        address.sun_path[0] = '\0';
        manager = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (bind(manager, (struct sockaddr *)&address,
                 (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(name))) < 0)
                return -1;
        g_setenv("NOTIFY_SOCKET", name, TRUE);
        return 0;
}

static int teardown(void **state) {
        close(manager);
        g_unsetenv("NOTIFY_SOCKET");
        g_unsetenv("WATCHDOG_USEC");
        g_unsetenv("WATCHDOG_PID");
        return 0;
}

/* Return: how many messages have come, of which each has to be that one. */
static unsigned n_heard(const char *expected) {
        char text[64];
        unsigned n = 0;
        ssize_t r;

        while ((r = recv(manager, text, sizeof(text) - 1, 0)) > 0) {
                text[r] = '\0';
                assert_string_equal(text, expected);
                n++;
        }
        return n;
}

static void test_state(void **state) {
        notify("READY=1");
        assert_int_equal(n_heard("READY=1"), 1);
        g_setenv("NOTIFY_SOCKET", "/nonexistent/socket", TRUE);
        notify("STOPPING=1");
        g_unsetenv("NOTIFY_SOCKET");
        notify("STOPPING=1");
        assert_int_equal(n_heard(""), 0);
}

static void test_watchdog(void **state) {
        g_autofree char *pid = g_strdup_printf("%d", getpid());
        unsigned source;

        g_setenv("WATCHDOG_USEC", "20000", TRUE);
        g_setenv("WATCHDOG_PID", pid, TRUE);
        source = notify_start_watchdog();
        assert_int_not_equal(source, 0);
        for (unsigned n = 0; n < 5; n += n_heard("WATCHDOG=1"))
                g_main_context_iteration(NULL, TRUE);

        /* A loop that stands. */
        g_usleep(200000);
        assert_int_equal(n_heard("WATCHDOG=1"), 0);
        g_source_remove(source);
}

static gboolean on_interval(gpointer userdata) {
        (*(unsigned *)userdata)++;
        return G_SOURCE_CONTINUE;
}

/* Of the interval, whatever it is, half: compared with a timer of a whole one. */
static void test_half(void **state) {
        unsigned n_intervals = 0, n = 0, sources[2];

        g_setenv("WATCHDOG_USEC", "100000", TRUE);
        sources[0] = notify_start_watchdog();
        sources[1] = g_timeout_add(100, on_interval, &n_intervals);
        while (n_intervals < 6) {
                g_main_context_iteration(NULL, TRUE);
                n += n_heard("WATCHDOG=1");
        }
        assert_in_range(n, n_intervals + 1, 2 * n_intervals + 1);
        g_source_remove(sources[0]);
        g_source_remove(sources[1]);
}

static void test_no_watchdog(void **state) {
        static const char *const rows[][2] = {
                { NULL, NULL },   { "0", NULL },    { "-1", NULL },  { "soon", NULL },  { "", NULL },
                { "20000", "1" }, { "20000", "x" }, { "20000", "" }, { "20000", "-5" },
        };

        for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
                g_unsetenv("WATCHDOG_USEC");
                g_unsetenv("WATCHDOG_PID");
                if (rows[i][0])
                        g_setenv("WATCHDOG_USEC", rows[i][0], TRUE);
                if (rows[i][1])
                        g_setenv("WATCHDOG_PID", rows[i][1], TRUE);
                if (notify_start_watchdog() != 0)
                        fail_msg("row %zu", i);
        }
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_state, setup, teardown),
                cmocka_unit_test_setup_teardown(test_watchdog, setup, teardown),
                cmocka_unit_test_setup_teardown(test_half, setup, teardown),
                cmocka_unit_test_setup_teardown(test_no_watchdog, setup, teardown),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
