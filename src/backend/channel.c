/* SPDX-License-Identifier: BSD-2-Clause */
#include "backend/channel.h"
#include "tpm/header.h"
#include "util/fd.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

void channel_init(Channel *channel) {
        channel->source.fd = -1;
        channel->locality = -1;
}

static void channel_forget(Channel *channel) {
        explicit_bzero(channel->held, channel->n_held);
        explicit_bzero(channel->out, channel->n_out);
        explicit_bzero(channel->in, channel->n_in);
        channel->n_held = channel->out_at = channel->n_out = channel->n_in = 0;
}

int channel_open(Channel *channel, Loop *loop, int fd, LoopCallback callback) {
        int r;

        channel_forget(channel);
        r = loop_add(loop, &channel->source, fd, EPOLLIN, callback);
        channel->source.fd = fd;
        return r;
}

void channel_close(Channel *channel) {
        loop_remove(&channel->source);
        fd_close(channel->source.fd);
        channel_forget(channel);
        channel_init(channel);
}

/* Return: how much was taken, or -errno. */
static ssize_t channel_push(Channel *channel, const uint8_t *bytes, size_t n) {
        size_t at = 0;

        while (at < n) {
                ssize_t r = send(channel->source.fd, bytes + at, n - at, MSG_DONTWAIT | MSG_NOSIGNAL);

                if (r >= 0)
                        at += (size_t)r;
                else if (errno != EINTR && fd_may_try_again(errno))
                        break;
                else if (errno != EINTR)
                        return -errno;
        }
        return (ssize_t)at;
}

int channel_send(Channel *channel, const uint8_t *bytes, size_t n) {
        ssize_t taken = 0;

        if (!channel->source.loop)
                return -ESHUTDOWN;
        if (channel->n_out == 0) {
                taken = channel_push(channel, bytes, n);
                if (taken < 0 || (size_t)taken == n)
                        return taken < 0 ? (int)taken : 0;
        }
        bytes += taken;
        n -= (size_t)taken;
        if (n > sizeof(channel->out) - channel->n_out)
                return -ENOBUFS;
        memcpy(channel->out + channel->n_out, bytes, n);
        channel->n_out += n;
        return loop_modify(&channel->source, EPOLLIN | EPOLLOUT);
}

static int channel_flush(Channel *channel) {
        ssize_t taken = channel_push(channel, channel->out + channel->out_at, channel->n_out - channel->out_at);

        if (taken < 0)
                return (int)taken;
        channel->out_at += (size_t)taken;
        if (channel->out_at < channel->n_out)
                return 0;
        explicit_bzero(channel->out, channel->n_out);
        channel->out_at = channel->n_out = 0;
        return loop_modify(&channel->source, EPOLLIN);
}

void channel_hold(Channel *channel, const uint8_t *command, size_t n, uint8_t locality) {
        memcpy(channel->held, command, n);
        channel->n_held = n;
        channel->wanted = locality;
        channel->locality = -1;
}

void channel_drop(Channel *channel) {
        explicit_bzero(channel->held, channel->n_held);
        channel->n_held = 0;
}

int channel_release(Channel *channel) {
        int r = channel_send(channel, channel->held, channel->n_held);

        channel_drop(channel);
        channel->locality = channel->wanted;
        return r;
}

ssize_t channel_ready(Channel *channel, uint32_t events, bool expected) {
        size_t size = sizeof(channel->in);
        TpmReader reader;
        TpmHeader header;
        ssize_t r;

        if ((events & EPOLLOUT) && channel->n_out > 0) {
                r = channel_flush(channel);
                if (r < 0)
                        return r;
        }

        if (channel->stepwise) {
                reader = TPM_READER(channel->in, channel->n_in);
                size = channel->n_in < TPM_HEADER_SIZE ? TPM_HEADER_SIZE : tpm_read_header(&reader).size;
        }
        r = recv(channel->source.fd, channel->in + channel->n_in, size - channel->n_in, MSG_DONTWAIT);
        if (r < 0)
                return fd_may_try_again(errno) ? 0 : -errno;
        if (r == 0)
                return -ESHUTDOWN;
        if (!expected || channel->n_out > 0)
                return -EPROTO;
        channel->n_in += (size_t)r;
        if (channel->n_in < TPM_HEADER_SIZE)
                return 0;

        reader = TPM_READER(channel->in, channel->n_in);
        header = tpm_read_header(&reader);
        if (header.size < TPM_HEADER_SIZE || header.size > TPM_MESSAGE_MAX || channel->n_in > header.size)
                return -EBADMSG;
        return channel->n_in == header.size ? (ssize_t)header.size : 0;
}

const char *channel_reason(ssize_t error) {
        switch (error) {
        case -ESHUTDOWN:
                return "the connection was closed";
        case -EPROTO:
                return "it answered what nobody asked";
        case -EBADMSG:
                return "it sent an answer of impossible size";
        default:
                return g_strerror((int)-error);
        }
}

void channel_answered(Channel *channel, Backend *backend, size_t n) {
        uint8_t answer[TPM_MESSAGE_MAX];

        /* A copy, since whoever hears of it may begin the next command, close or free us. */
        memcpy(answer, channel->in, n);
        channel_forget(channel);
        backend_answered(backend, answer, n);
        explicit_bzero(answer, n);
}
