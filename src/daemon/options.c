/* SPDX-License-Identifier: BSD-2-Clause */
#include "daemon/options.h"

#include "broker/broker.h"
#include "util/names.h"

#include <gio/gio.h>

#define DEFAULT_TCTI "device:/dev/tpm0"
#define DEFAULT_CONNECTIONS 1024
#define CONNECTIONS_MAX 65535 /* RmLimits.spaces */
#define SESSIONS_MAX 65535
#define OBJECTS_MAX 65536 /* RmLimits.objects */
#define RESERVE_MAX 64
#define TIME_LIMIT_S_MAX (24 * 60 * 60)
#define IDLE_EVICT_MS_MAX (24 * 60 * 60 * 1000)

/* Told from every number that is in range of its option. */
#define NOT_GIVEN G_MININT

/* What GOption writes to. */
typedef struct Raw {
        char *tcti;
        char *dbus_name;
        char **sockets;
        char *logger;
        char *seed_file;
        char *manager;
        char **rest;
        gboolean no_dbus;
        gboolean no_socket;
        gboolean session;
        gboolean allow_root;
        gboolean allow_locality;
        gboolean flush_all;
        gboolean wait;
        int time_limit;
        int time_limit_long;
        gboolean version;
        int max_connections;
        int max_sessions;
        int max_transients;
        int max_objects;
        int max_abandoned;
        int reserve;
        int idle_evict;
} Raw;

static void raw_clear(Raw *raw) {
        g_free(raw->tcti);
        g_free(raw->dbus_name);
        g_strfreev(raw->sockets);
        g_free(raw->logger);
        g_free(raw->seed_file);
        g_free(raw->manager);
        g_strfreev(raw->rest);
}

G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Raw, raw_clear)

