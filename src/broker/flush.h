/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef BROKER_FLUSH_H
#define BROKER_FLUSH_H

#include "broker/broker.h"
#include "util/list.h"

/*
 * Flush what a client has, or sessions that are nobody's
 *
 * It is done when the TPM is free. The caller keeps the struct until done() is called, which may be at once; or takes
 * it back with list_unlink().
 */
typedef struct BrokerFlush BrokerFlush;

struct BrokerFlush {
        struct list link;
        enum {
                BROKER_FLUSH_CLIENT,
                BROKER_FLUSH_ABANDONED,
                BROKER_FLUSH_LEFT_OVER,
        } what;
        uint64_t client; /* its id */
        /* @found: there is such a client */
        void (*done)(BrokerFlush *flush, bool found, uint32_t n_objects, uint32_t n_sessions);
};

void broker_flush(Broker *broker, BrokerFlush *flush);

void flush_run_all(void *broker); /* for RunnerEvents: the TPM is free */

#endif
