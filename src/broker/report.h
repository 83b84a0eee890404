/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef BROKER_REPORT_H
#define BROKER_REPORT_H

#include "broker/account.h"
#include "broker/broker.h"
#include "broker/stats.h"

/*
 * The broker, for people to look at; see also resmgr/report.h
 */
typedef enum BrokerState {
        BROKER_STATE_STARTING,
        BROKER_STATE_READY,
        BROKER_STATE_ABSENT, /* there is no TPM, or it was lost */
        BROKER_STATE_STOPPING,
} BrokerState;

typedef struct BrokerReport {
        BrokerState state;
        const char *reason; /* why there is no TPM; "" */
        uint32_t n_connections;
        uint32_t n_waiting;
        uint64_t longest_wait_us;
        Reserve reserve;

        /* What the TPM is at */
        TPM2_CC code;        /* 0: nothing */
        uint64_t client;     /* 0: the daemon's own */
        uint64_t elapsed_us; /* since it was sent */
        uint64_t limit_us;
} BrokerReport;

typedef struct ConnectionReport {
        uint64_t id;
        const Peer *peer;
        uint32_t space; /* RM_NONE: it has none any more */
        uint8_t locality;
        uint64_t connected_us; /* ago */
        const Usage *usage;
        const char *state;   /* "idle", "waiting", "running", "paused", "away" */
        TPM2_CC code;        /* of what is under way; 0: nothing */
        uint64_t elapsed_us; /* since it came */
} ConnectionReport;

void broker_report(const Broker *broker, BrokerReport *ret_report);
const Stats *broker_stats(const Broker *broker);

/* All connections, in the order in which they came. */
void broker_report_connections(const Broker *broker, void (*each)(void *userdata, const ConnectionReport *report),
                               void *userdata);

/* All programs that have an account; then, with the serial 0, those that have none any more, if there are any. */
void broker_report_accounts(const Broker *broker, void (*each)(void *userdata, const Account *account), void *userdata);

/* The state, its reason or the number of connections has changed; may be called often. NULL: no more. */
void broker_watch_state(Broker *broker, void (*changed)(void *userdata), void *userdata);

#endif
