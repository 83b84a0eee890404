/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef FRONTEND_STREAM_H
#define FRONTEND_STREAM_H

#include "broker/broker.h"
#include "util/loop.h"

#include <stdbool.h>

/*
 * Streams
 *
 * A client's socket: bytes in, one command at a time to the broker, bytes out. Non-blocking, and bounded: what is read
 * ahead is in StreamInput. A client that sends half a command, or does not read its answer, waits alone: nothing is
 * read from it meanwhile. See docs/PROTOCOL.md.
 */
typedef struct Stream Stream;

typedef struct StreamConfig {
        Loop *loop;
        Broker *broker;
        uint32_t localities; /* bit n: may use locality n */
        bool reserved_codes; /* set locality and cancel are understood on this stream */
} StreamConfig;

/**
 * stream_new() - serve a client
 * @fd:     its socket, non-blocking; taken on success, left to the caller on failure
 * @closed: called once, last of all, when the stream ended by itself and is about to be freed; not by stream_free()
 */
Stream *stream_new(const StreamConfig *config, int fd, const Peer *peer, void (*closed)(Stream *stream, void *userdata),
                   void *userdata, GError **error);

/* The same for a client that is back: @connection, from stream_keep(), is taken on success. */
Stream *stream_resume(const StreamConfig *config, int fd, Connection *connection,
                      void (*closed)(Stream *stream, void *userdata), void *userdata, GError **error);

/*
 * In closed(), which is before the stream closes its connection: that stays, and is the caller's, who calls
 * stream_resume() or connection_close(), unless @given_up is called, after which it is gone. Return: NULL for a client
 * that has passed descriptors along: nothing of it stays.
 */
Connection *stream_keep(Stream *stream, void (*given_up)(void *userdata), void *userdata);

/* The stream ends if its client has closed its socket, of which the loop may not have told yet. */
void stream_check(Stream *stream);
Stream *stream_free(Stream *stream); /* takes NULL, returns NULL; closes the socket */

Connection *stream_connection(Stream *stream);

/* Reads what already lies in the socket, so that a cancel that came by another way finds the command it means. */
void stream_poll(Stream *stream);

#endif
