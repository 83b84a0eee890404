/* SPDX-License-Identifier: BSD-2-Clause */
#include "ctl/ctl.h"

#include "ctl/columns.h"
#include "ctl/format.h"
#include "ctl/names.h"
#include "ctl/pcapng.h"
#include "ctl/record.h"
#include "manager/record.h"
#include "util/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <gio/gunixfdlist.h>
#include <glib-unix.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sysexits.h>

typedef struct TraceArguments {
        gboolean tpm, payload, json;
        char *pcapng; /* where to; "-": standard output; NULL: text */
        gint64 client;
        gint64 count;
} TraceArguments;

/*
 * Records come in only while all of the last one has gone out. What is read late is lost to us in the daemon, so
 * neither it nor this grows; and as nothing blocks, signals are heard at any time.
 */
typedef struct Trace {
        TraceArguments options;
        TpmCommandTable table;
        Pcapng *pcapng;
        GMainLoop *loop;
        int in, out;
        guint in_source, out_source, signals[3], gone_source;
        RecordLayout layout;
        GString *text;
        size_t at; /* what of it has gone out */
        gint64 n_shown;
        guint64 n_dropped;
        guint64 n_unshown; /* of those, said by records that are not shown */
        bool ending;       /* once all has gone out */
        bool quiet;        /* nobody reads what is said */
        int code;
        uint8_t bytes[MANAGER_RECORD_MAX];
} Trace;

static void trace_end(Trace *trace, int code) {
        trace->code = code;
        g_main_loop_quit(trace->loop);
}

static gboolean trace_in(int fd, GIOCondition condition, gpointer userdata);
static gboolean trace_out(int fd, GIOCondition condition, gpointer userdata);

/* Whoever read this has gone: that is how a pipe ends. */
static void trace_unwritable(Trace *trace, int error) {
        trace->quiet = error == EPIPE;
        if (!trace->quiet)
                g_printerr("tabrmctl: writing: %s\n", g_strerror(error));
        trace_end(trace, trace->quiet ? EXIT_SUCCESS : EX_IOERR);
}

/* Return: true: all of it is out. */
static bool trace_flush(Trace *trace) {
        while (trace->at < trace->text->len) {
                struct pollfd ready = { .fd = trace->out, .events = POLLOUT };
                ssize_t n;

                if (poll(&ready, 1, 0) <= 0)
                        return false;
                /* A pipe that is ready has room for this much. */
                n = write(trace->out, trace->text->str + trace->at, MIN(trace->text->len - trace->at, PIPE_BUF));
                if (n < 0 && errno != EINTR && errno != EAGAIN) {
                        trace_unwritable(trace, errno);
                        return false;
                }
                trace->at += n > 0 ? (size_t)n : 0;
        }
        explicit_bzero(trace->text->str, trace->text->len);
        g_string_truncate(trace->text, 0);
        trace->at = 0;
        if (trace->ending)
                trace_end(trace, trace->code);
        return true;
}

/* One of the two at a time. */
static void trace_wait(Trace *trace, bool flushed) {
        if (flushed && !trace->in_source)
                trace->in_source = g_unix_fd_add(trace->in, G_IO_IN, trace_in, trace);
        else if (!flushed && !trace->out_source)
                trace->out_source = g_unix_fd_add(trace->out, G_IO_OUT, trace_out, trace);
}

static gboolean trace_out(int fd, GIOCondition condition, gpointer userdata) {
        Trace *trace = userdata;

        if (!trace_flush(trace))
                return G_SOURCE_CONTINUE;
        trace->out_source = 0;
        trace_wait(trace, true);
        return G_SOURCE_REMOVE;
}

static void trace_show(Trace *trace, Record *record) {
        trace->n_dropped += record->n_dropped;
        trace->n_unshown += record->n_dropped;
        if (trace->options.client >= 0 && record->client != (guint64)trace->options.client)
                return;
        record->n_dropped = trace->n_unshown;
        trace->n_unshown = 0;
        if (trace->pcapng)
                pcapng_record(trace->pcapng, record, trace->text);
        else if (trace->options.json)
                record_json(record, trace->options.payload, trace->text);
        else
                record_text(record, &trace->layout, trace->options.payload, trace->text);
        trace->n_shown++;
        trace->ending = trace->n_shown == trace->options.count;
}

