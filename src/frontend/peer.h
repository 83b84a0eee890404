/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef FRONTEND_PEER_H
#define FRONTEND_PEER_H

#include "broker/broker.h"

/*
 * Who a client is
 *
 * Read from /proc when it comes, since it may be gone by the time somebody asks. It is for people who read logs, and
 * decides nothing: a process may end, and its number be another's, between connect() and here. In another PID
 * namespace than ours, or under ProtectProc=, there is nothing to be read.
 */
Peer peer_make(uid_t uid, pid_t pid); /* pid 0: unknown */

/*
 * The unit in the contents of /proc/PID/cgroup (cgroups(7)): the last component that a service manager made. Return: in
 * @text, which is cut into pieces; NULL: none.
 */
const char *peer_unit(char *text);

#endif
