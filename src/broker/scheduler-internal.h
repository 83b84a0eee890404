/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef BROKER_SCHEDULER_INTERNAL_H
#define BROKER_SCHEDULER_INTERNAL_H

#include "broker/scheduler.h"

/*
 * What scheduler.c, which keeps the fair order, and choice.c, which says who passes, share
 */
typedef struct SchedulerUser {
        uid_t uid;
        uint64_t used_us;    /* of the TPM's time, or what it began with */
        gint64 served;       /* when it was charged last */
        uint64_t clock_us;   /* of its connections */
        uint64_t start_us;   /* where one begins that comes anew, at least the clock */
        uint64_t pool_us;    /* what may be forgiven to them */
        uint32_t n_waiting;  /* in the list below */
        struct list waiting; /* Request.link, by what the connection has used */
        struct list aside;   /* Request.link, of those for which there is no room */
        gint64 let_in;       /* when there was room for one of them last */
        bool competes;       /* counted in scheduler->n_users */
        struct list link;    /* scheduler->users, when it has requests */
} SchedulerUser;

SchedulerUser *scheduler_user(Scheduler *scheduler, uid_t uid);
RequestOwner *scheduler_owner(const Scheduler *scheduler, uint32_t space); /* NULL: it has not asked */
RmRoom scheduler_room(const Scheduler *scheduler, const Request *request);

/* @head: the first in the fair order. Return: NULL when it is better to wait for somebody else. */
Request *scheduler_choose(Scheduler *scheduler, Request *head, gint64 now);

/* TPM time of a request on average. */
static inline uint64_t scheduler_average(const Scheduler *scheduler) {
        return MAX(scheduler->average_us / 8, SCHEDULER_COMMAND_US);
}

static inline uint64_t scheduler_less(uint64_t us, uint64_t by_us) {
        return us > by_us ? us - by_us : 0;
}

/* What the connection has used that has used least of those of a user that wait. */
static inline uint64_t scheduler_first_used(const SchedulerUser *user, uint64_t otherwise) {
        return list_is_empty(&user->waiting) ? otherwise
                                             : list_entry(user->waiting.next, Request, link)->owner->standing.used_us;
}

#endif
