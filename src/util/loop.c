/* SPDX-License-Identifier: BSD-2-Clause */
#include "util/loop.h"

#include "util/fd.h"
#include "util/foreign.h"

#include <errno.h>
#include <sys/epoll.h>

#define EVENTS_MAX 64
#define STAY_MS 1

struct Loop {
        GSource source; /* first: GLib allocates it */
        int epoll;
        Closer *closer;
        bool busy;
        gint64 left;        /* monotonic, in us, when the last event was over */
        bool comes_soon[2]; /* while busy, and while not: the next event came within STAY_MS the last time */
        int at;             /* event being dispatched */
        int n_events;       /* events fetched */
        struct epoll_event events[EVENTS_MAX];
};

static void loop_turn(Loop *loop) {
        for (loop->at = 0; loop->at < loop->n_events; loop->at++) {
                LoopFd *source = loop->events[loop->at].data.ptr;

                if (source)
                        source->callback(source, loop->events[loop->at].events);
        }
        loop->n_events = 0;
}

/* The wait for this event is over, wherever it was spent. */
static void loop_came(Loop *loop, gint64 now) {
        loop->comes_soon[loop->busy] = now - loop->left < STAY_MS * 1000;
}

static gboolean loop_dispatch(GSource *source, GSourceFunc callback, gpointer userdata) {
        Loop *loop = (Loop *)source;
        gint64 now = g_get_monotonic_time(), deadline = now + STAY_MS * 1000;
        int n = epoll_wait(loop->epoll, loop->events, EVENTS_MAX, 0);

        /*
         * The stay as a whole is bounded, not only each wait: commands that follow each other closely must not keep
         * timers and the bus from their turn.
         */
        while (n > 0) {
                loop_came(loop, now);
                loop->n_events = n;
                loop_turn(loop);
                if (g_source_is_destroyed(source))
                        break;
                loop->left = now = g_get_monotonic_time();
                if (!loop->comes_soon[loop->busy] || now >= deadline)
                        break;
                n = epoll_wait(loop->epoll, loop->events, EVENTS_MAX, STAY_MS);
                now = g_get_monotonic_time();
        }
        return G_SOURCE_CONTINUE;
}

static void loop_finalize(GSource *source) {
        Loop *loop = (Loop *)source;

        loop->epoll = fd_close(loop->epoll);
}

static GSourceFuncs loop_funcs = {
        .dispatch = loop_dispatch,
        .finalize = loop_finalize,
};

Loop *loop_new(GMainContext *context) {
        fd_auto epoll = epoll_create1(EPOLL_CLOEXEC);
        GSource *source;
        Loop *loop;

        if (epoll < 0)
                return NULL;

        source = g_source_new(&loop_funcs, sizeof(Loop));
        g_source_set_static_name(source, "clients and TPM");
        loop = (Loop *)source;
        loop->epoll = fd_steal(&epoll);
        loop->closer = closer_new(context);
        g_source_add_unix_fd(source, loop->epoll, G_IO_IN);
        /* GLib would take the descriptor out of what it polls for each dispatch. test/lib/layers.py sees that nothing
         * within one runs a main loop. */
        g_source_set_can_recurse(source, TRUE);
        g_source_attach(source, context);
        return loop;
}

Loop *loop_free(Loop *loop) {
        if (!loop)
                return NULL;
        loop->closer = closer_free(loop->closer);
        g_source_destroy(&loop->source);
        g_source_unref(&loop->source);
        return NULL;
}

int loop_add(Loop *loop, LoopFd *source, int fd, uint32_t events, LoopCallback callback) {
        struct epoll_event event = { .events = events, .data.ptr = source };

        if (epoll_ctl(loop->epoll, EPOLL_CTL_ADD, fd, &event) < 0)
                return -errno;
        *source = (LoopFd){ .fd = fd, .events = events, .callback = callback, .loop = loop };
        return 0;
}

int loop_modify(LoopFd *source, uint32_t events) {
        struct epoll_event event = { .events = events, .data.ptr = source };

        /* Edge-triggered, the call is also how to ask again for what is there already. */
        if (events == source->events && !(events & EPOLLET))
                return 0;
        if (epoll_ctl(source->loop->epoll, EPOLL_CTL_MOD, source->fd, &event) < 0)
                return -errno;
        source->events = events;
        return 0;
}

void loop_remove(LoopFd *source) {
        Loop *loop = source->loop;

        if (!loop)
                return;
        /* Fails only when the descriptor is closed already, which has taken it out of the set. */
        (void)epoll_ctl(loop->epoll, EPOLL_CTL_DEL, source->fd, NULL);
        for (int i = loop->at; i < loop->n_events; i++) {
                if (loop->events[i].data.ptr == source)
                        loop->events[i].data.ptr = NULL;
        }
        source->loop = NULL;
}

void loop_set_busy(Loop *loop, bool busy) {
        loop->busy = busy;
}

Closer *loop_closer(Loop *loop) {
        return loop->closer;
}
