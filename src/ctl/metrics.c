/* SPDX-License-Identifier: BSD-2-Clause */
#include "ctl/ctl.h"

#include "ctl/format.h"
#include "ctl/json.h"

#include <inttypes.h>
#include <locale.h>
#include <stdlib.h>
#include <string.h>

/*
 * Metrics in the text format of Prometheus: seconds, and counters that end in _total
 */
static void metric_head(const char *name, const char *type, const char *help) {
        g_print("# HELP tabrmd_%s %s\n# TYPE tabrmd_%s %s\n", name, help, name, type);
}

/* A value of a label, in which three characters have a meaning; to be freed. */
static char *label_escape(const char *text) {
        g_autofree char *safe = format_text(text);
        GString *escaped = g_string_new(safe);

        g_string_replace(escaped, "\\", "\\\\", 0);
        g_string_replace(escaped, "\"", "\\\"", 0);
        return g_string_free(escaped, FALSE);
}

static void print_info(GVariant *all) {
        g_autofree char *version = label_escape(dict_text(all, "Version"));
        g_autofree char *tcti = label_escape(dict_text(all, "Tcti"));
        g_autofree char *manufacturer = label_escape(dict_text(all, "Manufacturer"));
        g_autofree char *firmware = label_escape(dict_text(all, "Firmware"));

        metric_head("info", "gauge", "The daemon and its TPM; always 1.");
        g_print("tabrmd_info{version=\"%s\",tcti=\"%s\",manufacturer=\"%s\",firmware=\"%s\"} 1\n", version, tcti,
                manufacturer, firmware);
        metric_head("tpm_ready", "gauge", "Whether there is a TPM.");
        g_print("tabrmd_tpm_ready %d\n", g_str_equal(dict_text(all, "State"), "ready"));
        metric_head("start_time_seconds", "gauge", "When the daemon was started, since 1970.");
        g_print("tabrmd_start_time_seconds %.3f\n", (double)dict_number(all, "Started") / 1e6);
}

static void print_gauges(GVariant *all) {
        static const struct {
                const char *property, *name, *help;
        } GAUGES[] = {
                { "Clients", "clients", "Connections." },
                { "MaxClients", "clients_max", "Connections that may be." },
                { "Waiting", "waiting_commands", "Commands of clients that wait for the TPM." },
                { "Objects", "objects", "Transient objects of clients." },
                { "MaxObjects", "objects_max", "Transient objects that may be." },
                { "ObjectsLoaded", "objects_loaded", "Transient objects in the TPM." },
                { "ObjectSlots", "object_slots", "Transient objects that the TPM has room for; 0: not known yet." },
                { "SessionsLoaded", "sessions_loaded", "Sessions in the TPM that are not saved." },
                { "SessionSlots", "session_slots", "Loaded sessions that the TPM has room for; 0: not known yet." },
                { "MaxSessions", "sessions_max", "Sessions that the TPM has room for, saved ones included." },
                { "Gap", "context_gap", "Contexts of sessions saved since the oldest saved session was." },
                { "MaxGap", "context_gap_max", "What the TPM lets that grow to." },
        };
        g_autoptr(GVariant) sessions = g_variant_lookup_value(all, "Sessions", G_VARIANT_TYPE("a{su}"));
        GVariantIter iter;
        const char *state;
        guint32 n;

        for (size_t i = 0; i < G_N_ELEMENTS(GAUGES); i++) {
                metric_head(GAUGES[i].name, "gauge", GAUGES[i].help);
                g_print("tabrmd_%s %" PRIu64 "\n", GAUGES[i].name, dict_number(all, GAUGES[i].property));
        }
        metric_head("longest_wait_seconds", "gauge", "How long the first of the waiting commands has waited.");
        g_print("tabrmd_longest_wait_seconds %.6f\n", (double)dict_number(all, "LongestWait") / 1e6);
        metric_head("sessions", "gauge", "Sessions by state.");
        g_variant_iter_init(&iter, sessions);
        while (g_variant_iter_next(&iter, "{&su}", &state, &n)) {
                g_autofree char *label = label_escape(state);

                g_print("tabrmd_sessions{state=\"%s\"} %u\n", label, n);
        }
}

