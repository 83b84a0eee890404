/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef CTL_CTL_H
#define CTL_CTL_H

#include <gio/gio.h>
#include <stdbool.h>

/*
 * tabrmctl
 *
 * A front of the daemon's manager: each verb calls it, and prints what it said. main.c finds the verb; options.c reads
 * the options of all verbs, before and behind it, with those that are its own; call.c connects at the first call.
 */

/* The options of all verbs */
typedef struct CtlOptions {
        gboolean bus, session, json, version;
        char *socket, *name;
} CtlOptions;

typedef struct Ctl {
        CtlOptions options;
        const char *verb;
        bool json;
        unsigned timeout_ms; /* for the answer to a call */

        /* Where to find the daemon */
        const char *socket;   /* its private socket; NULL: not there */
        const char *bus_name; /* NULL: not there; with both, where it is found first */
        bool session;         /* on the session bus */

        GDBusConnection *connection; /* NULL: not yet */
        const char *name;            /* of the daemon on the bus; NULL: the connection is to the private socket */
        GError *socket_error;        /* why the bus is asked and not the private socket; NULL */
} Ctl;

/* Exit codes, beside EXIT_SUCCESS and those of sysexits.h: EX_USAGE, EX_UNAVAILABLE (no daemon), EX_NOPERM. */
#define CTL_FAILED 1 /* the daemon could not do it */
#define CTL_NO_TPM 3 /* status: the daemon runs, and has no TPM at present */

typedef struct Verb {
        const char *name;
        const char *arguments; /* for the help */
        const char *summary;
        int n_words_max; /* behind it, apart from options */
        /* @argv: of the verb, [0] is its name; Return: exit code. */
        int (*run)(Ctl *ctl, int argc, char **argv);
} Verb;

extern const Verb verb_status, verb_clients, verb_top, verb_sessions, verb_flush, verb_trace, verb_metrics,
        verb_log_level;

/* options.c */

/* Add the options of all verbs to a context. @flags: of GOptionFlags */
void ctl_add_options(GOptionContext *context, CtlOptions *options, int flags);
void ctl_options_clear(CtlOptions *options);

/**
 * ctl_parse() - read the options of a verb, its own and those of all verbs, and find out where the daemon is
 * @entries: the verb's own; NULL: none
 *
 * Return: false when they were wrong, or asked for the version: *ret_code is the exit code then.
 */
bool ctl_parse(Ctl *ctl, const Verb *verb, const GOptionEntry *entries, int *argc, char ***argv, int *ret_code);

/* Say what is wrong with the options. Return: EX_USAGE. */
int ctl_usage(const char *verb, const char *format, ...) G_GNUC_PRINTF(2, 3);

/* call.c: each connects first, when there is no connection; NULL or false with @error */

GVariant *ctl_call(Ctl *ctl, const char *method, GVariant *parameters, const char *reply_type, GUnixFDList **ret_fds,
                   GError **error); /* of the manager; @ret_fds may be NULL */
GVariant *ctl_get(Ctl *ctl, const char *property, GError **error);
/* All properties that this user may read: a{sv}. Those that are there have the type that they should have. */
GVariant *ctl_get_all(Ctl *ctl, GError **error);
bool ctl_set(Ctl *ctl, const char *property, GVariant *value, GError **error);

/* fail.c */

typedef enum CtlError {
        CTL_ERROR_CLIENTS_SOCKET, /* what was taken for the private socket is that of clients */
        CTL_ERROR_NO_DBUS,        /* ... does not speak D-Bus */
        CTL_ERROR_LATE,           /* no answer in time */
        CTL_ERROR_VERSION,        /* the daemon says something else than this tabrmctl understands */
} CtlError;

#define CTL_ERROR (ctl_error_quark())
GQuark ctl_error_quark(void);

/* The thing, the reason and the next step, in one line; to be freed. *ret_code: the exit code for it. */
char *ctl_describe(const Ctl *ctl, const GError *error, int *ret_code);
int ctl_fail(const Ctl *ctl, const GError *error); /* Print that. Return: the exit code. */
int ctl_no_client(guint64 id);                     /* The same of a client that is not there. */

#endif
