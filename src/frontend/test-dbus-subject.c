/* SPDX-License-Identifier: BSD-2-Clause */
#include "frontend/test-dbus-subject.h"

#include "tpm/header.h"
#include "util/names.h"

#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>

Broker broker;
Connection *newest;
TSS2_RC cancel_rc;

const uint8_t answer[10] = { 0x80, 0x01, 0, 0, 0, 10, 0, 0, 0, 0 };
const uint8_t canceled[10] = { 0x80, 0x01, 0, 0, 0, 10, 0, 0, 0x09, 0x09 };

uint32_t broker_max_command(const Broker *self) {
        return TPM_MESSAGE_DEFAULT;
}

bool broker_has_started(const Broker *self) {
        return !self->no_tpm;
}

bool broker_implements(const Broker *self, uint32_t code) {
        return false;
}

Connection *connection_new(Broker *self, const Peer *peer, uint32_t localities, const ConnectionOps *ops,
                           void *userdata, GError **error) {
        if (self->n_connections >= self->max_connections) {
                g_set_error(error, G_IO_ERROR, G_IO_ERROR_FAILED, "max_connections reached");
                return NULL;
        }
        self->n_connections++;
        self->n_made++;
        newest = g_new0(Connection, 1);
        *newest = (Connection){
                .broker = self, .peer = *peer, .localities = localities, .ops = ops, .userdata = userdata
        };
        return newest;
}

const Peer *connection_peer(const Connection *connection) {
        return &connection->peer;
}

Connection *connection_close(Connection *connection) {
        if (!connection)
                return NULL;
        connection->broker->n_connections--;
        if (newest == connection)
                newest = NULL;
        g_free(connection);
        return NULL;
}

Charge *connection_take_charge(Connection *connection) {
        return NULL;
}

void charge_return(Charge *charge) {
}

void connection_leave(Connection *connection, void (*given_up)(void *userdata), void *userdata) {
        fail(); /* by the bus, nobody lingers */
}

void connection_return(Connection *connection, const ConnectionOps *ops, void *userdata) {
        fail();
}

bool connection_submit(Connection *connection, const uint8_t *command, size_t n_command) {
        if (connection->busy)
                return false;
        connection->busy = true;
        if (command[8] == SILENT >> 8 && command[9] == (SILENT & 0xff))
                return true;
        connection->busy = false;
        connection->ops->reply(connection->userdata, answer, sizeof(answer));
        return true;
}

TSS2_RC connection_cancel(Connection *connection) {
        if (cancel_rc == TSS2_RC_SUCCESS && connection->busy) {
                connection->busy = false;
                connection->ops->reply(connection->userdata, canceled, sizeof(canceled));
        }
        return cancel_rc;
}

TSS2_RC connection_set_locality(Connection *connection, uint8_t locality) {
        if (locality > 31 || !(connection->localities & (1u << locality)))
                return RM_RC(TPM2_RC_LOCALITY);
        connection->locality = locality;
        return TSS2_RC_SUCCESS;
}

static void on_ready(void *userdata) {
        Fixture *fixture = userdata;

        fixture->n_ready++;
}

static void on_lost(void *userdata, BusLoss loss, const char *reason) {
        Fixture *fixture = userdata;

        fixture->n_lost++;
        g_free(fixture->reason);
        fixture->reason = g_strdup(reason);
        if (fixture->free_when_lost)
                fixture->frontend = frontend_dbus_free(fixture->frontend);
}

void fixture_iterate(Fixture *fixture) {
        bool busy = g_main_context_iteration(NULL, FALSE);

        if (!fixture->hold_streams)
                busy |= g_main_context_iteration(fixture->streams, FALSE);
        if (!busy)
                g_usleep(500);
}

FrontendDbus *frontend_start(Fixture *fixture, bool allow_locality) {
        FrontendDbusConfig config = {
                .loop = fixture->loop,
                .broker = &broker,
                .bus = G_BUS_TYPE_SESSION,
                .name = NAME,
                .allow_locality = allow_locality,
                .lost = on_lost,
                .ready = on_ready,
                .userdata = fixture,
        };

        return frontend_dbus_new(&config);
}

GDBusConnection *connect_bus(void) {
        g_autoptr(GError) error = NULL;
        GDBusConnection *bus;

        bus = g_dbus_connection_new_for_address_sync(getenv("DBUS_SESSION_BUS_ADDRESS"),
                                                     G_DBUS_CONNECTION_FLAGS_AUTHENTICATION_CLIENT |
                                                             G_DBUS_CONNECTION_FLAGS_MESSAGE_BUS_CONNECTION,
                                                     NULL, NULL, &error);
        if (!bus)
                fail_msg("no bus: %s", error->message);
        return bus;
}

static void start_bus(Fixture *fixture) {
        const char *argv[] = { "dbus-daemon",       "--session",     "--fork", "--nopidfile",
                               "--print-address=1", "--print-pid=1", NULL };
        g_autofree char *output = NULL;
        g_auto(GStrv) lines = NULL;

        assert_true(g_spawn_sync(NULL, (char **)argv, NULL, G_SPAWN_SEARCH_PATH | G_SPAWN_STDERR_TO_DEV_NULL, NULL,
                                 NULL, &output, NULL, NULL, NULL));
        lines = g_strsplit(output, "\n", 3);
        assert_int_equal(g_strv_length(lines), 3);
        assert_int_equal(setenv("DBUS_SESSION_BUS_ADDRESS", lines[0], 1), 0);
        fixture->bus_pid = (pid_t)strtol(lines[1], NULL, 10);
        assert_true(fixture->bus_pid > 1);
}

