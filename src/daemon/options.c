/* SPDX-License-Identifier: BSD-2-Clause */
#include "daemon/options.h"

#include "util/names.h"

#include <gio/gio.h>

#define DEFAULT_TCTI "device:/dev/tpm0"
#define RESERVE_MAX 64
#define TIME_LIMIT_S_MAX (24 * 60 * 60)
#define IDLE_EVICT_MS_MAX (24 * 60 * 60 * 1000)

/* Told from every number that is in range of its option. */
#define NOT_GIVEN G_MININT

/* Options, and what takes a second step to become one. */
typedef struct Raw {
        Options options;
        char **sockets;
        char *logger;
        char *seed_file;
        char *reserve;
        char **rest;
        bool no_dbus;
} Raw;

static void raw_clear(Raw *raw) {
        options_clear(&raw->options);
        g_strfreev(raw->sockets);
        g_free(raw->logger);
        g_free(raw->seed_file);
        g_free(raw->reserve);
        g_strfreev(raw->rest);
}

G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Raw, raw_clear)

typedef struct OptionRow {
        const char *name;
        char letter; /* 0: none */
        GOptionArg kind;
        size_t at;         /* of the field in Raw: char *, char **, bool or uint32_t */
        const char *help;  /* to which the default is added, if there is one */
        const char *value; /* for the help */
        const char *text;  /* FILENAME, STRING: the default; NULL: none */
        int min, max;      /* INT: of what may be given ... */
        uint32_t number;   /* ... and the default; above max: what the field has when none is given */
        uint32_t scale;    /* INT: units of the field in one of the option */
} OptionRow;

/* Where the field is; does not compile when it is of another type. */
#define AT(field, type)                                                                                                \
        (offsetof(Raw, field) +                                                                                        \
         sizeof(char[__builtin_types_compatible_p(__typeof__(((Raw *)NULL)->field), type) ? 1 : -1]) - 1)

