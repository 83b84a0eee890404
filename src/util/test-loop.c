/* SPDX-License-Identifier: BSD-2-Clause */
#include "util/fd.h"
#include "util/log.h"
#include "util/loop.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <cmocka.h>

#define HANG_SECONDS 20

typedef struct End {
        LoopFd io;
        int fd;
        int peer;
        unsigned n_calls;
        uint32_t events;
        struct End *removes; /* in its callback */
        struct End *frees;   /* in its callback */
} End;

static Loop *loop;
static End *survivor;

static void end_free(End *end) {
        loop_remove(&end->io);
        fd_close(end->fd);
        fd_close(end->peer);
        g_free(end);
}

static void end_event(LoopFd *io, uint32_t events) {
        End *end = (End *)io;
        char byte;

        end->n_calls++;
        end->events |= events;
        if (end->removes)
                loop_remove(&end->removes->io);
        if (end->frees) {
                bool self = end->frees == end;

                end_free(end->frees);
                if (self)
                        return;
                end->frees = NULL;
                survivor = end;
        }
        (void)!recv(end->fd, &byte, 1, MSG_DONTWAIT);
}

static End *end_new(uint32_t events) {
        End *end = g_new0(End, 1);
        int fds[2];

        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
        end->fd = fds[0];
        end->peer = fds[1];
        assert_int_equal(loop_add(loop, &end->io, end->fd, events, end_event), 0);
        return end;
}

static void poke(End *end) {
        assert_int_equal(send(end->peer, "x", 1, MSG_NOSIGNAL), 1);
}

static void settle(void) {
        while (g_main_context_iteration(NULL, FALSE))
                ;
}

static int setup(void **state) {
        loop = loop_new(NULL);
        return loop ? 0 : -1;
}

static int teardown(void **state) {
        loop = loop_free(loop);
        return 0;
}

static void test_events(void **state) {
        End *a = end_new(EPOLLIN);

        poke(a);
        settle();
        assert_int_equal(a->n_calls, 1);
        assert_int_equal(loop_modify(&a->io, 0), 0);
        poke(a);
        settle();
        assert_int_equal(a->n_calls, 1);
        assert_int_equal(loop_modify(&a->io, EPOLLIN), 0);
        settle();
        assert_int_equal(a->n_calls, 2);
        end_free(a);
}

/* Of two whose events were fetched together, the first to run removes the other. */
static void test_remove_other(void **state) {
        End *a = end_new(EPOLLIN), *b = end_new(EPOLLIN);

        a->removes = b;
        b->removes = a;
        poke(a);
        poke(b);
        settle();
        assert_int_equal(a->n_calls + b->n_calls, 1);
        end_free(a);
        end_free(b);
}

static void test_free_other(void **state) {
        End *ends[] = { end_new(EPOLLIN), end_new(EPOLLIN) };

        /* whichever is first frees the other; the sanitizer watches */
        ends[0]->frees = ends[1];
        ends[1]->frees = ends[0];
        poke(ends[0]);
        poke(ends[1]);
        settle();
        assert_int_equal(survivor->n_calls, 1);
        end_free(survivor);
}

static void test_free_self(void **state) {
        End *a = end_new(EPOLLIN);

        a->frees = a;
        poke(a);
        settle();
}

static void test_hang_up(void **state) {
        End *a = end_new(EPOLLIN | EPOLLRDHUP | EPOLLET);

        shutdown(a->peer, SHUT_WR);
        settle();
        assert_int_equal(a->n_calls, 1);
        assert_true(a->events & EPOLLRDHUP);
        assert_false(a->events & EPOLLHUP);
        a->peer = fd_close(a->peer);
        settle();
        assert_int_equal(a->n_calls, 2);
        assert_true(a->events & EPOLLHUP);
        settle();
        assert_int_equal(a->n_calls, 2); /* once each */
        end_free(a);
}