static void print_running(GVariant *all) {
        metric_head("running_command_seconds", "gauge",
                    "How long the TPM has been at the command that it runs; 0: none.");
        g_print("tabrmd_running_command_seconds %.6f\n", (double)dict_running(all).elapsed_us / 1e6);
}

static void print_counters(GVariant *all) {
        static const struct {
                const char *key, *name, *help;
        } COUNTERS[] = {
                { "commands", "commands_total", "Commands of clients that were answered." },
                { "failed", "failed_commands_total", "Commands of clients that were answered with an error." },
                { "local", "local_commands_total", "Commands of clients that were answered without the TPM." },
                { "cancelled", "cancelled_commands_total", "Commands that clients have cancelled." },
                { "tpm-commands", "tpm_commands_total", "Commands sent to the TPM." },
                { "hits", "cache_hits_total", "Objects and sessions that were in the TPM when they were needed." },
                { "misses", "cache_misses_total", "Objects and sessions that had to be loaded." },
                { "loads", "context_loads_total", "Contexts loaded." },
                { "saves", "context_saves_total", "Contexts saved." },
                { "evictions", "evictions_total", "Objects and sessions taken out of the TPM to make room." },
                { "renewals", "session_renewals_total", "Sessions renewed because of the context gap." },
                { "connections", "connections_total", "Connections made." },
                { "refused", "refused_connections_total", "Connections refused because of a limit." },
                { "tpm-lost", "tpm_losses_total", "How often the TPM was lost." },
                { "trace-lost", "trace_lost_total", "Records of traces that nobody read in time." },
        };
        static const struct {
                const char *key, *whose;
        } FLUSHED[] = {
                { "abandoned-flushed", "abandoned" },
                { "left-over-flushed", "left-over" },
                { "client-saved-flushed", "saved" },
                { "foreign-flushed", "foreign" },
        };
        g_autoptr(GVariant) counters = g_variant_lookup_value(all, "Counters", G_VARIANT_TYPE("a{st}"));

        for (size_t i = 0; i < G_N_ELEMENTS(COUNTERS); i++) {
                metric_head(COUNTERS[i].name, "counter", COUNTERS[i].help);
                g_print("tabrmd_%s %" PRIu64 "\n", COUNTERS[i].name, dict_number(counters, COUNTERS[i].key));
        }
        metric_head("flushed_total", "counter", "What was flushed to make room, by whose it was.");
        for (size_t i = 0; i < G_N_ELEMENTS(FLUSHED); i++)
                g_print("tabrmd_flushed_total{whose=\"%s\"} %" PRIu64 "\n", FLUSHED[i].whose,
                        dict_number(counters, FLUSHED[i].key));
}

static void print_histogram(GVariant *all, const char *key, const char *name, const char *help) {
        Latency latency;
        uint64_t n = 0;

        if (!dict_latency(all, key, &latency))
                return;
        metric_head(name, "histogram", help);
        for (size_t i = 0; i < latency.n_buckets; i++) {
                n += latency.counts[i];
                if (i < latency.n_buckets - 1)
                        g_print("tabrmd_%s_bucket{le=\"%g\"} %" PRIu64 "\n", name, (double)latency.bounds[i] / 1e6, n);
        }
        g_print("tabrmd_%s_bucket{le=\"+Inf\"} %" PRIu64 "\n", name, n);
        g_print("tabrmd_%s_sum %.6f\n", name, (double)latency.sum_us / 1e6);
        g_print("tabrmd_%s_count %" PRIu64 "\n", name, n);
}

static void print_by_code(GVariant *commands, const char *key, const char *name, const char *help, double unit) {
        metric_head(name, "counter", help);
        for (gsize i = 0; i < g_variant_n_children(commands); i++) {
                g_autoptr(GVariant) command = g_variant_get_child_value(commands, i);
                uint32_t code = (uint32_t)dict_number(command, "code");
                g_autofree char *label = code ? format_command(code) : g_strdup("other");

                g_print("tabrmd_%s{command=\"%s\"} %.15g\n", name, label, (double)dict_number(command, key) / unit);
        }
}

