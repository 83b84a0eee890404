/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef DAEMON_DAEMON_STATE_H
#define DAEMON_DAEMON_STATE_H

#include <stdbool.h>

/*
 * The state of the daemon
 *
 *      STARTING --the TPM is ready, or may come later-->               OPENING
 *      OPENING  --all sockets are open, and the name is owned-->       SERVING
 *      STARTING, OPENING, SERVING --a signal, or a failure-->          STOPPING, and sockets and bus are closed
 *      STOPPING --what clients had is flushed, or a second signal-->   STOPPED
 */
typedef enum DaemonState {
        DAEMON_STARTING,
        DAEMON_OPENING,
        DAEMON_SERVING,
        DAEMON_STOPPING,
        DAEMON_STOPPED,
} DaemonState;

/* The only way to change one. */
void daemon_state_set(DaemonState *state, DaemonState to);

bool daemon_state_is_over(DaemonState state); /* STOPPING or STOPPED */

#endif
