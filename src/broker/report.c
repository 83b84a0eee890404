/* SPDX-License-Identifier: BSD-2-Clause */
#include "broker/report.h"

#include "broker/broker-internal.h"

static BrokerState report_state(const Broker *broker) {
        const Supervisor *supervisor = &broker->supervisor;

        if (phase_is_over(broker->runner.phase))
                return BROKER_STATE_STOPPING;
        if (supervisor_is_up(supervisor))
                return BROKER_STATE_READY;
        return supervisor->reason || supervisor->was_started ? BROKER_STATE_ABSENT : BROKER_STATE_STARTING;
}

static uint64_t report_since(int64_t now, int64_t then) {
        return now > then ? (uint64_t)(now - then) : 0;
}

void broker_report(const Broker *broker, BrokerReport *ret_report) {
        const Outgoing *outgoing = &broker->supervisor.outgoing;
        const Request *request = broker->runner.current;
        int64_t now = g_get_monotonic_time();

        *ret_report = (BrokerReport){
                .state = report_state(broker),
                .reason = broker->supervisor.reason ?: "",
                .n_connections = broker->connections.quota.n_connections,
                .n_waiting = broker->runner.scheduler.n_waiting,
                .longest_wait_us = report_since(now, scheduler_first_submitted(&broker->runner.scheduler, now)),
                .reserve = reserver_ask(&broker->runner.reserver, now),
        };
        if (!request || !broker->supervisor.is_out)
                return;
        ret_report->code = outgoing->code;
        ret_report->client = request->owner ? request->owner->id : 0;
        ret_report->elapsed_us = report_since(now, outgoing->sent);
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

        list_for_each(link, &broker->connections.all) {
                const Connection *connection = list_entry(link, Connection, link);
                const Request *request = &connection->request;
                bool idle = !request_is_under_way(request);
                ConnectionReport report = {
                        .id = connection->owner.id,
                        .peer = &connection->owner.peer,
                        .space = connection->owner.space,
                        .locality = connection->locality,
                        .connected_us = report_since(now, connection->connected),
                        .usage = &connection->usage,
                        .state = connection->given_up ? "away" : STATES[request->state],
                        .code = idle ? 0 : request->code,
                        .elapsed_us = idle ? 0 : report_since(now, request->submitted),
                };

                if (!connection->closed)
                        each(userdata, &report);
        }
}

void broker_report_accounts(const Broker *broker, void (*each)(void *userdata, const Account *account),
                            void *userdata) {
        const Accounts *accounts = &broker->connections.accounts;

        for (unsigned i = 0; i < ACCOUNTS_MAX; i++)
                if (accounts->all[i].serial != 0)
                        each(userdata, &accounts->all[i]);
        if (accounts->others.n_connections > 0)
                each(userdata, &accounts->others);
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
        return broker->runner.rm;
}
