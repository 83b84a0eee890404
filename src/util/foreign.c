/* SPDX-License-Identifier: BSD-2-Clause */
#include "util/foreign.h"

#include "util/fd.h"
#include "util/platform.h"

#include <errno.h>
#include <sys/socket.h>

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

/* What lies in the socket first. @ret_passed: whether descriptors came with it, which stay there. */
static ssize_t foreign_peek(int fd, struct iovec *iov, size_t n_iov, bool *ret_passed) {
        struct msghdr message = { .msg_iov = iov, .msg_iovlen = n_iov };
        ssize_t n = recvmsg(fd, &message, MSG_PEEK | MSG_DONTWAIT);

        *ret_passed = n >= 0 && message.msg_flags & MSG_CTRUNC;
        return n;
}

/* Behind what was looked at there may be descriptors by now. */
static void iov_trim(struct iovec *iov, size_t n_iov, size_t n_bytes) {
        for (size_t i = 0; i < n_iov; i++) {
                iov[i].iov_len = MIN(iov[i].iov_len, n_bytes);
                n_bytes -= iov[i].iov_len;
        }
}

ssize_t foreign_receive(int fd, struct iovec *iov, size_t n_iov, bool *passed) {
        struct msghdr message = { .msg_iov = iov, .msg_iovlen = n_iov };

        if (passed) {
                ssize_t n = foreign_peek(fd, iov, n_iov, passed);

                if (n <= 0 || *passed)
                        return n;
                iov_trim(iov, n_iov, (size_t)n);
        }
        return recvmsg(fd, &message, MSG_DONTWAIT);
}

bool foreign_holds_rights(int fd) {
        uint8_t bytes[DRAIN_BYTES];
        bool passed;

        if (foreign_is_refusing(fd))
                return false;
        if (shutdown(fd, SHUT_RDWR) < 0 && errno != ENOTCONN)
                return true;
        for (unsigned i = 0; i < DRAIN_TURNS; i++) {
                struct iovec iov = { .iov_base = bytes, .iov_len = sizeof(bytes) };
                ssize_t n = foreign_peek(fd, &iov, 1, &passed);

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

void foreign_close_soon(int fd) {
        platform_close_soon(fd);
}

void foreign_close(Closer *closer, int fd) {
        if (foreign_holds_rights(fd))
                closer_close(closer, fd, NULL, NULL);
        else
                foreign_close_plain(fd);
}
