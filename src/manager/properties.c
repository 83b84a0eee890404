/* SPDX-License-Identifier: BSD-2-Clause */
#include "manager/private.h"

#include "broker/policy.h"
#include "util/log.h"

#include <inttypes.h>
#include <string.h>

/* A snapshot, so that properties that are read together are consistent. */
typedef struct Moment {
        Manager *manager;
        BrokerReport broker;
        RmReport rm;
        const RmCounters *counters;
        const Stats *stats;
} Moment;

static Moment moment_now(Manager *manager) {
        Moment moment = {
                .manager = manager,
                .counters = rm_counters(broker_rm(manager->config.broker)),
                .stats = broker_stats(manager->config.broker),
        };

        broker_report(manager->config.broker, &moment.broker);
        rm_report(broker_rm(manager->config.broker), &moment.rm);
        return moment;
}

/* Four characters in a number, which may be anything (Part 2, section 6.13). */
static void append_text(GString *text, uint32_t number) {
        for (int shift = 24; shift >= 0; shift -= 8) {
                char c = (char)(number >> shift & 0xff);

                if (c > 0x20 && c < 0x7f)
                        g_string_append_c(text, c);
        }
}

static GVariant *take_text(GString *text) {
        return g_variant_new_take_string(g_string_free(text, FALSE));
}

static GVariant *property_version(const Moment *moment) {
        return g_variant_new_string(TABRMD_VERSION);
}

static GVariant *property_tcti(const Moment *moment) {
        return g_variant_new_string(moment->manager->tcti);
}

static GVariant *property_started(const Moment *moment) {
        return g_variant_new_uint64((guint64)moment->manager->started);
}

static GVariant *property_max_clients(const Moment *moment) {
        return g_variant_new_uint32(moment->manager->config.max_clients);
}

static GVariant *property_max_objects(const Moment *moment) {
        return g_variant_new_uint32(moment->manager->config.max_objects);
}

static GVariant *property_reserve(const Moment *moment) {
        return g_variant_new_uint32(moment->broker.reserve.n_objects);
}

static GVariant *property_reserve_sessions(const Moment *moment) {
        return g_variant_new_uint32(moment->broker.reserve.n_sessions);
}

static GVariant *property_reserve_reason(const Moment *moment) {
        return g_variant_new_string(moment->broker.reserve.reason);
}

static GVariant *property_state(const Moment *moment) {
        static const char *const STATES[] = {
                [BROKER_STATE_STARTING] = "starting",
                [BROKER_STATE_READY] = "ready",
                [BROKER_STATE_ABSENT] = "absent",
                [BROKER_STATE_STOPPING] = "stopping",
        };

        return g_variant_new_string(STATES[moment->broker.state]);
}

static GVariant *property_reason(const Moment *moment) {
        return g_variant_new_take_string(g_utf8_make_valid(moment->broker.reason, -1));
}

static GVariant *property_manufacturer(const Moment *moment) {
        GString *text = g_string_new(NULL);

        append_text(text, moment->rm.manufacturer);
        return take_text(text);
}

static GVariant *property_vendor(const Moment *moment) {
        GString *text = g_string_new(NULL);

        for (unsigned i = 0; i < G_N_ELEMENTS(moment->rm.vendor); i++)
                append_text(text, moment->rm.vendor[i]);
        return take_text(text);
}

static GVariant *property_firmware(const Moment *moment) {
        const uint32_t *v = moment->rm.firmware;
        GString *text = g_string_new(NULL);

        if (moment->rm.manufacturer)
                g_string_printf(text, "%u.%u.%u.%u", v[0] >> 16, v[0] & 0xffff, v[1] >> 16, v[1] & 0xffff);
        return take_text(text);
}

static GVariant *property_revision(const Moment *moment) {
        GString *text = g_string_new(NULL);

        if (moment->rm.revision)
                g_string_printf(text, "%u.%02u", moment->rm.revision / 100, moment->rm.revision % 100);
        return take_text(text);
}

