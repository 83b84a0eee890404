/* SPDX-License-Identifier: BSD-2-Clause */
#include "broker/request.h"

#include "util/transition.h"

static const uint8_t request_transitions[][2] = {
        { REQUEST_IDLE, REQUEST_WAITING },    { REQUEST_IDLE, REQUEST_RUNNING },   { REQUEST_IDLE, REQUEST_DROPPED },
        { REQUEST_WAITING, REQUEST_RUNNING }, { REQUEST_WAITING, REQUEST_IDLE },   { REQUEST_WAITING, REQUEST_DROPPED },
        { REQUEST_RUNNING, REQUEST_PAUSED },  { REQUEST_RUNNING, REQUEST_IDLE },   { REQUEST_PAUSED, REQUEST_WAITING },
        { REQUEST_PAUSED, REQUEST_IDLE },     { REQUEST_PAUSED, REQUEST_DROPPED }, { REQUEST_DROPPED, REQUEST_IDLE },
};

void request_set_state(Request *request, RequestState state) {
        transition_check("a request", request_transitions, G_N_ELEMENTS(request_transitions), request->state, state);
        request->state = state;
}

bool request_is_under_way(const Request *request) {
        return request->state != REQUEST_IDLE;
}

bool request_is_at_the_tpm(const Request *request) {
        return request->state == REQUEST_RUNNING && !request->timer;
}
