/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef BROKER_BROKER_PRIVATE_H
#define BROKER_BROKER_PRIVATE_H

#include "broker/broker.h"
#include "broker/chores.h"
#include "broker/quota.h"
#include "broker/report.h"
#include "broker/request.h"
#include "broker/scheduler.h"

/*
 * The insides of the broker, for broker/ and its tests
 *
 *      NEW      --broker_start()-->         STARTING: the back end opens, then the TPM is asked what it can do
 *      STARTING --the TPM cannot be used--> NEW, may be started again; or tried again, if it is to be waited for
 *      STARTING --it can-->                 RUNNING; the back end may be lost and reopened any number of times
 *      any      --broker_stop()-->          STOPPING
 *      STOPPING --nothing left to flush-->  STOPPED
 */
typedef enum BrokerPhase {
        BROKER_NEW,
        BROKER_STARTING,
        BROKER_RUNNING,
        BROKER_STOPPING,
        BROKER_STOPPED,
} BrokerPhase;

/* All times in ms, in one place for the tests. */
typedef struct BrokerTimes {
        unsigned limit;      /* for the answer to a command */
        unsigned limit_long; /* ... to one that makes keys, and to self tests */
        unsigned tick;       /* how often limits are looked at */
        unsigned reopen_min; /* doubles from here ... */
        unsigned reopen_max; /* ... to here */
        unsigned stop;       /* for broker_stop() in all */
} BrokerTimes;

struct Broker {
        Backend *backend; /* borrowed */
        BrokerPhase phase;
        bool wait;
        bool opening; /* the back end is, for the first time or again */
        char *told;   /* why there is no TPM, as the log says; NULL: there is one, or nothing was said yet */
        BrokerTimes times;

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

        Request *current;  /* has the TPM */
        RmCounters logged; /* losses that the log has */
        Stats stats;
        uint64_t last_id;    /* of a connection */
        struct list flushes; /* BrokerFlush.link */
        const uint8_t *out;  /* the command whose answer is awaited ... */
        size_t n_out;
        uint8_t out_locality;
        gint64 sent;       /* ... since then */
        TPM2_CC code;      /* its code ... */
        unsigned limit_ms; /* ... for so long ... */
        gint64 deadline;   /* ... until then, monotonic, in us */
        guint tick_timer;
        guint reopen_timer;
        unsigned reopen_ms;
        guint stop_timer;
        guint more; /* set: there is more to do at once, after the others in the main loop */

        void (*started)(void *userdata, TSS2_RC rc, const char *detail);
        void *started_userdata;
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
        uint32_t space; /* RM_NONE: closed when the broker stopped */
        bool closed;    /* by its client; waits for its job */
        uint8_t told;   /* a bit for each refusal that the log has */
        uint64_t id;
        gint64 connected; /* Turn.now */
        uint64_t n_commands, n_failed, n_transmits;
        uint64_t wait_us, busy_us, longest_wait_us;
        Request request;
};

/* runner.c */

extern const BackendEvents broker_events;
extern const TurnOps broker_turn_ops;
void broker_open(Broker *broker); /* the back end, which is closed; what follows follows from its events */

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
