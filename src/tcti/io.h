/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef TCTI_IO_H
#define TCTI_IO_H

#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <tss2/tss2_common.h>

/*
 * Sockets, with deadlines
 *
 * Signals that interrupt are not seen by the caller, and none is raised. All that wait return TSS2_TCTI_RC_TRY_AGAIN
 * when the deadline has passed, TSS2_TCTI_RC_NO_CONNECTION when the peer is gone, and TSS2_TCTI_RC_IO_ERROR for all else.
 */

/* A point of the monotonic clock, in nanoseconds. */
typedef int64_t Deadline;

#define DEADLINE_NEVER INT64_MAX
#define DEADLINE_PAST 0

/* As for receive() of a TCTI: -1 is never. */
Deadline deadline_after(int milliseconds);

/* Return: a descriptor, or an errno, negative. */
int io_connect(const struct sockaddr_un *address, socklen_t size, Deadline deadline);

TSS2_RC io_send(int fd, const void *bytes, size_t n, Deadline deadline);

/* Receives until there are @n bytes, of which @done were there before; @done is kept up to date whatever happens. */
TSS2_RC io_receive(int fd, void *bytes, size_t n, size_t *done, Deadline deadline);

TSS2_RC io_wait(int fd, short events, Deadline deadline);

/* What an errno of a socket means. */
TSS2_RC io_error(int error);

#endif
