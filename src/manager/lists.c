/* SPDX-License-Identifier: BSD-2-Clause */
#include "manager/private.h"

#include "broker/policy.h"

const char *manager_state_name(RmState state) {
        static const char *const NAMES[] = {
                [RM_LIVE] = "owned",          [RM_CLIENT_SAVED] = "saved", [RM_ABANDONED] = "abandoned",
                [RM_LEFT_OVER] = "left-over", [RM_DOOMED] = "flushing",
        };

        return NAMES[state];
}

typedef struct List {
        Manager *manager;
        uid_t uid; /* who asks */
        gint64 now;
        GVariantBuilder builder;
        GHashTable *by_space; /* space -> Owner */
} List;

static void add_u(GVariantBuilder *row, const char *key, uint32_t value) {
        g_variant_builder_add(row, "{sv}", key, g_variant_new_uint32(value));
}

static void add_t(GVariantBuilder *row, const char *key, uint64_t value) {
        g_variant_builder_add(row, "{sv}", key, g_variant_new_uint64(value));
}

static void add_s(GVariantBuilder *row, const char *key, const char *value) {
        g_variant_builder_add(row, "{sv}", key, g_variant_new_string(value));
}

static void add_usage(GVariantBuilder *row, const Usage *usage) {
        add_t(row, "commands", usage->n_commands);
        add_t(row, "failed", usage->n_failed);
        add_t(row, "tpm-commands", usage->n_transmits);
        add_t(row, "wait", usage->wait_us);
        add_t(row, "busy", usage->busy_us);
        add_t(row, "longest-wait", usage->longest_wait_us);
}

/* As bytes, a row takes a tenth of what it does as a tree. */
static GVariant *end_row(GVariantBuilder *row) {
        GVariant *value = g_variant_builder_end(row);

        (void)g_variant_get_data(value);
        return value;
}

static void add_client(void *userdata, const ConnectionReport *client) {
        GVariantBuilder row = G_VARIANT_BUILDER_INIT(G_VARIANT_TYPE_VARDICT);
        uint32_t n_objects = 0, n_sessions = 0;
        List *list = userdata;

        if (!policy_may_see(list->uid, client->peer->uid))
                return;
        if (client->space != RM_NONE)
                rm_report_space(broker_rm(list->manager->config.broker), client->space, &n_objects, &n_sessions);
        add_t(&row, "id", client->id);
        add_u(&row, "uid", client->peer->uid);
        add_u(&row, "pid", (uint32_t)client->peer->pid);
        add_s(&row, "name", client->peer->name);
        add_s(&row, "door", client->peer->by_bus ? "bus" : "socket");
        g_variant_builder_add(&row, "{sv}", "locality", g_variant_new_byte(client->locality));
        add_t(&row, "since", (uint64_t)list->now - client->connected_us);
        add_u(&row, "objects", n_objects);
        add_u(&row, "sessions", n_sessions);
        add_usage(&row, client->usage);
        add_s(&row, "state", client->state);
        add_u(&row, "command", client->code);
        add_t(&row, "elapsed", client->elapsed_us);
        g_variant_builder_add_value(&list->builder, end_row(&row));
}

GVariant *manager_list_clients(Manager *manager, uid_t uid) {
        List list = {
                .manager = manager,
                .uid = uid,
                .now = g_get_real_time(),
                .builder = G_VARIANT_BUILDER_INIT(G_VARIANT_TYPE("aa{sv}")),
        };

        broker_report_connections(manager->config.broker, add_client, &list);
        return g_variant_builder_end(&list.builder);
}

/* Those without an account have no user, so that they are for who may see everybody's. */
static void add_program(void *userdata, const Account *account) {
        GVariantBuilder row = G_VARIANT_BUILDER_INIT(G_VARIANT_TYPE_VARDICT);
        gint64 since_1970 = g_get_real_time() - g_get_monotonic_time();
        List *list = userdata;
        bool has_user = account->serial != 0;

        if (has_user ? !policy_may_see(list->uid, account->uid) : !policy_may_manage(list->uid))
                return;
        if (has_user)
                add_u(&row, "uid", account->uid);
        add_s(&row, "name", account->name);
        add_t(&row, "connections", account->n_connections);
        add_u(&row, "clients", account->n_open);
        add_usage(&row, &account->usage);
        add_t(&row, "since", (uint64_t)(since_1970 + account->begun));
        add_t(&row, "last", (uint64_t)(since_1970 + account->last));
        g_variant_builder_add_value(&list->builder, end_row(&row));
}

