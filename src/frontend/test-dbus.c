/* SPDX-License-Identifier: BSD-2-Clause */
#include "frontend/test-dbus-subject.h"

#include "tpm/header.h"
#include "util/fd.h"
#include "util/names.h"

#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>

static void test_create(void **state) {
        Fixture *fixture = *state;
        fd_auto a = -1;
        fd_auto b = -1;
        guint64 id_a, id_b;

        a = create_connection(fixture, fixture->client, &id_a);
        assert_int_equal(newest->peer.uid, geteuid());
        assert_int_equal(newest->peer.pid, getpid());
        b = create_connection(fixture, fixture->client, &id_b);
        assert_true(id_a != 0 && id_b != 0 && id_a != id_b);

        send_command(a, ECHO);
        send_command(b, ECHO);
        assert_received(fixture, a, answer);
        assert_received(fixture, b, answer);
        send_command(a, ECHO);
        assert_received(fixture, a, answer);
}

/* A stream is gone with its descriptor, not with the bus connection that it came from; its id is gone with it. */
static void test_lifetime(void **state) {
        Fixture *fixture = *state;
        g_autoptr(GDBusConnection) other = connect_bus();
        fd_auto a = -1;
        fd_auto b = -1;
        guint64 id_a, id_b;

        a = create_connection(fixture, fixture->client, &id_a);
        b = create_connection(fixture, other, &id_b);
        assert_int_equal(broker.n_connections, 2);

        assert_true(g_dbus_connection_close_sync(other, NULL, NULL));
        send_command(b, ECHO);
        assert_received(fixture, b, answer);

        a = fd_close(a);
        RUN_WHILE(fixture, broker.n_connections == 2);
        assert_call_fails(fixture, fixture->client, "Cancel", g_variant_new("(t)", id_a),
                          TABRMD_DBUS_ERROR ".NotPermitted");
        b = fd_close(b);
        RUN_WHILE(fixture, broker.n_connections == 1);
}

static void test_cancel(void **state) {
        Fixture *fixture = *state;
        fd_auto fd = -1;
        guint64 id;

        fd = create_connection(fixture, fixture->client, &id);
        assert_call_zero(fixture, fixture->client, "Cancel", g_variant_new("(t)", id));

        /* What was written before is found, although nothing has read it yet. */
        fixture->hold_streams = true;
        send_command(fd, SILENT);
        assert_call_zero(fixture, fixture->client, "Cancel", g_variant_new("(t)", id));
        fixture->hold_streams = false;
        assert_received(fixture, fd, canceled);

        cancel_rc = RM_RC_NOT_IMPLEMENTED;
        send_command(fd, SILENT);
        assert_call_fails(fixture, fixture->client, "Cancel", g_variant_new("(t)", id),
                          TABRMD_DBUS_ERROR ".NotImplemented");
        cancel_rc = RM_RC(TPM2_RC_FAILURE);
        assert_call_fails(fixture, fixture->client, "Cancel", g_variant_new("(t)", id), TABRMD_DBUS_ERROR ".Internal");
}

static void test_foreign_id(void **state) {
        Fixture *fixture = *state;
        g_autoptr(GDBusConnection) other = connect_bus();
        fd_auto fd = -1;
        guint64 id;

        fd = create_connection(fixture, fixture->client, &id);
        send_command(fd, SILENT);
        for (unsigned i = 0; i < 2; i++) {
                GDBusConnection *client = i == 0 ? other : fixture->client;
                guint64 wrong = i == 0 ? id : id ^ 1;

                assert_call_fails(fixture, client, "Cancel", g_variant_new("(t)", wrong),
                                  TABRMD_DBUS_ERROR ".NotPermitted");
                assert_call_fails(fixture, client, "SetLocality", g_variant_new("(ty)", wrong, 0),
                                  TABRMD_DBUS_ERROR ".NotPermitted");
        }
        assert_false(readable(fd));
        assert_call_zero(fixture, fixture->client, "Cancel", g_variant_new("(t)", id));
        assert_received(fixture, fd, canceled);
}

