/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef BROKER_FLUSH_H
#define BROKER_FLUSH_H

#include "util/list.h"

#include <stdbool.h>
#include <stdint.h>

/*
 * Flush what a client has, or sessions that are nobody's
 *
 * It is done when the TPM is free: what is at work there may be what is to be flushed. The caller keeps the struct
 * until done() is called, which may be at once; or takes it back with list_unlink().
 */
typedef struct BrokerFlush BrokerFlush;

struct BrokerFlush {
        struct list link; /* flushes->waiting */
        enum {
                BROKER_FLUSH_CLIENT,
                BROKER_FLUSH_ABANDONED,
                BROKER_FLUSH_LEFT_OVER,
        } what;
        uint64_t client; /* its id */
        /* @found: there is such a client */
        void (*done)(BrokerFlush *flush, bool found, uint32_t n_objects, uint32_t n_sessions);
};

typedef struct Connections Connections;

typedef struct Flushes {
        Connections *connections; /* borrowed */
        struct list waiting;      /* BrokerFlush.link */
} Flushes;

void flushes_init(Flushes *flushes, Connections *connections);
void flushes_add(Flushes *flushes, BrokerFlush *flush);
void flushes_run(Flushes *flushes); /* all of them; the TPM must be free */

#endif
