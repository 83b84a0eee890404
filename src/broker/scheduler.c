/* SPDX-License-Identifier: BSD-2-Clause */
#include "broker/scheduler.h"

/* Users without a request that are remembered; beyond it, all that have no more than the one served last are not. */
#define USERS_MAX 256

typedef struct SchedulerUser {
        uid_t uid;
        uint64_t used_us;    /* of the TPM's time, or what it began with */
        gint64 served;       /* when it was charged last */
        struct list waiting; /* Request.link */
        struct list aside;   /* Request.link, of those for which there is no room */
        gint64 let_in;       /* when there was room for one of them last */
        bool competes;       /* counted in scheduler->n_users */
        struct list link;    /* scheduler->users, when it has requests */
} SchedulerUser;

void scheduler_init(Scheduler *scheduler, Rm *rm) {
        *scheduler = (Scheduler){ .rm = rm,
                                  .held_us = SCHEDULER_HELD_US,
                                  .known = g_hash_table_new_full(NULL, NULL, NULL, g_free) };
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

        return list_is_empty(&user->link) && user->used_us <= scheduler->clock_us;
}

static SchedulerUser *scheduler_user(Scheduler *scheduler, uid_t uid) {
        SchedulerUser *user = g_hash_table_lookup(scheduler->known, GUINT_TO_POINTER(uid));

        if (user)
                return user;
        if (g_hash_table_size(scheduler->known) >= USERS_MAX)
                g_hash_table_foreach_remove(scheduler->known, scheduler_may_forget, scheduler);
        user = g_new0(SchedulerUser, 1);
        user->uid = uid;
        user->used_us = scheduler->clock_us;
        user->served = G_MININT64 / 2;
        list_init(&user->waiting);
        list_init(&user->aside);
        list_init(&user->link);
        g_hash_table_insert(scheduler->known, GUINT_TO_POINTER(uid), user);
        return user;
}

/* Its lists have changed. */
static void scheduler_recount(Scheduler *scheduler, SchedulerUser *user) {
        bool competes = !list_is_empty(&user->waiting);

        scheduler->n_users += competes - user->competes;
        user->competes = competes;
        if (!competes && list_is_empty(&user->aside))
                list_unlink(&user->link);
        else if (list_is_empty(&user->link))
                list_append(&scheduler->users, &user->link);
}

void scheduler_add(Scheduler *scheduler, Request *request) {
        SchedulerUser *user = scheduler_user(scheduler, request->owner->peer.uid);

        if (!user->competes && request->submitted - user->served > SCHEDULER_GRACE_US)
                user->used_us = MAX(user->used_us, scheduler->clock_us);
        request_set_state(request, REQUEST_WAITING);
        list_append(&user->waiting, &request->link);
        scheduler_recount(scheduler, user);
        scheduler->n_waiting++;
}

void scheduler_add_resumed(Scheduler *scheduler, Request *request) {
        request_set_state(request, REQUEST_WAITING);
        list_append(&scheduler->resumed, &request->link);
        scheduler->n_waiting++;
}

static void scheduler_set_aside(Scheduler *scheduler, Request *request, bool aside) {
        if (request->aside == aside)
                return;
        request->aside = aside;
        scheduler->n_aside += aside ? 1 : -1;
        rm_space_wait(scheduler->rm, request->owner->space, aside);
}

void scheduler_remove(Scheduler *scheduler, Request *request) {
        list_unlink(&request->link);
        scheduler->n_waiting--;
        scheduler_set_aside(scheduler, request, false);
        scheduler_recount(scheduler, scheduler_user(scheduler, request->owner->peer.uid));
}

static RmRoom scheduler_room(const Scheduler *scheduler, const Request *request) {
        return rm_room(scheduler->rm, request->owner->space, request->command, request->n_command);
}

static gint64 deadline(const Scheduler *scheduler, const SchedulerUser *user) {
        const Request *first = list_entry(user->aside.next, Request, link);

        return MAX(first->submitted, user->let_in) + scheduler->held_us;
}