static bool read_arguments(char ***arguments, Raw *raw, GError **error) {
        const GOptionEntry entries[] = {
                { "tcti", 't', 0, G_OPTION_ARG_FILENAME, &raw->tcti, "The TPM (default: " DEFAULT_TCTI ")", "CONF" },
                { "session", 's', 0, G_OPTION_ARG_NONE, &raw->session, "Use the session bus, not the system bus",
                  NULL },
                { "dbus-name", 'n', 0, G_OPTION_ARG_STRING, &raw->dbus_name,
                  "Name on the bus (default: " TABRMD_DBUS_NAME ")", "NAME" },
                { "no-socket", 0, 0, G_OPTION_ARG_NONE, &raw->no_socket, "Have no socket, but the bus alone", NULL },
                { "no-dbus", 0, 0, G_OPTION_ARG_NONE, &raw->no_dbus, "Use no bus at all", NULL },
                { "socket", 0, 0, G_OPTION_ARG_FILENAME_ARRAY, &raw->sockets,
                  "Unix socket for clients (default: " TABRMD_SOCKET_PATH "), with mode=0660, group=NAME and "
                  "locality=0+3 behind commas; may be given several times",
                  "PATH" },
                { "manager", 0, 0, G_OPTION_ARG_FILENAME, &raw->manager,
                  "Private socket for root, who asks there what the daemon does; see tabrmctl(1)", "PATH" },
                { "max-connections", 'm', 0, G_OPTION_ARG_INT, &raw->max_connections,
                  "Clients at a time (default: 1024)", "N" },
                { "max-sessions", 'e', 0, G_OPTION_ARG_INT, &raw->max_sessions,
                  "Sessions of one connection (default: 64)", "N" },
                { "max-transients", 'r', 0, G_OPTION_ARG_INT, &raw->max_transients,
                  "Transient objects of one connection (default: 1024)", "N" },
                { "max-objects", 0, 0, G_OPTION_ARG_INT, &raw->max_objects, "Transient objects in all (default: 16384)",
                  "N" },
                { "max-abandoned", 0, 0, G_OPTION_ARG_INT, &raw->max_abandoned,
                  "Saved sessions kept of clients that are gone (default: all but eight that the TPM has)", "N" },
                { "reserve", 0, 0, G_OPTION_ARG_INT, &raw->reserve,
                  "Slots of the TPM kept free between commands (default: 2 on a device, else 0)", "N" },
                { "idle-evict", 0, 0, G_OPTION_ARG_INT, &raw->idle_evict,
                  "Idle time after which the TPM is emptied, 0: never (default: 100 on a device, else 0)", "MS" },
                { "wait", 0, 0, G_OPTION_ARG_NONE, &raw->wait, "Start without a TPM, and serve when there is one",
                  NULL },
                { "time-limit", 0, 0, G_OPTION_ARG_INT, &raw->time_limit,
                  "Give the TPM up when a command takes longer (default: " G_STRINGIFY(LIMIT_S) ")", "SECONDS" },
                { "time-limit-long", 0, 0, G_OPTION_ARG_INT, &raw->time_limit_long,
                  "The same for commands that make keys and for self tests (default: " G_STRINGIFY(LIMIT_LONG_S) ")",
                  "SECONDS" },
                { "flush-all", 'f', 0, G_OPTION_ARG_NONE, &raw->flush_all, "Flush saved sessions, too, at start",
                  NULL },
                { "allow-locality", 0, 0, G_OPTION_ARG_NONE, &raw->allow_locality,
                  "Let everyone on the bus use localities 1 to 4, not only root", NULL },
                { "allow-root", 'o', 0, G_OPTION_ARG_NONE, &raw->allow_root, "Run as root, if need be", NULL },
                { "logger", 'l', 0, G_OPTION_ARG_STRING, &raw->logger, "Where to log (default: stdout)",
                  "stdout|syslog" },
                { "prng-seed-file", 'g', 0, G_OPTION_ARG_FILENAME, &raw->seed_file, "Ignored", "FILE" },
                { "version", 'v', 0, G_OPTION_ARG_NONE, &raw->version, "Print the version", NULL },
                { G_OPTION_REMAINING, 0, 0, G_OPTION_ARG_FILENAME_ARRAY, &raw->rest, NULL, NULL },
                { 0 },
        };
        g_autoptr(GOptionContext) context = g_option_context_new(NULL);

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

static bool check_text(const char *name, bool good, const char *value, const char *wanted, GError **error) {
        if (good)
                return true;
        g_set_error(error, G_OPTION_ERROR, G_OPTION_ERROR_BAD_VALUE, "--%s must be %s, not \"%s\"", name, wanted,
                    value);
        return false;
}

static bool raw_check(const Raw *raw, int connections_max, GError **error) {
        if (raw->rest) {
                g_set_error(error, G_OPTION_ERROR, G_OPTION_ERROR_FAILED, "unexpected argument \"%s\"", raw->rest[0]);
                return false;
        }
        if (raw->no_socket && (raw->sockets || raw->no_dbus)) {
                g_set_error_literal(error, G_OPTION_ERROR, G_OPTION_ERROR_BAD_VALUE,
                                    raw->sockets ? "either --socket or --no-socket"
                                                 : "--no-socket --no-dbus: no door is left");
                return false;
        }
        if (raw->dbus_name &&
            !check_text("dbus-name", g_dbus_is_name(raw->dbus_name) && !g_dbus_is_unique_name(raw->dbus_name),
                        raw->dbus_name, "a name like " TABRMD_DBUS_NAME, error))
                return false;
        if (raw->logger &&
            !check_text("logger", g_str_equal(raw->logger, "stdout") || g_str_equal(raw->logger, "syslog"), raw->logger,
                        "stdout or syslog", error))
                return false;
        if (raw->tcti && !check_text("tcti", *raw->tcti, raw->tcti, "a TCTI like " DEFAULT_TCTI, error))
                return false;

        return check_range("max-connections", raw->max_connections, 1, connections_max, error) &&
               check_range("max-sessions", raw->max_sessions, 1, SESSIONS_MAX, error) &&
               check_range("max-transients", raw->max_transients, 1, OBJECTS_MAX, error) &&
               check_range("time-limit", raw->time_limit, 1, TIME_LIMIT_S_MAX, error) &&
               check_range("time-limit-long", raw->time_limit_long, 1, TIME_LIMIT_S_MAX, error) &&
               check_range("max-objects", raw->max_objects, 1, OBJECTS_MAX, error) &&
               (raw->max_abandoned == NOT_GIVEN ||
                check_range("max-abandoned", raw->max_abandoned, 0, SESSIONS_MAX, error)) &&
               (raw->reserve == NOT_GIVEN || check_range("reserve", raw->reserve, 0, RESERVE_MAX, error)) &&
               (raw->idle_evict == NOT_GIVEN ||
                check_range("idle-evict", raw->idle_evict, 0, IDLE_EVICT_MS_MAX, error));
}

static char *take_or(char **text, const char *otherwise) {
        return *text ? g_steal_pointer(text) : g_strdup(otherwise);
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
        int connections_max = (int)MIN(room, CONNECTIONS_MAX);
        g_auto(Raw) raw = {
                .max_connections = MIN(DEFAULT_CONNECTIONS, connections_max),
                .max_sessions = 64,
                .max_transients = 1024,
                .max_objects = 16384,
                .time_limit = LIMIT_S,
                .time_limit_long = LIMIT_LONG_S,
                .max_abandoned = NOT_GIVEN,
                .reserve = NOT_GIVEN,
                .idle_evict = NOT_GIVEN,
        };
        g_auto(Options) sockets = { 0 };

        if (!read_arguments(arguments, &raw, error) || !raw_check(&raw, connections_max, error) ||
            !parse_sockets(raw.sockets, &sockets, error))
                return false;

        *ret_options = (Options){
                .tcti = take_or(&raw.tcti, DEFAULT_TCTI),
                .dbus_name = take_or(&raw.dbus_name, TABRMD_DBUS_NAME),
                .sockets = g_steal_pointer(&sockets.sockets),
                .n_sockets = sockets.n_sockets,
                .no_socket = raw.no_socket,
                .manager = g_steal_pointer(&raw.manager),
                .dbus = !raw.no_dbus,
                .session = raw.session,
                .logger = raw.logger && g_str_equal(raw.logger, "syslog") ? LOG_TARGET_SYSLOG : LOG_TARGET_STDOUT,
                .allow_root = raw.allow_root,
                .allow_locality = raw.allow_locality,
                .flush_all = raw.flush_all,
                .wait = raw.wait,
                .time_limit_s = (unsigned)raw.time_limit,
                .time_limit_long_s = (unsigned)raw.time_limit_long,
                .version = raw.version,
                .max_connections = (uint32_t)raw.max_connections,
                .max_sessions = (uint32_t)raw.max_sessions,
                .max_transients = (uint32_t)raw.max_transients,
                .max_objects = (uint32_t)raw.max_objects,
                .max_abandoned = raw.max_abandoned == NOT_GIVEN ? RM_NONE : (uint32_t)raw.max_abandoned,
                .reserve = raw.reserve == NOT_GIVEN ? OPTIONS_BY_BACKEND : raw.reserve,
                .idle_evict_ms = raw.idle_evict == NOT_GIVEN ? OPTIONS_BY_BACKEND : raw.idle_evict,
        };
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
