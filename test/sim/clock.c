/* SPDX-License-Identifier: BSD-2-Clause */
#include "clock.h"

#include <glib.h>
#include <stdio.h>
#include <stdlib.h>

#define TIMERS 128

typedef struct Timer {
        unsigned id; /* 0: free */
        uint64_t due;
        uint64_t period;
        GSourceFunc function;
        void *userdata;
} Timer;

static Timer timers[TIMERS];
static uint64_t now;
static unsigned last_id;

/* The linker takes libraries that call the originals for callers of these, and wants to see them. */
#define VISIBLE __attribute__((visibility("default")))

VISIBLE gint64 __wrap_g_get_monotonic_time(void);
VISIBLE guint __wrap_g_timeout_add(guint ms, GSourceFunc function, gpointer userdata);
VISIBLE guint __wrap_g_idle_add_full(gint priority, GSourceFunc function, gpointer userdata, GDestroyNotify notify);
VISIBLE gboolean __wrap_g_source_remove(guint id);

void clock_reset(void) {
        for (unsigned i = 0; i < TIMERS; i++)
                timers[i].id = 0;
        now = 1000000;
        last_id = 0;
}

static guint add(uint64_t us, GSourceFunc function, gpointer userdata) {
        for (unsigned i = 0; i < TIMERS; i++) {
                if (timers[i].id)
                        continue;
                timers[i] = (Timer){ ++last_id, now + us, us, function, userdata };
                return last_id;
        }
        fprintf(stderr, "more timers than a broker can need\n");
        exit(2);
}

void clock_call_in(uint64_t us, int (*function)(void *userdata), void *userdata) {
        add(us, function, userdata);
}

gint64 __wrap_g_get_monotonic_time(void) {
        return (gint64)now;
}

guint __wrap_g_timeout_add(guint ms, GSourceFunc function, gpointer userdata) {
        return add((uint64_t)ms * 1000, function, userdata);
}

guint __wrap_g_idle_add_full(gint priority, GSourceFunc function, gpointer userdata, GDestroyNotify notify) {
        return add(0, function, userdata);
}

gboolean __wrap_g_source_remove(guint id) {
        for (unsigned i = 0; i < TIMERS; i++) {
                if (timers[i].id != id)
                        continue;
                timers[i].id = 0;
                return TRUE;
        }
        fprintf(stderr, "a timer was removed that does not exist\n");
        exit(2);
}

void clock_advance_us(uint64_t us) {
        now += us;
}

static Timer *earliest(void) {
        Timer *first = NULL;

        for (unsigned i = 0; i < TIMERS; i++)
                if (timers[i].id &&
                    (!first || timers[i].due < first->due || (timers[i].due == first->due && timers[i].id < first->id)))
                        first = &timers[i];
        return first;
}

static void run(const Timer *timer) {
        unsigned id = timer->id;

        now = MAX(now, timer->due);
        if (timer->function(timer->userdata)) {
                for (unsigned i = 0; i < TIMERS; i++)
                        if (timers[i].id == id)
                                timers[i].due = now + timers[i].period;
                return;
        }
        for (unsigned i = 0; i < TIMERS; i++)
                if (timers[i].id == id)
                        timers[i].id = 0;
}

bool clock_run_due(void) {
        const Timer *timer = earliest();

        if (!timer || timer->due > now)
                return false;
        run(timer);
        return true;
}

bool clock_run_next(uint64_t within_us) {
        const Timer *timer = earliest();

        if (!timer || timer->due > now + within_us)
                return false;
        run(timer);
        return true;
}

unsigned clock_n_timers(void) {
        unsigned n = 0;

        for (unsigned i = 0; i < TIMERS; i++)
                n += timers[i].id != 0;
        return n;
}
