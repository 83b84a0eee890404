/* SPDX-License-Identifier: BSD-2-Clause */
#include "broker/report.h"

#include "broker/broker-private.h"

static BrokerState state_of(const Broker *broker) {
        const Supervisor *supervisor = &broker->supervisor;

        if (phase_is_over(broker->phase))
                return BROKER_STATE_STOPPING;
        if (broker_is_up(broker))
                return BROKER_STATE_READY;
        return supervisor->reason || supervisor->was_started ? BROKER_STATE_ABSENT : BROKER_STATE_STARTING;
}

static uint64_t since(int64_t now, int64_t then) {
        return now > then ? (uint64_t)(now - then) : 0;
}

void broker_report(const Broker *broker, BrokerReport *ret_report) {
        const Outgoing *outgoing = &broker->supervisor.outgoing;
        const Request *request = broker->current;
        int64_t now = g_get_monotonic_time();

        *ret_report = (BrokerReport){
                .state = state_of(broker),
                .reason = broker->supervisor.reason ?: "",
                .n_connections = broker->quota.n_connections,
        };
        list_for_each(link, &broker->scheduler.waiting) {
                uint64_t wait = since(now, list_entry(link, Request, link)->submitted);

                ret_report->n_waiting++;
                ret_report->longest_wait_us = MAX(ret_report->longest_wait_us, wait);
        }
        if (!request || !broker->supervisor.is_out)
                return;
        ret_report->code = outgoing->code;
        ret_report->client = request->connection ? request->connection->id : 0;
        ret_report->elapsed_us = since(now, outgoing->sent);
        ret_report->limit_us = (uint64_t)outgoing->limit_ms * 1000;
}

const Stats *broker_stats(const Broker *broker) {
        return &broker->stats;
}

void broker_report_connections(const Broker *broker, void (*each)(void *userdata, const ConnectionReport *report),
                               void *userdata) {
        static const char *const STATES[] = {
                [REQUEST_IDLE] = "idle",     [REQUEST_WAITING] = "waiting", [REQUEST_RUNNING] = "running",
                [REQUEST_PAUSED] = "paused", [REQUEST_DROPPED] = "waiting",
        };
        int64_t now = g_get_monotonic_time();

        list_for_each(link, &broker->connections) {
                const Connection *connection = list_entry(link, Connection, link);
                const Request *request = &connection->request;
                bool idle = !request_is_under_way(request);
                ConnectionReport report = {
                        .id = connection->id,
                        .peer = &connection->peer,
                        .space = connection->space,
                        .locality = connection->locality,
                        .connected_us = since(now, connection->connected),
                        .n_commands = connection->n_commands,
                        .n_failed = connection->n_failed,
                        .n_transmits = connection->n_transmits,
                        .wait_us = connection->wait_us,
                        .busy_us = connection->busy_us,
                        .longest_wait_us = connection->longest_wait_us,
                        .state = STATES[request->state],
                        .code = idle ? 0 : request->code,
                        .elapsed_us = idle ? 0 : since(now, request->submitted),
                };

                if (!connection->closed)
                        each(userdata, &report);
        }
}

void broker_watch_state(Broker *broker, void (*changed)(void *userdata), void *userdata) {
        broker->watch.changed = changed;
        broker->watch.changed_userdata = userdata;
}

void broker_watch_commands(Broker *broker, void (*record)(void *userdata, const BrokerRecord *record), void *userdata) {
        broker->watch.record = record;
        broker->watch.record_userdata = userdata;
}

const Rm *broker_rm(const Broker *broker) {
        return broker->rm;
}

static Connection *find_connection(const Broker *broker, uint64_t id) {
        list_for_each(link, &broker->connections) {
                Connection *connection = list_entry(link, Connection, link);

                if (connection->id == id && !connection->closed && connection->space != RM_NONE)
                        return connection;
        }
        return NULL;
}

static void flush_now(Broker *broker, BrokerFlush *flush) {
        Connection *connection = NULL;
        uint32_t n_objects = 0, n_sessions = 0;

        switch (flush->what) {
        case BROKER_FLUSH_CLIENT:
                connection = find_connection(broker, flush->client);
                if (connection)
                        rm_flush_space(broker->rm, connection->space, &n_objects, &n_sessions);
                break;
        case BROKER_FLUSH_ABANDONED:
                n_sessions = rm_flush_abandoned(broker->rm);
                break;
        case BROKER_FLUSH_LEFT_OVER:
                n_sessions = rm_flush_left_over(broker->rm);
                break;
        }
        chores_wake(&broker->chores, false);
        flush->done(flush, flush->what != BROKER_FLUSH_CLIENT || connection, n_objects, n_sessions);
}

void broker_flush_all_due(Broker *broker) {
        struct list *link;

        while ((link = list_first(&broker->flushes))) {
                list_unlink(link);
                flush_now(broker, list_entry(link, BrokerFlush, link));
        }
}

void broker_flush(Broker *broker, BrokerFlush *flush) {
        turn_enter(&broker->turn);
        list_append(&broker->flushes, &flush->link);
        turn_leave(&broker->turn);
}
