/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef FRONTEND_FRONTEND_UNIX_H
#define FRONTEND_FRONTEND_UNIX_H

#include "broker/broker.h"
#include "util/loop.h"

/*
 * The Unix socket
 *
 * A listener on which connecting is all there is to it. A descriptor limit, or the broker's own, refuses the new client
 * and never ends the daemon: one descriptor is kept in reserve to accept and close those that cannot be served.
 */
typedef struct FrontendUnix FrontendUnix;

/**
 * frontend_unix_new() - open a listener
 * @path: file system path; a stale socket there is replaced, a live one, or anything that is no socket, is an error. A
 * missing folder is made when its parent exists. Mode 0660; group tss if there is one and we may give it.
 */
FrontendUnix *frontend_unix_new(Loop *loop, Broker *broker, const char *path, GError **error);
FrontendUnix *frontend_unix_free(FrontendUnix *frontend); /* closes all its clients, removes the socket; NULL is fine */

#endif
