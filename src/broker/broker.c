/* SPDX-License-Identifier: BSD-2-Clause */
#include "broker/broker-internal.h"
#include "util/log.h"

#define STOP_MS (8 * 1000)

static const SupervisorTimes supervisor_times = {
        .limit = LIMIT_S * 1000,
        .limit_long = LIMIT_LONG_S * 1000,
        .tick = 1000,
        .reopen_min = 200,
        .reopen_max = 10 * 1000,
};

/* Beginning */

static void broker_finished(void *userdata);

static void broker_idle(void *userdata) {
        Broker *broker = userdata;

        flushes_run(&broker->flushes);
}

static const RunnerEvents broker_runner_events = {
        .ended = connection_ended,
        .idle = broker_idle,
        .finished = broker_finished,
};

static void broker_init_supervisor(Broker *broker, Backend *backend, const BrokerConfig *config) {
        broker->supervisor = (Supervisor){
                .backend = backend,
                .turn = &broker->turn,
                .watch = &broker->watch,
                .stats = &broker->stats,
                .wait = config->wait,
                .times = supervisor_times,
                .events = &runner_supervisor_events,
                .userdata = &broker->runner,
        };
        if (config->limit_ms)
                broker->supervisor.times.limit = config->limit_ms;
        if (config->limit_long_ms)
                broker->supervisor.times.limit_long = config->limit_long_ms;
        supervisor_init(&broker->supervisor);
}

static void broker_init_runner(Broker *broker, const BrokerConfig *config) {
        broker->runner = (Runner){
                .rm = broker->block.rm,
                .turn = &broker->turn,
                .supervisor = &broker->supervisor,
                .watch = &broker->watch,
                .stats = &broker->stats,
                .events = &broker_runner_events,
                .userdata = broker,
        };
        runner_init(&broker->runner, config->idle_evict_ms);
        broker->runner.reserver = (Reserver){
                .rm = broker->block.rm,
                .config = config->reserve,
                .kept = { config->limits.reserve, config->limits.reserve, config->reserve.ask ? NULL : "fixed" },
        };
}

Broker *broker_new(Loop *loop, Backend *backend, const BrokerConfig *config, GError **error) {
        Broker *broker = g_new0(Broker, 1);

        if (!block_map(&broker->block, &config->limits, error)) {
                g_free(broker);
                return NULL;
        }
        broker->turn = (Turn){ .rm = broker->block.rm, .ops = &runner_turn_ops, .userdata = &broker->runner };
        broker_init_supervisor(broker, backend, config);
        broker_init_runner(broker, config);
        connections_init(&broker->connections, &broker->runner, config->max_connections);
        flushes_init(&broker->flushes, &broker->connections);
        broker->stop_ms = STOP_MS;
        return broker;
}

void broker_start(Broker *broker, void (*started)(void *userdata, TSS2_RC rc, const char *detail), void *userdata) {
        supervisor_start(&broker->supervisor, started, userdata);
}

Connection *connection_new(Broker *broker, const Peer *peer, uint32_t localities, const ConnectionOps *ops,
                           void *userdata, GError **error) {
        return connections_admit(&broker->connections, peer, localities, ops, userdata, error);
}

void broker_flush(Broker *broker, BrokerFlush *flush) {
        flushes_add(&broker->flushes, flush);
}

void broker_look(Broker *broker) {
        turn_enter(&broker->turn);
        turn_leave(&broker->turn);
}

/* Ending */

static void broker_set_stopped(Broker *broker) {
        phase_set(&broker->runner.phase, BROKER_STOPPED);
        g_clear_handle_id(&broker->stop_timer, g_source_remove);
}

/* The broker may be gone afterwards. */
static void broker_finished(void *userdata) {
        Broker *broker = userdata;

        broker_set_stopped(broker);
        broker->stopped(broker->stopped_userdata);
}

static gboolean broker_stop_late(gpointer userdata) {
        Broker *broker = userdata;

        broker->stop_timer = 0;
        log_warning("the TPM does not answer: what clients left in it stays there until the next start");
        broker_finished(broker);
        return G_SOURCE_REMOVE;
}

void broker_stop(Broker *broker, void (*stopped)(void *userdata), void *userdata) {
        if (phase_is_over(broker->runner.phase))
                return;
        phase_set(&broker->runner.phase, BROKER_STOPPING);
        watch_tell_change(&broker->watch);
        broker->stopped = stopped;
        broker->stopped_userdata = userdata;
        supervisor_stop(&broker->supervisor);
        chores_clear(&broker->runner.chores);
        broker->stop_timer = g_timeout_add(broker->stop_ms, broker_stop_late, broker);

        /* Everybody's command that has not reached the TPM ends without a word: the daemon is going. */
        turn_enter(&broker->turn);
        chores_wake(&broker->runner.chores, true);
        connections_drop(&broker->connections);
        turn_leave(&broker->turn);
}

Broker *broker_free(Broker *broker) {
        if (!broker)
                return NULL;

        /* An answer that is still to come would find nobody. */
        supervisor_clear(&broker->supervisor);
        if (broker->runner.phase != BROKER_STOPPED)
                broker_set_stopped(broker);
        connections_clear(&broker->connections);
        runner_clear(&broker->runner);
        block_unmap(&broker->block);
        g_free(broker);
        return NULL;
}

/* Questions */

bool broker_has_started(const Broker *broker) {
        return broker->supervisor.was_started || phase_is_over(broker->runner.phase);
}

uint32_t broker_max_command(const Broker *broker) {
        return rm_max_command(broker->runner.rm);
}

bool broker_implements(const Broker *broker, uint32_t code) {
        return rm_implements(broker->runner.rm, code);
}
