/* SPDX-License-Identifier: BSD-2-Clause */
#include "world-private.h"

#include "broker/order.h"
#include "broker/scheduler-internal.h"
#include "resmgr/forecast.h"

#include <inttypes.h>
#include <string.h>

/*
 * What broker/order.h promises, measured at each decision of the scheduler
 *
 * The linker hands decisions to this file first (--wrap). The TPM's time is counted here, as it went by. From the
 * scheduler come only what it took into account for the head, and where users and connections stood in its order when
 * they began to wait.
 */

/* A user or a connection. It waits as long as it has a request that could be next, at every decision. */
typedef struct Share {
        uint64_t spent_us; /* of the TPM's time */
        bool waits;
        int64_t ahead_us[CLIENTS_MAX]; /* how much more another one might have had when both had begun to wait */
} Share;

typedef struct Turns {
        Share users[CLIENTS_MAX];
        Share connections[CLIENTS_MAX];
        uint64_t spent_us;               /* by all */
        bool passed[CLIENTS_MAX];        /* what this client has out was the head, and another one was chosen ... */
        uint64_t passed_at[CLIENTS_MAX]; /* ... first when so much was spent */
        OrderItem head;                  /* of this decision, as it was compared */
        bool compared;
        int last; /* client whose command was at the TPM last; -1: none */
        int idle; /* ... for which the TPM is kept idle */
        gint64 idle_since, idle_until;
        int begun;                             /* client whose request was chosen; -1: none */
        uint64_t user_lost_us, client_lost_us; /* ... which is raised by so much in the order */
} Turns;

static Turns turns;

unsigned __real_order_next(const OrderItem *items, unsigned n);
unsigned __wrap_order_next(const OrderItem *items, unsigned n);
Request *__real_scheduler_choose(Scheduler *scheduler, Request *head, gint64 now);
Request *__wrap_scheduler_choose(Scheduler *scheduler, Request *head, gint64 now);

void world_turns_begin(void) {
        memset(&turns, 0, sizeof(turns));
        turns.last = turns.idle = turns.begun = -1;
}

void world_turns_anew(void) {
        for (unsigned i = 0; i < CLIENTS_MAX; i++)
                turns.users[i].waits = turns.connections[i].waits = false;
}

static unsigned user_of(unsigned client) {
        return world.run->uids[client] - UID_FIRST;
}

static unsigned client_of(const RequestOwner *owner) {
        const Client *client = list_entry(owner, Connection, owner)->userdata;

        return (unsigned)(client - world.clients);
}

static bool could_be_next(unsigned client) {
        const Connection *connection = world.clients[client].connection;

        return connection && connection->request.in_turn;
}

static SchedulerUser *scheduler_user_of(unsigned i) {
        return g_hash_table_lookup(world.broker->runner.scheduler.known, GUINT_TO_POINTER(UID_FIRST + i));
}

static uint64_t used_by_user(unsigned i) {
        const SchedulerUser *user = scheduler_user_of(i);

        return user ? user->used_us : world.broker->runner.scheduler.clock_us;
}

static uint64_t used_by_connection(unsigned i) {
        const Connection *connection = world.clients[i].connection;

        return connection ? connection->owner.standing.used_us : 0;
}

/* Time */

static void spend(unsigned client, bool by_itself, uint64_t us) {
        turns.spent_us += us;
        turns.users[user_of(client)].spent_us += us;
        if (by_itself)
                turns.connections[client].spent_us += us;
}

/* How far somebody is behind a clock, beyond a while: with the next request it loses that claim. */
static uint64_t lost_claim(uint64_t used_us, uint64_t clock_us) {
        return scheduler_less(scheduler_less(clock_us, SCHEDULER_GRACE_US), used_us);
}

static void begin(unsigned client) {
        turns.begun = (int)client;
        turns.user_lost_us = lost_claim(used_by_user(user_of(client)), world.broker->runner.scheduler.clock_us);
        turns.client_lost_us = lost_claim(used_by_connection(client), scheduler_user_of(user_of(client))->clock_us);
}

/* What was chosen was begun, unless all places for jobs are taken. */
static void end_begin(void) {
        unsigned client = (unsigned)turns.begun;

        if (turns.begun < 0)
                return;
        turns.begun = -1;
        if (could_be_next(client))
                return;
        spend(client, true, SCHEDULER_COMMAND_US);
        for (unsigned k = 0; k < world.run->n_clients; k++) {
                turns.users[user_of(client)].ahead_us[k] += (int64_t)turns.user_lost_us;
                turns.connections[client].ahead_us[k] += (int64_t)turns.client_lost_us;
        }
}

void world_turns_took(uint64_t us) {
        const Request *request = world.broker->runner.current;

        end_begin();
        if (!request)
                return;
        if (request->owner)
                turns.last = (int)client_of(request->owner);
        if (turns.last >= 0 && (request->owner || request->chore == RM_CHORE_RESERVE))
                spend((unsigned)turns.last, request->owner != NULL, us);
}

static void end_idle(gint64 now) {
        gint64 end = MIN(now, turns.idle_until);

        if (turns.idle >= 0 && end > turns.idle_since)
                spend((unsigned)turns.idle, true, (uint64_t)(end - turns.idle_since));
        turns.idle = -1;
}

