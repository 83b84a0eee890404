/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef FRONTEND_STREAM_MESSAGE_H
#define FRONTEND_STREAM_MESSAGE_H

#include "tpm/header.h"
#include "util/protocol.h"

#include <stdbool.h>

/*
 * Messages of a stream: see docs/PROTOCOL.md
 */
#define STREAM_ANSWER_MAX (TPM_STREAM_HELLO_SIZE + TPM_MESSAGE_MAX)

/*
 * Whether a header, as far as it has come, can be that of a command. Text has a size that no command has, which its
 * third byte shows: so a client of another protocol is answered, and does not wait for an answer to its first line.
 */
bool stream_message_may_begin(const uint8_t *header, size_t n_header, uint32_t max_command);

/**
 * stream_message_answer() - what a client hears
 * @bytes:  the answer of the broker; @n_bytes 0: none
 * @layers: the client knows codes of layer 11; programs that are no TSS know those of a TPM
 * @greets: the answer to hello goes first
 *
 * Return: its size in @answer, or 0: it is as it was in @bytes.
 */
size_t stream_message_answer(uint8_t answer[static STREAM_ANSWER_MAX], const uint8_t *bytes, size_t n_bytes,
                             bool layers, bool greets);

#endif