static void assert_localities(Fixture *fixture, bool all) {
        fd_auto fd = -1;
        guint64 id;

        fd = create_connection(fixture, fixture->client, &id);
        assert_call_zero(fixture, fixture->client, "SetLocality", g_variant_new("(ty)", id, 0));
        for (uint8_t locality = 1; locality < 5; locality++) {
                GVariant *parameters = g_variant_new("(ty)", id, locality);

                if (all) {
                        assert_call_zero(fixture, fixture->client, "SetLocality", parameters);
                        assert_int_equal(newest->locality, locality);
                } else {
                        assert_call_fails(fixture, fixture->client, "SetLocality", parameters,
                                          TABRMD_DBUS_ERROR ".NotPermitted");
                }
        }
        assert_call_fails(fixture, fixture->client, "SetLocality", g_variant_new("(ty)", id, 5),
                          TABRMD_DBUS_ERROR ".NotPermitted");
        assert_call_fails(fixture, fixture->client, "SetLocality", g_variant_new("(ty)", id, 255),
                          TABRMD_DBUS_ERROR ".NotPermitted");
}

static void test_locality(void **state) {
        assert_localities(*state, geteuid() == 0);
}

static void test_locality_for_all(void **state) {
        Fixture *fixture = *state;

        fixture->frontend = frontend_start(fixture, true);
        RUN_WHILE(fixture, fixture->n_ready == 0);
        fixture->client = connect_bus();
        assert_localities(fixture, true);
}

static unsigned count_fds(void) {
        g_autoptr(GDir) folder = g_dir_open("/proc/self/fd", 0, NULL);
        unsigned n = 0;

        assert_non_null(folder);
        while (g_dir_read_name(folder))
                n++;
        return n;
}

static void test_no_tpm_yet(void **state) {
        Fixture *fixture = *state;
        fd_auto fd = -1;
        guint64 id;

        broker.no_tpm = true;
        assert_call_fails(fixture, fixture->client, "CreateConnection", NULL, TABRMD_DBUS_ERROR ".Init");
        broker.no_tpm = false;
        fd = create_connection(fixture, fixture->client, &id);
}

static void test_connection_limit(void **state) {
        Fixture *fixture = *state;
        unsigned n_fds;
        guint64 id;
        fd_auto a = -1;
        fd_auto b = -1;

        broker.max_connections = 1;
        a = create_connection(fixture, fixture->client, &id);
        n_fds = count_fds();
        assert_call_fails(fixture, fixture->client, "CreateConnection", NULL, TABRMD_DBUS_ERROR ".General");
        assert_int_equal(count_fds(), n_fds);
        a = fd_close(a);
        RUN_WHILE(fixture, broker.n_connections == 1);
        b = create_connection(fixture, fixture->client, &id);
        send_command(b, ECHO);
        assert_received(fixture, b, answer);
}

/*
 * @n_calls at once from each of @n_clients, who are all heard before the bus says who any of them is. Return: how many
 * were refused; the others had what they asked for.
 */
static unsigned call_at_once(Fixture *fixture, unsigned n_clients, unsigned n_calls) {
        g_autoptr(GPtrArray) clients = g_ptr_array_new_with_free_func(g_object_unref);
        g_autofree Call *calls = g_new0(Call, n_clients * n_calls);
        unsigned n_busy = 0;

        for (unsigned i = 0; i < n_clients; i++)
                g_ptr_array_add(clients, connect_bus());
        for (unsigned i = 0; i < n_clients * n_calls; i++)
                call_begin(&calls[i], clients->pdata[i % n_clients], "CreateConnection", NULL);
        g_usleep(G_USEC_PER_SEC / 2);
        kill(fixture->bus_pid, SIGSTOP);
        for (unsigned i = 0; i < 100; i++)
                fixture_iterate(fixture);
        kill(fixture->bus_pid, SIGCONT);

        for (unsigned i = 0; i < n_clients * n_calls; i++) {
                RUN_WHILE(fixture, !calls[i].done);
                if (!calls[i].reply) {
                        assert_error(&calls[i], "org.freedesktop.DBus.Error.LimitsExceeded");
                        n_busy++;
                }
                call_clear(&calls[i]);
        }
        RUN_WHILE(fixture, broker.n_connections > 0);
        return n_busy;
}

