/* SPDX-License-Identifier: BSD-2-Clause */
#include "broker/phase.h"

#include "util/transition.h"

static const uint8_t phase_transitions[][2] = {
        { BROKER_SERVING, BROKER_STOPPING },
        { BROKER_SERVING, BROKER_STOPPED },
        { BROKER_STOPPING, BROKER_STOPPED },
};

void phase_set(BrokerPhase *phase, BrokerPhase to) {
        transition_check("the broker", phase_transitions, sizeof(phase_transitions) / sizeof(phase_transitions[0]),
                         *phase, to);
        *phase = to;
}

bool phase_is_over(BrokerPhase phase) {
        return phase == BROKER_STOPPING || phase == BROKER_STOPPED;
}
