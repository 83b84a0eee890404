/* SPDX-License-Identifier: BSD-2-Clause */
#include "frontend/stream-input.h"

#include <glib.h>
#include <string.h>

/* How much of bytes[] the command under way has, or will have. */
static size_t n_taken(const StreamInput *input) {
        return input->large ? 0 : input->n_command;
}

size_t stream_input_room(StreamInput *input, struct iovec iov[static 2]) {
        size_t n_wanted = input->n_command > 0 ? n_taken(input) + TPM_HEADER_SIZE : STREAM_INPUT_SHORT_MAX, n_iov = 0;

        if (input->large && input->n_large < input->n_command)
                iov[n_iov++] = (struct iovec){ input->large + input->n_large, input->n_command - input->n_large };
        if (input->n_bytes < n_wanted)
                iov[n_iov++] = (struct iovec){ input->bytes + input->n_bytes, n_wanted - input->n_bytes };
        return n_iov;
}

void stream_input_add(StreamInput *input, size_t n) {
        size_t n_more = input->large ? MIN(n, input->n_command - input->n_large) : 0;

        input->n_large += n_more;
        input->n_bytes += n - n_more;
}

const uint8_t *stream_input_next(const StreamInput *input, size_t *ret_n) {
        size_t n = n_taken(input);

        *ret_n = input->n_bytes > n ? input->n_bytes - n : 0;
        return input->bytes + n;
}

/* Bytes from @at on are taken out. */
static void take_out(StreamInput *input, size_t at, size_t n) {
        size_t n_behind = input->n_bytes - at - n;

        memmove(input->bytes + at, input->bytes + at + n, n_behind);
        explicit_bzero(input->bytes + at + n_behind, n);
        input->n_bytes -= n;
}

void stream_input_skip(StreamInput *input, size_t n) {
        take_out(input, n_taken(input), n);
}

bool stream_input_begin(StreamInput *input, size_t n_command) {
        if (n_command > STREAM_INPUT_SHORT_MAX) {
                input->large = g_try_malloc(n_command);
                if (!input->large)
                        return false;
                /* All that is there is of this command: no more than a short one's size is read before. */
                memcpy(input->large, input->bytes, input->n_bytes);
                input->n_large = input->n_bytes;
                take_out(input, 0, input->n_bytes);
        }
        input->n_command = n_command;
        return true;
}

bool stream_input_is_whole(const StreamInput *input) {
        return input->n_command > 0 && (input->large ? input->n_large : input->n_bytes) >= input->n_command;
}

uint8_t *stream_input_command(StreamInput *input) {
        return input->large ? input->large : input->bytes;
}

void stream_input_end(StreamInput *input) {
        if (input->large) {
                explicit_bzero(input->large, input->n_large);
                g_clear_pointer(&input->large, g_free);
                input->n_large = 0;
        } else {
                take_out(input, 0, MIN(input->n_command, input->n_bytes));
        }
        input->n_command = 0;
}

void stream_input_clear(StreamInput *input) {
        stream_input_end(input);
        take_out(input, 0, input->n_bytes);
}
