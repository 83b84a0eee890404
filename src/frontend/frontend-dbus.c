/* SPDX-License-Identifier: BSD-2-Clause */
#include "frontend/frontend-dbus.h"

#include "broker/policy.h"
#include "door/callers.h"
#include "door/peer.h"
#include "frontend/stream.h"
#include "tpm/header.h"
#include "util/foreign.h"
#include "util/log.h"
#include "util/names.h"

#include <errno.h>
#include <gio/gunixfdlist.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <tss2/tss2_tpm2_types.h>

#define ERROR_GENERAL TABRMD_DBUS_ERROR ".General"
#define ERROR_INIT TABRMD_DBUS_ERROR ".Init"
#define ERROR_INTERNAL TABRMD_DBUS_ERROR ".Internal"
#define ERROR_NOT_IMPLEMENTED TABRMD_DBUS_ERROR ".NotImplemented"
#define ERROR_NOT_PERMITTED TABRMD_DBUS_ERROR ".NotPermitted"

/* Calls of CreateConnection that wait for the bus to say whose they are, in all and of one sender. */
#define REQUESTS_MAX 4096
#define REQUESTS_PER_SENDER_MAX 8

struct FrontendDbus {
        FrontendDbusConfig config;
        BusName *name;
        GDBusConnection *bus; /* of the name; NULL: not connected */
        guint object;
        GHashTable *clients; /* &client->id -> DbusClient */
        Callers *callers;    /* of CreateConnection; NULL: not connected */
};

/* A connection that was created here and whose stream still lives. */
typedef struct DbusClient {
        FrontendDbus *frontend;
        guint64 id;
        char *sender;   /* NULL: the bus that knew it is gone */
        Stream *stream; /* NULL: it has ended */
} DbusClient;

static const char introspection[] = "<node>"
                                    "<interface name='" TABRMD_DBUS_INTERFACE "'>"
                                    "<method name='CreateConnection'>"
                                    "<arg type='t' name='id' direction='out'/>"
                                    "</method>"
                                    "<method name='Cancel'>"
                                    "<arg type='t' name='id' direction='in'/>"
                                    "<arg type='u' name='return_code' direction='out'/>"
                                    "</method>"
                                    "<method name='SetLocality'>"
                                    "<arg type='t' name='id' direction='in'/>"
                                    "<arg type='y' name='locality' direction='in'/>"
                                    "<arg type='u' name='return_code' direction='out'/>"
                                    "</method>"
                                    "</interface>"
                                    "</node>";

static void client_free(gpointer data) {
        DbusClient *client = data;

        stream_free(client->stream);
        g_free(client->sender);
        g_free(client);
}

static void on_stream_closed(Stream *stream, void *userdata) {
        DbusClient *client = userdata;

        client->stream = NULL;
        g_hash_table_remove(client->frontend->clients, &client->id);
}

/* Who knows an id may use the connection's methods, so ids must not be guessable. Return: 0 when there is none. */
static guint64 new_id(FrontendDbus *frontend) {
        guint64 id;

        do {
                if (getrandom(&id, sizeof(id), GRND_NONBLOCK) != sizeof(id))
                        return 0;
        } while (id == 0 || g_hash_table_contains(frontend->clients, &id));
        return id;
}

static void return_error(GDBusMethodInvocation *invocation, const char *name, const char *message) {
        g_dbus_method_invocation_return_dbus_error(invocation, name, message);
}

static DbusClient *client_new(FrontendDbus *frontend, const char *sender, int fd, const Peer *peer, GError **error) {
        StreamConfig config = {
                .loop = frontend->config.loop,
                .broker = frontend->config.broker,
                .localities = policy_bus_localities(peer->uid, frontend->config.allow_locality),
                .reserved_codes = false,
        };
        DbusClient *client;
        guint64 id = new_id(frontend);

        if (id == 0) {
                g_set_error(error, G_IO_ERROR, G_IO_ERROR_FAILED, "no random number for an id: %s", g_strerror(errno));
                return NULL;
        }

        client = g_new0(DbusClient, 1);
        client->frontend = frontend;
        client->id = id;
        client->sender = g_strdup(sender);
        client->stream = stream_new(&config, fd, peer, on_stream_closed, client, error);
        if (!client->stream) {
                client_free(client);
                return NULL;
        }
        g_hash_table_insert(frontend->clients, &client->id, client);
        return client;
}

