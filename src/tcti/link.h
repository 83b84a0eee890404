/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef TCTI_LINK_H
#define TCTI_LINK_H

#include "tcti/conf.h"
#include "tcti/dbus.h"
#include "tcti/io.h"
#include "util/protocol.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <tss2/tss2_common.h>

/* On a stream of the daemon's socket, hello goes out with the first command, and is answered first. */
typedef enum LinkHello {
        LINK_HELLO_DUE,
        LINK_HELLO_SENT,
        LINK_HELLO_DONE,
} LinkHello;

/* A connection to the daemon, by whichever door. */
typedef struct Link {
        int fd;      /* the stream; -1: not connected */
        bool by_bus; /* cancel and set locality are D-Bus calls, else they go over the stream */
        Dbus dbus;   /* kept, since the daemon knows the caller by it */
        uint64_t id; /* by_bus: what the daemon calls the connection */
        char bus_name[CONF_BUS_NAME_MAX + 1];
        pid_t pid; /* whose it is: a forked child must not use it */
        LinkHello hello;
        size_t n_greeting;                       /* what has come of the daemon's answer to hello */
        uint8_t greeting[TPM_STREAM_HELLO_SIZE]; /* ... as much of it as counts */
} Link;

/* Return: TSS2_RC_SUCCESS, or TSS2_TCTI_RC_NO_CONNECTION. */
TSS2_RC link_open(Link *link, const Conf *conf);

/* Close our own copies of the descriptors. Nobody else's connection ends by it, not even when they came by fork(). */
void link_close(Link *link);

bool link_is_ours(const Link *link);

/* Sends a whole command. Waits while the stream is full. */
IoResult link_send(Link *link, const uint8_t *command, size_t size);

/* Before an answer is read: takes what comes before it. IO_TIMEOUT: not all of that has come. */
IoResult link_read_greeting(Link *link, const IoDeadline *deadline);

TSS2_RC link_cancel(Link *link);
TSS2_RC link_set_locality(Link *link, uint8_t locality);

#endif