void stop_bus(Fixture *fixture) {
        if (fixture->bus_pid > 1)
                kill(fixture->bus_pid, SIGTERM);
        fixture->bus_pid = 0;
}

int fixture_new(void **state) {
        Fixture *fixture = g_new0(Fixture, 1);

        *state = fixture;
        broker = (Broker){ .max_connections = 1000 };
        cancel_rc = TSS2_RC_SUCCESS;
        start_bus(fixture);
        fixture->streams = g_main_context_new();
        fixture->loop = loop_new(fixture->streams);
        return fixture->loop ? 0 : -1;
}

int fixture_new_ready(void **state) {
        Fixture *fixture;

        if (fixture_new(state) < 0)
                return -1;
        fixture = *state;
        fixture->frontend = frontend_start(fixture, false);
        RUN_WHILE(fixture, fixture->n_ready == 0 && fixture->n_lost == 0);
        assert_int_equal(fixture->n_lost, 0);
        fixture->client = connect_bus();
        return 0;
}

int fixture_free(void **state) {
        Fixture *fixture = *state;

        fixture->frontend = frontend_dbus_free(fixture->frontend);
        assert_int_equal(broker.n_connections, 0);
        g_clear_object(&fixture->client);
        stop_bus(fixture);
        while (g_main_context_iteration(NULL, FALSE))
                ;
        loop_free(fixture->loop);
        g_main_context_unref(fixture->streams);
        g_free(fixture->reason);
        g_free(fixture);
        return 0;
}

void call_clear(Call *call) {
        g_clear_pointer(&call->reply, g_variant_unref);
        g_clear_object(&call->fds);
        g_clear_error(&call->error);
}

static void on_called(GObject *source, GAsyncResult *result, gpointer userdata) {
        Call *call = userdata;

        call->reply = g_dbus_connection_call_with_unix_fd_list_finish(G_DBUS_CONNECTION(source), &call->fds, result,
                                                                      &call->error);
        call->done = true;
}

void call_begin(Call *call, GDBusConnection *client, const char *method, GVariant *parameters) {
        *call = (Call){ 0 };
        g_dbus_connection_call_with_unix_fd_list(client, NAME, TABRMD_DBUS_PATH, TABRMD_DBUS_INTERFACE, method,
                                                 parameters, NULL, G_DBUS_CALL_FLAGS_NO_AUTO_START, HANG_SECONDS * 1000,
                                                 NULL, NULL, on_called, call);
}

void call_method(Fixture *fixture, Call *call, GDBusConnection *client, const char *method, GVariant *parameters) {
        call_begin(call, client, method, parameters);
        RUN_WHILE(fixture, !call->done);
}

void assert_error(const Call *call, const char *name) {
        g_autofree char *remote = NULL;

        assert_null(call->reply);
        remote = g_dbus_error_get_remote_error(call->error);
        assert_non_null(remote);
        assert_string_equal(remote, name);
}

void assert_call_fails(Fixture *fixture, GDBusConnection *client, const char *method, GVariant *parameters,
                       const char *name) {
        g_auto(Call) call = { 0 };

        call_method(fixture, &call, client, method, parameters);
        assert_error(&call, name);
}

void assert_call_zero(Fixture *fixture, GDBusConnection *client, const char *method, GVariant *parameters) {
        g_auto(Call) call = { 0 };
        guint32 rc;

        call_method(fixture, &call, client, method, parameters);
        if (!call.reply)
                fail_msg("%s: %s", method, call.error->message);
        assert_string_equal(g_variant_get_type_string(call.reply), "(u)");
        g_variant_get(call.reply, "(u)", &rc);
        assert_int_equal(rc, 0);
}

int create_connection(Fixture *fixture, GDBusConnection *client, guint64 *ret_id) {
        g_auto(Call) call = { 0 };
        int n, fd;
        int *fds;

        call_method(fixture, &call, client, "CreateConnection", NULL);
        if (!call.reply)
                fail_msg("CreateConnection: %s", call.error->message);
        assert_string_equal(g_variant_get_type_string(call.reply), "(t)");
        g_variant_get(call.reply, "(t)", ret_id);
        assert_non_null(call.fds);
        fds = g_unix_fd_list_steal_fds(call.fds, &n);
        assert_int_equal(n, 1);
        fd = fds[0];
        g_free(fds);
        return fd;
}

void send_command(int fd, uint32_t code) {
        const uint8_t command[] = { 0x80, 0x01, 0, 0, 0, 10, 0, 0, (uint8_t)(code >> 8), (uint8_t)code };

        assert_int_equal(send(fd, command, sizeof(command), MSG_NOSIGNAL), sizeof(command));
}

bool readable(int fd) {
        struct pollfd poll_fd = { .fd = fd, .events = POLLIN };

        return poll(&poll_fd, 1, 0) == 1;
}

void assert_received(Fixture *fixture, int fd, const uint8_t *expected) {
        uint8_t response[64];

        RUN_WHILE(fixture, !readable(fd));
        assert_int_equal(recv(fd, response, sizeof(response), MSG_DONTWAIT), 10);
        assert_memory_equal(response, expected, 10);
}
