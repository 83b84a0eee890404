/* SPDX-License-Identifier: BSD-2-Clause */
#include "broker/scheduler.h"

/* Users without a request that are remembered; beyond it, all that have no more than the one served last are not. */
#define USERS_MAX 256

typedef struct SchedulerUser {
        uid_t uid;
        uint64_t used_us;    /* of the TPM's time, or what it began with */
        gint64 served;       /* when it was charged last */
        struct list waiting; /* Request.link */
        struct list link;    /* scheduler->users, when it has requests that wait */
} SchedulerUser;

void scheduler_init(Scheduler *scheduler) {
        *scheduler = (Scheduler){ .known = g_hash_table_new_full(NULL, NULL, NULL, g_free) };
        list_init(&scheduler->resumed);
        list_init(&scheduler->users);
}

void scheduler_clear(Scheduler *scheduler) {
        g_clear_pointer(&scheduler->known, g_hash_table_unref);
}

/* Nobody gains by being forgotten, since who comes anew begins no lower. */
static gboolean scheduler_may_forget(gpointer uid, gpointer value, gpointer userdata) {
        const SchedulerUser *user = value;
        const Scheduler *scheduler = userdata;

        return list_is_empty(&user->waiting) && user->used_us <= scheduler->clock_us;
}

static SchedulerUser *scheduler_user(Scheduler *scheduler, uid_t uid) {
        SchedulerUser *user = g_hash_table_lookup(scheduler->known, GUINT_TO_POINTER(uid));

        if (user)
                return user;
        if (g_hash_table_size(scheduler->known) >= USERS_MAX)
                g_hash_table_foreach_remove(scheduler->known, scheduler_may_forget, scheduler);
        user = g_new0(SchedulerUser, 1);
        user->uid = uid;
        user->served = G_MININT64 / 2;
        list_init(&user->waiting);
        list_init(&user->link);
        g_hash_table_insert(scheduler->known, GUINT_TO_POINTER(uid), user);
        return user;
}

static SchedulerUser *scheduler_next_user(const Scheduler *scheduler) {
        SchedulerUser *next = NULL;

        list_for_each(link, &scheduler->users) {
                SchedulerUser *user = list_entry(link, SchedulerUser, link);

                if (!next || user->used_us < next->used_us)
                        next = user;
        }
        return next;
}

void scheduler_add(Scheduler *scheduler, Request *request) {
        SchedulerUser *user = scheduler_user(scheduler, request->owner->peer.uid);

        if (list_is_empty(&user->waiting)) {
                if (request->submitted - user->served > SCHEDULER_GRACE_US)
                        user->used_us = MAX(user->used_us, scheduler->clock_us);
                list_append(&scheduler->users, &user->link);
                scheduler->n_users++;
        }
        request_set_state(request, REQUEST_WAITING);
        list_append(&user->waiting, &request->link);
        scheduler->n_waiting++;
}

void scheduler_add_resumed(Scheduler *scheduler, Request *request) {
        request_set_state(request, REQUEST_WAITING);
        list_append(&scheduler->resumed, &request->link);
        scheduler->n_waiting++;
}

Request *scheduler_peek(const Scheduler *scheduler) {
        struct list *first = list_first(&scheduler->resumed);
        SchedulerUser *user = first ? NULL : scheduler_next_user(scheduler);

        if (user)
                first = list_first(&user->waiting);
        return first ? list_entry(first, Request, link) : NULL;
}

void scheduler_remove(Scheduler *scheduler, Request *request) {
        SchedulerUser *user = scheduler_user(scheduler, request->owner->peer.uid);

        list_unlink(&request->link);
        scheduler->n_waiting--;
        if (list_is_empty(&user->waiting) && !list_is_empty(&user->link)) {
                list_unlink(&user->link);
                scheduler->n_users--;
        }
}

void scheduler_charge(Scheduler *scheduler, uid_t uid, uint64_t us, gint64 now) {
        SchedulerUser *user = scheduler_user(scheduler, uid);

        scheduler->clock_us += us / (scheduler->n_users + list_is_empty(&user->waiting));
        user->used_us += us;
        user->served = now;
}

gint64 scheduler_first_submitted(const Scheduler *scheduler, gint64 now) {
        gint64 first = now;

        list_for_each(link, &scheduler->users) {
                struct list *oldest = list_first(&list_entry(link, SchedulerUser, link)->waiting);

                first = MIN(first, list_entry(oldest, Request, link)->submitted);
        }
        list_for_each(link, &scheduler->resumed) first = MIN(first, list_entry(link, Request, link)->submitted);
        return first;
}
