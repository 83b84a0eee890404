/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef FRONTEND_STREAM_INPUT_H
#define FRONTEND_STREAM_INPUT_H

#include "tpm/header.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

/*
 * What was read of a client and not done yet
 *
 * First the command under way, then what came behind it. A short command is read with its header at once, into memory
 * that is there already; a long one has memory of its own, as much as its header says, until it is done.
 */
#define STREAM_INPUT_SHORT_MAX 512 /* bytes of a command; few have more */

typedef struct StreamInput {
        size_t n_bytes;
        uint8_t bytes[STREAM_INPUT_SHORT_MAX + TPM_HEADER_SIZE]; /* a short command, and what came behind one */
        size_t n_command;                                        /* size of the command under way; 0: none */
        uint8_t *large;                                          /* the command, if it is long */
        size_t n_large;                                          /* as far as it has come */
} StreamInput;

/* Where the next bytes belong: no more than a header behind a command. Return: how many of @iov are used; 0: none. */
size_t stream_input_room(StreamInput *input, struct iovec iov[static 2]);
void stream_input_add(StreamInput *input, size_t n); /* so many came */

/* What is behind the command under way, or where there is none, what has come of the next one. */
const uint8_t *stream_input_next(const StreamInput *input, size_t *ret_n);
void stream_input_skip(StreamInput *input, size_t n); /* the first of these are done */

/* A command of @n_command bytes, at least a header, is under way from here. Return: false: there is no memory for it.
 */
bool stream_input_begin(StreamInput *input, size_t n_command);
bool stream_input_is_whole(const StreamInput *input); /* there is a command, and all of it */

/* The command under way, which stays where it is until its end. */
uint8_t *stream_input_command(StreamInput *input);
void stream_input_end(StreamInput *input); /* it is done, and is wiped; takes none */

/* Wiped and freed, all of it. */
void stream_input_clear(StreamInput *input);

#endif