static GVariant *property_level(const Moment *moment) {
        return g_variant_new_string(log_level_name(log_level()));
}

static GVariant *property_clients(const Moment *moment) {
        return g_variant_new_uint32(moment->broker.n_connections);
}

static GVariant *property_waiting(const Moment *moment) {
        return g_variant_new_uint32(moment->broker.n_waiting);
}

static GVariant *property_longest_wait(const Moment *moment) {
        return g_variant_new_uint64(moment->broker.longest_wait_us);
}

static GVariant *property_running(const Moment *moment) {
        const BrokerReport *broker = &moment->broker;

        return g_variant_new("(uttt)", broker->code, broker->client, broker->elapsed_us, broker->limit_us);
}

static GVariant *property_objects(const Moment *moment) {
        return g_variant_new_uint32(moment->rm.n_objects);
}

static GVariant *property_objects_loaded(const Moment *moment) {
        return g_variant_new_uint32(moment->rm.n_objects_loaded);
}

static GVariant *property_object_slots(const Moment *moment) {
        return g_variant_new_uint32(moment->rm.object_slots);
}

static GVariant *property_sessions(const Moment *moment) {
        GVariantBuilder builder = G_VARIANT_BUILDER_INIT(G_VARIANT_TYPE("a{su}"));

        for (RmState state = RM_LIVE; state < RM_STATES; state++)
                g_variant_builder_add(&builder, "{su}", manager_state_name(state), moment->rm.n_sessions[state]);
        return g_variant_builder_end(&builder);
}

static GVariant *property_sessions_loaded(const Moment *moment) {
        return g_variant_new_uint32(moment->rm.n_sessions_loaded);
}

static GVariant *property_session_slots(const Moment *moment) {
        return g_variant_new_uint32(moment->rm.session_slots);
}

static GVariant *property_max_sessions(const Moment *moment) {
        return g_variant_new_uint32(moment->rm.sessions_max);
}

static GVariant *property_gap(const Moment *moment) {
        return g_variant_new_uint64(moment->rm.gap);
}

static GVariant *property_max_gap(const Moment *moment) {
        return g_variant_new_uint64(moment->rm.gap_max);
}

static GVariant *property_counters(const Moment *moment) {
        const struct {
                const char *name;
                uint64_t n;
        } all[] = {
                { "commands", moment->stats->n_commands },
                { "failed", moment->stats->n_failed },
                { "local", moment->stats->n_local },
                { "tpm-commands", moment->counters->transmits },
                { "hits", moment->counters->hits },
                { "misses", moment->counters->misses },
                { "loads", moment->counters->loads },
                { "saves", moment->counters->saves },
                { "evictions", moment->counters->evictions },
                { "renewals", moment->counters->renewals },
                { "abandoned-flushed", moment->counters->abandoned_flushed },
                { "left-over-flushed", moment->counters->left_over_flushed },
                { "client-saved-flushed", moment->counters->client_saved_flushed },
                { "foreign-flushed", moment->counters->foreign_flushed },
                { "connections", moment->stats->n_connections },
                { "refused", moment->stats->n_refused },
                { "cancelled", moment->stats->n_cancelled },
                { "tpm-lost", moment->stats->n_lost },
                { "trace-lost", traces_n_dropped(moment->manager->traces) },
        };
        GVariantBuilder builder = G_VARIANT_BUILDER_INIT(G_VARIANT_TYPE("a{st}"));

        for (size_t i = 0; i < G_N_ELEMENTS(all); i++)
                g_variant_builder_add(&builder, "{st}", all[i].name, all[i].n);
        return g_variant_builder_end(&builder);
}

static GVariant *variant_of_numbers(const uint64_t *values, size_t n) {
        return g_variant_new_fixed_array(G_VARIANT_TYPE_UINT64, values, n, sizeof(*values));
}

static GVariant *property_buckets(const Moment *moment) {
        return variant_of_numbers(stats_bounds_us, STATS_BOUNDS);
}

