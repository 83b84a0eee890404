/* SPDX-License-Identifier: BSD-2-Clause */
#include "manager/private.h"

#include "door/peer.h"
#include "manager-interface.h"
#include "util/fd.h"
#include "util/log.h"
#include "util/names.h"

#include <gio/gunixfdlist.h>

#define PROPERTIES_INTERFACE "org.freedesktop.DBus.Properties"

/* Changes are told together, and no more often. */
#define SIGNAL_MS 500

/* Callers on the bus whose credentials it was asked for. */
#define REQUESTS_MAX 256
#define REQUESTS_PER_SENDER_MAX 8

/* Calls that were understood and wait for their turn. */
#define CALLS_MAX 64

/* One object on one connection. */
typedef struct Export {
        Manager *manager;
        bool peer_known;
        Peer peer;
} Export;

/* One that waits for its turn. */
typedef struct Call {
        struct list link; /* manager->calls */
        Peer peer;
        GDBusMethodInvocation *invocation;
} Call;

/* A flush that waits for the TPM. */
typedef struct FlushRequest {
        BrokerFlush flush;
        struct list link; /* manager->requests */
        GDBusMethodInvocation *invocation;
} FlushRequest;

static void return_error(GDBusMethodInvocation *invocation, GDBusError code, const char *message) {
        g_dbus_method_invocation_return_error_literal(invocation, G_DBUS_ERROR, (gint)code, message);
}

/* What was done, and matters to who reads the log. */
static void log_act(const Peer *peer, const char *what) {
        log_notice(PEER_FORMAT " %s", PEER_ARGUMENTS(peer), what);
}

static void list_clients(Manager *manager, const Peer *peer, GDBusMethodInvocation *invocation) {
        g_dbus_method_invocation_return_value(invocation,
                                              g_variant_new("(@aa{sv})", manager_list_clients(manager, peer->uid)));
}

static void list_sessions(Manager *manager, const Peer *peer, GDBusMethodInvocation *invocation) {
        g_dbus_method_invocation_return_value(invocation,
                                              g_variant_new("(@aa{sv})", manager_list_sessions(manager, peer->uid)));
}

static void list_commands(Manager *manager, const Peer *peer, GDBusMethodInvocation *invocation) {
        g_dbus_method_invocation_return_value(invocation, g_variant_new("(@aa{sv})", manager_list_commands(manager)));
}

static void on_flushed(BrokerFlush *flush, bool found, uint32_t n_objects, uint32_t n_sessions) {
        FlushRequest *request = list_entry(flush, FlushRequest, flush);

        if (!found)
                return_error(request->invocation, G_DBUS_ERROR_INVALID_ARGS, "there is no such client");
        else if (flush->what == BROKER_FLUSH_CLIENT)
                g_dbus_method_invocation_return_value(request->invocation,
                                                      g_variant_new("(uu)", n_objects, n_sessions));
        else
                g_dbus_method_invocation_return_value(request->invocation, g_variant_new("(u)", n_sessions));
        list_unlink(&request->link);
        g_free(request);
}

static void flush_begin(Manager *manager, BrokerFlush what, GDBusMethodInvocation *invocation) {
        FlushRequest *request = g_new0(FlushRequest, 1);

        request->flush = what;
        request->flush.done = on_flushed;
        request->invocation = invocation;
        list_init(&request->flush.link);
        list_append(&manager->requests, &request->link);
        broker_flush(manager->config.broker, &request->flush);
}

static void flush_client(Manager *manager, const Peer *peer, GDBusMethodInvocation *invocation) {
        g_autofree char *what = NULL;
        guint64 id;

        g_variant_get(g_dbus_method_invocation_get_parameters(invocation), "(t)", &id);
        what = g_strdup_printf("flushes what client %" G_GUINT64_FORMAT " has", id);
        log_act(peer, what);
        flush_begin(manager, (BrokerFlush){ .what = BROKER_FLUSH_CLIENT, .client = id }, invocation);
}

static void flush_abandoned(Manager *manager, const Peer *peer, GDBusMethodInvocation *invocation) {
        log_act(peer, "flushes saved sessions of clients that are gone");
        flush_begin(manager, (BrokerFlush){ .what = BROKER_FLUSH_ABANDONED }, invocation);
}

static void flush_left_over(Manager *manager, const Peer *peer, GDBusMethodInvocation *invocation) {
        log_act(peer, "flushes saved sessions from before the start");
        flush_begin(manager, (BrokerFlush){ .what = BROKER_FLUSH_LEFT_OVER }, invocation);
}