static void begin_idle(const Scheduler *scheduler) {
        const RequestOwner *owner = scheduler_owner(scheduler, scheduler->last);

        turns.idle = owner ? (int)client_of(owner) : -1;
        turns.idle_since = scheduler->idle_since;
        turns.idle_until = scheduler->idle_until;
}

/* Nobody is charged for the time that the TPM was kept for a client that is gone. */
void world_turns_closed(unsigned client) {
        if (turns.idle == (int)client)
                turns.idle = -1;
        if (turns.last == (int)client)
                turns.last = -1;
}

/* Who did not ask again at once may have been forgiven what it had, and its user may have lost a claim. */
void world_turns_submitted(unsigned client) {
        const Connection *connection = world.clients[client].connection;
        gint64 now = g_get_monotonic_time();
        bool others_wait = false;

        end_begin();
        end_idle(now);
        turns.passed[client] = false;
        if (connection->owner.standing.ended == now)
                return;
        for (unsigned i = 0; i < world.run->n_clients; i++)
                others_wait |= user_of(i) == user_of(client) && could_be_next(i);
        turns.connections[client].waits = false;
        turns.users[user_of(client)].waits &= others_wait;
}

/* How much more the other one has had, and might have had besides until they are even. */
static int64_t ahead(const Share *share, uint64_t used_us, const Share *other, uint64_t other_used_us) {
        return (int64_t)(other->spent_us - share->spent_us) + (int64_t)scheduler_less(used_us, other_used_us);
}

/* @both: what another one may have is only told when it waits as well. */
static void share_begin(Share *shares, unsigned i, uint64_t (*used_by)(unsigned), bool both) {
        uint64_t used_us = used_by(i);

        for (unsigned k = 0; k < world.run->n_clients; k++) {
                uint64_t other_us = used_by(k);

                shares[i].ahead_us[k] = ahead(&shares[i], used_us, &shares[k], other_us);
                if (both)
                        shares[k].ahead_us[i] = ahead(&shares[k], other_us, &shares[i], used_us);
        }
        shares[i].waits = true;
}

static void see_who_waits(void) {
        const Runner *runner = &world.broker->runner;
        bool user_waits[CLIENTS_MAX] = { false };

        /* What had its turn already, or has no room, comes in another order. */
        if (!list_is_empty(&runner->paused) || !list_is_empty(&runner->scheduler.resumed) ||
            runner->scheduler.n_aside > 0)
                world_turns_anew();
        for (unsigned i = 0; i < world.run->n_clients; i++) {
                Share *share = &turns.connections[i];

                user_waits[user_of(i)] |= could_be_next(i);
                if (!could_be_next(i))
                        share->waits = false;
                else if (!share->waits)
                        share_begin(turns.connections, i, used_by_connection, true);
        }
        for (unsigned i = 0; i < world.run->n_clients; i++) {
                if (!user_waits[i])
                        turns.users[i].waits = false;
                else if (!turns.users[i].waits)
                        share_begin(turns.users, i, used_by_user, false);
        }
}

/* Decisions */

/* It was passed for no longer than it takes itself. */
static void check_patience(const Scheduler *scheduler, unsigned head) {
        uint64_t most_us = order_patience(&turns.head), us;

        world.outcome->n_passed++;
        if (rm_audit_space(scheduler->rm) != RM_NONE)
                most_us = MAX(most_us, ORDER_AUDIT_US);
        if (!turns.passed[head])
                turns.passed_at[head] = turns.spent_us;
        turns.passed[head] = true;
        us = turns.spent_us - turns.passed_at[head];
        if (!turns.compared)
                world_fail("client %u is passed, and was not compared", head);
        else if (us > most_us)
                world_fail("client %u was passed for %" PRIu64 " us, is passed again, and may be for %" PRIu64, head,
                           us, most_us);
}

/* None that waits is behind the one that is next by more than the lead. */
static void check_share(const char *what, const Share *shares, unsigned next, unsigned i, uint64_t lead_us) {
        int64_t us = (int64_t)(shares[next].spent_us - shares[i].spent_us);
        int64_t most_us = shares[i].ahead_us[next] + (int64_t)lead_us;

        if (i != next && shares[i].waits && us > most_us)
                world_fail("%s %u is next, has had %" PRId64 " us more than %u, which waits, and may have %" PRId64,
                           what, next, us, i, most_us);
}

static void check_shares(const Request *request, bool passes) {
        uint64_t lead_us = passes ? order_lead(&turns.head) + ORDER_AUDIT_US : 0;
        unsigned next = client_of(request->owner);

        for (unsigned i = 0; i < world.run->n_clients; i++) {
                check_share("user", turns.users, user_of(next), i, lead_us);
                if (user_of(i) == user_of(next) && turns.connections[next].waits)
                        check_share("client", turns.connections, next, i, lead_us);
        }
}

unsigned __wrap_order_next(const OrderItem *items, unsigned n) {
        turns.head = items[0];
        turns.compared = true;
        return __real_order_next(items, n);
}

Request *__wrap_scheduler_choose(Scheduler *scheduler, Request *head, gint64 now) {
        Request *next;

        end_begin();
        end_idle(now);
        turns.compared = false;
        next = __real_scheduler_choose(scheduler, head, now);
        see_who_waits();
        if (next != head)
                check_patience(scheduler, client_of(head->owner));
        if (next)
                check_shares(next, next != head);
        else
                begin_idle(scheduler);
        if (next && !next->job)
                begin(client_of(next->owner));
        return next;
}