static gboolean trace_in(int fd, GIOCondition condition, gpointer userdata) {
        Trace *trace = userdata;
        ssize_t n = recv(fd, trace->bytes, sizeof(trace->bytes), MSG_DONTWAIT);
        g_auto(Record) record = { 0 };

        if (n < 0 && (errno == EAGAIN || errno == EINTR))
                return G_SOURCE_CONTINUE;
        if (n <= 0) {
                g_printerr("tabrmctl: the daemon has ended; see journalctl -u tpm2-abrmd\n");
                trace_end(trace, EX_UNAVAILABLE);
                return G_SOURCE_CONTINUE;
        }
        if (!record_parse(&trace->table, trace->bytes, (size_t)n, &record)) {
                g_printerr("tabrmctl: what the daemon sent is no record; compare tabrmctl --version and "
                           "tpm2-abrmd --version\n");
                trace_end(trace, EX_PROTOCOL);
                return G_SOURCE_CONTINUE;
        }
        trace_show(trace, &record);
        explicit_bzero(trace->bytes, (size_t)n);
        if (trace_flush(trace))
                return G_SOURCE_CONTINUE;
        trace->in_source = 0;
        trace_wait(trace, false);
        return G_SOURCE_REMOVE;
}

static gboolean trace_signal(gpointer userdata) {
        trace_end(userdata, EXIT_SUCCESS);
        return G_SOURCE_CONTINUE;
}

/* Noticed even when there is nothing to write. */
static gboolean trace_reader_gone(int fd, GIOCondition condition, gpointer userdata) {
        trace_unwritable(userdata, EPIPE);
        return G_SOURCE_CONTINUE;
}

static int trace_loop(Trace *trace) {
        static const int signals[] = { SIGINT, SIGTERM, SIGHUP };

        (void)signal(SIGPIPE, SIG_IGN);
        command_table(&trace->table);
        trace->loop = g_main_loop_new(NULL, FALSE);
        for (unsigned i = 0; i < G_N_ELEMENTS(signals); i++)
                trace->signals[i] = g_unix_signal_add(signals[i], trace_signal, trace);
        trace->gone_source = g_unix_fd_add(trace->out, G_IO_ERR, trace_reader_gone, trace);
        if (trace->pcapng)
                pcapng_head(trace->options.payload, trace->text);
        else if (!trace->options.json)
                record_text_head(&trace->layout, trace->text);
        trace_wait(trace, trace_flush(trace));
        g_main_loop_run(trace->loop);
        for (unsigned i = 0; i < G_N_ELEMENTS(signals); i++)
                g_source_remove(trace->signals[i]);
        g_clear_handle_id(&trace->in_source, g_source_remove);
        g_clear_handle_id(&trace->out_source, g_source_remove);
        g_source_remove(trace->gone_source);
        g_main_loop_unref(trace->loop);
        if (!trace->quiet)
                g_printerr("%" G_GINT64_FORMAT " records, %" G_GUINT64_FORMAT " lost\n", trace->n_shown,
                           trace->n_dropped);
        return trace->code;
}

/* Return: false: there is none, or it is not known: with @error. */
static bool trace_find_client(Ctl *ctl, guint64 id, GError **error) {
        g_autoptr(GVariant) reply = ctl_call(ctl, "ListClients", NULL, "(aa{sv})", NULL, error);
        g_autoptr(GVariant) clients = reply ? g_variant_get_child_value(reply, 0) : NULL;
        bool found = false;

        for (gsize i = 0; clients && i < g_variant_n_children(clients); i++) {
                g_autoptr(GVariant) client = g_variant_get_child_value(clients, i);

                found |= dict_number(client, "id") == id;
        }
        return found;
}