/* Return: false when there is an option that is not known, or not of that type. */
static bool parse_trace(GVariant *dictionary, TraceOptions *ret_options) {
        GVariantIter iter;
        const char *key;
        GVariant *value;
        bool good = true;

        g_variant_iter_init(&iter, dictionary);
        while (good && g_variant_iter_next(&iter, "{&sv}", &key, &value)) {
                bool *option = NULL;

                if (g_str_equal(key, "tpm"))
                        option = &ret_options->tpm;
                else if (g_str_equal(key, "payload"))
                        option = &ret_options->payload;
                good = option && g_variant_is_of_type(value, G_VARIANT_TYPE_BOOLEAN);
                if (good)
                        *option = g_variant_get_boolean(value);
                g_variant_unref(value);
        }
        return good;
}

static void trace_open(Manager *manager, const Peer *peer, GDBusMethodInvocation *invocation) {
        GDBusConnection *connection = g_dbus_method_invocation_get_connection(invocation);
        g_autoptr(GVariant) dictionary =
                g_variant_get_child_value(g_dbus_method_invocation_get_parameters(invocation), 0);
        g_autoptr(GUnixFDList) fds = NULL;
        g_autoptr(GError) error = NULL;
        TraceOptions options = { 0 };
        int fd;

        if (!parse_trace(dictionary, &options)) {
                return_error(invocation, G_DBUS_ERROR_INVALID_ARGS, "the options are tpm and payload, both boolean");
                return;
        }
        if (!(g_dbus_connection_get_capabilities(connection) & G_DBUS_CAPABILITY_FLAGS_UNIX_FD_PASSING)) {
                return_error(invocation, G_DBUS_ERROR_NOT_SUPPORTED, "this connection carries no descriptors");
                return;
        }
        fd = traces_open(manager->traces, &options, &error);
        if (fd < 0) {
                return_error(invocation, G_DBUS_ERROR_LIMITS_EXCEEDED, error->message);
                return;
        }
        log_act(peer, options.payload ? "watches commands, and sees all that clients send and hear"
                                      : "watches commands, without their bodies");
        fds = g_unix_fd_list_new_from_array(&fd, 1);
        g_dbus_method_invocation_return_value_with_unix_fd_list(invocation, g_variant_new("(h)", 0), fds);
}

static void property_get(Manager *manager, const Peer *peer, GDBusMethodInvocation *invocation) {
        GVariant *value;
        const char *name;

        g_variant_get(g_dbus_method_invocation_get_parameters(invocation), "(&s&s)", NULL, &name);
        value = manager_property(manager, name);
        if (value)
                g_dbus_method_invocation_return_value(invocation, g_variant_new("(v)", value));
        else
                return_error(invocation, G_DBUS_ERROR_UNKNOWN_PROPERTY, "there is no such property");
}

static void property_get_all(Manager *manager, const Peer *peer, GDBusMethodInvocation *invocation) {
        g_dbus_method_invocation_return_value(invocation, g_variant_new("(@a{sv})", manager_all_properties(manager)));
}

/* What emits a signal each, so that nobody has to ask. */
static void changes_emit(Manager *manager, GVariant *changed) {
        if (manager->bus)
                g_dbus_connection_emit_signal(manager->bus, NULL, MANAGER_PATH, PROPERTIES_INTERFACE,
                                              "PropertiesChanged",
                                              g_variant_new("(s@a{sv}as)", MANAGER_INTERFACE, changed, NULL), NULL);
        if (manager->socket)
                manager_socket_signal(manager->socket);
}

GVariant *manager_difference(GVariant *then, GVariant *now) {
        GVariantBuilder builder = G_VARIANT_BUILDER_INIT(G_VARIANT_TYPE_VARDICT);
        unsigned n_changed = 0;
        GVariantIter iter;
        const char *name;
        GVariant *value;

        g_variant_iter_init(&iter, now);
        while (g_variant_iter_loop(&iter, "{&sv}", &name, &value)) {
                g_autoptr(GVariant) before = g_variant_lookup_value(then, name, NULL);

                if (before && g_variant_equal(before, value))
                        continue;
                g_variant_builder_add(&builder, "{sv}", name, value);
                n_changed++;
        }
        if (n_changed > 0)
                return g_variant_ref_sink(g_variant_builder_end(&builder));
        g_variant_builder_clear(&builder);
        return NULL;
}

