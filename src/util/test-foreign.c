/* SPDX-License-Identifier: BSD-2-Clause */
#include "util/foreign.h"

#include "util/fd.h"
#include "util/test-rights.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include <cmocka.h>

#define LINGER_S 3600

static Closer *closer;
static unsigned n_done;

static int setup(void **state) {
        closer = closer_new(NULL);
        n_done = 0;
        return 0;
}

static int teardown(void **state) {
        closer = closer_free(closer);
        return 0;
}

static void pair_make(int pair[2]) {
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair), 0);
}

/* A TCP connection with more in it than its other end takes, which lingers for an hour. Return: it; its other end. */
static int lingering(int *ret_end) {
        struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
        const struct linger linger = { .l_onoff = 1, .l_linger = LINGER_S };
        fd_auto listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        socklen_t n = sizeof(address);
        static char bytes[65536];

        assert_int_equal(bind(listener, (struct sockaddr *)&address, n), 0);
        assert_int_equal(listen(listener, 1), 0);
        assert_int_equal(getsockname(listener, (struct sockaddr *)&address, &n), 0);
        assert_int_equal(connect(fd, (struct sockaddr *)&address, n), 0);
        *ret_end = accept(listener, NULL, NULL);
        assert_true(*ret_end >= 0);
        while (send(fd, bytes, sizeof(bytes), MSG_DONTWAIT) > 0)
                ;
        assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger)), 0);
        return fd;
}

static void on_done(void *userdata) {
        n_done += *(unsigned *)userdata;
}

static gboolean on_late(gpointer userdata) {
        *(bool *)userdata = true;
        return G_SOURCE_REMOVE;
}

static void closed_wait(void) {
        bool late = false;
        guint timer = g_timeout_add_seconds(60, on_late, &late);

        while (!late && (n_done == 0 || closer_n_pending(closer) > 0))
                g_main_context_iteration(NULL, TRUE);
        assert_false(late);
        g_source_remove(timer);
}

/* A socket with a lingering one in it is closed by the thread, whose waiting is cut short. */
static void test_close_over_rights(void **state) {
        fd_auto end = -1;
        unsigned *one = g_new(unsigned, 1);
        int pair[2], passed = lingering(&end);

        *one = 1;
        pair_make(pair);
        assert_int_equal(rights_send(pair[1], passed), 1);
        close(passed);
        assert_true(foreign_holds_rights(pair[0]));
        closer_close(closer, pair[0], on_done, one);
        closed_wait();
        assert_int_equal(n_done, 1);
        close(pair[1]);
}

/* They stay where they are. */
static void test_receive_rights(void **state) {
        fd_auto end = -1;
        unsigned *one = g_new(unsigned, 1);
        int pair[2], passed = lingering(&end);
        char bytes[8];
        struct iovec iov = { .iov_base = bytes, .iov_len = sizeof(bytes) };
        bool told;

        *one = 1;
        pair_make(pair);
        assert_int_equal(foreign_receive(pair[0], &iov, 1, &told), -1);
        assert_int_equal(errno, EAGAIN);
        assert_false(told);
        assert_int_equal(send(pair[1], "abc", 3, 0), 3);
        assert_int_equal(foreign_receive(pair[0], &iov, 1, &told), 3);
        assert_false(told);
        assert_int_equal(rights_send(pair[1], passed), 1);
        close(passed);
        assert_int_equal(foreign_receive(pair[0], &iov, 1, &told), 1);
        assert_true(told);
        assert_true(foreign_holds_rights(pair[0]));
        foreign_close(closer, pair[0]);
        closer_close(closer, dup(pair[1]), on_done, one); /* behind the one that lingers */
        closed_wait();
        close(pair[1]);
}

/* Bytes without descriptors come first: one call would read both. */
static void test_receive_behind_bytes(void **state) {
        int pair[2];
        char bytes[8];
        struct iovec iov = { .iov_base = bytes, .iov_len = sizeof(bytes) };
        bool told;

        pair_make(pair);
        assert_int_equal(send(pair[1], "abc", 3, 0), 3);
        assert_int_equal(rights_send(pair[1], pair[1]), 1);
        (void)foreign_receive(pair[0], &iov, 1, &told);
        assert_true(told);
        assert_true(foreign_holds_rights(pair[0]));
        close(pair[0]);
        close(pair[1]);
}

static void test_close_over_bytes(void **state) {
        char bytes[4096] = { 0 };
        int pair[2];

        pair_make(pair);
        for (unsigned i = 0; i < 20; i++)
                assert_int_equal(send(pair[1], bytes, sizeof(bytes), MSG_DONTWAIT), sizeof(bytes));
        assert_false(foreign_holds_rights(pair[0]));
        assert_true(send(pair[1], bytes, 1, MSG_NOSIGNAL) < 0);
        foreign_close(closer, pair[0]);
        assert_int_equal(closer_n_pending(closer), 0);
        assert_int_equal(recv(pair[1], bytes, sizeof(bytes), 0), 0); /* closed, and not reset */
        close(pair[1]);
}

/* Where the kernel refuses them, the sender is told. */
static void test_refuse(void **state) {
        int pair[2];

        pair_make(pair);
        assert_false(foreign_is_refusing(pair[0]));
        if (foreign_refuse(pair[0])) {
                assert_true(foreign_is_refusing(pair[0]));
                assert_int_equal(rights_send(pair[1], pair[1]), -1);
                assert_int_equal(errno, EPERM);
        }
        close(pair[0]);
        close(pair[1]);
}

/* Nobody is told any more; what waits is closed all the same. */
static void test_free_while_busy(void **state) {
        unsigned *one = g_new(unsigned, 1);
        int pipe_fds[2];
        char byte;

        *one = 1;
        assert_int_equal(pipe(pipe_fds), 0);
        closer_close(closer, pipe_fds[1], on_done, one);
        closer = closer_free(closer);
        assert_int_equal(read(pipe_fds[0], &byte, 1), 0);
        for (unsigned i = 0; i < 100; i++) {
                g_usleep(1000);
                g_main_context_iteration(NULL, FALSE);
        }
        assert_int_equal(n_done, 0);
        close(pipe_fds[0]);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_close_over_rights, setup, teardown),
                cmocka_unit_test_setup_teardown(test_receive_rights, setup, teardown),
                cmocka_unit_test_setup_teardown(test_receive_behind_bytes, setup, teardown),
                cmocka_unit_test_setup_teardown(test_close_over_bytes, setup, teardown),
                cmocka_unit_test_setup_teardown(test_refuse, setup, teardown),
                cmocka_unit_test_setup_teardown(test_free_while_busy, setup, teardown),
        };

        return cmocka_run_group_tests_name("foreign", tests, NULL, NULL);
}