static void print_by_program(GVariant *programs, const char *key, const char *name, const char *help, double unit) {
        metric_head(name, "counter", help);
        for (gsize i = 0; i < g_variant_n_children(programs); i++) {
                g_autoptr(GVariant) program = g_variant_get_child_value(programs, i);
                g_autoptr(GVariant) uid = g_variant_lookup_value(program, "uid", G_VARIANT_TYPE_UINT32);
                g_autofree char *user = uid ? g_strdup_printf("%u", g_variant_get_uint32(uid)) : g_strdup("");
                g_autofree char *label = label_escape(dict_text(program, "name"));

                g_print("tabrmd_%s{uid=\"%s\",name=\"%s\"} %.15g\n", name, user, label,
                        (double)dict_number(program, key) / unit);
        }
}

static void print_programs(GVariant *programs) {
        print_by_program(programs, "connections", "connections_by_program_total", "Connections made, by program.", 1);
        print_by_program(programs, "commands", "commands_by_program_total", "Commands of clients, by program.", 1);
        print_by_program(programs, "failed", "failed_commands_by_program_total",
                         "Commands of clients that were answered with an error, by program.", 1);
        print_by_program(programs, "busy", "busy_seconds_by_program_total",
                         "Time of the TPM for the commands of clients, by program.", 1e6);
        print_by_program(programs, "wait", "wait_seconds_by_program_total",
                         "Time that commands of clients have waited, by program.", 1e6);
}

/* Return: a{sv}, floating */
static GVariant *metrics_json(GVariant *all, GVariant *commands, GVariant *programs) {
        g_autoptr(GVariant) properties = g_variant_ref_sink(json_of_properties(all));
        GVariantDict dict;

        g_variant_dict_init(&dict, properties);
        g_variant_dict_insert_value(&dict, "commands", commands);
        g_variant_dict_insert_value(&dict, "programs", programs);
        return g_variant_dict_end(&dict);
}

/* Return: aa{sv}; NULL with @error */
static GVariant *metrics_list(Ctl *ctl, const char *method, GError **error) {
        g_autoptr(GVariant) reply = ctl_call(ctl, method, NULL, "(aa{sv})", NULL, error);

        return reply ? g_variant_get_child_value(reply, 0) : NULL;
}

static int metrics_run(Ctl *ctl, int argc, char **argv) {
        g_autoptr(GVariant) all = NULL, commands = NULL, programs = NULL;
        g_autoptr(GError) error = NULL;
        int code;

        if (!ctl_parse(ctl, &verb_metrics, NULL, &argc, &argv, &code))
                return code;
        commands = metrics_list(ctl, "ListCommands", &error);
        if (commands)
                programs = metrics_list(ctl, "ListPrograms", &error);
        if (programs)
                all = ctl_get_all(ctl, &error);
        if (all && !dict_is_whole(all))
                g_set_error_literal(&error, CTL_ERROR, CTL_ERROR_VERSION, "");
        if (error)
                return ctl_fail(ctl, error);
        if (ctl->json) {
                json_print(metrics_json(all, commands, programs), true);
                return EXIT_SUCCESS;
        }
        setlocale(LC_NUMERIC, "C");
        print_info(all);
        print_gauges(all);
        print_running(all);
        print_counters(all);
        print_histogram(all, "tpm", "tpm_command_seconds", "Time of the TPM for a command.");
        print_histogram(all, "wait", "wait_seconds", "Time that clients' commands have waited until they ran.");
        print_histogram(all, "total", "command_seconds", "Time until clients' commands were answered.");
        print_by_code(commands, "count", "commands_by_code_total", "Commands of clients, by command code.", 1);
        print_by_code(commands, "failed", "failed_commands_by_code_total",
                      "Commands of clients that were answered with an error, by command code.", 1);
        print_by_code(commands, "busy", "busy_seconds_by_code_total",
                      "Time of the TPM for the commands of clients, by command code.", 1e6);
        print_programs(programs);
        return EXIT_SUCCESS;
}

const Verb verb_metrics = { "metrics", "", "Print metrics in the text format of Prometheus", 0, metrics_run };