static gboolean changes_signal(gpointer userdata) {
        Manager *manager = userdata;
        g_autoptr(GVariant) now = g_variant_ref_sink(manager_signalled_properties(manager));
        g_autoptr(GVariant) changed = manager_difference(manager->signalled, now);

        manager->timer = 0;
        if (!changed)
                return G_SOURCE_REMOVE;
        g_variant_unref(manager->signalled);
        manager->signalled = g_steal_pointer(&now);
        changes_emit(manager, changed);
        return G_SOURCE_REMOVE;
}

static void on_changed(void *userdata) {
        Manager *manager = userdata;

        if (!manager->timer)
                manager->timer = g_timeout_add(SIGNAL_MS, changes_signal, manager);
}

static void property_set(Manager *manager, const Peer *peer, GDBusMethodInvocation *invocation) {
        g_autoptr(GVariant) value = NULL;
        g_autofree char *what = NULL;
        const char *name;
        int level = -1;

        g_variant_get(g_dbus_method_invocation_get_parameters(invocation), "(&s&sv)", NULL, &name, &value);
        if (!g_str_equal(name, "LogLevel")) {
                return_error(invocation, G_DBUS_ERROR_PROPERTY_READ_ONLY, "only LogLevel can be set");
                return;
        }
        if (g_variant_is_of_type(value, G_VARIANT_TYPE_STRING))
                level = log_level_parse(g_variant_get_string(value, NULL));
        if (level < 0) {
                return_error(invocation, G_DBUS_ERROR_INVALID_ARGS,
                             "the levels are error, warning, notice, info and debug");
                return;
        }
        what = g_strdup_printf("sets the level of the log to %s", log_level_name(level));
        log_act(peer, what);
        log_set_level(level);
        on_changed(manager);
        g_dbus_method_invocation_return_value(invocation, NULL);
}

static const struct {
        const char *interface;
        const char *name;
        bool everybody; /* not uid 0 alone, but what is not theirs is left out */
        void (*run)(Manager *manager, const Peer *peer, GDBusMethodInvocation *invocation);
} methods[] = {
        { MANAGER_INTERFACE, "ListClients", true, list_clients },
        { MANAGER_INTERFACE, "ListSessions", true, list_sessions },
        { MANAGER_INTERFACE, "ListCommands", false, list_commands },
        { MANAGER_INTERFACE, "FlushClient", false, flush_client },
        { MANAGER_INTERFACE, "FlushAbandoned", false, flush_abandoned },
        { MANAGER_INTERFACE, "FlushLeftOver", false, flush_left_over },
        { MANAGER_INTERFACE, "Trace", false, trace_open },
        { PROPERTIES_INTERFACE, "Get", false, property_get },
        { PROPERTIES_INTERFACE, "GetAll", false, property_get_all },
        { PROPERTIES_INTERFACE, "Set", false, property_set },
};

static void call_answer(Manager *manager, const Peer *peer, GDBusMethodInvocation *invocation) {
        const char *interface = g_dbus_method_invocation_get_interface_name(invocation);
        const char *name = g_dbus_method_invocation_get_method_name(invocation);

        for (size_t i = 0; i < G_N_ELEMENTS(methods); i++) {
                if (!g_str_equal(methods[i].name, name) || !g_str_equal(methods[i].interface, interface))
                        continue;
                if (peer->uid != 0 && !methods[i].everybody)
                        return_error(invocation, G_DBUS_ERROR_ACCESS_DENIED, "this is for uid 0 alone");
                else
                        methods[i].run(manager, peer, invocation);
                return;
        }
        return_error(invocation, G_DBUS_ERROR_UNKNOWN_METHOD, "there is no such method");
}

/* One in each turn of the main loop: a list of a thousand clients takes its time, and those who ask for many at once
 * must not keep clients of the TPM waiting for all of them. */
static gboolean call_answer_next(gpointer userdata) {
        Manager *manager = userdata;
        Call *call = list_entry(list_first(&manager->calls), Call, link);

        list_unlink(&call->link);
        manager->n_calls--;
        call_answer(manager, &call->peer, call->invocation);
        g_free(call);
        if (manager->n_calls > 0)
                return G_SOURCE_CONTINUE;
        manager->turn = 0;
        return G_SOURCE_REMOVE;
}

