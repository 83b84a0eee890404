/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef BROKER_BROKER_H
#define BROKER_BROKER_H

#include "backend/backend.h"
#include "broker/connection.h"
#include "broker/flush.h"
#include "broker/reserve.h"
#include "broker/watch.h"
#include "resmgr/resmgr.h"
#include "util/loop.h"

/*
 * The broker
 *
 * Whose command next, and who may ask for what. A front end makes a connection for each client and submits whole
 * commands, one at a time; the broker queues them, has the resource manager turn them into jobs, moves the one job that
 * has the TPM, and answers. It knows nothing of sockets; it never blocks.
 */
typedef struct Broker Broker;

/* By default, for the answer to a command, and to one that makes keys. */
#define LIMIT_S 60
#define LIMIT_LONG_S 300

typedef struct BrokerConfig {
        RmLimits limits;
        uint32_t max_connections;
        unsigned idle_evict_ms; /* everything leaves the TPM after so much idle time; 0: never */
        unsigned limit_ms;      /* for the answer to a command; 0: LIMIT_S */
        unsigned limit_long_ms; /* ... to one that makes keys, and to self tests; 0: LIMIT_LONG_S */
        ReserveConfig reserve;  /* all zeros: limits.reserve, fixed */
        bool wait;              /* for a TPM that is not there, or cannot be used yet */
} BrokerConfig;

Broker *broker_new(Loop *loop, Backend *backend, const BrokerConfig *config, GError **error);
Broker *broker_free(Broker *broker); /* takes NULL, returns NULL; every connection must be closed */

/*
 * Opens the back end, starts the TPM and reads what it can do. Calls @started: with TSS2_RC_SUCCESS, or the reason why
 * it cannot be used, as a response code (the TPM's, or RM_RC(TPM2_RC_FAILURE) when no answer came) and as @detail, a
 * text; that may be before this returns. After a failure it may be tried again; with config->wait that is done here,
 * until it succeeds, and @started is called each time. Commands that come meanwhile are answered
 * RM_RC(TPM2_RC_INITIALIZE).
 */
void broker_start(Broker *broker, void (*started)(void *userdata, TSS2_RC rc, const char *detail), void *userdata);

/*
 * Drops all waiting commands, flushes what clients own once the command under way is answered, then calls @stopped
 * once, maybe before this returns.
 */
void broker_stop(Broker *broker, void (*stopped)(void *userdata), void *userdata);

bool broker_has_started(const Broker *broker); /* there was a TPM, though it may be lost at the moment */
uint32_t broker_max_command(const Broker *broker);
/* The TPM lists this command code itself; a reserved code of the stream is then off. */
bool broker_implements(const Broker *broker, uint32_t code);

/**
 * connection_new() - admit a client; what else a connection can do is in broker/connection.h
 * @localities: bit n set: may use locality n; bit 0 is always taken as set
 *
 * Return: NULL with @error, whose message names the limit, when one is reached: max_connections, or the share of the
 * uid.
 */
Connection *connection_new(Broker *broker, const Peer *peer, uint32_t localities, const ConnectionOps *ops,
                           void *userdata, GError **error);

void broker_flush(Broker *broker, BrokerFlush *flush); /* see broker/flush.h */

/* Have @record called for each command that was answered. NULL: no more; it costs nothing then. */
void broker_watch_commands(Broker *broker, void (*record)(void *userdata, const BrokerRecord *record), void *userdata);

void broker_look(Broker *broker); /* what config.reserve answers may have risen */

const Rm *broker_rm(const Broker *broker); /* for resmgr/report.h */

#endif
