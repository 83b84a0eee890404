/* SPDX-License-Identifier: BSD-2-Clause */

/* Who comes to the private socket, and how they may behave there. */
#include "manager/test-visitors.h"
#include "util/fd.h"
#include "util/log.h"
#include "util/names.h"

#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define CHANGES 10000
#define BACKLOG_MAX (1 << 20) /* bytes; less than a message for each change would be */

/* Those that say nothing keep others out only when there are many of them, and not for ever. */
static void test_silent(void **state) {
        int fds[SOCKET_SILENT_MAX];

        hurry = 5;
        for (unsigned i = 0; i < SOCKET_SILENT_MAX; i++) {
                assert_true(visitor_comes());
                fds[i] = visitor_raw();
        }
        assert_false(visitor_comes());
        for (unsigned i = 0; i < SOCKET_SILENT_MAX; i++)
                assert_false(visitor_is_out(fds[i]));
        for (unsigned i = 0; i < SOCKET_SILENT_MAX; i++) {
                bench_until(visitor_is_out(fds[i]));
                fd_close(fds[i]);
        }
        hurry = 1;
        assert_all_come();
}

static void test_many(void **state) {
        GDBusConnection *visitors[SOCKET_VISITORS_MAX];

        for (unsigned i = 0; i < SOCKET_VISITORS_MAX; i++) {
                visitors[i] = visitor_new();
                assert_non_null(visitors[i]);
        }
        for (unsigned i = 0; i < 3; i++)
                assert_false(visitor_comes());
        g_object_unref(visitors[0]);
        bench_until((visitors[0] = visitor_new()));
        for (unsigned i = 0; i < SOCKET_VISITORS_MAX; i++) {
                g_variant_unref(
                        visitor_call(visitors[i], PROPERTIES, "GetAll", g_variant_new("(s)", MANAGER_INTERFACE)));
                g_object_unref(visitors[i]);
        }
}

/* They hear nothing: it has not come to D-Bus. */
static void test_others(void **state) {
        fd_auto fd = -1;

        visitor_uid = 65534;
        fd = visitor_raw();
        assert_int_equal(send(fd, "\0AUTH\r\n", 7, MSG_NOSIGNAL), -1);
        assert_true(visitor_is_out(fd));
        assert_false(visitor_comes());
        visitor_uid = 0;
        assert_true(visitor_comes());
}

/* GDBus refuses EXTERNAL to whom it does not know, as root of another PID namespace; the socket has told who it is. */
static void test_anonymous(void **state) {
        static const char line[] = "\0AUTH ANONYMOUS 61\r\n";
        char heard[256] = { 0 };
        fd_auto fd = visitor_raw();

        assert_int_equal(send(fd, line, sizeof(line) - 1, MSG_NOSIGNAL), sizeof(line) - 1);
        bench_until(recv(fd, heard, sizeof(heard) - 1, 0) > 0);
        assert_true(g_str_has_prefix(heard, "OK "));
}

/* At any point of what comes before the first call, and in the middle of one. */
static void test_leaves_early(void **state) {
        static const char said[] = "\0AUTH EXTERNAL 3";
        static const char call[] = "l\1\0\1\4\0\0\0\1\0\0\0";

        for (size_t n = 0; n < sizeof(said); n++) {
                int fd = visitor_raw_in();

                assert_int_equal(send(fd, said, n, MSG_NOSIGNAL), n);
                bench_settle();
                fd_close(fd);
                bench_settle();
        }
        for (size_t n = 0; n < sizeof(call); n++) {
                int fd = visitor_raw_in();

                visitor_shake_hands(fd);
                assert_int_equal(send(fd, call, n, MSG_NOSIGNAL), n);
                bench_settle();
                fd_close(fd);
                bench_settle();
        }
        assert_all_come();
}

/* ... which the first bytes show: nobody waits for a line of it. */
static void test_other_protocols(void **state) {
        static const struct {
                const char *bytes;
                size_t n;
        } rows[] = {
                { "\x80\x01\0\0\0\x0c\0\0\x01\x7b\0\x08", 12 },
                { "GET / HTTP/1.0\r\n\r\n", 18 },
                { "\x16", 1 },
        };

        for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
                fd_auto fd = visitor_raw();

                assert_int_equal(send(fd, rows[i].bytes, rows[i].n, MSG_NOSIGNAL), rows[i].n);
                bench_settle();
                assert_true(visitor_is_out(fd));
        }
        assert_all_come();
}

/* What is no D-Bus: that one is let go, and no other. */
static void test_nonsense(void **state) {
        static const char bytes[64] = "Bonjour";
        g_autoptr(GDBusConnection) visitor = visitor_new();
        fd_auto before = -1;
        fd_auto behind = -1;

        hurry = 5;
        before = visitor_raw();
        assert_int_equal(send(before, bytes, sizeof(bytes), MSG_NOSIGNAL), sizeof(bytes));
        bench_until(visitor_is_out(before));
        hurry = 1;
        behind = visitor_raw();
        visitor_shake_hands(behind);
        assert_int_equal(send(behind, bytes, sizeof(bytes), MSG_NOSIGNAL), sizeof(bytes));
        bench_until(visitor_is_out(behind));
        assert_true(first_client(visitor) > 0);
}

/* Something is told to all who are there. */
static void change(unsigned i) {
        log_set_level(i % 2 ? LOG_ERR : LOG_WARNING);
        manager_socket_signal(manager->socket);
}

