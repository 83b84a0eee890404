/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef CTL_CTL_H
#define CTL_CTL_H

#include <gio/gio.h>
#include <stdbool.h>

/*
 * tabrmctl
 *
 * A front of the daemon's manager: each verb calls it, and prints what it said. main.c reads the options that all verbs
 * have, and connects; a verb reads its own.
 */
typedef struct Ctl {
        GDBusConnection *connection;
        const char *name; /* of the daemon on the bus; NULL: the connection is to the private socket */
        bool json;
        unsigned timeout_ms; /* for the answer to a call */

        /* Where to find it */
        const char *socket;   /* its private socket; NULL: not there */
        const char *bus_name; /* NULL: not there; with both, where it is found first */
        bool session;         /* on the session bus */
} Ctl;

/* Exit codes, beside EXIT_SUCCESS and those of sysexits.h: EX_USAGE, EX_UNAVAILABLE (no daemon), EX_NOPERM. */
#define CTL_FAILED 1 /* the daemon could not do it */
#define CTL_NO_TPM 3 /* status: the daemon runs, and has no TPM at present */

typedef struct Verb {
        const char *name;
        const char *arguments; /* for the help */
        const char *summary;
        /* @arguments: argv of the verb, [0] is its name; Return: exit code. */
        int (*run)(Ctl *ctl, int argc, char **argv);
} Verb;

extern const Verb verb_status, verb_clients, verb_top, verb_sessions, verb_flush, verb_trace, verb_metrics,
        verb_log_level;

/* @entries may be NULL. Return: false when it was wrong, or --help: *ret_code is the exit code then. */
bool ctl_parse(const Verb *verb, const GOptionEntry *entries, int *argc, char ***argv, int *ret_code);

/* Connect, also again. Return: false with @error. */
bool ctl_connect(Ctl *ctl, GError **error);

/* Call a method of the manager. Return: NULL with @error. @fds may be NULL. */
GVariant *ctl_call(Ctl *ctl, const char *method, GVariant *parameters, const char *reply_type, GUnixFDList **ret_fds,
                   GError **error);
GVariant *ctl_get_all(Ctl *ctl, GError **error); /* all properties: a{sv} */

bool ctl_set(Ctl *ctl, const char *property, GVariant *value, GError **error);

/* Say what went wrong. Return: the exit code for it. */
int ctl_fail(const GError *error);

#endif
