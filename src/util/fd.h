/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef UTIL_FD_H
#define UTIL_FD_H

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <unistd.h>

/* Closes a descriptor unless it is negative, and leaves errno alone. Return: -1, to be stored in its place. */
static inline int fd_close(int fd) {
        int saved = errno;

        if (fd >= 0)
                (void)close(fd);
        errno = saved;
        return -1;
}

static inline int fd_steal(int *fd) {
        int stolen = *fd;

        *fd = -1;
        return stolen;
}

static inline void fd_closep(int *fd) {
        *fd = fd_close(*fd);
}

/*
 * Moves a descriptor away from standard input, output and error: a program that has closed those may print into
 * whatever gets their numbers. Return: the descriptor, or -1 and errno, and it is closed.
 */
static inline int fd_above_stdio(int fd) {
        int moved;

        if (fd < 0 || fd > STDERR_FILENO)
                return fd;
        moved = fcntl(fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
        fd_close(fd);
        return moved;
}

/*
 * Whatever is opened must not become standard input, output or error, where whoever prints would write into it: those
 * that are closed become /dev/null. To be called first of all. Return: false: see errno.
 */
static inline bool fd_fill_standard(void) {
        int fd;

        do
                fd = open("/dev/null", O_RDWR);
        while (fd >= 0 && fd <= STDERR_FILENO);
        fd_close(fd);
        return fd >= 0;
}

/* A call failed for the moment only: with nothing to do, by a signal, or for want of the kernel's memory. */
static inline bool fd_may_try_again(int error) {
        return error == EAGAIN || error == EINTR || error == ENOMEM || error == ENOBUFS;
}

/* A descriptor that is closed when it goes out of scope. */
#define fd_auto __attribute__((cleanup(fd_closep))) int

#endif