static void create_connection(void *userdata, GDBusMethodInvocation *invocation, uid_t uid, pid_t pid) {
        FrontendDbus *frontend = userdata;
        Peer peer = peer_make(uid, pid);
        g_autoptr(GUnixFDList) fds = NULL;
        g_autoptr(GError) error = NULL;
        DbusClient *client;
        int pair[2];

        peer.by_bus = true;
        /* The client's end does not block either: tpm2-abrmd 3.0 hands it out like that. */
        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0) {
                const char *reason = g_strerror(errno);

                log_limited(LOG_WARNING, "a client on the bus is refused: no socket for it: %s", reason);
                return_error(invocation, ERROR_GENERAL, reason);
                return;
        }
        (void)foreign_refuse(pair[0]);
        /* Takes the descriptor as it is: a list that duplicates it could fail. */
        fds = g_unix_fd_list_new_from_array(&pair[1], 1);

        client = client_new(frontend, g_dbus_method_invocation_get_sender(invocation), pair[0], &peer, &error);
        if (!client) {
                foreign_close(loop_closer(frontend->config.loop), pair[0]);
                log_limited(LOG_WARNING, PEER_FORMAT " is refused on the bus: %s", PEER_ARGUMENTS(&peer),
                            error->message);
                return_error(invocation, ERROR_GENERAL, error->message);
                return;
        }
        g_dbus_method_invocation_return_value_with_unix_fd_list(invocation, g_variant_new("(t)", client->id), fds);
}

static void method_create_connection(FrontendDbus *frontend, GDBusMethodInvocation *invocation) {
        if (broker_has_started(frontend->config.broker))
                callers_ask(frontend->callers, invocation);
        else
                return_error(invocation, ERROR_INIT, "there is no TPM yet; the log of the daemon says why");
}

/*
 * Finds what @sender may name by @id, after the commands that were written before the message have been read: the two
 * travel on different channels.
 */
static Connection *find_connection(FrontendDbus *frontend, const char *sender, guint64 id) {
        DbusClient *client = g_hash_table_lookup(frontend->clients, &id);

        if (!client || g_strcmp0(client->sender, sender) != 0)
                return NULL;
        stream_poll(client->stream);

        /* Reading may have ended the stream. */
        client = g_hash_table_lookup(frontend->clients, &id);
        return client ? stream_connection(client->stream) : NULL;
}

static void return_rc(GDBusMethodInvocation *invocation, TSS2_RC rc) {
        g_autofree char *message = NULL;

        switch (rc) {
        case TSS2_RC_SUCCESS:
                g_dbus_method_invocation_return_value(invocation, g_variant_new("(u)", rc));
                return;
        case RM_RC_NOT_IMPLEMENTED:
                return_error(invocation, ERROR_NOT_IMPLEMENTED, "the way to the TPM cannot do that");
                return;
        case RM_RC(TPM2_RC_LOCALITY):
                return_error(invocation, ERROR_NOT_PERMITTED,
                             "this connection may not use that locality; --allow-locality of the daemon makes it");
                return;
        default:
                message = g_strdup_printf("failed with 0x%x", rc);
                return_error(invocation, ERROR_INTERNAL, message);
        }
}

#define NO_CONNECTION "no connection of this caller has that id"

static void method_cancel(FrontendDbus *frontend, const char *sender, GVariant *parameters,
                          GDBusMethodInvocation *invocation) {
        Connection *connection;
        guint64 id;

        g_variant_get(parameters, "(t)", &id);
        connection = find_connection(frontend, sender, id);
        if (!connection)
                return_error(invocation, ERROR_NOT_PERMITTED, NO_CONNECTION);
        else
                return_rc(invocation, connection_cancel(connection));
}

