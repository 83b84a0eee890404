/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef BACKEND_CHANNEL_H
#define BACKEND_CHANNEL_H

#include "backend/backend-internal.h"
#include "tpm/header.h"
#include "util/protocol.h"

#include <sys/types.h>

/*
 * Channel: a stream socket to a TPM
 *
 * Bare commands one way, bare answers the other; what the kernel does not take at once goes out as it makes room. A
 * command whose locality has yet to be set is held back until then.
 */
typedef struct Channel {
        LoopFd source;  /* its fd is ours; -1: none */
        int locality;   /* the TPM's; -1: not known */
        uint8_t wanted; /* the held command's */
        size_t n_held;
        uint8_t held[TPM_MESSAGE_MAX];
        size_t out_at, n_out; /* not taken by the kernel yet */
        uint8_t out[TPM_MESSAGE_MAX + TPM_STREAM_CANCEL_SIZE];
        bool stepwise; /* a message may follow at once: no more is read than the one that has begun */
        size_t n_in;
        uint8_t in[TPM_MESSAGE_MAX + 1]; /* one more, to notice an answer that goes on */
} Channel;

void channel_init(Channel *channel);
int channel_open(Channel *channel, Loop *loop, int fd, LoopCallback callback); /* takes fd in any case; 0 or -errno */
void channel_close(Channel *channel);

int channel_send(Channel *channel, const uint8_t *bytes, size_t n); /* 0 or -errno */

void channel_hold(Channel *channel, const uint8_t *command, size_t n, uint8_t locality);
void channel_drop(Channel *channel);   /* it is not: forget what is held */
int channel_release(Channel *channel); /* the locality is set: send what is held; 0 or -errno */

/* Return: the size of the whole answer now in channel->in, 0: not yet, or -errno for channel_reason(). */
ssize_t channel_ready(Channel *channel, uint32_t events, bool expected);
const char *channel_reason(ssize_t error);

/* Hand the answer in channel->in to the back end's owner. */
void channel_answered(Channel *channel, Backend *backend, size_t n);

#endif
