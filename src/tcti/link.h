/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef TCTI_LINK_H
#define TCTI_LINK_H

#include "tcti/conf.h"
#include "tcti/dbus.h"
#include "tcti/io.h"
#include "tcti/log.h"
#include "tcti/owner.h"
#include "util/protocol.h"

#include <stdbool.h>
#include <stdint.h>
#include <tss2/tss2_common.h>

/* On a stream of the daemon's socket, hello goes out with the first command, and is answered first. */
typedef enum LinkHello {
        LINK_HELLO_DUE,
        LINK_HELLO_SENT,
        LINK_HELLO_DONE,
} LinkHello;

/*
 * A connection to the daemon, by whichever door, and the next one after that has ended
 *
 * The number of the descriptor stays the same, so that a program need not ask for its poll handles again. While there
 * is no connection, the descriptor is readable at once: what there is to receive is an answer of the library's own.
 */
typedef struct Link {
        int fd;        /* the stream; -1: none yet */
        uint64_t mark; /* io_mark() of it */
        bool up;       /* connected, as far as is known */
        Owner owner;   /* a forked child must not use it */
        bool by_bus;   /* cancel and set locality are D-Bus calls, else they go over the stream */
        Dbus dbus;     /* kept, since the daemon knows the caller by it */
        uint64_t id;   /* by_bus: what the daemon calls the connection */
        char bus_name[CONF_BUS_NAME_MAX + 1];
        uint8_t locality; /* what was set, and the next connection has to have, too */
        LinkHello hello;
        size_t n_greeting;                       /* what has come of the daemon's answer to hello */
        uint8_t greeting[TPM_STREAM_HELLO_SIZE]; /* ... as much of it as counts */
} Link;

void link_init(Link *link); /* not connected */

/* Connect a link that is this process's and not up. Return: false: see @why. */
bool link_open(Link *link, const Conf *conf, Why *why);

/* The connection is of no use any more. */
void link_lose(Link *link);

/* Frees all. Nobody else's connection ends by it, not even when it came by fork(). */
void link_close(Link *link);

/*
 * What is not ours is let alone: the parent's connection in a child that was forked, and what the program has opened by
 * the number of a descriptor of ours that it has closed. Return: whether that was so; there is no connection then.
 */
bool link_leave_to_others(Link *link);

/* Sends a whole command. Waits while the stream is full. When it fails, the daemon has not had the whole command. */
IoResult link_send(Link *link, const uint8_t *command, size_t size);

/* Before an answer is read: takes what comes before it. IO_TIMEOUT: not all of that has come; IO_MALFORMED */
IoResult link_read_greeting(Link *link, const IoDeadline *deadline);

TSS2_RC link_cancel(Link *link);
TSS2_RC link_set_locality(Link *link, uint8_t locality);

#endif
