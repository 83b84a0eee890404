/* SPDX-License-Identifier: BSD-2-Clause */
#include "frontend/stream-state.h"

#include "util/transition.h"

static const uint8_t stream_transitions[][2] = {
        { STREAM_READING, STREAM_RUNNING }, { STREAM_READING, STREAM_LAST },    { STREAM_READING, STREAM_DEAD },
        { STREAM_RUNNING, STREAM_READING }, { STREAM_RUNNING, STREAM_WRITING }, { STREAM_RUNNING, STREAM_LAST },
        { STREAM_RUNNING, STREAM_DEAD },    { STREAM_WRITING, STREAM_READING }, { STREAM_WRITING, STREAM_DEAD },
        { STREAM_LAST, STREAM_CLOSING },    { STREAM_LAST, STREAM_DEAD },       { STREAM_CLOSING, STREAM_DEAD },
};

void stream_state_set(StreamState *state, StreamState to) {
        transition_check("a stream", stream_transitions, sizeof(stream_transitions) / sizeof(stream_transitions[0]),
                         *state, to);
        *state = to;
}

bool stream_state_reads(StreamState state) {
        return state == STREAM_READING || state == STREAM_RUNNING;
}

bool stream_state_writes(StreamState state) {
        return state == STREAM_WRITING || state == STREAM_CLOSING;
}

bool stream_state_is_last(StreamState state) {
        return state == STREAM_LAST || state == STREAM_CLOSING;
}