static void call_queue(Manager *manager, const Peer *peer, GDBusMethodInvocation *invocation) {
        Call *call;

        if (manager->n_calls == CALLS_MAX) {
                return_error(invocation, G_DBUS_ERROR_LIMITS_EXCEEDED, "busy: too many wait already, try again later");
                return;
        }
        call = g_new0(Call, 1);
        call->peer = *peer;
        call->invocation = invocation;
        list_append(&manager->calls, &call->link);
        manager->n_calls++;
        if (!manager->turn)
                manager->turn = g_idle_add_full(G_PRIORITY_DEFAULT, call_answer_next, manager, NULL);
}

static void on_caller(void *userdata, GDBusMethodInvocation *invocation, uid_t uid, pid_t pid) {
        const Peer peer = peer_make(uid, pid);

        call_queue(userdata, &peer, invocation);
}

/* Properties, too, come here, since the table has no functions for them: who asks has to be found out first. */
static void on_method_call(GDBusConnection *connection, const char *sender, const char *path, const char *interface,
                           const char *method, GVariant *parameters, GDBusMethodInvocation *invocation,
                           gpointer userdata) {
        Export *export = userdata;

        if (export->peer_known)
                call_queue(export->manager, &export->peer, invocation);
        else
                callers_ask(export->manager->callers, invocation);
}

guint manager_register(Manager *manager, GDBusConnection *connection, const Peer *peer, GError **error) {
        static const GDBusInterfaceVTable vtable = { .method_call = on_method_call };
        Export *export = g_new0(Export, 1);
        guint id;

        export->manager = manager;
        export->peer_known = peer != NULL;
        if (peer)
                export->peer = *peer;
        id = g_dbus_connection_register_object(connection, MANAGER_PATH, (GDBusInterfaceInfo *)&manager1_interface,
                                               &vtable, export, g_free, error);
        if (id == 0)
                g_free(export);
        return id;
}

Manager *manager_new(const ManagerConfig *config) {
        Manager *manager = g_new0(Manager, 1);

        manager->config = *config;
        manager->tcti = g_utf8_make_valid(config->tcti, -1);
        manager->started = g_get_real_time();
        list_init(&manager->requests);
        list_init(&manager->calls);
        manager->traces = traces_new(config->loop, config->broker);
        manager->signalled = g_variant_ref_sink(manager_signalled_properties(manager));
        broker_watch_state(config->broker, on_changed, manager);
        return manager;
}

void manager_export(Manager *manager, GDBusConnection *bus) {
        const CallersConfig callers = {
                .max = REQUESTS_MAX,
                .max_per_sender = REQUESTS_PER_SENDER_MAX,
                .error = "org.freedesktop.DBus.Error.LimitsExceeded",
                .known = on_caller,
                .userdata = manager,
        };
        g_autoptr(GError) error = NULL;

        manager->callers = callers_new(&callers);
        manager->bus = g_object_ref(bus);
        manager->object = manager_register(manager, bus, NULL, &error);
        if (manager->object == 0)
                log_warning("the manager is not on the bus: %s", error->message);
}

bool manager_listen(Manager *manager, const ListenerConfig *config, GError **error) {
        manager->socket = manager_socket_new(manager, config, error);
        return manager->socket != NULL;
}

Manager *manager_free(Manager *manager) {
        if (!manager)
                return NULL;

        broker_watch_state(manager->config.broker, NULL, NULL);
        g_clear_handle_id(&manager->timer, g_source_remove);
        g_clear_handle_id(&manager->turn, g_source_remove);
        list_for_each(link, &manager->calls) {
                Call *call = list_entry(link, Call, link);

                return_error(call->invocation, G_DBUS_ERROR_FAILED, "the daemon is stopping");
                g_free(call);
        }
        list_for_each(link, &manager->requests) {
                FlushRequest *request = list_entry(link, FlushRequest, link);

                list_unlink(&request->flush.link);
                return_error(request->invocation, G_DBUS_ERROR_FAILED, "the daemon is stopping");
                g_free(request);
        }
        manager->socket = manager_socket_free(manager->socket);
        if (manager->object)
                g_dbus_connection_unregister_object(manager->bus, manager->object);
        manager->callers = callers_free(manager->callers);
        g_clear_object(&manager->bus);
        manager->traces = traces_free(manager->traces);
        g_variant_unref(manager->signalled);
        g_free(manager->tcti);
        g_free(manager);
        return NULL;
}
