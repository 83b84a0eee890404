/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef DAEMON_SOCKETS_H
#define DAEMON_SOCKETS_H

#include "broker/broker.h"
#include "daemon/options.h"
#include "util/loop.h"

/*
 * The Unix sockets of the daemon: those of its options, and those that the service manager has handed over. One that is
 * both is taken over, with the rights of the option. With one from the service manager and none in the options, there
 * is no default.
 */
typedef struct Sockets {
        int *inherited; /* -1: taken */
        size_t n_inherited;
        int manager;          /* what was handed over by the name "manager"; -1: nothing, or taken */
        GPtrArray *frontends; /* of FrontendUnix */
} Sockets;

/* At start, before any other process is started: takes what LISTEN_FDS says (sd_listen_fds(3)) out of the environment.
 */
void sockets_init(Sockets *sockets);

/* Return: false with @error when a socket that was asked for, or the only door, cannot be opened. */
bool sockets_open(Sockets *sockets, Loop *loop, Broker *broker, const Options *options, GError **error);
void sockets_close(Sockets *sockets);

/* The descriptor of the manager's door, for the caller to close; -1: the service manager has handed none over. */
int sockets_take_manager(Sockets *sockets);

bool sockets_any(const Sockets *sockets);   /* of clients, open */
char *sockets_text(const Sockets *sockets); /* for the log, to be freed */

#endif
