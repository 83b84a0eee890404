/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef UTIL_LOOP_H
#define UTIL_LOOP_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

/*
 * The event loop
 *
 * All sockets of clients and the TPM sit in one epoll set, and that set is one GSource of a GLib main context: a
 * thousand idle clients cost nothing per turn. D-Bus, signals and timers stay ordinary GLib sources beside it.
 *
 * Where the next event comes within a millisecond, as answers of a quick TPM do and commands that follow each other, a
 * dispatch stays in epoll_wait() for it instead of going back to GLib for every event, which costs as much as such a
 * TPM itself does. Whether it comes soon is what it did the last time: with loop_set_busy() and without are two things.
 */
typedef struct Loop Loop;
typedef struct LoopFd LoopFd;

typedef void (*LoopCallback)(LoopFd *self, uint32_t events);

/* Embed one in whatever owns the descriptor. A LoopFd may be removed and its owner freed inside any callback. */
struct LoopFd {
        int fd;          /* set by loop_add() */
        uint32_t events; /* EPOLLIN, EPOLLOUT, EPOLLET, ... as registered; meaningless while not registered */
        LoopCallback callback;
        Loop *loop; /* NULL: not registered */
};

Loop *loop_new(GMainContext *context); /* NULL context: the default one; aborts never: NULL and errno on failure */
Loop *loop_free(Loop *loop);           /* takes NULL, returns NULL */

/* Return: 0, or -errno. The descriptor stays the caller's. */
int loop_add(Loop *loop, LoopFd *source, int fd, uint32_t events, LoopCallback callback);
int loop_modify(LoopFd *source, uint32_t events); /* with EPOLLET, tells once more of what is there already */
void loop_remove(LoopFd *source); /* no callback of it runs any more, not even for an event already fetched */

void loop_set_busy(Loop *loop, bool busy);

struct Closer *loop_closer(Loop *loop); /* borrowed; see util/foreign.h */

#endif