static int trace_open(Ctl *ctl, const TraceArguments *options, GError **error) {
        g_auto(GVariantBuilder) builder = G_VARIANT_BUILDER_INIT(G_VARIANT_TYPE_VARDICT);
        g_autoptr(GUnixFDList) fds = NULL;
        g_autoptr(GVariant) reply = NULL;
        gint32 index;

        if (options->tpm)
                g_variant_builder_add(&builder, "{sv}", "tpm", g_variant_new_boolean(TRUE));
        if (options->payload)
                g_variant_builder_add(&builder, "{sv}", "payload", g_variant_new_boolean(TRUE));
        reply = ctl_call(ctl, "Trace", g_variant_new("(a{sv})", &builder), "(h)", &fds, error);
        if (!reply)
                return -1;
        g_variant_get(reply, "(h)", &index);
        if (!fds) {
                g_set_error_literal(error, CTL_ERROR, CTL_ERROR_VERSION, "");
                return -1;
        }
        return g_unix_fd_list_get(fds, index, error);
}

/* Secrets may be in it, so it is nobody else's. */
static int output_open(const TraceArguments *options) {
        if (!options->pcapng || g_str_equal(options->pcapng, "-"))
                return dup(STDOUT_FILENO);
        return open(options->pcapng, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
}

static int trace_verb(Ctl *ctl, const TraceArguments *options) {
        g_autoptr(GString) text = g_string_new(NULL);
        g_autofree Trace *trace = g_new0(Trace, 1);
        g_autoptr(GError) error = NULL;
        fd_auto out = -1, in = -1;

        if (options->client > 0 && !trace_find_client(ctl, (guint64)options->client, &error))
                return error ? ctl_fail(ctl, error) : ctl_no_client((guint64)options->client);
        in = trace_open(ctl, options, &error);
        if (in < 0)
                return ctl_fail(ctl, error);
        out = output_open(options);
        if (out < 0) {
                g_printerr("tabrmctl: %s: %s\n", options->pcapng ?: "standard output", g_strerror(errno));
                return EX_CANTCREAT;
        }
        trace->options = *options;
        trace->in = in;
        trace->out = out;
        trace->layout = record_layout(columns_of_terminal(out));
        trace->text = text;
        trace->pcapng = options->pcapng ? pcapng_new() : NULL;
        trace_loop(trace);
        trace->pcapng = pcapng_free(trace->pcapng);
        explicit_bzero(text->str, text->len);
        return trace->code;
}

/* What is wrong with them; NULL: nothing. */
static const char *check_options(const TraceArguments *options) {
        if (options->client < -1 || options->count < 0)
                return "a number is negative";
        if (options->pcapng && options->json)
                return "--json and --pcapng exclude each other";
        if (options->pcapng && g_str_equal(options->pcapng, "-") && isatty(STDOUT_FILENO))
                return "pcapng is not for a terminal";
        return NULL;
}

static int trace_run(Ctl *ctl, int argc, char **argv) {
        TraceArguments options = { .client = -1 };
        const GOptionEntry entries[] = {
                { "tpm", 't', 0, G_OPTION_ARG_NONE, &options.tpm, "What the TPM is sent, too", NULL },
                { "payload", 'p', 0, G_OPTION_ARG_NONE, &options.payload,
                  "Parameters and authorizations, too, which are secrets; the daemon's log will say so", NULL },
                { "pcapng", 'P', 0, G_OPTION_ARG_FILENAME, &options.pcapng,
                  "Write packets for Wireshark, to a file, or without =FILE to standard output", "FILE" },
                { "write", 'w', 0, G_OPTION_ARG_FILENAME, &options.pcapng, "The same as --pcapng=FILE", "FILE" },
                { "client", 'C', 0, G_OPTION_ARG_INT64, &options.client,
                  "Only those of this client; 0: the daemon's own", "ID" },
                { "count", 'c', 0, G_OPTION_ARG_INT64, &options.count, "Exit after so many commands", "COUNT" },
                { 0 },
        };
        static char to_stdout[] = "--pcapng=-";
        const char *wrong;
        int code;

        for (int i = 1; i < argc; i++)
                if (g_str_equal(argv[i], "--pcapng"))
                        argv[i] = to_stdout;
        if (ctl_parse(ctl, &verb_trace, entries, &argc, &argv, &code)) {
                options.json = ctl->json;
                wrong = check_options(&options);
                code = wrong ? ctl_usage("trace", "%s", wrong) : trace_verb(ctl, &options);
        }
        g_free(options.pcapng);
        return code;
}

const Verb verb_trace = { "trace", "", "Show commands as they are answered", 0, trace_run };
