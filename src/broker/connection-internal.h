/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef BROKER_CONNECTION_INTERNAL_H
#define BROKER_CONNECTION_INTERNAL_H

#include "broker/account.h"
#include "broker/connection.h"
#include "broker/quota.h"
#include "broker/runner.h"

/*
 * All connections of a broker, for those who keep and count them
 */
typedef struct Connections Connections;

struct Connections {
        Runner *runner;  /* borrowed */
        struct list all; /* Connection.link, in the order in which they came */
        Quota quota;
        Accounts accounts;
        uint64_t last_id;
};

struct Connection {
        Connections *connections;
        struct list link; /* connections->all */
        RequestOwner owner;
        Request request;
        uint32_t localities;
        uint8_t locality;
        const ConnectionOps *ops;
        void *userdata;
        QuotaUser *charge;
        bool closed;                      /* by its client; waits for its job */
        void (*given_up)(void *userdata); /* its client has left, and may come back; else NULL */
        gint64 left;                      /* ... since then; monotonic, in us */
        bool stale;                       /* nobody waits for the answer to the request any more ... */
        const uint8_t *next;              /* ... but for this, which the client submitted when it was back; borrowed */
        size_t n_next;
        uint8_t refusals_logged; /* see broker/refusal.h */
        gint64 connected;        /* monotonic, in us */
        Usage usage;
        AccountRef account;
};

void connections_init(Connections *connections, Runner *runner, uint32_t max_connections);
void connections_clear(Connections *connections); /* frees those that were closed and waited for their job */

/* See connection_new(). */
Connection *connections_admit(Connections *connections, const Peer *peer, uint32_t localities, const ConnectionOps *ops,
                              void *userdata, GError **error);

/* Return: the one with that id, if its client is there and may have anything in the TPM; else NULL. */
Connection *connections_find(const Connections *connections, uint64_t id);

/* The broker stops: each request that is not with the TPM is dropped, and its connection's space closed. */
void connections_drop(Connections *connections);

/* For RunnerEvents: what the client hears, if it is still there. The connection may be gone afterwards. */
void connection_ended(void *userdata, Request *request, const RmOutput *output);

#endif
