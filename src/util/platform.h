/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef UTIL_PLATFORM_H
#define UTIL_PLATFORM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>

/*
 * Where Linux and FreeBSD differ
 *
 * All that is conditional on the system is platform.c. What is for FreeBSD there was written by its manual pages and
 * never compiled, or run, on FreeBSD; see docs/PORTING.md.
 */

/* Who is at the other end of a Unix socket. A process that is not known is 0. Return: false: see errno. */
bool platform_peer(int fd, uid_t *ret_uid, pid_t *ret_pid);

/* What a process calls itself, which may be anything. Return: false: nobody knows. */
bool platform_process_name(pid_t pid, char *name, size_t size);

/* When a process began, in whatever unit: with its number, that names it for good. Return: false: nobody knows. */
bool platform_process_start(pid_t pid, uint64_t *ret_start);

/* Return: a descriptor that can be read from once the process has ended; -1: there is no such process, or thing. */
int platform_process_end(pid_t pid);

/* bind(), so that the socket's file has exactly @mode from the first moment on. No other thread makes files meanwhile.
 */
int platform_bind(int fd, const struct sockaddr *address, socklen_t n_address, mode_t mode);

/*
 * Whether a Unix socket, or what it accepts, can be sent descriptors. Return: false: this system cannot refuse them.
 */
bool platform_set_rights(int fd, bool allowed);
bool platform_refuses_rights(int fd);

/* close() on a thread that may wait: it is interrupted again and again, which ends the lingering of a socket. */
void platform_close_soon(int fd);

/* A text that is another one after each boot of the machine. Return: false: nobody knows. */
#define PLATFORM_BOOT_SIZE 64
bool platform_boot(char boot[static PLATFORM_BOOT_SIZE]);

/* Whether the kernel may hold keys of a type, such as "trusted"; true where it does not say. */
bool platform_may_have_keys(const char *type);

/*
 * What happens to files
 *
 * A descriptor, non-blocking, that can be read from when something happened to what is watched. Two things of one kind
 * at once may be told as one.
 */
typedef enum PlatformEvent {
        PLATFORM_OPENED = 1,
        PLATFORM_CLOSED = 2,
        PLATFORM_USED = 4,       /* read from, or written to */
        PLATFORM_NAMED = 8,      /* in a folder: a name came, went, or got other rights */
        PLATFORM_UNWATCHED = 16, /* what was watched is gone */
        PLATFORM_MISSED = 32,    /* more happened than could be told */
} PlatformEvent;

typedef void (*PlatformTell)(void *userdata, int watch, unsigned events, const char *name); /* name: NULL, or NAMED's */

int platform_watch_new(void); /* Return: -1: see errno */

/* Takes the right to read the file. Return: a number, the same for the same file; -1: see errno. */
int platform_watch_file(int fd, const char *path);
int platform_watch_folder(int fd, const char *path);
void platform_watch_end(int fd, int watch);
void platform_watch_read(int fd, PlatformTell tell, void *userdata); /* some of what happened, oldest first */

/* Has the system fill whole pages with zeros in each child that is forked later. Return: false: it cannot. */
bool platform_wipe_on_fork(void *pages, size_t size);

void platform_hide_process(void);                    /* no core files, no debugger of the same user */
void platform_hide_memory(void *block, size_t size); /* whole pages that stay out of core files */

#endif
