/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef BROKER_BROKER_PRIVATE_H
#define BROKER_BROKER_PRIVATE_H

#include "broker/broker.h"
#include "broker/chores.h"
#include "broker/phase.h"
#include "broker/quota.h"
#include "broker/report.h"
#include "broker/request.h"
#include "broker/scheduler.h"
#include "broker/supervisor.h"

/*
 * The insides of the broker, for broker/ and its tests
 */
struct Broker {
        BrokerPhase phase; /* written by phase_set() alone */
        Supervisor supervisor;

        Rm *rm;
        size_t n_rm;
        int rm_fd; /* the memory behind rm */

        struct list connections; /* Connection.link */
        Quota quota;
        Scheduler scheduler;
        struct list paused; /* Request.link */
        Request chore;      /* the one chore at a time */
        Chores chores;
        Turn turn;
        Watch watch;

        Request *current;         /* has the TPM */
        RmCounters losses_logged; /* see broker/losses.h */
        Stats stats;
        uint64_t last_id;    /* of a connection */
        struct list flushes; /* BrokerFlush.link */
        unsigned stop_ms;    /* for broker_stop() in all */
        guint stop_timer;
        guint more; /* set: there is more to do at once, after the others in the main loop */

        void (*stopped)(void *userdata);
        void *stopped_userdata;
};

struct Connection {
        Broker *broker;
        struct list link; /* broker->connections */
        Peer peer;
        uint32_t localities;
        uint8_t locality;
        const ConnectionOps *ops;
        void *userdata;
        QuotaUser *charge;
        uint32_t space;          /* RM_NONE: closed when the broker stopped */
        bool closed;             /* by its client; waits for its job */
        uint8_t refusals_logged; /* see broker/refusal.h */
        uint64_t id;
        gint64 connected; /* Turn.now */
        uint64_t n_commands, n_failed, n_transmits;
        uint64_t wait_us, busy_us, longest_wait_us;
        Request request;
};

/* runner.c */

extern const SupervisorEvents broker_supervisor_events;
extern const TurnOps broker_turn_ops;

/* The TPM must be free. Return: false when @job is NULL. */
bool broker_run_chore(Broker *broker, RmJob *job, RmChore chore);

/* Whether commands can be taken: the TPM was started, and its back end is open. */
bool broker_is_up(const Broker *broker);

/* End a request that waits or pauses, with a reply of that code; it may not have the TPM working on it. */
void broker_end_request(Broker *broker, Request *request, TSS2_RC rc);

/* report.c */

void broker_flush_all_due(Broker *broker);

/* broker.c */

void broker_finish_stop(Broker *broker); /* the broker may be gone afterwards */

/* connection.c */

/* The request has ended: what its client hears, if it is still there. The connection may be gone afterwards. */
void connection_answer(Connection *connection, const uint8_t *bytes, size_t n_bytes);
void connection_answer_rc(Connection *connection, TSS2_RC rc);

void connection_close_space(Connection *connection);

/* It has no request under way. */
void connection_destroy(Connection *connection);

#endif
