/* SPDX-License-Identifier: BSD-2-Clause */
#include "broker/order.h"
#include "broker/scheduler-internal.h"
#include "resmgr/forecast.h"

#define FIRST_FEW 4     /* of each user, that are candidates wherever their contexts are */
#define UNKNOWN_LONG 16 /* average requests: a command that takes long, and was never measured */
#define TIMER_US 1000
#define VAIN_MOST 2            /* a client may end what belongs together, and begin anew, but not for each command */
#define LATE_US ((gint64)1000) /* a client that is later than that, and than a few commands, may not come */

/* The candidates of one turn, the head first. */
typedef struct Candidates {
        const SchedulerUser *least; /* the user of the head */
        unsigned n;
        Request *requests[SCHEDULER_CANDIDATES];
        OrderItem items[SCHEDULER_CANDIDATES];
} Candidates;

/* A command that was never measured costs as much as the average request, or much more if it is known to take long. */
static void scheduler_weigh(const Scheduler *scheduler, const Request *request, OrderItem *item) {
        RmNeed need = rm_need(scheduler->rm, request->owner->space, request->command, request->n_command);
        uint64_t unknown_us = scheduler_average(scheduler);

        item->missing_us = need.n_loads * stats_cost(scheduler->stats, TPM2_CC_ContextLoad, unknown_us) +
                           need.n_flushes * stats_cost(scheduler->stats, TPM2_CC_FlushContext, unknown_us) +
                           need.n_saves * stats_cost(scheduler->stats, TPM2_CC_ContextSave, unknown_us);
        item->expect_us =
                stats_cost(scheduler->stats, request->code, need.takes_long ? UNKNOWN_LONG * unknown_us : unknown_us);
}

static OrderItem scheduler_rate(Scheduler *scheduler, const RequestOwner *owner, const SchedulerUser *least) {
        const SchedulerUser *user = scheduler_user(scheduler, owner->peer.uid);
        uint64_t used_us = owner->standing.used_us;

        return (OrderItem){
                .user_lead_us = scheduler_less(user->used_us, least->used_us),
                .lead_us = scheduler_less(used_us, scheduler_first_used(user, used_us)),
                .audit = owner->space == rm_audit_space(scheduler->rm),
        };
}

static void candidates_add(Candidates *candidates, Scheduler *scheduler, Request *request) {
        OrderItem *item = &candidates->items[candidates->n];

        for (unsigned i = 0; i < candidates->n; i++)
                if (candidates->requests[i] == request)
                        return;
        /* The head may be one that waits aside, whose time has come. */
        if (candidates->n == SCHEDULER_CANDIDATES || (candidates->n > 0 && request->aside))
                return;
        *item = scheduler_rate(scheduler, request->owner, candidates->least);
        item->submitted = (uint64_t)request->submitted;
        item->passed_us = request->headed ? scheduler->served_us - request->headed_us : 0;
        item->seldom = request->seldom;
        /* It is the head whatever the numbers say: others may wait aside, or have come in the same moment. */
        if (candidates->n == 0)
                item->lead_us = item->submitted = 0;
        scheduler_weigh(scheduler, request, item);
        candidates->requests[candidates->n++] = request;
}

/* Who has contexts in the TPM; then the first few of each user, as long as there are places. */
static void candidates_gather(Candidates *candidates, Scheduler *scheduler) {
        uint32_t spaces[SCHEDULER_CANDIDATES / 2];
        unsigned n = rm_resident_spaces(scheduler->rm, spaces, SCHEDULER_CANDIDATES / 2);

        for (unsigned i = 0; i < n; i++) {
                const RequestOwner *owner = scheduler_owner(scheduler, spaces[i]);

                if (owner && owner->standing.waiting)
                        candidates_add(candidates, scheduler, owner->standing.waiting);
        }
        list_for_each(link, &scheduler->users) {
                const SchedulerUser *user = list_entry(link, SchedulerUser, link);

                n = 0;
                list_for_each(at, &user->waiting) {
                        if (n++ == FIRST_FEW || candidates->n == SCHEDULER_CANDIDATES)
                                break;
                        candidates_add(candidates, scheduler, list_entry(at, Request, link));
                }
        }
}

static bool scheduler_is_resident(const Scheduler *scheduler, const RequestOwner *owner) {
        uint32_t spaces[SCHEDULER_CANDIDATES];
        unsigned n = rm_resident_spaces(scheduler->rm, spaces, SCHEDULER_CANDIDATES);

        while (n > 0 && spaces[n - 1] != owner->space)
                n--;
        return n > 0;
}

