/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef FRONTEND_STREAM_STATE_H
#define FRONTEND_STREAM_STATE_H

#include <stdbool.h>

/*
 * The state of a stream
 *
 *      READING       --command whole-->                                      RUNNING
 *      READING       --what came is no command-->                            LAST, and a refusal is sent
 *      RUNNING       --reply, sent whole-->                                  READING
 *      RUNNING       --reply, the socket is full-->                          WRITING
 *      RUNNING       --end of input-->                                       LAST
 *      WRITING       --sent whole-->                                         READING
 *      LAST          --reply, the socket is full-->                          CLOSING
 *      LAST, CLOSING --sent whole-->                                         DEAD
 *      READING, RUNNING, WRITING, LAST, CLOSING --hang-up, error, freed-->   DEAD
 *      READING       --end of input-->                                       DEAD
 */
typedef enum StreamState {
        STREAM_READING, /* a command, as far as it has come */
        STREAM_RUNNING, /* a command is with the broker; the header behind it is read too, for it may be a cancel */
        STREAM_WRITING, /* what is left of a reply; nothing is read */
        STREAM_LAST,    /* as RUNNING, but nothing is read, and the stream ends with the reply */
        STREAM_CLOSING, /* as WRITING, but the stream ends with the reply */
        STREAM_DEAD,    /* closed and freed once nothing on the stack uses it */
} StreamState;

/* The only way to change one. */
void stream_state_set(StreamState *state, StreamState to);

bool stream_state_reads(StreamState state);
bool stream_state_writes(StreamState state);
bool stream_state_is_last(StreamState state); /* the stream ends when what it sends next, or sends now, is sent */

#endif