GVariant *manager_list_programs(Manager *manager, uid_t uid) {
        List list = { .uid = uid, .builder = G_VARIANT_BUILDER_INIT(G_VARIANT_TYPE("aa{sv}")) };

        broker_report_accounts(manager->config.broker, add_program, &list);
        return g_variant_builder_end(&list.builder);
}

typedef struct Owner {
        uint64_t client;
        const Peer *peer;
} Owner;

static void note_owner(void *userdata, const ConnectionReport *client) {
        GHashTable *by_space = userdata;
        Owner *owner = g_new(Owner, 1);

        *owner = (Owner){ .client = client->id, .peer = client->peer };
        g_hash_table_insert(by_space, GUINT_TO_POINTER(client->space), owner);
}

static GVariant *session_row(const List *list, const RmSessionReport *session, uint64_t gap_max) {
        const Owner *owner = g_hash_table_lookup(list->by_space, GUINT_TO_POINTER(session->space));
        GVariantBuilder row = G_VARIANT_BUILDER_INIT(G_VARIANT_TYPE_VARDICT);
        uint64_t age = (uint64_t)list->now - session->since;

        if (session->space == RM_NONE)
                owner = NULL;
        add_u(&row, "handle", session->handle);
        add_s(&row, "state", manager_state_name(session->state));
        add_t(&row, "client", owner ? owner->client : 0);
        if (session->state != RM_LEFT_OVER)
                add_u(&row, "uid", session->uid);
        if (owner) {
                add_u(&row, "pid", (uint32_t)owner->peer->pid);
                add_s(&row, "name", owner->peer->name);
        }
        g_variant_builder_add(&row, "{sv}", "loaded", g_variant_new_boolean(session->loaded));
        add_t(&row, "age", age);
        if (!session->loaded && session->state != RM_LEFT_OVER) {
                add_t(&row, "gap", session->gap);
                add_t(&row, "gap-left", gap_max > session->gap ? gap_max - session->gap : 0);
        }
        return end_row(&row);
}

static int by_handle(const void *a, const void *b) {
        const RmSessionReport *left = a, *right = b;
        uint32_t l = left->handle & TPM2_HR_HANDLE_MASK, r = right->handle & TPM2_HR_HANDLE_MASK;

        return l < r ? -1 : l > r;
}

/* Nobody knows whose a session from before the start is. */
static bool session_may_be_seen(uid_t uid, const RmSessionReport *session) {
        return session->state == RM_LEFT_OVER ? policy_may_manage(uid) : policy_may_see(uid, session->uid);
}

GVariant *manager_list_sessions(Manager *manager, uid_t uid) {
        g_autoptr(GHashTable) by_space = g_hash_table_new_full(NULL, NULL, NULL, g_free);
        g_autoptr(GArray) sessions = g_array_new(FALSE, FALSE, sizeof(RmSessionReport));
        List list = {
                .manager = manager,
                .uid = uid,
                .now = g_get_monotonic_time(), /* as the broker tells the resource manager */
                .builder = G_VARIANT_BUILDER_INIT(G_VARIANT_TYPE("aa{sv}")),
                .by_space = by_space,
        };
        const Rm *rm = broker_rm(manager->config.broker);
        RmSessionReport session;
        RmReport report;
        uint32_t at = 0;

        rm_report(rm, &report);
        broker_report_connections(manager->config.broker, note_owner, by_space);
        while (rm_report_session(rm, &at, &session))
                if (session_may_be_seen(uid, &session))
                        g_array_append_val(sessions, session);
        g_array_sort(sessions, by_handle);
        for (guint i = 0; i < sessions->len; i++)
                g_variant_builder_add_value(
                        &list.builder,
                        session_row(&list, &g_array_index(sessions, RmSessionReport, i), report.gap_max));
        return g_variant_builder_end(&list.builder);
}

static void add_command(GVariantBuilder *builder, const CommandStats *command) {
        GVariantBuilder row = G_VARIANT_BUILDER_INIT(G_VARIANT_TYPE_VARDICT);

        if (command->n == 0)
                return;
        add_u(&row, "code", command->code);
        add_t(&row, "count", command->n);
        add_t(&row, "failed", command->n_failed);
        add_t(&row, "busy", command->busy_us);
        add_t(&row, "longest", command->longest_us);
        g_variant_builder_add_value(builder, end_row(&row));
}

GVariant *manager_list_commands(Manager *manager) {
        GVariantBuilder builder = G_VARIANT_BUILDER_INIT(G_VARIANT_TYPE("aa{sv}"));
        const Stats *stats = broker_stats(manager->config.broker);

        add_command(&builder, &stats->others);
        for (unsigned i = 0; i < STATS_COMMANDS; i++)
                add_command(&builder, &stats->commands[i]);
        return g_variant_builder_end(&builder);
}
