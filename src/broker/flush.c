/* SPDX-License-Identifier: BSD-2-Clause */
#include "broker/flush.h"

#include "broker/broker-internal.h"

static void flush_run(Broker *broker, BrokerFlush *flush) {
        Connection *connection = NULL;
        uint32_t n_objects = 0, n_sessions = 0;
        Rm *rm = broker->runner.rm;

        switch (flush->what) {
        case BROKER_FLUSH_CLIENT:
                connection = connections_find(&broker->connections, flush->client);
                if (connection)
                        rm_flush_space(rm, connection->owner.space, &n_objects, &n_sessions);
                break;
        case BROKER_FLUSH_ABANDONED:
                n_sessions = rm_flush_abandoned(rm);
                break;
        case BROKER_FLUSH_LEFT_OVER:
                n_sessions = rm_flush_left_over(rm);
                break;
        }
        runner_wake(&broker->runner);
        flush->done(flush, flush->what != BROKER_FLUSH_CLIENT || connection, n_objects, n_sessions);
}

void flush_run_all(void *userdata) {
        Broker *broker = userdata;
        struct list *link;

        while ((link = list_first(&broker->flushes))) {
                list_unlink(link);
                flush_run(broker, list_entry(link, BrokerFlush, link));
        }
}

void broker_flush(Broker *broker, BrokerFlush *flush) {
        turn_enter(&broker->turn);
        list_append(&broker->flushes, &flush->link);
        turn_leave(&broker->turn);
}
