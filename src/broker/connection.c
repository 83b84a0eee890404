/* SPDX-License-Identifier: BSD-2-Clause */
#include "broker/broker-private.h"
#include "broker/policy.h"
#include "broker/refusal.h"
#include "tpm/header.h"
#include "tpm/protocol.h"
#include "tpm/writer.h"
#include "util/log.h"

Connection *connection_new(Broker *broker, const Peer *peer, uint32_t localities, const ConnectionOps *ops,
                           void *userdata, GError **error) {
        QuotaUser *charge = quota_charge(&broker->quota, peer->uid, error);
        uint32_t space = RM_NONE;
        Connection *connection;

        if (!charge) {
                broker->stats.n_refused++;
                return NULL;
        }
        if (phase_is_over(broker->phase) || rm_space_open(broker->rm, peer->uid, &space) != TSS2_RC_SUCCESS) {
                quota_release(&broker->quota, charge);
                g_set_error(error, g_quark_from_static_string("broker"), 0, "no room for one more client");
                return NULL;
        }

        connection = g_new0(Connection, 1);
        *connection = (Connection){
                .broker = broker,
                .peer = *peer,
                .localities = localities | 1,
                .ops = ops,
                .userdata = userdata,
                .charge = charge,
                .space = space,
                .id = ++broker->last_id,
                .connected = g_get_monotonic_time(),
                .request = { .broker = broker, .connection = connection },
        };
        list_init(&connection->request.link);
        list_append(&broker->connections, &connection->link);
        broker->stats.n_connections++;
        watch_tell_change(&broker->watch);
        log_debug(PEER_FORMAT " connected", PEER_ARGUMENTS(peer));
        return connection;
}

const Peer *connection_peer(const Connection *connection) {
        return &connection->peer;
}

void connection_close_space(Connection *connection) {
        Broker *broker = connection->broker;

        if (connection->space == RM_NONE)
                return;
        rm_space_close(broker->rm, connection->space);
        connection->space = RM_NONE;
        chores_wake(&broker->chores, false);
}

void connection_destroy(Connection *connection) {
        connection_close_space(connection);
        quota_release(&connection->broker->quota, connection->charge);
        list_unlink(&connection->link);
        watch_tell_change(&connection->broker->watch);
        g_free(connection);
}

Connection *connection_close(Connection *connection) {
        Broker *broker;

        if (!connection)
                return NULL;

        broker = connection->broker;
        log_debug(PEER_FORMAT " disconnected", PEER_ARGUMENTS(&connection->peer));
        turn_enter(&broker->turn);
        connection->closed = true;
        if (connection->request.state == REQUEST_IDLE || connection->request.state == REQUEST_DROPPED) {
                connection_destroy(connection);
        } else if (connection->request.state == REQUEST_WAITING && !connection->request.job) {
                scheduler_remove(&connection->request);
                connection_destroy(connection);
        }
        turn_leave(&broker->turn);
        return NULL;
}

static void connection_record(const Connection *connection, const uint8_t *bytes, size_t n_bytes) {
        const Broker *broker = connection->broker;
        const Request *request = &connection->request;
        const BrokerRecord record = {
                .client = connection->id,
                .peer = &connection->peer,
                .locality = request->locality,
                .wait_us = request->wait_us,
                .took_us = (uint64_t)(broker->turn.now - request->submitted),
                .answered_us = (uint64_t)broker->turn.now,
                .n_transmits = request->n_transmits,
                .command = request->command,
                .n_command = request->n_command,
                .response = bytes,
                .n_response = n_bytes,
        };

        watch_tell_record(&broker->watch, &record);
}