static void add_latency(GVariantBuilder *builder, const char *name, const Histogram *histogram) {
        g_variant_builder_add(builder, "{s(t@at)}", name, histogram->sum_us,
                              variant_of_numbers(histogram->n, G_N_ELEMENTS(histogram->n)));
}

static GVariant *property_latencies(const Moment *moment) {
        GVariantBuilder builder = G_VARIANT_BUILDER_INIT(G_VARIANT_TYPE("a{s(tat)}"));

        add_latency(&builder, "tpm", &moment->stats->tpm);
        add_latency(&builder, "wait", &moment->stats->wait);
        add_latency(&builder, "total", &moment->stats->total);
        return g_variant_builder_end(&builder);
}

static const struct {
        const char *name;
        GVariant *(*value)(const Moment *moment);
        bool signalled;
        bool everybody; /* not uid 0 alone: what a user needs to know who asks why the TPM does not work */
} properties[] = {
        { "Version", property_version, false, true },
        { "Tcti", property_tcti, false, false },
        { "Started", property_started, false, false },
        { "MaxClients", property_max_clients, false, false },
        { "MaxObjects", property_max_objects, false, false },
        { "Reserve", property_reserve, false, false },
        { "ReserveSessions", property_reserve_sessions, false, false },
        { "ReserveReason", property_reserve_reason, false, false },
        { "State", property_state, true, true },
        { "Reason", property_reason, true, true },
        { "Manufacturer", property_manufacturer, true, true },
        { "Vendor", property_vendor, true, true },
        { "Firmware", property_firmware, true, true },
        { "Revision", property_revision, true, true },
        { "LogLevel", property_level, true, false },
        { "Clients", property_clients, true, false },
        { "Waiting", property_waiting, false, false },
        { "LongestWait", property_longest_wait, false, false },
        { "Running", property_running, false, false },
        { "Objects", property_objects, false, false },
        { "ObjectsLoaded", property_objects_loaded, false, false },
        { "ObjectSlots", property_object_slots, false, false },
        { "Sessions", property_sessions, false, false },
        { "SessionsLoaded", property_sessions_loaded, false, false },
        { "SessionSlots", property_session_slots, false, false },
        { "MaxSessions", property_max_sessions, false, false },
        { "Gap", property_gap, false, false },
        { "MaxGap", property_max_gap, false, false },
        { "Counters", property_counters, false, false },
        { "Buckets", property_buckets, false, false },
        { "Latencies", property_latencies, false, false },
};

GVariant *manager_property(Manager *manager, uid_t uid, const char *name, bool *ret_known) {
        Moment moment = moment_now(manager);
        GVariant *value = NULL;

        *ret_known = false;
        for (size_t i = 0; i < G_N_ELEMENTS(properties); i++) {
                if (!g_str_equal(properties[i].name, name))
                        continue;
                *ret_known = true;
                if (properties[i].everybody || policy_may_manage(uid))
                        value = properties[i].value(&moment);
        }
        return value;
}

GVariant *manager_all_properties(Manager *manager, uid_t uid) {
        GVariantBuilder builder = G_VARIANT_BUILDER_INIT(G_VARIANT_TYPE_VARDICT);
        Moment moment = moment_now(manager);

        for (size_t i = 0; i < G_N_ELEMENTS(properties); i++)
                if (properties[i].everybody || policy_may_manage(uid))
                        g_variant_builder_add(&builder, "{sv}", properties[i].name, properties[i].value(&moment));
        return g_variant_builder_end(&builder);
}

GVariant *manager_signalled_properties(Manager *manager) {
        GVariantBuilder builder = G_VARIANT_BUILDER_INIT(G_VARIANT_TYPE_VARDICT);
        Moment moment = moment_now(manager);

        for (size_t i = 0; i < G_N_ELEMENTS(properties); i++)
                if (properties[i].signalled)
                        g_variant_builder_add(&builder, "{sv}", properties[i].name, properties[i].value(&moment));
        return g_variant_builder_end(&builder);
}
