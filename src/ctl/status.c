/* SPDX-License-Identifier: BSD-2-Clause */
#include "ctl/ctl.h"

#include "ctl/format.h"
#include "ctl/json.h"

#include <inttypes.h>
#include <stdlib.h>

/* A line of the page; frees the text. */
static void status_line(const char *title, char *text) {
        g_print("%-11s %s\n", title, text);
        g_free(text);
}

static void print_state(GVariant *all) {
        const char *state = dict_text(all, "State");
        bool ready = g_str_equal(state, "ready");
        g_autofree char *painted = format_colour(ready ? COLOUR_GREEN : COLOUR_RED, state);
        g_autofree char *reason = format_text(dict_text(all, "Reason"));
        g_autofree char *name = format_colour(COLOUR_BOLD, "tpm2-abrmd");

        g_print("%s %s: %s%s%s\n\n", name, dict_text(all, "Version"), painted, *reason ? ": " : "", reason);
}

static void print_tpm(GVariant *all) {
        g_autofree char *tcti = format_text(dict_text(all, "Tcti"));
        uint64_t n_objects = dict_number(all, "Reserve"), n_sessions = dict_number(all, "ReserveSessions");
        const char *revision = dict_text(all, "Revision");

        if (*revision)
                status_line("TPM", g_strdup_printf("%s %s, firmware %s, revision %s", dict_text(all, "Manufacturer"),
                                                   dict_text(all, "Vendor"), dict_text(all, "Firmware"), revision));
        if (!dict_is_whole(all))
                return;
        status_line("back end", g_strdup(tcti));
        status_line("kept free", g_strdup_printf("%" PRIu64 " slots for objects, %" PRIu64 " for sessions (%s)",
                                                 n_objects, n_sessions, dict_text(all, "ReserveReason")));
        status_line("up", format_us((uint64_t)g_get_real_time() - dict_number(all, "Started")));
}

static char *status_slots(uint64_t n) {
        return n > 0 ? g_strdup_printf("%" PRIu64, n) : g_strdup("?");
}

static void print_sessions(GVariant *all) {
        g_autoptr(GVariant) by_state = g_variant_lookup_value(all, "Sessions", G_VARIANT_TYPE("a{su}"));
        g_autofree char *n_slots = status_slots(dict_number(all, "SessionSlots"));
        GString *states = g_string_new(NULL);
        GVariantIter iter;
        const char *state;
        guint32 n, n_all = 0;

        g_variant_iter_init(&iter, by_state);
        while (g_variant_iter_next(&iter, "{&su}", &state, &n)) {
                if (n > 0)
                        g_string_append_printf(states, "%s%u %s", states->len > 0 ? ", " : ": ", n, state);
                n_all += n;
        }
        status_line("sessions", g_strdup_printf("%u of %" PRIu64 "%s; loaded: %" PRIu64 " of %s slots", n_all,
                                                dict_number(all, "MaxSessions"), states->str,
                                                dict_number(all, "SessionsLoaded"), n_slots));
        g_string_free(states, TRUE);
}

static void print_holdings(GVariant *all) {
        g_autofree char *n_slots = status_slots(dict_number(all, "ObjectSlots"));
        uint64_t gap = dict_number(all, "Gap"), max_gap = dict_number(all, "MaxGap");
        g_autofree char *share = format_share(gap, max_gap);

        status_line("clients", g_strdup_printf("%" PRIu64 " of %" PRIu64, dict_number(all, "Clients"),
                                               dict_number(all, "MaxClients")));
        status_line("objects", g_strdup_printf("%" PRIu64 " of %" PRIu64 "; loaded: %" PRIu64 " of %s slots",
                                               dict_number(all, "Objects"), dict_number(all, "MaxObjects"),
                                               dict_number(all, "ObjectsLoaded"), n_slots));
        print_sessions(all);
        status_line("gap", g_strdup_printf("%" PRIu64 " of %" PRIu64 " (%s)", gap, max_gap, share));
}

/* Return: "client 3 (uid 1000 pid 12 tpm2_sign)", to be freed. */
static char *describe_client(Ctl *ctl, uint64_t id) {
        g_autoptr(GVariant) reply = id > 0 ? ctl_call(ctl, "ListClients", NULL, "(aa{sv})", NULL, NULL) : NULL;
        g_autoptr(GVariant) clients = reply ? g_variant_get_child_value(reply, 0) : NULL;

        if (id == 0)
                return g_strdup("the daemon's own");
        for (gsize i = 0; clients && i < g_variant_n_children(clients); i++) {
                g_autoptr(GVariant) client = g_variant_get_child_value(clients, i);
                g_autofree char *name = NULL;

                if (dict_number(client, "id") != id)
                        continue;
                name = format_text(dict_text(client, "name"));
                return g_strdup_printf("client %" PRIu64 " (uid %" PRIu64 " pid %" PRIu64 " %s)", id,
                                       dict_number(client, "uid"), dict_number(client, "pid"), name);
        }
        return g_strdup_printf("client %" PRIu64 ", which is gone", id);
}

