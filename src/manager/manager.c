/* SPDX-License-Identifier: BSD-2-Clause */
#include "manager/private.h"

#include "broker/policy.h"
#include "door/peer.h"
#include "manager-interface.h"
#include "util/log.h"
#include "util/names.h"

/* Changes are signalled together, and no more often. */
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

void manager_changed(Manager *manager) {
        if (!manager->timer)
                manager->timer = g_timeout_add(SIGNAL_MS, changes_signal, manager);
}

static void on_changed(void *userdata) {
        manager_changed(userdata);
}

/* One in each turn of the main loop: a list of a thousand clients takes its time, and those who ask for many at once
 * must not keep clients of the TPM waiting for all of them. */
static gboolean call_answer_next(gpointer userdata) {
        Manager *manager = userdata;
        Call *call = list_entry(list_first(&manager->calls), Call, link);

        list_unlink(&call->link);
        manager->n_calls--;
        manager_answer(manager, &call->peer, call->invocation);
        g_free(call);
        if (manager->n_calls > 0)
                return G_SOURCE_CONTINUE;
        manager->turn = 0;
        return G_SOURCE_REMOVE;
}

static void call_queue(Manager *manager, const Peer *peer, GDBusMethodInvocation *invocation) {
        Call *call;

        if (manager->n_calls == CALLS_MAX) {
                manager_return_error(invocation, G_DBUS_ERROR_LIMITS_EXCEEDED,
                                     "busy: too many wait already, try again later");
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

void manager_export(Manager *manager, GDBusConnection *bus, Guard *guard) {
        const CallersConfig callers = {
                .guard = guard,
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

void manager_unexport(Manager *manager) {
        if (manager->object)
                g_dbus_connection_unregister_object(manager->bus, manager->object);
        manager->object = 0;
        manager->callers = callers_free(manager->callers);
        g_clear_object(&manager->bus);
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

                manager_return_error(call->invocation, G_DBUS_ERROR_FAILED, "the daemon is stopping");
                g_free(call);
        }
        manager_drop_flushes(manager);
        manager->socket = manager_socket_free(manager->socket);
        manager_unexport(manager);
        manager->traces = traces_free(manager->traces);
        g_variant_unref(manager->signalled);
        g_free(manager->tcti);
        g_free(manager);
        return NULL;
}
