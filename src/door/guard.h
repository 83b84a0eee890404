/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef DOOR_GUARD_H
#define DOOR_GUARD_H

#include "util/foreign.h"

#include <gio/gio.h>
#include <stdbool.h>
#include <sys/types.h>

/*
 * The guard of a bus connection
 *
 * Any local user may send messages to a name on a system bus, as many as the bus carries, with descriptors in them. All
 * of them pass a filter on GDBus's own thread, so that a flood of them costs the main loop nothing:
 *
 *      signals of others than the bus            are dropped
 *      calls with descriptors                    are refused; the descriptors go to the closer
 *      calls of which no answer is wanted        are dropped, but for a few each second
 *      calls beyond GUARD_SENDER_MAX unanswered  of one sender are refused
 *
 * Who a sender is never changes, so it is asked for once, over a connection of its own: the answer must not wait behind
 * the flood. Of that one nothing passes but what the bus itself says.
 */
typedef struct Guard Guard;

#define GUARD_SENDER_MAX 8

Guard *guard_new(GDBusConnection *bus); /* borrowed until guard_free() */
Guard *guard_free(Guard *guard);        /* takes NULL, returns NULL */

/* By another connection to the same bus, borrowed until guard_free(). Before that nobody is asked. */
void guard_inquire_by(Guard *guard, GDBusConnection *inquiries);
GDBusConnection *guard_inquiries(Guard *guard); /* borrowed */

/* Return: false: nobody has told yet. */
bool guard_knows(Guard *guard, const char *sender, uid_t *ret_uid, pid_t *ret_pid);
void guard_learn(Guard *guard, const char *sender, uid_t uid, pid_t pid);

#endif