static void print_work(Ctl *ctl, GVariant *all) {
        uint64_t n_waiting = dict_number(all, "Waiting");
        g_autofree char *longest = format_us(dict_number(all, "LongestWait"));
        g_autofree char *who = NULL, *since = NULL, *limit = NULL, *text = NULL, *name = NULL;
        Running running = dict_running(all);

        if (n_waiting > 0)
                status_line("waiting", g_strdup_printf("%" PRIu64 ", the first for %s", n_waiting, longest));
        else
                status_line("waiting", g_strdup("nothing"));
        if (running.code == 0) {
                status_line("running", g_strdup("nothing"));
                return;
        }
        name = format_command(running.code);
        who = describe_client(ctl, running.client);
        since = format_us(running.elapsed_us);
        limit = format_us(running.limit_us);
        text = g_strdup_printf("%s of %s, for %s of %s at most%s", name, who, since, limit,
                               running.late ? ": late" : "");
        status_line("running", format_colour(running.late ? COLOUR_RED : COLOUR_NONE, text));
}

static void print_counters(GVariant *counters) {
        uint64_t commands = dict_number(counters, "commands"), hits = dict_number(counters, "hits");
        uint64_t lookups = hits + dict_number(counters, "misses");
        g_autofree char *share = format_share(hits, lookups);
        uint64_t n_flushed = dict_number(counters, "abandoned-flushed") + dict_number(counters, "left-over-flushed") +
                             dict_number(counters, "client-saved-flushed");
        char *text;

        status_line("commands", g_strdup_printf("%" PRIu64 "; failed: %" PRIu64 ", cancelled: %" PRIu64, commands,
                                                dict_number(counters, "failed"), dict_number(counters, "cancelled")));
        status_line(
                "to the TPM",
                g_strdup_printf("%" PRIu64 ": %.2f for each; answered without it: %" PRIu64,
                                dict_number(counters, "tpm-commands"),
                                commands > 0 ? (double)dict_number(counters, "tpm-commands") / (double)commands : 0.0,
                                dict_number(counters, "local")));
        status_line("cache", g_strdup_printf("%s hits; loads: %" PRIu64 ", saves: %" PRIu64 ", evictions: %" PRIu64
                                             ", renewals: %" PRIu64,
                                             share, dict_number(counters, "loads"), dict_number(counters, "saves"),
                                             dict_number(counters, "evictions"), dict_number(counters, "renewals")));
        text = g_strdup_printf("TPM lost: %" PRIu64 "; clients refused: %" PRIu64
                               "; sessions flushed to make room: %" PRIu64,
                               dict_number(counters, "tpm-lost"), dict_number(counters, "refused"), n_flushed);
        status_line(
                "losses",
                format_colour(dict_number(counters, "client-saved-flushed") > 0 ? COLOUR_YELLOW : COLOUR_NONE, text));
        g_free(text);
}

static void print_latency(GVariant *all, const char *title, const char *name) {
        g_autofree char *median = NULL, *most = NULL;
        Latency latency;

        if (!dict_latency(all, name, &latency))
                return;
        median = format_quantile(&latency, 0.5);
        most = format_quantile(&latency, 0.99);
        status_line(title, g_strdup_printf("half: %s, 99 %%: %s", median, most));
}

static void status_print_rest(Ctl *ctl, GVariant *all) {
        g_autoptr(GVariant) counters = g_variant_lookup_value(all, "Counters", G_VARIANT_TYPE("a{st}"));

        g_print("\n");
        print_holdings(all);
        g_print("\n");
        print_work(ctl, all);
        print_counters(counters);
        g_print("\n");
        print_latency(all, "TPM takes", "tpm");
        print_latency(all, "waited", "wait");
        print_latency(all, "answered", "total");
        status_line("log level", g_strdup(dict_text(all, "LogLevel")));
}

static int status_run(Ctl *ctl, int argc, char **argv) {
        g_autoptr(GVariant) all = NULL;
        g_autoptr(GError) error = NULL;
        int code;

        if (!ctl_parse(ctl, &verb_status, NULL, &argc, &argv, &code))
                return code;
        all = ctl_get_all(ctl, &error);
        if (!all)
                return ctl_fail(ctl, error);
        code = g_str_equal(dict_text(all, "State"), "ready") ? EXIT_SUCCESS : CTL_NO_TPM;
        if (ctl->json) {
                json_print(json_of_properties(all), true);
                return code;
        }
        print_state(all);
        print_tpm(all);
        if (!dict_is_whole(all)) {
                g_print("\nThe rest is for root.\n");
                return code;
        }
        status_print_rest(ctl, all);
        return code;
}

const Verb verb_status = { "status", "", "Show the state of the TPM and the daemon", 0, status_run };
