/* SPDX-License-Identifier: BSD-2-Clause */
#include "broker/flush.h"

#include "broker/connection-internal.h"

static void flush_run(BrokerFlush *flush, Connections *connections) {
        Connection *connection = NULL;
        uint32_t n_objects = 0, n_sessions = 0;
        Rm *rm = connections->runner->rm;

        switch (flush->what) {
        case BROKER_FLUSH_CLIENT:
                connection = connections_find(connections, flush->client);
                if (connection)
                        rm_flush_space(rm, connection->owner.space, &n_objects, &n_sessions);
                break;
        case BROKER_FLUSH_ABANDONED:
                n_sessions = rm_flush_sessions(rm, RM_ABANDONED);
                break;
        case BROKER_FLUSH_LEFT_OVER:
                n_sessions = rm_flush_sessions(rm, RM_LEFT_OVER);
                break;
        }
        runner_wake(connections->runner);
        flush->done(flush, flush->what != BROKER_FLUSH_CLIENT || connection, n_objects, n_sessions);
}

void flushes_init(Flushes *flushes, Connections *connections) {
        flushes->connections = connections;
        list_init(&flushes->waiting);
}

void flushes_run(Flushes *flushes) {
        struct list *link;

        while ((link = list_first(&flushes->waiting))) {
                list_unlink(link);
                flush_run(list_entry(link, BrokerFlush, link), flushes->connections);
        }
}

void flushes_add(Flushes *flushes, BrokerFlush *flush) {
        Turn *turn = flushes->connections->runner->turn;

        turn_enter(turn);
        list_append(&flushes->waiting, &flush->link);
        turn_leave(turn);
}