/* What its user would have done next; NULL: all that it has waits for room. */
static Request *user_next(const Scheduler *scheduler, const SchedulerUser *user, gint64 now) {
        struct list *first = list_first(&user->aside);

        if (!first || (scheduler_room(scheduler, list_entry(first, Request, link)) == RM_ROOM_LATER &&
                       now < deadline(scheduler, user)))
                first = list_first(&user->waiting);
        return first ? list_entry(first, Request, link) : NULL;
}

static Request *scheduler_find(const Scheduler *scheduler, gint64 now) {
        const SchedulerUser *least = NULL;
        Request *next = NULL;

        list_for_each(link, &scheduler->users) {
                SchedulerUser *user = list_entry(link, SchedulerUser, link);
                Request *request;

                if (least && user->used_us >= least->used_us)
                        continue;
                request = user_next(scheduler, user, now);
                if (!request)
                        continue;
                least = user;
                next = request;
        }
        return next;
}

static void scheduler_put_aside(Scheduler *scheduler, Request *request) {
        SchedulerUser *user = scheduler_user(scheduler, request->owner->peer.uid);

        list_unlink(&request->link);
        list_append(&user->aside, &request->link);
        scheduler_set_aside(scheduler, request, true);
        scheduler_recount(scheduler, user);
}

Request *scheduler_next(Scheduler *scheduler, gint64 now) {
        struct list *resumed = list_first(&scheduler->resumed);
        Request *request;

        if (resumed)
                return list_entry(resumed, Request, link);
        while ((request = scheduler_find(scheduler, now))) {
                RmRoom room = scheduler_room(scheduler, request);

                if (room == RM_ROOM_NOW && request->aside)
                        scheduler_user(scheduler, request->owner->peer.uid)->let_in = now;
                if (room != RM_ROOM_LATER || request->aside)
                        break;
                scheduler_put_aside(scheduler, request);
        }
        return request;
}

gint64 scheduler_deadline(const Scheduler *scheduler) {
        gint64 first = G_MAXINT64;

        list_for_each(link, &scheduler->users) {
                const SchedulerUser *user = list_entry(link, SchedulerUser, link);

                if (!list_is_empty(&user->aside))
                        first = MIN(first, deadline(scheduler, user));
        }
        return first;
}

Request *scheduler_peek(const Scheduler *scheduler) {
        struct list *first = list_first(&scheduler->resumed);
        const SchedulerUser *user;

        if (first || list_is_empty(&scheduler->users))
                return first ? list_entry(first, Request, link) : NULL;
        user = list_entry(scheduler->users.next, SchedulerUser, link);
        first = list_first(user->competes ? &user->waiting : &user->aside);
        return list_entry(first, Request, link);
}

/* The user counts among those who are served also while its only command is at the TPM. */
static void scheduler_advance(Scheduler *scheduler, const SchedulerUser *user, uint64_t us) {
        uint32_t n_users = scheduler->n_users + list_is_empty(&user->waiting);

        us += scheduler->clock_rest;
        scheduler->clock_us += us / n_users;
        scheduler->clock_rest = us % n_users;
}

void scheduler_charge(Scheduler *scheduler, uid_t uid, uint64_t us, gint64 now) {
        SchedulerUser *user = scheduler_user(scheduler, uid);
        uint64_t least_us = scheduler->clock_us > SCHEDULER_GRACE_US ? scheduler->clock_us - SCHEDULER_GRACE_US : 0;

        scheduler_advance(scheduler, user, us);
        user->used_us = MAX(user->used_us, least_us) + us;
        user->served = now;
}

static gint64 first_submitted(const struct list *requests, gint64 now) {
        return list_is_empty(requests) ? now : list_entry(requests->next, Request, link)->submitted;
}

gint64 scheduler_first_submitted(const Scheduler *scheduler, gint64 now) {
        gint64 first = now;

        list_for_each(link, &scheduler->users) {
                const SchedulerUser *user = list_entry(link, SchedulerUser, link);

                first = MIN(first, first_submitted(&user->waiting, now));
                first = MIN(first, first_submitted(&user->aside, now));
        }
        list_for_each(link, &scheduler->resumed) first = MIN(first, list_entry(link, Request, link)->submitted);
        return first;
}
