/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef DAEMON_NOTIFY_H
#define DAEMON_NOTIFY_H

/* Tells the service manager, if there is one (NOTIFY_SOCKET), how things are: see sd_notify(3). Never blocks or fails.
 */
void notify(const char *state);

#endif
