/* SPDX-License-Identifier: BSD-2-Clause */
#include "manager/private.h"

#include "broker/policy.h"
#include "util/log.h"
#include "util/names.h"

#include <gio/gunixfdlist.h>

#define FOR_ROOT "this is for uid 0 alone"

/* A flush that waits for the TPM. */
typedef struct FlushRequest {
        BrokerFlush flush;
        struct list link; /* manager->requests */
        GDBusMethodInvocation *invocation;
} FlushRequest;

void manager_return_error(GDBusMethodInvocation *invocation, GDBusError code, const char *message) {
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

static void list_programs(Manager *manager, const Peer *peer, GDBusMethodInvocation *invocation) {
        g_dbus_method_invocation_return_value(invocation,
                                              g_variant_new("(@aa{sv})", manager_list_programs(manager, peer->uid)));
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
                manager_return_error(request->invocation, G_DBUS_ERROR_INVALID_ARGS, "there is no such client");
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

static void trace_begin(Manager *manager, const Peer *peer, GDBusMethodInvocation *invocation) {
        GDBusConnection *connection = g_dbus_method_invocation_get_connection(invocation);
        g_autoptr(GVariant) dictionary =
                g_variant_get_child_value(g_dbus_method_invocation_get_parameters(invocation), 0);
        g_autoptr(GUnixFDList) fds = NULL;
        g_autoptr(GError) error = NULL;
        TraceOptions options = { 0 };
        int fd;

        if (!parse_trace(dictionary, &options)) {
                manager_return_error(invocation, G_DBUS_ERROR_INVALID_ARGS,
                                     "the options are tpm and payload, both boolean");
                return;
        }
        if (!(g_dbus_connection_get_capabilities(connection) & G_DBUS_CAPABILITY_FLAGS_UNIX_FD_PASSING)) {
                manager_return_error(invocation, G_DBUS_ERROR_NOT_SUPPORTED, "this connection carries no descriptors");
                return;
        }
        fd = traces_open(manager->traces, &options, &error);
        if (fd < 0) {
                manager_return_error(invocation, G_DBUS_ERROR_LIMITS_EXCEEDED, error->message);
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
        bool known;

        g_variant_get(g_dbus_method_invocation_get_parameters(invocation), "(&s&s)", NULL, &name);
        value = manager_property(manager, peer->uid, name, &known);
        if (value)
                g_dbus_method_invocation_return_value(invocation, g_variant_new("(v)", value));
        else if (known)
                manager_return_error(invocation, G_DBUS_ERROR_ACCESS_DENIED, FOR_ROOT);
        else
                manager_return_error(invocation, G_DBUS_ERROR_UNKNOWN_PROPERTY, "there is no such property");
}

static void property_get_all(Manager *manager, const Peer *peer, GDBusMethodInvocation *invocation) {
        g_dbus_method_invocation_return_value(invocation,
                                              g_variant_new("(@a{sv})", manager_all_properties(manager, peer->uid)));
}

static void property_set(Manager *manager, const Peer *peer, GDBusMethodInvocation *invocation) {
        g_autoptr(GVariant) value = NULL;
        g_autofree char *what = NULL;
        const char *name;
        int level = -1;

        g_variant_get(g_dbus_method_invocation_get_parameters(invocation), "(&s&sv)", NULL, &name, &value);
        if (!g_str_equal(name, "LogLevel")) {
                manager_return_error(invocation, G_DBUS_ERROR_PROPERTY_READ_ONLY, "only LogLevel can be set");
                return;
        }
        if (g_variant_is_of_type(value, G_VARIANT_TYPE_STRING))
                level = log_level_parse(g_variant_get_string(value, NULL));
        if (level < 0) {
                manager_return_error(invocation, G_DBUS_ERROR_INVALID_ARGS,
                                     "the levels are error, warning, notice, info and debug");
                return;
        }
        what = g_strdup_printf("sets the level of the log to %s", log_level_name(level));
        log_act(peer, what);
        log_set_level(level);
        manager_changed(manager);
        g_dbus_method_invocation_return_value(invocation, NULL);
}

static const struct {
        const char *interface;
        const char *name;
        bool everybody; /* not uid 0 alone, but what is not theirs is left out */
        void (*run)(Manager *manager, const Peer *peer, GDBusMethodInvocation *invocation);
} METHODS[] = {
        { MANAGER_INTERFACE, "ListClients", true, list_clients },
        { MANAGER_INTERFACE, "ListPrograms", true, list_programs },
        { MANAGER_INTERFACE, "ListSessions", true, list_sessions },
        { MANAGER_INTERFACE, "ListCommands", false, list_commands },
        { MANAGER_INTERFACE, "FlushClient", false, flush_client },
        { MANAGER_INTERFACE, "FlushAbandoned", false, flush_abandoned },
        { MANAGER_INTERFACE, "FlushLeftOver", false, flush_left_over },
        { MANAGER_INTERFACE, "Trace", false, trace_begin },
        { PROPERTIES_INTERFACE, "Get", true, property_get },
        { PROPERTIES_INTERFACE, "GetAll", true, property_get_all },
        { PROPERTIES_INTERFACE, "Set", false, property_set },
};

void manager_answer(Manager *manager, const Peer *peer, GDBusMethodInvocation *invocation) {
        const char *interface = g_dbus_method_invocation_get_interface_name(invocation);
        const char *name = g_dbus_method_invocation_get_method_name(invocation);

        for (size_t i = 0; i < G_N_ELEMENTS(METHODS); i++) {
                if (!g_str_equal(METHODS[i].name, name) || !g_str_equal(METHODS[i].interface, interface))
                        continue;
                if (!METHODS[i].everybody && !policy_may_manage(peer->uid))
                        manager_return_error(invocation, G_DBUS_ERROR_ACCESS_DENIED, FOR_ROOT);
                else
                        METHODS[i].run(manager, peer, invocation);
                return;
        }
        manager_return_error(invocation, G_DBUS_ERROR_UNKNOWN_METHOD, "there is no such method");
}

void manager_drop_flushes(Manager *manager) {
        list_for_each(link, &manager->requests) {
                FlushRequest *request = list_entry(link, FlushRequest, link);

                list_unlink(&request->flush.link);
                manager_return_error(request->invocation, G_DBUS_ERROR_FAILED, "the daemon is stopping");
                g_free(request);
        }
}