/* One caller's questions at a time are limited: some are refused, each hears something, and nothing of it stays. Many
 * callers do not keep each other out. */
static void test_many_pending(void **state) {
        static const struct {
                unsigned n_clients, n_calls;
                bool refused;
        } rows[] = { { 1, 8, false }, { 1, 30, true }, { 30, 8, false } };
        Fixture *fixture = *state;
        guint64 id;
        fd_auto fd = -1;

        for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
                unsigned n_busy = call_at_once(fixture, rows[i].n_clients, rows[i].n_calls);

                assert_int_equal(n_busy > 0, rows[i].refused);
        }
        fd = create_connection(fixture, fixture->client, &id);
        send_command(fd, ECHO);
        assert_received(fixture, fd, answer);
}

/* Of calls that want no answer, only a few get through, whoever sends them; signals never do. */
static void test_silent_calls(void **state) {
        Fixture *fixture = *state;
        fd_auto fd = -1;
        guint64 id;

        for (unsigned i = 0; i < 1000; i++) {
                g_autoptr(GDBusMessage) message = g_dbus_message_new_method_call(
                        NAME, TABRMD_DBUS_PATH, TABRMD_DBUS_INTERFACE, "CreateConnection");

                g_dbus_message_set_flags(message, G_DBUS_MESSAGE_FLAGS_NO_REPLY_EXPECTED);
                g_dbus_connection_send_message(fixture->client, message, G_DBUS_SEND_MESSAGE_FLAGS_NONE, NULL, NULL);
        }
        fd = create_connection(fixture, fixture->client, &id);
        assert_in_range(broker.n_made, 2, 100);
        RUN_WHILE(fixture, broker.n_connections > 1);
}

static int fd_lowest(void) {
        int fd = dup(STDERR_FILENO);

        assert_true(fd >= 0);
        close(fd);
        return fd;
}

/* Without a descriptor left a client is refused, and that is all. */
static void test_no_descriptors(void **state) {
        Fixture *fixture = *state;
        struct rlimit limit, none;
        guint64 id;
        fd_auto before = -1;
        fd_auto after = -1;

        before = create_connection(fixture, fixture->client, &id);
        assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
        none = limit;
        none.rlim_cur = (rlim_t)fd_lowest(); /* more than are open, since poll() takes no more than that, either */
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
        for (unsigned i = 0; i < 20; i++)
                assert_call_fails(fixture, fixture->client, "CreateConnection", NULL, TABRMD_DBUS_ERROR ".General");
        send_command(before, ECHO);
        assert_received(fixture, before, answer);
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);

        assert_int_equal(fixture->n_lost, 0);
        assert_int_equal(broker.n_connections, 1);
        after = create_connection(fixture, fixture->client, &id);
        send_command(after, ECHO);
        assert_received(fixture, after, answer);
}

static void test_bad_calls(void **state) {
        Fixture *fixture = *state;

        assert_call_fails(fixture, fixture->client, "Destroy", NULL, "org.freedesktop.DBus.Error.UnknownMethod");
        assert_call_fails(fixture, fixture->client, "Cancel", NULL, "org.freedesktop.DBus.Error.InvalidArgs");
        assert_call_fails(fixture, fixture->client, "Cancel", g_variant_new("(s)", "x"),
                          "org.freedesktop.DBus.Error.InvalidArgs");
        assert_call_fails(fixture, fixture->client, "CreateConnection", g_variant_new("(t)", (guint64)1),
                          "org.freedesktop.DBus.Error.InvalidArgs");
}

