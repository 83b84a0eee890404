/* SPDX-License-Identifier: BSD-2-Clause */
#include "tcti/io.h"

#include "util/fd.h"

#include <errno.h>
#include <limits.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <time.h>

static int64_t now_ms(void) {
        struct timespec now;

        clock_gettime(CLOCK_MONOTONIC, &now);
        return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

IoDeadline io_deadline(int32_t ms) {
        return (IoDeadline){ .at_ms = ms < 0 ? -1 : now_ms() + ms };
}

IoResult io_wait(int fd, short events, const IoDeadline *deadline) {
        for (;;) {
                struct pollfd pollfd = { .fd = fd, .events = events };
                int64_t left = deadline->at_ms < 0 ? -1 : deadline->at_ms - now_ms();
                int n;

                /* Past is not never: poll() takes -1 for that. */
                if (deadline->at_ms >= 0 && left < 0)
                        left = 0;
                n = poll(&pollfd, 1, left > INT_MAX ? INT_MAX : (int)left);

                if (n > 0)
                        return IO_DONE;
                if (n == 0)
                        return IO_TIMEOUT;
                if (errno != EINTR)
                        return IO_ERROR;
        }
}

static IoResult result_of(int error) {
        return error == ECONNRESET || error == EPIPE || error == ENOTCONN ? IO_GONE : IO_ERROR;
}

IoResult io_read_on(int fd, uint8_t *bytes, size_t n, size_t *at, const IoDeadline *deadline) {
        while (*at < n) {
                ssize_t got = recv(fd, bytes + *at, n - *at, MSG_DONTWAIT);
                IoResult result;

                if (got == 0)
                        return IO_GONE;
                if (got > 0) {
                        *at += (size_t)got;
                        continue;
                }
                if (errno == EINTR)
                        continue;
                if (errno != EAGAIN)
                        return result_of(errno);
                result = io_wait(fd, POLLIN, deadline);
                if (result != IO_DONE)
                        return result;
        }
        return IO_DONE;
}

IoResult io_read(int fd, void *bytes, size_t n, const IoDeadline *deadline) {
        size_t at = 0;

        return io_read_on(fd, bytes, n, &at, deadline);
}

IoResult io_write(int fd, const void *bytes, size_t n, const IoDeadline *deadline) {
        const uint8_t *next = bytes;

        while (n > 0) {
                ssize_t sent = send(fd, next, n, MSG_DONTWAIT | MSG_NOSIGNAL);
                IoResult result;

                if (sent >= 0) {
                        next += sent;
                        n -= (size_t)sent;
                        continue;
                }
                if (errno == EINTR)
                        continue;
                if (errno != EAGAIN)
                        return result_of(errno);
                result = io_wait(fd, POLLOUT, deadline);
                if (result != IO_DONE)
                        return result;
        }
        return IO_DONE;
}

IoResult io_write_two(int fd, const struct iovec iov[static 2], const IoDeadline *deadline) {
        const struct msghdr message = { .msg_iov = (struct iovec *)iov, .msg_iovlen = 2 };
        size_t sent[2];
        ssize_t n;
        IoResult result;

        do
                n = sendmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
        while (n < 0 && errno == EINTR);
        if (n < 0 && errno != EAGAIN)
                return result_of(errno);
        n = n < 0 ? 0 : n;
        sent[0] = (size_t)n < iov[0].iov_len ? (size_t)n : iov[0].iov_len;
        sent[1] = (size_t)n - sent[0];
        result = io_write(fd, (const uint8_t *)iov[0].iov_base + sent[0], iov[0].iov_len - sent[0], deadline);
        if (result == IO_DONE)
                result = io_write(fd, (const uint8_t *)iov[1].iov_base + sent[1], iov[1].iov_len - sent[1], deadline);
        return result;
}

int io_connect(const struct sockaddr_un *address, socklen_t n_address, const IoDeadline *deadline) {
        int fd = fd_above_stdio(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
        int r;

        if (fd < 0)
                return -1;
        do {
                /* Connecting waits while the listener's queue is full, for as long as sending may; 0 is for ever. */
                int64_t left = deadline->at_ms < 0 ? 0 : deadline->at_ms - now_ms();
                struct timeval limit;

                left = deadline->at_ms >= 0 && left < 1 ? 1 : left;
                limit = (struct timeval){ .tv_sec = left / 1000, .tv_usec = left % 1000 * 1000 };
                (void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
                r = connect(fd, (const struct sockaddr *)address, n_address);
        } while (r < 0 && errno == EINTR && (deadline->at_ms < 0 || now_ms() < deadline->at_ms));
        if (r == 0)
                return fd;
        if (errno == EINTR) /* a program that is interrupted more often than the shortest limit does not wait longer */
                errno = EAGAIN;
        return fd_close(fd);
}

uint64_t io_mark(int fd) {
        struct stat st;

        return fd >= 0 && fstat(fd, &st) == 0 && S_ISSOCK(st.st_mode) ? st.st_ino : 0;
}

int io_ended(void) {
        int pair[2];

        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
                return -1;
        fd_close(pair[1]);
        return fd_above_stdio(pair[0]);
}