#define TEXT(name, letter, field, otherwise, kind, help, value)                                                        \
        { name, letter, G_OPTION_ARG_##kind, AT(field, char *), help, value, otherwise, 0, 0, 0, 0 }
#define TEXTS(name, field, help, value)                                                                                \
        { name, 0, G_OPTION_ARG_FILENAME_ARRAY, AT(field, char **), help, value, NULL, 0, 0, 0, 0 }
#define FLAG(name, letter, field, help)                                                                                \
        { name, letter, G_OPTION_ARG_NONE, AT(field, bool), help, NULL, NULL, 0, 0, 0, 0 }
#define NUMBER(name, letter, field, otherwise, min, max, scale, help, value)                                           \
        { name, letter, G_OPTION_ARG_INT, AT(field, uint32_t), help, value, NULL, min, max, otherwise, scale }

/* All options, as --help lists them. */
static const OptionRow OPTIONS[] = {
        TEXT("tcti", 't', options.tcti, DEFAULT_TCTI, FILENAME, "The TPM", "CONF"),
        FLAG("session", 's', options.session, "Use the session bus, not the system bus"),
        TEXT("dbus-name", 'n', options.dbus_name, TABRMD_DBUS_NAME, STRING, "Name on the bus", "NAME"),
        FLAG("no-socket", 0, options.no_socket, "Have no socket, but the bus alone"),
        FLAG("no-dbus", 0, no_dbus, "Use no bus at all"),
        TEXTS("socket", sockets,
              "Unix socket for clients (default: " TABRMD_SOCKET_PATH "), with mode=0660, group=NAME and "
              "locality=0+3 behind commas; may be given several times",
              "PATH"),
        TEXT("manager", 0, options.manager, NULL, FILENAME,
             "Private socket for root, who asks there what the daemon does; see tabrmctl(1)", "PATH"),
        NUMBER("max-connections", 'm', options.broker.max_connections, 1024, 1, RM_SPACES_MAX, 1, "Clients at a time",
               "N"),
        NUMBER("max-sessions", 'e', options.broker.limits.sessions_per_space, 64, 1, RM_SPACES_MAX, 1,
               "Sessions of one connection", "N"),
        NUMBER("max-transients", 'r', options.broker.limits.objects_per_space, 1024, 1, RM_OBJECTS_MAX, 1,
               "Transient objects of one connection", "N"),
        NUMBER("max-objects", 0, options.broker.limits.objects, 16384, 1, RM_OBJECTS_MAX, 1, "Transient objects in all",
               "N"),
        NUMBER("max-abandoned", 0, options.broker.limits.abandoned, RM_NONE, 0, RM_SPACES_MAX, 1,
               "Saved sessions kept of clients that are gone (default: all but eight that the TPM has)", "N"),
        TEXT("reserve", 0, reserve, "auto", STRING,
             "Slots of the TPM kept free between commands; auto: on a device, while others may use it", "N|auto"),
        NUMBER("idle-evict", 0, options.broker.idle_evict_ms, OPTIONS_BY_BACKEND, 0, IDLE_EVICT_MS_MAX, 1,
               "Idle time after which the TPM is emptied, 0: never (default: " G_STRINGIFY(
                       OPTIONS_SHARED_IDLE_EVICT_MS) " on a device, else 0)",
               "MS"),
        FLAG("wait", 0, options.broker.wait, "Start without a TPM, and serve when there is one"),
        NUMBER("time-limit", 0, options.broker.limit_ms, LIMIT_S, 1, TIME_LIMIT_S_MAX, 1000,
               "Give the TPM up when a command takes longer", "SECONDS"),
        NUMBER("time-limit-long", 0, options.broker.limit_long_ms, LIMIT_LONG_S, 1, TIME_LIMIT_S_MAX, 1000,
               "The same for commands that make keys and for self tests", "SECONDS"),
        FLAG("flush-all", 'f', options.broker.limits.flush_all, "Flush saved sessions, too, at start"),
        FLAG("allow-locality", 0, options.allow_locality,
             "Let everyone on the bus use localities 1 to 4, not only root"),
        FLAG("allow-root", 'o', options.allow_root, "Run as root, if need be"),
        TEXT("logger", 'l', logger, "stdout", STRING, "Where to log", "stdout|syslog"),
        TEXT("prng-seed-file", 'g', seed_file, NULL, FILENAME, "Ignored", "FILE"),
        FLAG("version", 'v', options.version, "Print the version"),
        TEXTS(G_OPTION_REMAINING, rest, NULL, NULL),
};
#define N_OPTIONS G_N_ELEMENTS(OPTIONS)

/* What GOption writes. */
typedef union OptionValue {
        char *text;
        char **texts;
        gboolean flag;
        int number;
} OptionValue;

/* To be freed. */
static char *row_help(const OptionRow *row) {
        if (row->text)
                return g_strdup_printf("%s (default: %s)", row->help, row->text);
        if (row->kind == G_OPTION_ARG_INT && row->number <= (uint32_t)row->max)
                return g_strdup_printf("%s (default: %u)", row->help, row->number);
        return g_strdup(row->help);
}

static bool read_arguments(char ***arguments, OptionValue values[N_OPTIONS], GError **error) {
        g_autoptr(GOptionContext) context = g_option_context_new(NULL);
        g_autoptr(GPtrArray) helps = g_ptr_array_new_with_free_func(g_free);
        GOptionEntry entries[N_OPTIONS + 1] = { 0 };

        for (size_t i = 0; i < N_OPTIONS; i++) {
                const OptionRow *row = &OPTIONS[i];
                char *help = row_help(row);

                g_ptr_array_add(helps, help);
                if (row->kind == G_OPTION_ARG_INT)
                        values[i].number = NOT_GIVEN;
                entries[i] = (GOptionEntry){ row->name, row->letter, 0, row->kind, &values[i], help, row->value };
        }
        g_option_context_set_summary(context, "TPM 2.0 access broker and resource manager.");
        g_option_context_add_main_entries(context, entries, NULL);
        return g_option_context_parse_strv(context, arguments, error);
}

static bool check_range(const char *name, int value, int min, int max, GError **error) {
        if (value >= min && value <= max)
                return true;
        g_set_error(error, G_OPTION_ERROR, G_OPTION_ERROR_BAD_VALUE, "--%s must be from %d to %d, not %d", name, min,
                    max, value);
        return false;
}

/* Files are fewer than connections may be where the system says so, and the default gives way. */
static bool take_number(const OptionRow *row, int value, int connections_max, uint32_t *field, GError **error) {
        int max = row->at == offsetof(Raw, options.broker.max_connections) ? connections_max : row->max;

        if (value != NOT_GIVEN)
                *field = (uint32_t)value * row->scale;
        else if (row->number <= (uint32_t)row->max)
                *field = MIN(row->number, (uint32_t)max) * row->scale;
        else
                *field = row->number;
        return value == NOT_GIVEN || check_range(row->name, value, row->min, max, error);
}

/* Takes all values, whatever is wrong with one. */
static bool take_values(OptionValue values[N_OPTIONS], int connections_max, Raw *raw, GError **error) {
        bool good = true;

        for (size_t i = 0; i < N_OPTIONS; i++) {
                const OptionRow *row = &OPTIONS[i];
                void *field = (char *)raw + row->at;

                if (row->kind == G_OPTION_ARG_NONE)
                        *(bool *)field = values[i].flag;
                else if (row->kind == G_OPTION_ARG_INT)
                        good = take_number(row, values[i].number, connections_max, field, good ? error : NULL) && good;
                else if (row->kind == G_OPTION_ARG_FILENAME_ARRAY)
                        *(char ***)field = values[i].texts;
                else
                        *(char **)field = values[i].text ? values[i].text : g_strdup(row->text);
        }
        return good;
}

static bool check_text(const char *name, bool good, const char *value, const char *wanted, GError **error) {
        if (good)
                return true;
        g_set_error(error, G_OPTION_ERROR, G_OPTION_ERROR_BAD_VALUE, "--%s must be %s, not \"%s\"", name, wanted,
                    value);
        return false;
}

static bool raw_check(const Raw *raw, GError **error) {
        const Options *options = &raw->options;

        if (raw->rest) {
                g_set_error(error, G_OPTION_ERROR, G_OPTION_ERROR_FAILED, "unexpected argument \"%s\"", raw->rest[0]);
                return false;
        }
        if (options->no_socket && (raw->sockets || raw->no_dbus)) {
                g_set_error_literal(error, G_OPTION_ERROR, G_OPTION_ERROR_BAD_VALUE,
                                    raw->sockets ? "either --socket or --no-socket"
                                                 : "--no-socket --no-dbus: no door is left");
                return false;
        }
        return check_text("dbus-name", g_dbus_is_name(options->dbus_name) && !g_dbus_is_unique_name(options->dbus_name),
                          options->dbus_name, "a name like " TABRMD_DBUS_NAME, error) &&
               check_text("logger", g_str_equal(raw->logger, "stdout") || g_str_equal(raw->logger, "syslog"),
                          raw->logger, "stdout or syslog", error) &&
               check_text("tcti", *options->tcti, options->tcti, "a TCTI like " DEFAULT_TCTI, error);
}

static bool parse_reserve(const char *text, uint32_t *ret_reserve, GError **error) {
        guint64 n = OPTIONS_BY_BACKEND;
        bool good = g_str_equal(text, "auto") || g_ascii_string_to_unsigned(text, 10, 0, RESERVE_MAX, &n, NULL);

        *ret_reserve = (uint32_t)n;
        return check_text("reserve", good, text, "auto, or a number from 0 to " G_STRINGIFY(RESERVE_MAX), error);
}

static bool parse_sockets(char *const *texts, Options *options, GError **error) {
        size_t n = texts ? g_strv_length((char **)texts) : 0;

        if (n > OPTIONS_SOCKETS_MAX) {
                g_set_error(error, G_OPTION_ERROR, G_OPTION_ERROR_BAD_VALUE, "more than %d sockets",
                            OPTIONS_SOCKETS_MAX);
                return false;
        }
        options->sockets = g_new0(SocketOption, n);
        for (size_t i = 0; i < n; i++) {
                if (!socket_option_parse(texts[i], &options->sockets[options->n_sockets], error))
                        return false;
                options->n_sockets++;
                for (size_t k = 0; k < i; k++) {
                        if (!g_str_equal(options->sockets[k].path, options->sockets[i].path))
                                continue;
                        g_set_error(error, G_OPTION_ERROR, G_OPTION_ERROR_BAD_VALUE, "--socket: \"%s\" twice",
                                    options->sockets[i].path);
                        return false;
                }
        }
        return true;
}

bool options_parse(char ***arguments, uint64_t n_fds, Options *ret_options, GError **error) {
        uint64_t room = n_fds > OPTIONS_FDS_RESERVED ? n_fds - OPTIONS_FDS_RESERVED : 1;
        OptionValue values[N_OPTIONS] = { 0 };
        g_auto(Raw) raw = { 0 };

        if (!read_arguments(arguments, values, error) ||
            !take_values(values, (int)MIN(room, RM_SPACES_MAX), &raw, error) || !raw_check(&raw, error) ||
            !parse_reserve(raw.reserve, &raw.options.broker.limits.reserve, error) ||
            !parse_sockets(raw.sockets, &raw.options, error))
                return false;

        raw.options.dbus = !raw.no_dbus;
        raw.options.logger = g_str_equal(raw.logger, "syslog") ? LOG_TARGET_SYSLOG : LOG_TARGET_STDOUT;
        raw.options.broker.limits.spaces = raw.options.broker.max_connections;
        *ret_options = raw.options;
        raw.options = (Options){ 0 };
        return true;
}

void options_clear(Options *options) {
        g_clear_pointer(&options->tcti, g_free);
        g_clear_pointer(&options->dbus_name, g_free);
        g_clear_pointer(&options->manager, g_free);
        for (size_t i = 0; options->sockets && i < options->n_sockets; i++)
                socket_option_clear(&options->sockets[i]);
        g_clear_pointer(&options->sockets, g_free);
}