/* Two that answer each other for ever: what else there is gets its turn all the same. */
static void ping(LoopFd *io, uint32_t events) {
        End *end = (End *)io;

        end->n_calls++;
        assert_int_equal(send(end->fd, "x", 1, MSG_DONTWAIT | MSG_NOSIGNAL), 1);
        end_event(io, events);
        assert_int_equal(send(end->peer, "x", 1, MSG_DONTWAIT | MSG_NOSIGNAL), 1);
        (void)!recv(end->peer, &(char){ 0 }, 1, MSG_DONTWAIT);
}

static gboolean ring(gpointer userdata) {
        *(bool *)userdata = true;
        return G_SOURCE_REMOVE;
}

static void test_busy_is_bounded(void **state) {
        gint64 hang = g_get_monotonic_time() + HANG_SECONDS * G_USEC_PER_SEC;
        End *a = end_new(EPOLLIN);
        bool rung = false;

        a->io.callback = ping;
        loop_set_busy(loop, true);
        poke(a);
        g_timeout_add(5, ring, &rung);
        while (!rung && g_get_monotonic_time() < hang)
                g_main_context_iteration(NULL, TRUE);
        assert_true(rung);
        assert_true(a->n_calls > 10);
        loop_set_busy(loop, false);
        end_free(a);
}

/* While busy, an event that comes within the wait is handled in the same turn of GLib. */
static void test_busy_waits(void **state) {
        End *a = end_new(EPOLLIN);

        for (unsigned i = 0; i < 3; i++)
                poke(a);
        g_main_context_iteration(NULL, TRUE);
        assert_int_equal(a->n_calls, 1);
        loop_set_busy(loop, true);
        g_main_context_iteration(NULL, TRUE);
        assert_int_equal(a->n_calls, 3);
        loop_set_busy(loop, false);
        end_free(a);
}

static void free_loop(LoopFd *io, uint32_t events) {
        loop_remove(io);
        loop = loop_free(loop);
}

static void test_loop_free_inside(void **state) {
        End *a = end_new(EPOLLIN);

        a->io.callback = free_loop;
        poke(a);
        settle();
        assert_null(loop);
        end_free(a);
}

static void test_log_limit(void **state) {
        LogLimit limit = { 0 };
        unsigned held = 99, n_passed = 0;

        for (unsigned i = 0; i < 25; i++)
                n_passed += log_limit_pass(&limit, &held);
        assert_int_equal(n_passed, 10);
        assert_int_equal(held, 0);
        limit.window -= 60;
        assert_true(log_limit_pass(&limit, &held));
        assert_int_equal(held, 15);
}

#define EVENTS 1000

/* Each event brings the next one about, as clients and a quick TPM do. */
static void event_again(LoopFd *io, uint32_t events) {
        End *end = (End *)io;
        char byte;

        assert_int_equal(recv(end->fd, &byte, 1, MSG_DONTWAIT), 1);
        if (++end->n_calls < EVENTS)
                poke(end);
}

static void test_events_that_follow_each_other_are_one_dispatch(void **state) {
        End *end = end_new(EPOLLIN);
        unsigned n_dispatches = 0;

        end->io.callback = event_again;
        poke(end);
        while (end->n_calls < EVENTS) {
                g_main_context_iteration(NULL, TRUE);
                n_dispatches++;
        }
        assert_in_range(n_dispatches, 1, EVENTS / 2);
        end_free(end);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_events, setup, teardown),
                cmocka_unit_test_setup_teardown(test_remove_other, setup, teardown),
                cmocka_unit_test_setup_teardown(test_free_other, setup, teardown),
                cmocka_unit_test_setup_teardown(test_free_self, setup, teardown),
                cmocka_unit_test_setup_teardown(test_hang_up, setup, teardown),
                cmocka_unit_test_setup_teardown(test_busy_is_bounded, setup, teardown),
                cmocka_unit_test_setup_teardown(test_busy_waits, setup, teardown),
                cmocka_unit_test_setup_teardown(test_events_that_follow_each_other_are_one_dispatch, setup, teardown),
                cmocka_unit_test_setup_teardown(test_loop_free_inside, setup, teardown),
                cmocka_unit_test(test_log_limit),
        };

        return cmocka_run_group_tests_name("loop", tests, NULL, NULL);
}
