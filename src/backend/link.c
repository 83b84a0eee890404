/* SPDX-License-Identifier: BSD-2-Clause */
#include "backend/link.h"
#include "tpm/header.h"
#include "util/fd.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

void link_init(Link *link) {
        link->source.fd = -1;
        link->locality = -1;
}

static void forget(Link *link) {
        explicit_bzero(link->held, link->n_held);
        explicit_bzero(link->out, link->n_out);
        explicit_bzero(link->in, link->n_in);
        link->n_held = link->out_at = link->n_out = link->n_in = 0;
}

int link_open(Link *link, Loop *loop, int fd, LoopCallback callback) {
        int r;

        forget(link);
        r = loop_add(loop, &link->source, fd, EPOLLIN, callback);
        link->source.fd = fd;
        return r;
}

void link_close(Link *link) {
        loop_remove(&link->source);
        fd_close(link->source.fd);
        forget(link);
        link_init(link);
}

/* Return: how much was taken, or -errno. */
static ssize_t push(Link *link, const uint8_t *bytes, size_t n) {
        size_t at = 0;

        while (at < n) {
                ssize_t r = send(link->source.fd, bytes + at, n - at, MSG_DONTWAIT | MSG_NOSIGNAL);

                if (r >= 0)
                        at += (size_t)r;
                else if (errno == EAGAIN)
                        break;
                else if (errno != EINTR)
                        return -errno;
        }
        return (ssize_t)at;
}

int link_send(Link *link, const uint8_t *bytes, size_t n) {
        ssize_t taken = 0;

        if (!link->source.loop)
                return -ESHUTDOWN;
        if (link->n_out == 0) {
                taken = push(link, bytes, n);
                if (taken < 0 || (size_t)taken == n)
                        return taken < 0 ? (int)taken : 0;
        }
        bytes += taken;
        n -= (size_t)taken;
        if (n > sizeof(link->out) - link->n_out)
                return -ENOBUFS;
        memcpy(link->out + link->n_out, bytes, n);
        link->n_out += n;
        return loop_modify(&link->source, EPOLLIN | EPOLLOUT);
}

static int flush(Link *link) {
        ssize_t taken = push(link, link->out + link->out_at, link->n_out - link->out_at);

        if (taken < 0)
                return (int)taken;
        link->out_at += (size_t)taken;
        if (link->out_at < link->n_out)
                return 0;
        explicit_bzero(link->out, link->n_out);
        link->out_at = link->n_out = 0;
        return loop_modify(&link->source, EPOLLIN);
}

void link_hold(Link *link, const uint8_t *command, size_t n, uint8_t locality) {
        memcpy(link->held, command, n);
        link->n_held = n;
        link->wanted = locality;
        link->locality = -1;
}

void link_drop(Link *link) {
        explicit_bzero(link->held, link->n_held);
        link->n_held = 0;
}

int link_release(Link *link) {
        int r = link_send(link, link->held, link->n_held);

        link_drop(link);
        link->locality = link->wanted;
        return r;
}

ssize_t link_ready(Link *link, uint32_t events, bool expected) {
        size_t size = sizeof(link->in);
        TpmReader reader;
        TpmHeader header;
        ssize_t r;

        if ((events & EPOLLOUT) && link->n_out > 0) {
                r = flush(link);
                if (r < 0)
                        return r;
        }

        if (link->stepwise) {
                reader = TPM_READER(link->in, link->n_in);
                size = link->n_in < TPM_HEADER_SIZE ? TPM_HEADER_SIZE : tpm_read_header(&reader).size;
        }
        r = recv(link->source.fd, link->in + link->n_in, size - link->n_in, MSG_DONTWAIT);
        if (r < 0)
                return errno == EAGAIN || errno == EINTR ? 0 : -errno;
        if (r == 0)
                return -ESHUTDOWN;
        if (!expected || link->n_out > 0)
                return -EPROTO;
        link->n_in += (size_t)r;
        if (link->n_in < TPM_HEADER_SIZE)
                return 0;

        reader = TPM_READER(link->in, link->n_in);
        header = tpm_read_header(&reader);
        if (header.size < TPM_HEADER_SIZE || header.size > TPM_MESSAGE_MAX || link->n_in > header.size)
                return -EBADMSG;
        return link->n_in == header.size ? (ssize_t)header.size : 0;
}

const char *link_reason(ssize_t error) {
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

void link_answered(Link *link, Backend *backend, size_t n) {
        uint8_t answer[TPM_MESSAGE_MAX];

        /* A copy, since whoever hears of it may begin the next command, close or free us. */
        memcpy(answer, link->in, n);
        forget(link);
        backend_answered(backend, answer, n);
        explicit_bzero(answer, n);
}
