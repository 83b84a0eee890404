/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef BROKER_RUNNER_H
#define BROKER_RUNNER_H

#include "broker/chores.h"
#include "broker/phase.h"
#include "broker/request.h"
#include "broker/reserve.h"
#include "broker/scheduler.h"
#include "broker/stats.h"
#include "broker/supervisor.h"
#include "broker/turn.h"
#include "broker/watch.h"

/*
 * Runner: moves the one job that has the TPM, and decides what is next
 *
 * In each turn, once the TPM is free: chores that cannot wait, then the first request of the scheduler, then chores
 * that can. A job that pauses and lends the TPM makes room for others; one in the middle of a repair keeps it.
 */
typedef struct RunnerEvents {
        /* A client's request has ended; the request may be freed. Without bytes, output->rc is the whole answer. */
        void (*ended)(void *userdata, Request *request, const RmOutput *output);
        void (*idle)(void *userdata);     /* nothing is at the TPM, and what is next is about to be decided */
        void (*finished)(void *userdata); /* the broker stops, and nothing is left to flush; all may be freed */
} RunnerEvents;

struct Runner {
        Rm *rm; /* borrowed, as all pointers here */
        Turn *turn;
        Supervisor *supervisor;
        const Watch *watch;
        Stats *stats;
        const RunnerEvents *events;
        void *userdata;

        BrokerPhase phase; /* written by phase_set() alone */
        Scheduler scheduler;
        struct list paused; /* Request.link */
        Chores chores;
        Reserver reserver;
        Request chore;            /* the one chore at a time */
        Request *current;         /* has the TPM */
        uid_t served_uid;         /* whose command was at the TPM last */
        RmCounters losses_logged; /* see broker/losses.h */
        guint look_timer;         /* for scheduler_deadline() ... */
        gint64 look_at;           /* ... as it was */
        guint go_on_source;       /* set: there is more to do at once, after the others in the main loop */
};

/* The fields above phase are set. */
void runner_init(Runner *runner, unsigned idle_evict_ms);
void runner_clear(Runner *runner);

extern const TurnOps runner_turn_ops;                   /* userdata: the runner */
extern const SupervisorEvents runner_supervisor_events; /* userdata: the runner */

/* What follows is called within a turn. */

/* Take a client's request, which is idle. While the broker stops it is dropped. Return: false: there is no TPM. */
bool runner_submit(Runner *runner, Request *request);

/* The client is gone. Return: false: its job goes on to its end, and ended() comes; true: the request may be freed. */
bool runner_withdraw(Runner *runner, Request *request);

/* Return: TSS2_RC_SUCCESS, or RM_RC_NOT_IMPLEMENTED: the back end cannot. ended() may come before this returns. */
TSS2_RC runner_cancel(Runner *runner, Request *request);

/* The broker stops. Return: false: it is with the TPM, and goes on; true: it is idle or dropped now, without ended().
 */
bool runner_drop(Runner *runner, Request *request);

/* A space was closed or flushed, so there may be something to clean up. */
void runner_wake(Runner *runner);

#endif
