/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef DAEMON_OPTIONS_H
#define DAEMON_OPTIONS_H

#include "broker/broker.h"
#include "util/log.h"

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

/*
 * The command line
 *
 * Option names and letters of tpm2-abrmd 3.0 all keep working.
 */
#define OPTIONS_BY_BACKEND UINT32_MAX    /* reserve: auto; idle_evict_ms: not given, so it depends on the back end: */
#define OPTIONS_SHARED_IDLE_EVICT_MS 100 /* ... one that others use, too; else 0 */

typedef struct SocketOption {
        char *path;
        unsigned mode;
        char *group; /* NULL: not given */
        uint32_t localities;
        unsigned linger; /* in seconds; 0: not given */
} SocketOption;

#define OPTIONS_SOCKETS_MAX 8

/*
 * "PATH[,mode=0660][,group=NAME][,locality=0+3][,linger=30]". Return: false with @error, and nothing written.
 */
bool socket_option_parse(const char *text, SocketOption *ret_socket, GError **error);
void socket_option_clear(SocketOption *socket);

typedef struct Options {
        char *tcti;
        char *dbus_name;
        SocketOption *sockets; /* none: the default one, unless the service manager has one for us */
        size_t n_sockets;
        bool no_socket;
        char *manager; /* path of its private socket; NULL: none, unless the service manager has one for us */
        bool dbus;
        bool session; /* the session bus instead of the system bus */
        LogTarget logger;
        bool allow_root;
        bool allow_locality;
        bool version;
        BrokerConfig broker; /* reserve and idle_evict_ms may be OPTIONS_BY_BACKEND */
} Options;

/**
 * options_parse() - read a command line
 * @arguments:   NULL-terminated, program name first; as g_option_context_parse_strv() takes it, and changes it
 * @n_fds:       the hard limit of open files; connections must stay OPTIONS_FDS_RESERVED below it
 * @ret_options: written on success only; options_clear() it
 *
 * Return: false with @error, whose message is one line for the user. --help prints and ends the process.
 */
bool options_parse(char ***arguments, uint64_t n_fds, Options *ret_options, GError **error);
void options_clear(Options *options);

/* Files that are no clients: the bus and its wake-ups, the TPM, listeners, the log, standard streams, visitors of the
 * manager, traces. */
#define OPTIONS_FDS_RESERVED 48

G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Options, options_clear)

#endif
