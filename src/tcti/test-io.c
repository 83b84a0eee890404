/* SPDX-License-Identifier: BSD-2-Clause */

/* Waiting for a peer that does nothing, in a program that is interrupted all the time. */
#include "tcti/io.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

#include <cmocka.h>

#define TICK_US 200
#define TICKS_MAX 50000 /* many times the limit of time that is given: nothing ends any more */

static volatile sig_atomic_t n_ticks;

static void on_tick(int signal) {
        if (++n_ticks > TICKS_MAX)
                _exit(3);
}

static void tick(bool on) {
        const struct sigaction action = { .sa_handler = on_tick, .sa_flags = SA_RESTART };
        const struct timeval interval = { .tv_usec = on ? TICK_US : 0 };
        const struct itimerval timer = { .it_interval = interval, .it_value = interval };

        n_ticks = 0;
        assert_int_equal(sigaction(SIGALRM, &action, NULL), 0);
        assert_int_equal(setitimer(ITIMER_REAL, &timer, NULL), 0);
}

/* The listener's queue is full, and stays so. */
static void test_connect(void **state) {
        struct sockaddr_un address = { .sun_family = AF_UNIX };
        const IoDeadline never = io_deadline(-1);
        IoDeadline deadline;
        char folder[] = "/tmp/test-io-XXXXXX";
        int listener = socket(AF_UNIX, SOCK_STREAM, 0), first, fd, error;

        assert_non_null(mkdtemp(folder));
        snprintf(address.sun_path, sizeof(address.sun_path), "%s/sock", folder);
        assert_int_equal(bind(listener, (struct sockaddr *)&address, sizeof(address)), 0);
        assert_int_equal(listen(listener, 0), 0);
        first = io_connect(&address, sizeof(address), &never);
        assert_true(first > STDERR_FILENO);
        tick(true);
        deadline = io_deadline(30);
        fd = io_connect(&address, sizeof(address), &deadline);
        error = errno;
        tick(false);
        assert_int_equal(fd, -1);
        assert_int_equal(error, EAGAIN);

        close(first);
        close(listener);
        unlink(address.sun_path);
        rmdir(folder);
}

static void test_read(void **state) {
        IoDeadline deadline;
        IoResult result;
        int pair[2];
        char c;

        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
        tick(true);
        deadline = io_deadline(30);
        result = io_read(pair[0], &c, 1, &deadline);
        tick(false);
        assert_int_equal(result, IO_TIMEOUT);
        close(pair[0]);
        close(pair[1]);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_read),
                cmocka_unit_test(test_connect),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
