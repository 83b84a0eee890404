/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef DOOR_PEER_H
#define DOOR_PEER_H

#include "broker/broker.h"

/*
 * Who a client is
 *
 * Its name is asked for when it comes, since it may be gone by the time somebody asks. That is for people who
 * read logs, and decides nothing: a process may end, and its number be another's, between connect() and here. Its
 * unit is not read: that takes a lock of the kernel's which those who make and remove groups of processes may hold for
 * long.
 */
Peer peer_make(uid_t uid, pid_t pid); /* pid 0: unknown */

#endif