static void method_set_locality(FrontendDbus *frontend, const char *sender, GVariant *parameters,
                                GDBusMethodInvocation *invocation) {
        Connection *connection;
        guint64 id;
        guint8 locality;

        g_variant_get(parameters, "(ty)", &id, &locality);
        connection = find_connection(frontend, sender, id);
        if (!connection)
                return_error(invocation, ERROR_NOT_PERMITTED, NO_CONNECTION);
        else
                return_rc(invocation, connection_set_locality(connection, locality));
}

static void on_method_call(GDBusConnection *bus, const char *sender, const char *path, const char *interface,
                           const char *method, GVariant *parameters, GDBusMethodInvocation *invocation,
                           gpointer userdata) {
        FrontendDbus *frontend = userdata;

        if (g_str_equal(method, "CreateConnection"))
                method_create_connection(frontend, invocation);
        else if (g_str_equal(method, "Cancel"))
                method_cancel(frontend, sender, parameters, invocation);
        else
                method_set_locality(frontend, sender, parameters, invocation);
}

static bool export_object(FrontendDbus *frontend, GError **error) {
        static const GDBusInterfaceVTable vtable = { .method_call = on_method_call };
        g_autoptr(GDBusNodeInfo) node = NULL;

        node = g_dbus_node_info_new_for_xml(introspection, error);
        if (!node)
                return false;
        frontend->object = g_dbus_connection_register_object(frontend->bus, TABRMD_DBUS_PATH, node->interfaces[0],
                                                             &vtable, frontend, NULL, error);
        return frontend->object != 0;
}

static void on_ready(void *userdata) {
        FrontendDbus *frontend = userdata;

        frontend->config.ready(frontend->config.userdata);
}

/* Other processes will have the same names on the next bus. */
static void clients_lose_bus(FrontendDbus *frontend) {
        GHashTableIter clients;
        gpointer client;

        g_hash_table_iter_init(&clients, frontend->clients);
        while (g_hash_table_iter_next(&clients, NULL, &client))
                g_clear_pointer(&((DbusClient *)client)->sender, g_free);
}

static void frontend_leave_bus(FrontendDbus *frontend) {
        frontend->callers = callers_free(frontend->callers);
        if (frontend->object)
                g_dbus_connection_unregister_object(frontend->bus, frontend->object);
        frontend->object = 0;
        frontend->bus = NULL;
}

static void on_lost(void *userdata, BusLoss loss, const char *reason) {
        FrontendDbus *frontend = userdata;

        frontend_leave_bus(frontend);
        clients_lose_bus(frontend);
        frontend->config.lost(frontend->config.userdata, loss, reason);
}

static bool on_connected(void *userdata, GDBusConnection *bus, Guard *guard, GError **error) {
        FrontendDbus *frontend = userdata;
        const CallersConfig callers = {
                .guard = guard,
                .max = REQUESTS_MAX,
                .max_per_sender = REQUESTS_PER_SENDER_MAX,
                .error = ERROR_GENERAL,
                .known = create_connection,
                .userdata = frontend,
        };

        frontend->bus = bus;
        frontend->callers = callers_new(&callers);
        if (!export_object(frontend, error))
                return false;
        if (frontend->config.connected)
                frontend->config.connected(frontend->config.userdata, bus, guard);
        return true;
}

FrontendDbus *frontend_dbus_new(const FrontendDbusConfig *config) {
        FrontendDbus *frontend = g_new0(FrontendDbus, 1);
        const BusNameConfig name = {
                .bus = config->bus,
                .name = config->name,
                .connected = on_connected,
                .ready = on_ready,
                .lost = on_lost,
                .userdata = frontend,
        };

        frontend->config = *config;
        frontend->clients = g_hash_table_new_full(g_int64_hash, g_int64_equal, NULL, client_free);
        frontend->name = bus_name_new(&name);
        return frontend;
}

FrontendDbus *frontend_dbus_free(FrontendDbus *frontend) {
        if (!frontend)
                return NULL;

        frontend_leave_bus(frontend);
        frontend->name = bus_name_free(frontend->name);
        g_clear_pointer(&frontend->clients, g_hash_table_destroy);
        g_free(frontend);
        return NULL;
}