/* The front end goes while it still waits to hear who callers are: they hear an error, or nothing, and no fd stays. */
static void test_free_while_pending(void **state) {
        Fixture *fixture = *state;
        Call calls[4];

        for (size_t i = 0; i < G_N_ELEMENTS(calls); i++)
                call_begin(&calls[i], fixture->client, "CreateConnection", NULL);
        for (unsigned i = 0; i < 3; i++)
                g_main_context_iteration(NULL, FALSE);
        fixture->frontend = frontend_dbus_free(fixture->frontend);
        for (size_t i = 0; i < G_N_ELEMENTS(calls); i++) {
                RUN_WHILE(fixture, !calls[i].done);
                call_clear(&calls[i]);
        }
        assert_int_equal(broker.n_connections, 0);
}

static void test_free_at_once(void **state) {
        Fixture *fixture = *state;

        fixture->frontend = frontend_dbus_free(frontend_start(fixture, false));
        g_usleep(100000);
        while (g_main_context_iteration(NULL, FALSE))
                ;
        assert_int_equal(fixture->n_ready + fixture->n_lost, 0);
}

static void test_name_taken(void **state) {
        Fixture *fixture = *state;
        Fixture second = { .streams = fixture->streams, .loop = fixture->loop, .free_when_lost = true };

        second.frontend = frontend_start(&second, false);
        RUN_WHILE(&second, second.n_ready == 0 && second.n_lost == 0);
        assert_int_equal(second.n_lost, 1);
        assert_non_null(strstr(second.reason, NAME));
        g_free(second.reason);
        assert_int_equal(fixture->n_lost, 0);
}

static void test_bus_dies(void **state) {
        Fixture *fixture = *state;
        fd_auto fd = -1;
        guint64 id;

        fd = create_connection(fixture, fixture->client, &id);
        stop_bus(fixture);
        RUN_WHILE(fixture, fixture->n_lost == 0);
        send_command(fd, ECHO);
        assert_received(fixture, fd, answer);
        assert_int_equal(fixture->n_lost, 1);
        assert_int_equal(fixture->n_ready, 1);
}

static void test_no_bus(void **state) {
        static const char *const addresses[] = { "unix:path=/nonexistent/bus", "nonsense", "" };
        Fixture *fixture = *state;

        for (size_t i = 0; i < G_N_ELEMENTS(addresses); i++) {
                Fixture second = { .streams = fixture->streams, .loop = fixture->loop, .free_when_lost = i % 2 };

                assert_int_equal(setenv("DBUS_SESSION_BUS_ADDRESS", addresses[i], 1), 0);
                second.frontend = frontend_start(&second, false);
                assert_int_equal(second.n_lost, 0);
                RUN_WHILE(&second, second.n_ready == 0 && second.n_lost == 0);
                assert_int_equal(second.n_ready, 0);
                assert_int_equal(second.n_lost, 1);
                frontend_dbus_free(second.frontend);
                g_free(second.reason);
        }
}

#define TEST(test) cmocka_unit_test_setup_teardown(test, fixture_new_ready, fixture_free)

int main(void) {
        const struct CMUnitTest tests[] = {
                TEST(test_create),
                TEST(test_lifetime),
                TEST(test_cancel),
                TEST(test_foreign_id),
                TEST(test_locality),
                TEST(test_no_tpm_yet),
                TEST(test_connection_limit),
                TEST(test_many_pending),
                TEST(test_silent_calls),
                TEST(test_no_descriptors),
                TEST(test_bad_calls),
                TEST(test_free_while_pending),
                TEST(test_name_taken),
                TEST(test_bus_dies),
                cmocka_unit_test_setup_teardown(test_locality_for_all, fixture_new, fixture_free),
                cmocka_unit_test_setup_teardown(test_free_at_once, fixture_new, fixture_free),
                cmocka_unit_test_setup_teardown(test_no_bus, fixture_new, fixture_free),
        };
        g_autofree char *program = g_find_program_in_path("dbus-daemon");

        if (!program && !g_getenv("TABRMD_ALL_TOOLS")) {
                g_print("there is no dbus-daemon\n");
                return 77; /* meson: skipped */
        }
        return cmocka_run_group_tests(tests, NULL, NULL);
}
