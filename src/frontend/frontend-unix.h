/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef FRONTEND_FRONTEND_UNIX_H
#define FRONTEND_FRONTEND_UNIX_H

#include "broker/broker.h"
#include "door/listener.h"
#include "util/loop.h"

/*
 * The Unix socket
 *
 * A listener on which connecting is all there is to it. A descriptor limit, or the broker's own, refuses the new client
 * and never ends the daemon: one descriptor is kept in reserve to accept and close those that cannot be served.
 */
typedef struct FrontendUnix FrontendUnix;

#define FRONTEND_UNIX_MODE 0660

typedef struct FrontendUnixConfig {
        /* In the file system. A stale socket there is replaced, a live one, or anything that is no socket, is an error.
         * A missing folder is made when its parent exists. */
        const char *path;
        /* A listener that somebody else has bound, for @path, and will remove: mode and group are not ours to set then.
         * Ours to close. -1: none, we bind. */
        int fd;
        unsigned mode;       /* of the file */
        const char *group;   /* a name or a number; NULL: tss, if there is one and we may give it */
        uint32_t localities; /* bit n: its clients may use locality n */
        /* For so many seconds what a client had stays for the next connection of its process, which programs make that
         * connect anew for each command; 0: it ends with the connection. See docs/PROTOCOL.md. */
        unsigned linger;
} FrontendUnixConfig;

#define FRONTEND_UNIX_LINGER_MAX 86400

/* Return: NULL with @error, whose message names the file; config->fd is closed then. */
FrontendUnix *frontend_unix_new(Loop *loop, Broker *broker, const FrontendUnixConfig *config, GError **error);
FrontendUnix *frontend_unix_free(FrontendUnix *frontend); /* closes all its clients, removes the socket; NULL is fine */

const char *frontend_unix_path(const FrontendUnix *frontend);

#endif
