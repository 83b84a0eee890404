/* SPDX-License-Identifier: BSD-2-Clause */
#include "broker/order.h"
#include "broker/scheduler-internal.h"

/* Users without a request that are remembered; beyond it, all that have no more than the one served last are not. */
#define USERS_MAX 256

#define SELDOM_US 2000         /* a client that asks again sooner is busy, however short its commands are */
#define MOMENT_US (100 * 1000) /* a client that asks again later than that was not about to */

void scheduler_init(Scheduler *scheduler, Rm *rm, const Stats *stats) {
        *scheduler = (Scheduler){
                .rm = rm,
                .stats = stats,
                .held_us = SCHEDULER_HELD_US,
                .known = g_hash_table_new_full(NULL, NULL, NULL, g_free),
                .owners = g_ptr_array_new(),
                .last = RM_NONE,
        };
        list_init(&scheduler->resumed);
        list_init(&scheduler->users);
}

void scheduler_clear(Scheduler *scheduler) {
        g_clear_pointer(&scheduler->known, g_hash_table_unref);
        g_clear_pointer(&scheduler->owners, g_ptr_array_unref);
}

/* Nobody gains by being forgotten, since who comes anew begins no lower. */
static gboolean scheduler_may_forget(gpointer uid, gpointer value, gpointer userdata) {
        const SchedulerUser *user = value;
        const Scheduler *scheduler = userdata;

        return list_is_empty(&user->link) && user->used_us <= scheduler->clock_us;
}

