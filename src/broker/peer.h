/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef BROKER_PEER_H
#define BROKER_PEER_H

#include <stdbool.h>
#include <sys/types.h>

#define PEER_NAME_SIZE 32

/* Peer: who a client was when it came, as far as its socket or the bus can tell. */
typedef struct Peer {
        uid_t uid;
        pid_t pid;                 /* 0: unknown */
        char name[PEER_NAME_SIZE]; /* its command, in printable ASCII; "?": unknown */
        bool by_bus;               /* it came by D-Bus, not by a socket */
} Peer;

/* One, as the log calls it. */
#define PEER_FORMAT "uid %u pid %d (%s)"
#define PEER_ARGUMENTS(peer) (unsigned)(peer)->uid, (int)(peer)->pid, (peer)->name

#endif
