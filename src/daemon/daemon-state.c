/* SPDX-License-Identifier: BSD-2-Clause */
#include "daemon/daemon-state.h"

#include "util/transition.h"

static const uint8_t daemon_transitions[][2] = {
        { DAEMON_STARTING, DAEMON_OPENING }, { DAEMON_STARTING, DAEMON_STOPPING }, { DAEMON_OPENING, DAEMON_SERVING },
        { DAEMON_OPENING, DAEMON_STOPPING }, { DAEMON_SERVING, DAEMON_STOPPING },  { DAEMON_STOPPING, DAEMON_STOPPED },
};

void daemon_state_set(DaemonState *state, DaemonState to) {
        transition_check("the daemon", daemon_transitions, sizeof(daemon_transitions) / sizeof(daemon_transitions[0]),
                         *state, to);
        *state = to;
}

bool daemon_state_is_over(DaemonState state) {
        return state == DAEMON_STOPPING || state == DAEMON_STOPPED;
}
