/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef DAEMON_NOTIFY_H
#define DAEMON_NOTIFY_H

/*
 * What the service manager is told, if there is one: see sd_notify(3) and sd_watchdog_enabled(3). Nothing here blocks
 * or fails.
 */

/* Tells it (NOTIFY_SOCKET) how things are. */
void notify(const char *state);

/*
 * Feeds its watchdog, if it has one for this process (WATCHDOG_USEC, WATCHDOG_PID), twice in each of its intervals. A
 * timer of the default main loop does it: a loop that stands feeds nothing, and the daemon is started anew.
 *
 * Return: the number of the timer's source; 0: there is no watchdog.
 */
unsigned notify_start_watchdog(void);

#endif
