/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef BROKER_SCHEDULER_H
#define BROKER_SCHEDULER_H

#include "broker/request.h"
#include "broker/stats.h"

/*
 * Scheduler: whose request next
 *
 * The fair order goes by user: next is the user that has had least of the TPM's time so far, so that neither many
 * connections nor long commands gain anything; and then by connection of that user, in the same way. broker/order.h
 * says when a request passes others: mostly because its contexts are in the TPM. A request whose job paused goes before
 * all others, since its turn is not over.
 *
 * A clock runs as fast as each user would be served if all of them were served at once, and no further than what the
 * user has had that is served. A user that comes anew, or has asked for nothing for a while, begins where the clock is:
 * the time that went by without it is no claim. No user is further behind the clock than that while, however seldom and
 * little it asks. A user's connections begin by such a clock, too. Besides, their own clock shows what the connection
 * has had that has had least of those that always ask.
 *
 * A connection that stays away for as long as its last request held the TPM is not held to its share: what it had
 * beyond it is forgiven when it asks again, and a new connection begins a little below the others. What is forgiven is
 * at most half of what connections had that were forgiven nothing. So an interactive client waits for one command
 * beside many busy ones of its own user.
 *
 * A client asks again a moment after its answer. Where that costs less than the swap which the next one needs, the TPM
 * stays idle for that moment, on the client's account; and for a little longer where the next command would end the
 * exclusivity of its audit session, unless the client has not asked in time twice in succession.
 *
 * Only candidates are compared: the head of the fair order, who has contexts in the TPM, and the first few of each
 * user, SCHEDULER_CANDIDATES in all. So a turn takes no longer with a thousand requests than with a few dozen.
 *
 * A request for which there is no room waits aside, and others overtake it. Of one user, they are let in in turn. One
 * that has waited for SCHEDULER_HELD_US, in which none of its user's was let in, goes on as it is, and is refused: what
 * is in its way is held, and not used for a short time.
 */
#define SCHEDULER_GRACE_US (1000 * 1000) /* a while */
#define SCHEDULER_HELD_US (5 * 1000 * 1000)
#define SCHEDULER_CANDIDATES 24

typedef struct Scheduler {
        Rm *rm;
        const Stats *stats;
        struct list resumed; /* Request.link: those that paused */
        struct list users;   /* SchedulerUser.link: who has requests, as they came */
        GHashTable *known;   /* uid -> SchedulerUser */
        GPtrArray *owners;   /* by their space: RequestOwner that has asked, or NULL */
        uint32_t n_users;    /* ... that do not all wait aside */
        uint32_t n_waiting;  /* requests */
        uint32_t n_aside;    /* ... of these, for which there is no room */
        uint64_t clock_us;
        uint64_t clock_rest; /* what was not divided yet */
        uint64_t served_us;  /* TPM time of all requests so far */
        uint64_t average_us; /* ... of one, in eighths: average_add() */
        gint64 held_us;      /* SCHEDULER_HELD_US */
        uint32_t last;       /* space that was answered last */
        gint64 idle_since;   /* the TPM is kept idle for that one; 0: it is not ... */
        gint64 idle_until;
} Scheduler;

void scheduler_init(Scheduler *scheduler, Rm *rm, const Stats *stats);
void scheduler_clear(Scheduler *scheduler);
void scheduler_add(Scheduler *scheduler, Request *request);
void scheduler_add_resumed(Scheduler *scheduler, Request *request); /* one that had its turn, and paused */
void scheduler_remove(Scheduler *scheduler, Request *request);
Request *scheduler_peek(const Scheduler *scheduler); /* any of them; NULL: nobody waits */

/*
 * Return: the request whose turn it is. NULL: there is none, or it is better to wait until scheduler_deadline(). What
 * has no room is put aside.
 */
Request *scheduler_next(Scheduler *scheduler, gint64 now);

/* When it must be asked again though nothing has happened (Turn.now); G_MAXINT64: never. */
gint64 scheduler_deadline(const Scheduler *scheduler);

/* What a command costs at least, since it costs the daemon's time also when the TPM is not asked. */
#define SCHEDULER_COMMAND_US 20

/* The TPM has worked for so long for a request, or for a user, swaps included. @now: Turn.now */
void scheduler_charge(Scheduler *scheduler, Request *request, uint64_t us, gint64 now);
void scheduler_charge_user(Scheduler *scheduler, uid_t uid, uint64_t us, gint64 now);

void scheduler_ended(Scheduler *scheduler, Request *request, gint64 now); /* it was answered */
void scheduler_forget(Scheduler *scheduler, uint32_t space);              /* it is about to be closed */

/* When the request that waits longest was submitted (Turn.now); @now: nobody waits. */
gint64 scheduler_first_submitted(const Scheduler *scheduler, gint64 now);

#endif