/* Return: bytes that were there for it; true when the last of them, @text, was. */
static bool drain(int fd, const char *text, size_t *n_bytes) {
        static char bytes[1 << 16];
        bool found = false;
        ssize_t n;

        while ((n = recv(fd, bytes, sizeof(bytes), 0)) > 0) {
                *n_bytes += (size_t)n;
                found |= memmem(bytes, (size_t)n, text, strlen(text)) != NULL;
        }
        return found;
}

/* What it is told waits for it once, in its newest form, and keeps nobody waiting. */
static void test_never_reads(void **state) {
        int level = log_level();
        g_autoptr(GDBusConnection) other = visitor_new();
        fd_auto fd = visitor_raw();
        size_t n_bytes = 0;

        visitor_shake_hands(fd);
        for (unsigned i = 0; i < CHANGES; i++) {
                change(i);
                bench_settle();
                if (i % 1000 == 0)
                        g_variant_unref(visitor_call(other, MANAGER_INTERFACE, "ListClients", NULL));
        }
        log_set_level(LOG_INFO);
        manager_socket_signal(manager->socket);
        bench_until(drain(fd, "info", &n_bytes));
        assert_true(n_bytes < BACKLOG_MAX);
        log_set_level(level);
}

static gboolean count_turn(gpointer userdata) {
        (*(unsigned *)userdata)++;
        return G_SOURCE_CONTINUE;
}

/* Who asks for much at once is answered by and by, and others have their turns in between. */
static void test_turns(void **state) {
        g_autoptr(GDBusConnection) visitor = visitor_new();
        unsigned n_turns = 0, n_answered = 0;
        Call calls[200] = { 0 };
        guint source;

        for (size_t i = 0; i < G_N_ELEMENTS(calls); i++)
                call_begin(&calls[i], visitor, MANAGER_INTERFACE, "ListClients", NULL);
        g_dbus_connection_flush_sync(visitor, NULL, NULL);
        source = g_idle_add_full(G_PRIORITY_DEFAULT, count_turn, &n_turns, NULL);
        for (size_t i = 0; i < G_N_ELEMENTS(calls); i++) {
                bench_until(calls[i].done);
                n_answered += calls[i].reply != NULL;
                if (!calls[i].reply)
                        assert_true(g_error_matches(calls[i].error, G_DBUS_ERROR, G_DBUS_ERROR_LIMITS_EXCEEDED));
                call_clear(&calls[i]);
        }
        g_source_remove(source);
        assert_true(n_answered >= 64);
        assert_true(n_turns >= n_answered);
}

static void wait_for_tpm(void) {
        client_submit(0, FAKE_SLOW);
        bench_until(fake_waits(&bench.fake));
}

/* A flush waits until the TPM is free; whoever asked for it may be gone by then. */
static void test_leaves_while_it_waits(void **state) {
        g_autoptr(GDBusConnection) visitor = visitor_new();
        guint64 id = first_client(visitor);
        Call calls[3];

        wait_for_tpm();
        for (size_t i = 0; i < G_N_ELEMENTS(calls); i++)
                call_begin(&calls[i], visitor, MANAGER_INTERFACE, "FlushClient", g_variant_new("(t)", id));
        bench_until(!list_is_empty(&manager->requests));
        g_dbus_connection_close(visitor, NULL, NULL, NULL);
        for (size_t i = 0; i < G_N_ELEMENTS(calls); i++) {
                bench_until(calls[i].done);
                assert_null(calls[i].reply);
                call_clear(&calls[i]);
        }
        assert_all_come();
        fake_answer(&bench.fake, TSS2_RC_SUCCESS);
        assert_true(list_is_empty(&manager->requests));
        assert_all_come();
}

/* All of it at once, and the manager goes. */
static void test_free_meanwhile(void **state) {
        g_autoptr(GDBusConnection) visitor = visitor_new();
        guint64 id = first_client(visitor);
        fd_auto silent = visitor_raw();
        fd_auto halfway = visitor_raw();
        fd_auto deaf = visitor_raw();
        int level = log_level();
        Call call;

        assert_int_equal(send(halfway, "\0AUTH EXT", 9, MSG_NOSIGNAL), 9);
        visitor_shake_hands(deaf);
        for (unsigned i = 0; i < CHANGES; i++) {
                change(i);
                bench_settle();
        }
        wait_for_tpm();
        call_begin(&call, visitor, MANAGER_INTERFACE, "FlushClient", g_variant_new("(t)", id));
        bench_until(!list_is_empty(&manager->requests));
        client_close(1); /* which is told after a while */
        manager = manager_free(manager);
        bench_until(call.done);
        assert_null(call.reply);
        call_clear(&call);
        bench_until(visitor_is_out(silent));
        bench_until(visitor_is_out(halfway));
        bench_until(visitor_is_out(deaf));
        fake_answer(&bench.fake, TSS2_RC_SUCCESS);
        log_set_level(level);
}

/* They were let in, but it has not been told: so soon does it go. */
static void test_free_at_once(void **state) {
        fd_auto fd = visitor_raw();

        visitor_shake_hands(fd);
        g_usleep(10000);
        manager = manager_free(manager);
        bench_until(visitor_is_out(fd));
}

#define TEST(test) cmocka_unit_test_setup_teardown(test, manager_setup, manager_teardown)

int main(void) {
        const struct CMUnitTest tests[] = {
                TEST(test_silent),          TEST(test_many),
                TEST(test_others),          TEST(test_anonymous),
                TEST(test_leaves_early),    TEST(test_nonsense),
                TEST(test_other_protocols), TEST(test_never_reads),
                TEST(test_turns),           TEST(test_leaves_while_it_waits),
                TEST(test_free_meanwhile),  TEST(test_free_at_once),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
