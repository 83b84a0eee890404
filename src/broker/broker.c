/* SPDX-License-Identifier: BSD-2-Clause */
#include "broker/broker-private.h"
#include "tpm/protocol.h"
#include "util/fd.h"
#include "util/log.h"
#include "util/platform.h"

#include <fcntl.h>
#include <sys/mman.h>

#define STOP_MS (8 * 1000)

static const SupervisorTimes supervisor_times = {
        .limit = LIMIT_S * 1000,
        .limit_long = LIMIT_LONG_S * 1000,
        .tick = 1000,
        .reopen_min = 200,
        .reopen_max = 10 * 1000,
};

/*
 * The resource manager's state lies in a file of memory that can outlive the process. Its size is sealed, so that
 * nobody who holds it can take the pages away, and it stays out of core dumps.
 */
static bool broker_map(Broker *broker, const RmLimits *limits, GError **error) {
        fd_auto fd = memfd_create("tpm2-abrmd", MFD_CLOEXEC | MFD_ALLOW_SEALING);
        size_t size = rm_size(limits);
        void *block;

        if (size == 0) {
                g_set_error_literal(error, g_quark_from_static_string("broker"), EINVAL, "limits out of range");
                return false;
        }
        if (fd < 0 || ftruncate(fd, (off_t)size) < 0 || fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) < 0) {
                g_set_error(error, g_quark_from_static_string("broker"), errno, "%zu bytes of memory: %s", size,
                            g_strerror(errno));
                return false;
        }
        block = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        if (block == MAP_FAILED) {
                g_set_error(error, g_quark_from_static_string("broker"), errno, "%zu bytes of memory: %s", size,
                            g_strerror(errno));
                return false;
        }
        platform_hide_memory(block, size);

        broker->rm = rm_init(block, limits);
        if (!broker->rm) {
                munmap(block, size);
                g_set_error_literal(error, g_quark_from_static_string("broker"), EINVAL, "limits out of range");
                return false;
        }
        broker->n_rm = size;
        broker->rm_fd = fd_steal(&fd);
        return true;
}

static void broker_supervise(Broker *broker, Backend *backend, const BrokerConfig *config) {
        broker->supervisor = (Supervisor){
                .backend = backend,
                .turn = &broker->turn,
                .watch = &broker->watch,
                .stats = &broker->stats,
                .wait = config->wait,
                .times = supervisor_times,
                .events = &broker_supervisor_events,
                .userdata = broker,
        };
        if (config->limit_ms)
                broker->supervisor.times.limit = config->limit_ms;
        if (config->limit_long_ms)
                broker->supervisor.times.limit_long = config->limit_long_ms;
        supervisor_init(&broker->supervisor);
}

Broker *broker_new(Loop *loop, Backend *backend, const BrokerConfig *config, GError **error) {
        Broker *broker = g_new0(Broker, 1);

        broker->stop_ms = STOP_MS;
        broker->rm_fd = -1;
        list_init(&broker->connections);
        list_init(&broker->paused);
        list_init(&broker->flushes);
        scheduler_init(&broker->scheduler);
        quota_init(&broker->quota, config->max_connections);
        if (!broker_map(broker, &config->limits, error)) {
                quota_clear(&broker->quota);
                g_free(broker);
                return NULL;
        }

        rm_set_reserve(broker->rm, config->reserve);
        rm_set_flush_all(broker->rm, config->flush_all);
        broker->chores = (Chores){
                .rm = broker->rm,
                .evict_ms = config->idle_evict_ms,
                .turn = &broker->turn,
        };
        broker->turn = (Turn){ .rm = broker->rm, .ops = &broker_turn_ops, .userdata = broker };
        broker_supervise(broker, backend, config);
        return broker;
}

Broker *broker_free(Broker *broker) {
        if (!broker)
                return NULL;

        /* An answer that is still to come would find nobody. */
        supervisor_clear(&broker->supervisor);
        if (broker->phase != BROKER_STOPPED)
                phase_set(&broker->phase, BROKER_STOPPED);
        list_for_each(link, &broker->connections) {
                Connection *connection = list_entry(link, Connection, link);

                g_clear_handle_id(&connection->request.timer, g_source_remove);
                if (connection->closed)
                        g_free(connection);
        }
        g_clear_handle_id(&broker->chore.timer, g_source_remove);
        g_clear_handle_id(&broker->stop_timer, g_source_remove);
        g_clear_handle_id(&broker->more, g_source_remove);
        chores_clear(&broker->chores);
        quota_clear(&broker->quota);
        munmap(broker->rm, broker->n_rm);
        fd_close(broker->rm_fd);
        g_free(broker);
        return NULL;
}

void broker_start(Broker *broker, void (*started)(void *userdata, TSS2_RC rc, const char *detail), void *userdata) {
        supervisor_start(&broker->supervisor, started, userdata);
}

bool broker_has_started(const Broker *broker) {
        return broker->supervisor.was_started || phase_is_over(broker->phase);
}

void broker_finish_stop(Broker *broker) {
        phase_set(&broker->phase, BROKER_STOPPED);
        g_clear_handle_id(&broker->stop_timer, g_source_remove);
        broker->stopped(broker->stopped_userdata);
}

static gboolean broker_stop_late(gpointer userdata) {
        Broker *broker = userdata;

        broker->stop_timer = 0;
        log_warning("the TPM does not answer: what clients left in it stays there until the next start");
        broker_finish_stop(broker);
        return G_SOURCE_REMOVE;
}

/* Everybody's command that has not reached the TPM ends without a word: the daemon is going. */
static void broker_drop(Connection *connection) {
        Request *request = &connection->request;
        RmOutput output = { 0 };

        if (request->state == REQUEST_RUNNING)
                return;
        g_clear_handle_id(&request->timer, g_source_remove);
        list_unlink(&request->link);
        if (request->job)
                rm_job_cancel(connection->broker->rm, request->job, TPM2_RC_CANCELED, &output);
        request->job = NULL;
        if (request_is_under_way(request))
                request_set_state(request, REQUEST_DROPPED);
        if (connection->closed)
                connection_destroy(connection);
        else
                connection_close_space(connection);
}

void broker_stop(Broker *broker, void (*stopped)(void *userdata), void *userdata) {
        if (phase_is_over(broker->phase))
                return;
        phase_set(&broker->phase, BROKER_STOPPING);
        watch_tell_change(&broker->watch);
        broker->stopped = stopped;
        broker->stopped_userdata = userdata;
        supervisor_stop(&broker->supervisor);
        chores_clear(&broker->chores);
        broker->stop_timer = g_timeout_add(broker->stop_ms, broker_stop_late, broker);

        turn_enter(&broker->turn);
        chores_wake(&broker->chores, true);
        list_for_each(link, &broker->connections) broker_drop(list_entry(link, Connection, link));
        turn_leave(&broker->turn);
}

uint32_t broker_max_command(const Broker *broker) {
        return rm_max_command(broker->rm);
}

bool broker_implements(const Broker *broker, uint32_t code) {
        return rm_implements(broker->rm, code);
}
