/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef UTIL_FOREIGN_H
#define UTIL_FOREIGN_H

#include "util/loop.h"

#include <sys/types.h>
#include <sys/uio.h>

/*
 * Foreign sockets
 *
 * The other end of a client's socket can pass descriptors along (SCM_RIGHTS), whether we read them or not, and the
 * sender decides how long it takes to close them: a TCP socket lingers, a file of a FUSE waits for its server. So the
 * main loop never closes such a socket, or such a descriptor, unless nothing can be in it: a thread does, one for each
 * Closer. Nobody else may close a client's socket, which test/lib/layers.py checks.
 *
 * Where the kernel can refuse descriptors (SO_PASSRIGHTS, Linux 6.16), none ever come.
 */
typedef struct Closer Closer;

/* Descriptors that may wait for the thread before whoever brings more has to wait, too. */
#define CLOSER_PENDING_MAX 1024

Closer *closer_new(GMainContext *context); /* NULL context: the default one */
Closer *closer_free(Closer *closer); /* takes NULL, returns NULL; what waits is still closed, and nobody is told */

/* Descriptors that are not closed yet. From any thread. */
unsigned closer_n_pending(Closer *closer);

/*
 * Has the thread close a descriptor. From any thread.
 * @done:     called from the main context once it is closed, if the Closer is still there; NULL: nobody wants to know
 * @userdata: of g_malloc(), or NULL; freed here
 */
void closer_close(Closer *closer, int fd, void (*done)(void *userdata), void *userdata);

/* Return: whether no descriptor can be sent to @fd, or to what it accepts, from now on. */
bool foreign_refuse(int fd);

/* Return: whether foreign_refuse() has had its effect on @fd since before it was connected. */
bool foreign_is_refusing(int fd);

/*
 * recvmsg() without waiting. Descriptors are never received: the kernel would close those for which there is no room in
 * our table, here.
 * @iov:    its lengths may be less afterwards
 * @passed: set to whether there are some with what comes next, which is left unread, so that the socket is to be given
 *          up; NULL: none can be in @fd
 */
ssize_t foreign_receive(int fd, struct iovec *iov, size_t n_iov, bool *passed);

/* A socket has descriptors in it, so that closing it may take long. To be asked last of all: nothing passes any more.
 */
bool foreign_holds_rights(int fd);

void foreign_close_plain(int fd); /* closes a socket of which foreign_holds_rights() is false */

/* Closes a descriptor that was passed, on a thread that may wait for a moment. */
void foreign_close_soon(int fd);

/* Closes a socket: by the thread if foreign_holds_rights(). */
void foreign_close(Closer *closer, int fd);

#endif
