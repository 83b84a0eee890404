/* SPDX-License-Identifier: BSD-2-Clause */
#include "util/foreign.h"

#include "util/fd.h"
#include "util/platform.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#define RIGHTS_MAX 253 /* SCM_MAX_FD: descriptors in one message */
#define DRAIN_BYTES 4096
#define DRAIN_TURNS 64

struct Closer {
        GMainContext *context;
        GThreadPool *pool; /* of one thread, which ends when it has nothing to do */
        gatomicrefcount n_references;
        unsigned n_pending; /* atomic */
        bool ended;         /* read and written in the main context only */
};

typedef struct Closing {
        Closer *closer;
        int fd;
        void (*done)(void *userdata);
        void *userdata;
} Closing;

static void closer_unref(Closer *closer) {
        if (!g_atomic_ref_count_dec(&closer->n_references))
                return;
        g_main_context_unref(closer->context);
        g_free(closer);
}

static void closing_free(gpointer data) {
        Closing *closing = data;

        closer_unref(closing->closer);
        g_free(closing->userdata);
        g_free(closing);
}

static gboolean closing_tell(gpointer userdata) {
        Closing *closing = userdata;

        if (!closing->closer->ended)
                closing->done(closing->userdata);
        return G_SOURCE_REMOVE;
}

/* On the thread. */
static void closing_run(gpointer data, gpointer userdata) {
        Closing *closing = data;
        GSource *source;

        platform_close_soon(closing->fd);
        g_atomic_int_add(&closing->closer->n_pending, -1);
        if (!closing->done) {
                closing_free(closing);
                return;
        }
        source = g_idle_source_new();
        g_source_set_callback(source, closing_tell, closing, closing_free);
        g_source_attach(source, closing->closer->context);
        g_source_unref(source);
}

Closer *closer_new(GMainContext *context) {
        Closer *closer = g_new0(Closer, 1);

        closer->context = g_main_context_ref(context ? context : g_main_context_default());
        closer->pool = g_thread_pool_new(closing_run, NULL, 1, FALSE, NULL);
        g_atomic_ref_count_init(&closer->n_references);
        return closer;
}

Closer *closer_free(Closer *closer) {
        if (!closer)
                return NULL;
        closer->ended = true;
        g_thread_pool_free(g_steal_pointer(&closer->pool), FALSE, FALSE);
        closer_unref(closer);
        return NULL;
}

unsigned closer_n_pending(Closer *closer) {
        return (unsigned)g_atomic_int_get(&closer->n_pending);
}

static Closing *closing_new(Closer *closer, int fd, void (*done)(void *userdata), void *userdata) {
        Closing *closing = g_new(Closing, 1);

        *closing = (Closing){ .closer = closer, .fd = fd, .done = done, .userdata = userdata };
        g_atomic_ref_count_inc(&closer->n_references);
        return closing;
}

void closer_close(Closer *closer, int fd, void (*done)(void *userdata), void *userdata) {
        g_atomic_int_inc(&closer->n_pending);
        /* Without a thread it waits in the queue for the next one that can be had. */
        (void)g_thread_pool_push(closer->pool, closing_new(closer, fd, done, userdata), NULL);
}

bool foreign_refuse(int fd) {
        return platform_set_rights(fd, false);
}

bool foreign_is_refusing(int fd) {
        return platform_refuses_rights(fd);
}

/* Return: how many descriptors a message has brought, all of which are closed by the thread. */
static unsigned rights_close(Closer *closer, struct msghdr *message) {
        unsigned n_closed = 0;

        for (struct cmsghdr *header = CMSG_FIRSTHDR(message); header; header = CMSG_NXTHDR(message, header)) {
                size_t n = header->cmsg_len > CMSG_LEN(0) ? (header->cmsg_len - CMSG_LEN(0)) / sizeof(int) : 0;

                if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS)
                        continue;
                for (size_t i = 0; i < n; i++) {
                        int fd;

                        memcpy(&fd, CMSG_DATA(header) + i * sizeof(fd), sizeof(fd));
                        closer_close(closer, fd, NULL, NULL);
                        n_closed++;
                }
        }
        return n_closed;
}

/* What lies in the socket first. @ret_passed: whether descriptors came with it, which stay there. */
static ssize_t foreign_peek(int fd, uint8_t *bytes, size_t n_bytes, bool *ret_passed) {
        struct iovec iov = { .iov_base = bytes, .iov_len = n_bytes };
        struct msghdr message = { .msg_iov = &iov, .msg_iovlen = 1 };
        ssize_t n = recvmsg(fd, &message, MSG_PEEK | MSG_DONTWAIT);

        *ret_passed = n >= 0 && message.msg_flags & MSG_CTRUNC;
        return n;
}

ssize_t foreign_receive(Closer *closer, int fd, struct iovec *iov, size_t n_iov, bool *ret_passed) {
        union {
                char bytes[CMSG_SPACE(RIGHTS_MAX * sizeof(int))];
                struct cmsghdr header; /* for its alignment */
        } control;
        struct msghdr message = {
                .msg_iov = iov,
                .msg_iovlen = n_iov,
                .msg_control = control.bytes,
                .msg_controllen = sizeof(control.bytes),
        };
        uint8_t byte;
        ssize_t n;

        *ret_passed = false;
        /* There must always be descriptors left for those that come: what finds no place is closed by the kernel. */
        if (closer_n_pending(closer) > 0) {
                n = foreign_peek(fd, &byte, sizeof(byte), ret_passed);
                if (n <= 0 || *ret_passed)
                        return n;
        }
        n = recvmsg(fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
        if (n >= 0)
                *ret_passed = rights_close(closer, &message) > 0 || message.msg_flags & MSG_CTRUNC;
        return n;
}

bool foreign_holds_rights(int fd) {
        uint8_t bytes[DRAIN_BYTES];
        bool passed;

        if (foreign_is_refusing(fd))
                return false;
        if (shutdown(fd, SHUT_RDWR) < 0 && errno != ENOTCONN)
                return true;
        for (unsigned i = 0; i < DRAIN_TURNS; i++) {
                ssize_t n = foreign_peek(fd, bytes, sizeof(bytes), &passed);

                if (n <= 0)
                        return passed;
                if (passed || recv(fd, bytes, (size_t)n, MSG_DONTWAIT) != n)
                        return true;
        }
        return true;
}

void foreign_close_plain(int fd) {
        fd_close(fd);
}

void foreign_close(Closer *closer, int fd) {
        if (foreign_holds_rights(fd))
                closer_close(closer, fd, NULL, NULL);
        else
                foreign_close_plain(fd);
}