/*
 * It was answered a moment ago, and is about to ask again, as it did the last time. Clients that take turns among
 * themselves do not.
 */
static bool standing_is_prompt(const Standing *standing, uint64_t average_us, gint64 now) {
        return standing->paused_us > 0 && standing->paused_us <= (gint64)average_us &&
               now - standing->ended <= MAX((gint64)(4 * average_us), LATE_US);
}

/*
 * The resource manager is told how soon each client that has contexts in the TPM is expected back. It decides by that
 * what leaves the TPM for this request.
 */
static void scheduler_tell_others(Scheduler *scheduler, const Request *request, gint64 now) {
        const SchedulerUser *mine = scheduler_user(scheduler, request->owner->peer.uid);
        uint64_t average_us = scheduler_average(scheduler);
        uint32_t spaces[SCHEDULER_CANDIDATES];
        unsigned n = rm_resident_spaces(scheduler->rm, spaces, SCHEDULER_CANDIDATES);

        for (unsigned i = 0; i < n; i++) {
                const RequestOwner *owner = scheduler_owner(scheduler, spaces[i]);
                const SchedulerUser *user;
                const Request *waiting;
                uint64_t us;

                if (!owner || owner == request->owner)
                        continue;
                waiting = owner->standing.waiting;
                if (!waiting && !standing_is_prompt(&owner->standing, average_us, now))
                        continue;
                user = scheduler_user(scheduler, owner->peer.uid);
                if (user == mine)
                        us = scheduler_less(owner->standing.used_us, request->owner->standing.used_us) *
                             (user->n_waiting + 1);
                else
                        us = scheduler_less(user->used_us, mine->used_us) * scheduler->n_users;
                rm_expect(scheduler->rm, spaces[i], waiting ? waiting->command : NULL, waiting ? waiting->n_command : 0,
                          us / average_us);
        }
}

/* Nothing has a reason to pass a head that is in the TPM, and short. */
static bool scheduler_may_pass(const Scheduler *scheduler, const OrderItem *head) {
        return head->missing_us > 0 || head->expect_us > ORDER_SHORTER / 2 * scheduler_average(scheduler) ||
               rm_audit_space(scheduler->rm) != RM_NONE;
}

/*
 * Whether the client that was answered last is worth waiting for. It is expected within twice the time it takes on
 * average; timers are good to a millisecond.
 */
static bool scheduler_stays_idle(Scheduler *scheduler, const Candidates *candidates, gint64 now) {
        const RequestOwner *owner = scheduler_owner(scheduler, scheduler->last);
        const OrderItem *head = &candidates->items[0];
        OrderItem item;
        uint64_t us, left_us; /* the head may be passed for */

        if (!owner || owner->standing.waiting || owner == candidates->requests[0]->owner)
                return false;
        item = scheduler_rate(scheduler, owner, candidates->least);
        item.expect_us = scheduler_average(scheduler);
        us = item.audit ? ORDER_AUDIT_US : owner->standing.away_us / 4;
        if (item.audit && owner->standing.n_vain >= VAIN_MOST)
                return false;
        if (!item.audit && (us == 0 || us + TIMER_US > head->missing_us || !scheduler_is_resident(scheduler, owner)))
                return false;
        if (now - owner->standing.ended >= (gint64)us || !order_may_pass(&item, head))
                return false;
        left_us = (item.audit ? ORDER_AUDIT_US : order_patience(head)) - head->passed_us;
        scheduler->idle_since = now;
        scheduler->idle_until = MIN(owner->standing.ended + (gint64)us, now + (gint64)left_us);
        return true;
}

Request *scheduler_choose(Scheduler *scheduler, Request *head, gint64 now) {
        Candidates candidates; /* large: only what is in use is written */
        bool stays_idle = false;
        unsigned next = 0;

        candidates.least = scheduler_user(scheduler, head->owner->peer.uid);
        candidates.n = 0;
        candidates_add(&candidates, scheduler, head);
        if (scheduler_may_pass(scheduler, &candidates.items[0])) {
                candidates_gather(&candidates, scheduler);
                next = order_next(candidates.items, candidates.n);
                if (next > 0 && scheduler_room(scheduler, candidates.requests[next]) != RM_ROOM_NOW)
                        next = 0;
                stays_idle = next == 0 && scheduler_stays_idle(scheduler, &candidates, now);
        }
        if ((next > 0 || stays_idle) && !head->headed) {
                head->headed = true;
                head->headed_us = scheduler->served_us;
        }
        if (stays_idle)
                return NULL;
        if (candidates.items[next].missing_us > 0)
                scheduler_tell_others(scheduler, candidates.requests[next], now);
        return candidates.requests[next];
}