SchedulerUser *scheduler_user(Scheduler *scheduler, uid_t uid) {
        SchedulerUser *user = g_hash_table_lookup(scheduler->known, GUINT_TO_POINTER(uid));

        if (user)
                return user;
        if (g_hash_table_size(scheduler->known) >= USERS_MAX)
                g_hash_table_foreach_remove(scheduler->known, scheduler_may_forget, scheduler);
        user = g_new0(SchedulerUser, 1);
        user->uid = uid;
        user->used_us = scheduler->clock_us;
        user->served = G_MININT64 / 2;
        /* Above all that its connections can have had before it was forgotten. */
        user->start_us = user->clock_us = scheduler->served_us + SCHEDULER_GRACE_US;
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

/* Who has contexts in the TPM is found by the space. */
RequestOwner *scheduler_owner(const Scheduler *scheduler, uint32_t space) {
        return space < scheduler->owners->len ? g_ptr_array_index(scheduler->owners, space) : NULL;
}

static void scheduler_know(Scheduler *scheduler, RequestOwner *owner) {
        if (owner->space >= scheduler->owners->len)
                g_ptr_array_set_size(scheduler->owners, (gint)owner->space + 1);
        g_ptr_array_index(scheduler->owners, owner->space) = owner;
}

void scheduler_forget(Scheduler *scheduler, uint32_t space) {
        if (scheduler_owner(scheduler, space))
                g_ptr_array_index(scheduler->owners, space) = NULL;
        if (scheduler->last == space)
                scheduler->last = RM_NONE;
}

/* Where the connection of a request that comes stands among those of its user. */
static void user_place(const Scheduler *scheduler, SchedulerUser *user, Request *request) {
        Standing *standing = &request->owner->standing;
        uint64_t average_us = scheduler_average(scheduler), front_us, forgiven_us;
        gint64 away_us = request->submitted - standing->ended;

        if (!standing->known || request->submitted - standing->served > SCHEDULER_GRACE_US)
                standing->used_us = MAX(standing->used_us, user->start_us);
        standing->favoured = false;
        if (!standing->known || away_us >= MAX((gint64)standing->busy_us, SELDOM_US)) {
                front_us = scheduler_less(user->clock_us, (standing->known ? 2 : 8) * average_us);
                forgiven_us = MIN(scheduler_less(standing->used_us, front_us), user->pool_us);
                standing->used_us -= forgiven_us;
                user->pool_us -= forgiven_us;
                standing->favoured = forgiven_us > 0;
        }
        standing->paused_us = standing->known ? MAX(away_us, 1) : 0;
        if (standing->known && away_us < MOMENT_US)
                standing->away_us = average_add(standing->away_us, (uint64_t)away_us);
        if (standing->known && away_us < (gint64)ORDER_AUDIT_US)
                standing->n_vain = 0;
        standing->known = true;
        standing->waiting = request;
        request->seldom = standing->used_us + average_us < user->clock_us;
}

/* By what the connections have used; of those that have used the same, who came first. */
static void user_insert(SchedulerUser *user, Request *request) {
        struct list *before = user->waiting.prev;

        while (before != &user->waiting &&
               list_entry(before, Request, link)->owner->standing.used_us > request->owner->standing.used_us)
                before = before->prev;
        list_prepend(before, &request->link);
        user->n_waiting++;
        request->in_turn = true;
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
        SchedulerUser *user = scheduler_user(scheduler, request->owner->peer.uid);
        Standing *standing = &request->owner->standing;

        list_unlink(&request->link);
        scheduler->n_waiting--;
        if (standing->waiting == request)
                standing->waiting = NULL;
        user->n_waiting -= request->in_turn;
        request->in_turn = false;
        scheduler_set_aside(scheduler, request, false);
        scheduler_recount(scheduler, user);
}

RmRoom scheduler_room(const Scheduler *scheduler, const Request *request) {
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
        user->n_waiting -= request->in_turn;
        request->in_turn = false;
        list_append(&user->aside, &request->link);
        scheduler_set_aside(scheduler, request, true);
        scheduler_recount(scheduler, user);
}

/* The first in the fair order; what has no room is put aside. */
static Request *scheduler_head(Scheduler *scheduler, gint64 now) {
        Request *request;

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

/*
 * The user, which was charged, counts among those who are served also while its only command is at the TPM. Users that
 * pause after each command are fewer at a time than they are: the clock does not outrun them, or who comes anew would
 * wait until they have come up with it.
 */
static void scheduler_advance(Scheduler *scheduler, const SchedulerUser *user, uint64_t us) {
        uint32_t n_users = scheduler->n_users + list_is_empty(&user->waiting);

        us += scheduler->clock_rest;
        scheduler->clock_us = MAX(scheduler->clock_us, MIN(scheduler->clock_us + us / n_users, user->used_us));
        scheduler->clock_rest = us % n_users;
}

void scheduler_charge_user(Scheduler *scheduler, uid_t uid, uint64_t us, gint64 now) {
        SchedulerUser *user = scheduler_user(scheduler, uid);

        user->used_us = MAX(user->used_us, scheduler_less(scheduler->clock_us, SCHEDULER_GRACE_US)) + us;
        scheduler_advance(scheduler, user, us);
        user->served = now;
        scheduler->served_us += us;
}

/*
 * Those that come anew must not keep the start where it is, or whoever is above it would wait for as long as any come.
 * Nor does it outrun those that are served.
 */
static void user_advance(SchedulerUser *user, const Standing *standing, uint64_t us) {
        uint64_t n = user->n_waiting + 1; /* those that are served by turns */

        user->start_us = MAX(user->start_us, user->clock_us);
        user->start_us = MAX(user->start_us, MIN(user->start_us + (us + n - 1) / n, standing->used_us));
}

static void scheduler_charge_owner(Scheduler *scheduler, RequestOwner *owner, uint64_t us, gint64 now) {
        SchedulerUser *user = scheduler_user(scheduler, owner->peer.uid);
        Standing *standing = &owner->standing;

        scheduler_charge_user(scheduler, owner->peer.uid, us, now);
        standing->used_us = MAX(standing->used_us, scheduler_less(user->clock_us, SCHEDULER_GRACE_US)) + us;
        standing->served = now;
        if (!standing->favoured)
                user->pool_us = MIN(user->pool_us + us / 2, SCHEDULER_GRACE_US);
        user->clock_us = MAX(user->clock_us, MIN(standing->used_us, scheduler_first_used(user, standing->used_us)));
        user_advance(user, standing, us);
}

void scheduler_charge(Scheduler *scheduler, Request *request, uint64_t us, gint64 now) {
        scheduler_charge_owner(scheduler, request->owner, us, now);
}

/*
 * It is on the account of the client that was waited for, though no longer than it was meant to be: the TPM may have
 * been lost meanwhile, or done a chore.
 */
static void scheduler_end_idle(Scheduler *scheduler, gint64 now) {
        RequestOwner *owner = scheduler_owner(scheduler, scheduler->last);
        gint64 end = MIN(now, scheduler->idle_until);

        if (scheduler->idle_since > 0 && owner && end > scheduler->idle_since)
                scheduler_charge_owner(scheduler, owner, (uint64_t)(end - scheduler->idle_since), end);
        if (scheduler->idle_since > 0 && owner && end < now)
                owner->standing.n_vain++;
        scheduler->idle_since = 0;
}

void scheduler_add(Scheduler *scheduler, Request *request) {
        SchedulerUser *user = scheduler_user(scheduler, request->owner->peer.uid);

        scheduler_end_idle(scheduler, request->submitted); /* before it is placed by what it has used */
        if (!user->competes && request->submitted - user->served > SCHEDULER_GRACE_US)
                user->used_us = MAX(user->used_us, scheduler->clock_us);
        scheduler_know(scheduler, request->owner);
        request_set_state(request, REQUEST_WAITING);
        user_place(scheduler, user, request);
        user_insert(user, request);
        scheduler_recount(scheduler, user);
        scheduler->n_waiting++;
}

Request *scheduler_next(Scheduler *scheduler, gint64 now) {
        struct list *resumed = list_first(&scheduler->resumed);
        Request *head;

        scheduler_end_idle(scheduler, now);
        if (resumed)
                return list_entry(resumed, Request, link);
        head = scheduler_head(scheduler, now);
        return head ? scheduler_choose(scheduler, head, now) : NULL;
}

gint64 scheduler_deadline(const Scheduler *scheduler) {
        gint64 first = scheduler->idle_since > 0 && scheduler->n_waiting > 0 ? scheduler->idle_until : G_MAXINT64;

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

void scheduler_ended(Scheduler *scheduler, Request *request, gint64 now) {
        Standing *standing = &request->owner->standing;

        standing->ended = now;
        standing->busy_us = request->busy_us;
        scheduler->last = request->owner->space;
        if (request->n_transmits > 0)
                scheduler->average_us = average_add(scheduler->average_us, request->busy_us);
}

static gint64 first_submitted(const struct list *requests, gint64 first) {
        list_for_each(link, requests) first = MIN(first, list_entry(link, Request, link)->submitted);
        return first;
}

gint64 scheduler_first_submitted(const Scheduler *scheduler, gint64 now) {
        gint64 first = now;

        list_for_each(link, &scheduler->users) {
                const SchedulerUser *user = list_entry(link, SchedulerUser, link);

                first = first_submitted(&user->aside, first_submitted(&user->waiting, first));
        }
        return first_submitted(&scheduler->resumed, first);
}
