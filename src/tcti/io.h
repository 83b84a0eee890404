/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef TCTI_IO_H
#define TCTI_IO_H

#include <poll.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>

/*
 * Reading and writing sockets with a limit of time. Interrupted calls go on, short ones too; a signal never comes of a
 * peer that is gone.
 */
typedef enum IoResult {
        IO_DONE,
        IO_TIMEOUT,
        IO_GONE, /* end of input, or reset */
        IO_ERROR,
        IO_MALFORMED, /* something came that the protocol does not have */
} IoResult;

typedef struct IoDeadline {
        int64_t at_ms; /* monotonic; negative: never */
} IoDeadline;

IoDeadline io_deadline(int32_t ms); /* from now; negative: never */

IoResult io_wait(int fd, short events, const IoDeadline *deadline);
IoResult io_read(int fd, void *bytes, size_t n, const IoDeadline *deadline);
IoResult io_write(int fd, const void *bytes, size_t n, const IoDeadline *deadline);
IoResult io_write_two(int fd, const struct iovec iov[static 2],
                      const IoDeadline *deadline); /* in one go, if it can be */

/* Reads what is there, at most up to @n bytes in all, of which *at have come. Return: IO_DONE: all of them. */
IoResult io_read_on(int fd, uint8_t *bytes, size_t n, size_t *at, const IoDeadline *deadline);

/* Return: a socket at which nothing is to come, so that whoever polls it need not wait; above 2, or -1 and errno. */
int io_ended(void);

/*
 * What tells a socket from whatever a program has opened by its number since: a daemon closes all descriptors, those of
 * its libraries too. Return: 0: it is no socket.
 */
uint64_t io_mark(int fd);

/* Return: a connected stream socket above 2, close-on-exec, or -1 and errno; EAGAIN: the listener's queue stayed full.
 */
int io_connect(const struct sockaddr_un *address, socklen_t n_address, const IoDeadline *deadline);

#endif
