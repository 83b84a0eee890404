/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef DOOR_LISTENER_H
#define DOOR_LISTENER_H

#include "util/loop.h"

/*
 * A Unix socket that is listened on
 *
 * Its file, who may open it, and the lock that keeps two daemons from taking it from each other; and accepting, which
 * goes on when descriptors run out: one is kept in reserve, to let those in and out again that cannot be served.
 */
typedef struct Listener Listener;

typedef struct ListenerConfig {
        /* In the file system. A stale socket there is replaced, a live one, or anything that is no socket, is an error.
         * A missing folder is made when its parent exists. */
        const char *path;
        const char *option; /* where it comes from, for messages: "--socket" */
        /* A listener that somebody else has bound, for @path, and will remove: mode and group are not ours to set then.
         * Ours to close. -1: none, we bind. */
        int fd;
        unsigned mode;     /* of the file */
        const char *group; /* a name or a number; NULL: tss, if there is one and we may give it */
} ListenerConfig;

/*
 * @accepted is called for each that connects: the descriptor does not block, and is its to close (util/foreign.h).
 * Return: NULL with @error, whose message names the file; config->fd is closed then.
 */
Listener *listener_new(Loop *loop, const ListenerConfig *config, void (*accepted)(void *userdata, int fd),
                       void *userdata, GError **error);
Listener *listener_free(Listener *listener); /* takes NULL, returns NULL; removes the file that it made */

void listener_refuse(Listener *listener, int fd); /* closes what was accepted */

const char *listener_path(const Listener *listener);

/*
 * What a descriptor that was handed over listens on. Return: its path, or a name in brackets for what has none, to be
 * freed; NULL with @error when it is no listening Unix stream socket.
 */
char *listener_inherited(int fd, GError **error);

#endif