static void connection_count(Connection *connection, TSS2_RC rc) {
        Broker *broker = connection->broker;
        const Request *request = &connection->request;
        bool failed = rc != TPM2_RC_SUCCESS;
        CommandStats *command = stats_command(&broker->stats, broker->rm, request->code);

        command->n++;
        command->n_failed += failed;
        command->busy_us += request->busy_us;
        command->longest_us = MAX(command->longest_us, request->busy_us);
        broker->stats.n_commands++;
        broker->stats.n_failed += failed;
        broker->stats.n_cancelled += rc == TPM2_RC_CANCELED;
        broker->stats.n_local += request->n_transmits == 0;
        histogram_add(&broker->stats.wait, request->wait_us);
        histogram_add(&broker->stats.total, (uint64_t)(broker->turn.now - request->submitted));
        connection->n_commands++;
        connection->n_failed += failed;
        connection->n_transmits += request->n_transmits;
        connection->wait_us += request->wait_us;
        connection->busy_us += request->busy_us;
        connection->longest_wait_us = MAX(connection->longest_wait_us, request->wait_us);
}

void connection_answer(Connection *connection, const uint8_t *bytes, size_t n_bytes) {
        TpmReader reader = TPM_READER(bytes, n_bytes);

        connection_count(connection, tpm_read_header(&reader).code);
        if (connection->closed) {
                connection_destroy(connection);
                return;
        }
        if (watch_wants_records(&connection->broker->watch))
                connection_record(connection, bytes, n_bytes);
        if (phase_is_over(connection->broker->phase))
                connection_close_space(connection);
        connection->ops->reply(connection->userdata, bytes, n_bytes);
}

void connection_answer_rc(Connection *connection, TSS2_RC rc) {
        uint8_t bytes[TPM_HEADER_SIZE];
        TpmWriter writer = TPM_WRITER(bytes, sizeof(bytes));

        tpm_write_begin(&writer, TPM2_ST_NO_SESSIONS, rc);
        connection_answer(connection, bytes, tpm_write_end(&writer));
}

bool connection_submit(Connection *connection, const uint8_t *command, size_t n_command) {
        Broker *broker = connection->broker;
        Request *request = &connection->request;
        TpmReader reader = TPM_READER(command, n_command);

        if (request_is_under_way(request))
                return false;

        turn_enter(&broker->turn);
        *request = (Request){
                .state = REQUEST_IDLE,
                .broker = broker,
                .connection = connection,
                .command = command,
                .n_command = n_command,
                .locality = connection->locality,
                .code = tpm_read_header(&reader).code,
                .submitted = broker->turn.now,
        };
        list_init(&request->link);
        if (phase_is_over(broker->phase))
                request_set_state(request, REQUEST_DROPPED);
        else if (broker_is_up(broker))
                scheduler_add(&broker->scheduler, request);
        else
                connection_answer_rc(connection, RM_RC(TPM2_RC_INITIALIZE));
        turn_leave(&broker->turn);
        return true;
}

static TSS2_RC connection_cancel_running(Connection *connection) {
        Request *request = &connection->request;

        if (request->own_out) {
                if (!request->asked)
                        request->asked = supervisor_cancel(&connection->broker->supervisor);
                return request->asked ? TSS2_RC_SUCCESS : RM_RC_NOT_IMPLEMENTED;
        }
        request->cancelled = true;
        return TSS2_RC_SUCCESS;
}

TSS2_RC connection_cancel(Connection *connection) {
        Broker *broker = connection->broker;
        Request *request = &connection->request;
        TSS2_RC rc = TSS2_RC_SUCCESS;

        turn_enter(&broker->turn);
        if (request_is_at_the_tpm(request))
                rc = connection_cancel_running(connection);
        else if (request_is_under_way(request))
                broker_end_request(broker, request, TPM2_RC_CANCELED);
        turn_leave(&broker->turn);
        return rc;
}

TSS2_RC connection_set_locality(Connection *connection, uint8_t locality) {
        TSS2_RC rc = policy_locality(connection->localities, locality);

        if (rc != TSS2_RC_SUCCESS) {
                refusal_log_locality(&connection->refusals_logged, &connection->peer, locality);
                return rc;
        }
        if (locality != 0 && !supervisor_has_localities(&connection->broker->supervisor))
                return RM_RC_NOT_IMPLEMENTED;
        connection->locality = locality;
        return TSS2_RC_SUCCESS;
}
