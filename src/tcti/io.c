/* SPDX-License-Identifier: BSD-2-Clause */
#include "tcti/io.h"

#include "util/fd.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <time.h>
#include <tss2/tss2_tpm2_types.h>

#define NS_PER_MS 1000000
#define NS_PER_S 1000000000

static int64_t now(void) {
        struct timespec time;

        (void)clock_gettime(CLOCK_MONOTONIC, &time);
        return (int64_t)time.tv_sec * NS_PER_S + time.tv_nsec;
}

Deadline deadline_after(int milliseconds) {
        if (milliseconds < 0)
                return DEADLINE_NEVER;
        return milliseconds == 0 ? DEADLINE_PAST : now() + (int64_t)milliseconds * NS_PER_MS;
}

/* Return: nanoseconds, 0 when it has passed. */
static int64_t deadline_left(Deadline deadline) {
        int64_t left;

        if (deadline == DEADLINE_NEVER || deadline == DEADLINE_PAST)
                return deadline;
        left = deadline - now();
        return left > 0 ? left : 0;
}

TSS2_RC io_error(int error) {
        switch (error) {
        case EPIPE:
        case ECONNRESET:
        case ENOTCONN:
                return TSS2_TCTI_RC_NO_CONNECTION;
        default:
                return TSS2_TCTI_RC_IO_ERROR;
        }
}

TSS2_RC io_wait(int fd, short events, Deadline deadline) {
        struct pollfd item = { .fd = fd, .events = events };

        for (;;) {
                int64_t left = deadline_left(deadline);
                int64_t milliseconds = left / NS_PER_MS + (left % NS_PER_MS != 0);
                int n;

                if (deadline == DEADLINE_NEVER)
                        milliseconds = -1;
                n = poll(&item, 1, milliseconds > INT_MAX ? INT_MAX : (int)milliseconds);
                if (n > 0)
                        return item.revents & POLLNVAL ? TSS2_TCTI_RC_IO_ERROR : TSS2_RC_SUCCESS;
                if (n < 0 && errno != EINTR)
                        return TSS2_TCTI_RC_IO_ERROR;
                if (left == 0)
                        return TSS2_TCTI_RC_TRY_AGAIN;
        }
}

/* Connecting waits while the listener's queue is full, for as long as sending may. */
static int connect_within(int fd, const struct sockaddr_un *address, socklen_t size, Deadline deadline) {
        int64_t left;

        while ((left = deadline_left(deadline)) > 0) {
                struct timeval time = { .tv_sec = left / NS_PER_S, .tv_usec = left % NS_PER_S / 1000 + 1 };

                if (deadline != DEADLINE_NEVER && setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &time, sizeof(time)) < 0)
                        return -errno;
                if (connect(fd, (const struct sockaddr *)address, size) == 0)
                        return 0;
                if (errno != EINTR)
                        return -errno;
        }
        return -EAGAIN;
}

int io_connect(const struct sockaddr_un *address, socklen_t size, Deadline deadline) {
        fd_auto fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        int r;

        if (fd < 0)
                return -errno;
        r = connect_within(fd, address, size, deadline);
        return r < 0 ? r : fd_steal(&fd);
}

TSS2_RC io_send(int fd, const void *bytes, size_t n, Deadline deadline) {
        for (size_t done = 0; done < n;) {
                ssize_t sent = send(fd, (const char *)bytes + done, n - done, MSG_NOSIGNAL | MSG_DONTWAIT);

                if (sent >= 0) {
                        done += sent;
                } else if (errno == EAGAIN) {
                        TSS2_RC rc = io_wait(fd, POLLOUT, deadline);

                        if (rc)
                                return rc;
                } else if (errno != EINTR) {
                        return io_error(errno);
                }
        }
        return TSS2_RC_SUCCESS;
}

TSS2_RC io_receive(int fd, void *bytes, size_t n, size_t *done, Deadline deadline) {
        /* Who has all the time waits in recv() itself, where the socket blocks. */
        int flags = deadline == DEADLINE_NEVER ? 0 : MSG_DONTWAIT;

        while (*done < n) {
                ssize_t received = recv(fd, (char *)bytes + *done, n - *done, flags);

                if (received > 0) {
                        *done += received;
                } else if (received == 0) {
                        return TSS2_TCTI_RC_NO_CONNECTION;
                } else if (errno == EAGAIN) {
                        TSS2_RC rc = io_wait(fd, POLLIN, deadline);

                        if (rc)
                                return rc;
                } else if (errno != EINTR) {
                        return io_error(errno);
                }
        }
        return TSS2_RC_SUCCESS;
}
