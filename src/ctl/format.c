/* SPDX-License-Identifier: BSD-2-Clause */
#include "ctl/format.h"

#include "ctl/names.h"

#include <inttypes.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

char *format_colour(Colour colour, const char *text) {
        static const char *const CODES[] = {
                [COLOUR_NONE] = "",     [COLOUR_BOLD] = "1",   [COLOUR_GREEN] = "32",
                [COLOUR_YELLOW] = "33", [COLOUR_RED] = "1;31", [COLOUR_DIM] = "2",
        };
        const char *terminal = getenv("TERM");

        if (colour == COLOUR_NONE || !isatty(STDOUT_FILENO) || getenv("NO_COLOR") || !terminal ||
            strcmp(terminal, "dumb") == 0)
                return g_strdup(text);
        return g_strdup_printf("\033[%sm%s\033[0m", CODES[colour], text);
}

char *format_us(uint64_t us) {
        uint64_t s = us / 1000000;

        if (us < 1000)
                return g_strdup_printf("%" PRIu64 " us", us);
        if (us < 1000000)
                return g_strdup_printf("%.1f ms", (double)us / 1e3);
        if (s < 60)
                return g_strdup_printf("%.1f s", (double)us / 1e6);
        if (s < 60 * 60)
                return g_strdup_printf("%" PRIu64 " min %" PRIu64 " s", s / 60, s % 60);
        if (s < 24 * 60 * 60)
                return g_strdup_printf("%" PRIu64 " h %" PRIu64 " min", s / 3600, s / 60 % 60);
        return g_strdup_printf("%" PRIu64 " d %" PRIu64 " h", s / 86400, s / 3600 % 24);
}

char *format_text(const char *text) {
        g_autofree char *valid = g_utf8_make_valid(text, -1);
        GString *safe = g_string_new(NULL);

        for (const char *c = valid; *c; c = g_utf8_next_char(c)) {
                gunichar character = g_utf8_get_char(c);

                bool shown = g_unichar_isprint(character) && !g_unichar_iswide(character) &&
                             !g_unichar_iszerowidth(character);

                g_string_append_unichar(safe, shown ? character : '?');
        }
        return g_string_free(safe, FALSE);
}

GVariant *format_texts(GVariant *value) {
        GVariantBuilder builder;
        GVariantIter iter;
        GVariant *part;

        if (g_variant_is_of_type(value, G_VARIANT_TYPE_STRING))
                return g_variant_ref_sink(g_variant_new_take_string(format_text(g_variant_get_string(value, NULL))));
        if (!g_variant_is_container(value))
                return g_variant_ref(value);
        g_variant_builder_init(&builder, g_variant_get_type(value));
        g_variant_iter_init(&iter, value);
        while ((part = g_variant_iter_next_value(&iter))) {
                g_autoptr(GVariant) taken = g_steal_pointer(&part), safe = format_texts(taken);

                g_variant_builder_add_value(&builder, safe);
        }
        return g_variant_ref_sink(g_variant_builder_end(&builder));
}

char *format_user(uint32_t uid) {
        const struct passwd *user = getpwuid(uid);

        return user ? format_text(user->pw_name) : g_strdup_printf("%u", uid);
}

char *format_command(uint32_t code) {
        const char *name = command_name(code);

        return name ? g_strdup(name) : g_strdup_printf("0x%x", code);
}

char *format_share(uint64_t part, uint64_t all) {
        return all > 0 ? g_strdup_printf("%.1f %%", 100.0 * (double)part / (double)all) : g_strdup("-");
}

static uint64_t latency_count(const Latency *latency, size_t n_buckets) {
        uint64_t n = 0;

        for (size_t i = 0; i < n_buckets; i++)
                n += latency->counts[i];
        return n;
}

size_t latency_bucket(const Latency *latency, double q) {
        double rank = q * (double)latency_count(latency, latency->n_buckets);
        uint64_t n = 0;

        for (size_t i = 0; i < latency->n_buckets; i++) {
                n += latency->counts[i];
                if (latency->counts[i] > 0 && (double)n >= rank)
                        return i;
        }
        return latency->n_buckets;
}

char *format_quantile(const Latency *latency, double q) {
        size_t i = latency_bucket(latency, q), last = latency->n_buckets - 1;
        double rank = q * (double)latency_count(latency, latency->n_buckets);
        uint64_t low = i > 0 && i <= last ? latency->bounds[i - 1] : 0;
        g_autofree char *text = NULL;
        double share;

        if (i > last)
                return g_strdup("-");
        if (i == 0 || i == last) {
                text = format_us(i == 0 ? latency->bounds[0] : low);
                return g_strdup_printf("%s %s", i == 0 ? "under" : "over", text);
        }
        share = (rank - (double)latency_count(latency, i)) / (double)latency->counts[i];
        text = format_us(low + (uint64_t)((double)(latency->bounds[i] - low) * share));
        return g_strdup_printf("about %s", text);
}

uint64_t dict_number(GVariant *dict, const char *key) {
        g_autoptr(GVariant) value = g_variant_lookup_value(dict, key, NULL);

        if (!value)
                return 0;
        if (g_variant_is_of_type(value, G_VARIANT_TYPE_UINT64))
                return g_variant_get_uint64(value);
        if (g_variant_is_of_type(value, G_VARIANT_TYPE_UINT32))
                return g_variant_get_uint32(value);
        if (g_variant_is_of_type(value, G_VARIANT_TYPE_BYTE))
                return g_variant_get_byte(value);
        return g_variant_is_of_type(value, G_VARIANT_TYPE_BOOLEAN) && g_variant_get_boolean(value);
}

const char *dict_text(GVariant *dict, const char *key) {
        const char *text = "";

        (void)g_variant_lookup(dict, key, "&s", &text);
        return text;
}

#define LATE_US 1000000

Running dict_running(GVariant *all) {
        Running running = { 0 };

        (void)g_variant_lookup(all, "Running", "(uttt)", &running.code, &running.client, &running.elapsed_us,
                               &running.limit_us);
        running.late = running.elapsed_us > LATE_US;
        return running;
}

bool dict_is_whole(GVariant *all) {
        g_autoptr(GVariant) counters = g_variant_lookup_value(all, "Counters", G_VARIANT_TYPE("a{st}"));

        return counters != NULL;
}

bool dict_latency(GVariant *all, const char *name, Latency *ret_latency) {
        g_autoptr(GVariant) latencies = g_variant_lookup_value(all, "Latencies", G_VARIANT_TYPE("a{s(tat)}"));
        g_autoptr(GVariant) bounds = g_variant_lookup_value(all, "Buckets", G_VARIANT_TYPE("at"));
        g_autoptr(GVariant) latency =
                latencies ? g_variant_lookup_value(latencies, name, G_VARIANT_TYPE("(tat)")) : NULL;
        g_autoptr(GVariant) buckets = latency ? g_variant_get_child_value(latency, 1) : NULL;
        const guint64 *counts, *limits;
        gsize n_counts, n_limits;

        if (!buckets || !bounds)
                return false;
        counts = g_variant_get_fixed_array(buckets, &n_counts, sizeof(*counts));
        limits = g_variant_get_fixed_array(bounds, &n_limits, sizeof(*limits));
        if (n_counts != n_limits + 1 || n_counts > BUCKETS_MAX)
                return false;
        *ret_latency = (Latency){ .n_buckets = n_counts };
        g_variant_get_child(latency, 0, "t", &ret_latency->sum_us);
        memcpy(ret_latency->counts, counts, n_counts * sizeof(*counts));
        memcpy(ret_latency->bounds, limits, n_limits * sizeof(*limits));
        return true;
}
