/* SPDX-License-Identifier: BSD-2-Clause */
#include "broker/connection-internal.h"
#include "broker/policy.h"
#include "broker/refusal.h"
#include "tpm/header.h"
#include "tpm/writer.h"
#include "util/log.h"

/* Beginning */

/* The one that is away for longest, of a user, or of all. Return: NULL when there is none. */
static Connection *connections_find_away(const Connections *connections, const uid_t *uid) {
        Connection *found = NULL;

        list_for_each(link, &connections->all) {
                Connection *connection = list_entry(link, Connection, link);

                /* What runs would have to end first. */
                if (!connection->given_up || connection->stale || (uid && connection->owner.peer.uid != *uid))
                        continue;
                if (!found || connection->left < found->left)
                        found = connection;
        }
        return found;
}

/* Whoever is away gives way to who is there: to the same user, or where all places are taken. */
static QuotaUser *connections_charge(Connections *connections, uid_t uid, GError **error) {
        for (;;) {
                g_autoptr(GError) cause = NULL;
                QuotaUser *charge = quota_charge(&connections->quota, uid, &cause);
                bool full = connections->quota.n_connections >= connections->quota.max_connections;
                Connection *away;

                if (charge)
                        return charge;
                away = connections_find_away(connections, &uid);
                if (!away && full)
                        away = connections_find_away(connections, NULL);
                if (!away) {
                        g_propagate_error(error, g_steal_pointer(&cause));
                        return NULL;
                }
                away->given_up(away->userdata);
                connection_close(away);
        }
}

Connection *connections_admit(Connections *connections, const Peer *peer, uint32_t localities, const ConnectionOps *ops,
                              void *userdata, GError **error) {
        QuotaUser *charge = connections_charge(connections, peer->uid, error);
        Runner *runner = connections->runner;
        uint32_t space = RM_NONE;
        Connection *connection;

        if (!charge) {
                runner->stats->n_refused++;
                return NULL;
        }
        if (phase_is_over(runner->phase) || rm_space_open(runner->rm, peer->uid, &space) != TSS2_RC_SUCCESS) {
                quota_release(charge);
                g_set_error(error, g_quark_from_static_string("broker"), 0, "no room for one more client");
                return NULL;
        }

        connection = g_new0(Connection, 1);
        *connection = (Connection){
                .connections = connections,
                .owner = { .id = ++connections->last_id, .peer = *peer, .space = space },
                .request = { .runner = runner, .owner = &connection->owner },
                .localities = localities | 1,
                .ops = ops,
                .userdata = userdata,
                .charge = charge,
                .connected = g_get_monotonic_time(),
        };
        connection->account = accounts_open(&connections->accounts, peer, connection->connected);
        list_init(&connection->request.link);
        list_append(&connections->all, &connection->link);
        runner->stats->n_connections++;
        watch_tell_change(runner->watch);
        log_debug(PEER_FORMAT " connected", PEER_ARGUMENTS(peer));
        return connection;
}

const Peer *connection_peer(const Connection *connection) {
        return &connection->owner.peer;
}

/* Ending */

static void connection_close_space(Connection *connection) {
        Runner *runner = connection->connections->runner;

        if (connection->owner.space == RM_NONE)
                return;
        scheduler_forget(&runner->scheduler, connection->owner.space);
        rm_space_close(runner->rm, connection->owner.space);
        connection->owner.space = RM_NONE;
        runner_wake(runner);
}

Charge *connection_take_charge(Connection *connection) {
        Charge *charge = connection->charge;

        connection->charge = NULL;
        return charge;
}

void charge_return(Charge *charge) {
        quota_release(charge);
}

/* It has no request under way. */
static void connection_destroy(Connection *connection) {
        connection_close_space(connection);
        quota_release(connection->charge);
        list_unlink(&connection->link);
        watch_tell_change(connection->connections->runner->watch);
        g_free(connection);
}

Connection *connection_close(Connection *connection) {
        Runner *runner;

        if (!connection)
                return NULL;

        runner = connection->connections->runner;
        log_debug(PEER_FORMAT " disconnected", PEER_ARGUMENTS(&connection->owner.peer));
        accounts_close(&connection->connections->accounts, connection->account);
        turn_enter(runner->turn);
        connection->closed = true;
        if (runner_withdraw(runner, &connection->request))
                connection_destroy(connection);
        turn_leave(runner->turn);
        return NULL;
}

void connection_leave(Connection *connection, void (*given_up)(void *userdata), void *userdata) {
        Runner *runner = connection->connections->runner;

        log_debug(PEER_FORMAT " left, and may come back", PEER_ARGUMENTS(&connection->owner.peer));
        turn_enter(runner->turn);
        connection->given_up = given_up;
        connection->userdata = userdata;
        connection->left = g_get_monotonic_time();
        connection->next = NULL;
        connection->locality = 0;
        connection->stale = !runner_withdraw(runner, &connection->request);
        connection->request.command = NULL; /* a job that has begun has a copy */
        connection->request.n_command = 0;
        turn_leave(runner->turn);
}

void connection_return(Connection *connection, const ConnectionOps *ops, void *userdata) {
        log_debug(PEER_FORMAT " is back", PEER_ARGUMENTS(&connection->owner.peer));
        connection->given_up = NULL;
        connection->ops = ops;
        connection->userdata = userdata;
}

static void connection_drop(Connection *connection) {
        if (!runner_drop(connection->connections->runner, &connection->request))
                return;
        if (connection->closed)
                connection_destroy(connection);
        else
                connection_close_space(connection);
}

/* Answers */

static void connection_record(const Connection *connection, const uint8_t *bytes, size_t n_bytes) {
        const Runner *runner = connection->connections->runner;
        const Request *request = &connection->request;
        const BrokerRecord record = {
                .client = connection->owner.id,
                .peer = &connection->owner.peer,
                .locality = request->locality,
                .wait_us = request->wait_us,
                .took_us = (uint64_t)(runner->turn->now - request->submitted),
                .answered_us = (uint64_t)runner->turn->now,
                .n_transmits = request->n_transmits,
                .command = request->command,
                .n_command = request->n_command,
                .response = bytes,
                .n_response = n_bytes,
        };

        watch_tell_record(runner->watch, &record);
}

static void connection_count(Connection *connection, TSS2_RC rc) {
        const Runner *runner = connection->connections->runner;
        const Request *request = &connection->request;
        bool failed = rc != TPM2_RC_SUCCESS;
        const Usage usage = {
                .n_commands = 1,
                .n_failed = failed,
                .n_transmits = request->n_transmits,
                .wait_us = request->wait_us,
                .longest_wait_us = request->wait_us,
                .busy_us = request->busy_us,
        };
        Stats *stats = runner->stats;
        CommandStats *command = stats_command(stats, runner->rm, request->code);

        command->n++;
        command->n_failed += failed;
        command->busy_us += request->busy_us;
        command->longest_us = MAX(command->longest_us, request->busy_us);
        stats->n_commands++;
        stats->n_failed += failed;
        stats->n_cancelled += rc == TPM2_RC_CANCELED;
        stats->n_local += request->n_transmits == 0;
        histogram_add(&stats->wait, request->wait_us);
        histogram_add(&stats->total, (uint64_t)(runner->turn->now - request->submitted));
        usage_add(&connection->usage, &usage);
        accounts_charge(&connection->connections->accounts, connection->account, &usage, runner->turn->now);
}

/* What ran when the client left is over. The connection may be gone afterwards. */
static void connection_go_on(Connection *connection) {
        const uint8_t *next = connection->next;

        connection->stale = false;
        connection->next = NULL;
        if (next)
                (void)connection_submit(connection, next, connection->n_next);
}

/* The connection may be gone afterwards. */
static void connection_answer(Connection *connection, const uint8_t *bytes, size_t n_bytes) {
        const Runner *runner = connection->connections->runner;
        TpmReader reader = TPM_READER(bytes, n_bytes);

        connection_count(connection, tpm_read_header(&reader).code);
        if (connection->closed) {
                connection_destroy(connection);
                return;
        }
        if (watch_wants_records(runner->watch) && !connection->stale)
                connection_record(connection, bytes, n_bytes);
        if (phase_is_over(runner->phase))
                connection_close_space(connection);
        if (connection->stale)
                connection_go_on(connection);
        else
                connection->ops->reply(connection->userdata, bytes, n_bytes);
}

static void connection_answer_rc(Connection *connection, TSS2_RC rc) {
        uint8_t bytes[TPM_HEADER_SIZE];
        TpmWriter writer = TPM_WRITER(bytes, sizeof(bytes));

        tpm_write_begin(&writer, TPM2_ST_NO_SESSIONS, rc);
        connection_answer(connection, bytes, tpm_write_end(&writer));
}

void connection_ended(void *userdata, Request *request, const RmOutput *output) {
        Connection *connection = list_entry(request, Connection, request);

        refusal_log_quota(&connection->refusals_logged, &connection->owner.peer, output->rc);
        if (output->n_bytes > 0)
                connection_answer(connection, output->bytes, output->n_bytes);
        else
                connection_answer_rc(connection, output->rc);
}

/* What clients ask */

bool connection_submit(Connection *connection, const uint8_t *command, size_t n_command) {
        Runner *runner = connection->connections->runner;
        Request *request = &connection->request;
        TpmReader reader = TPM_READER(command, n_command);

        if (request_is_under_way(request)) {
                if (!connection->stale || connection->next)
                        return false;
                connection->next = command;
                connection->n_next = n_command;
                return true;
        }

        turn_enter(runner->turn);
        *request = (Request){
                .state = REQUEST_IDLE,
                .runner = runner,
                .owner = &connection->owner,
                .command = command,
                .n_command = n_command,
                .locality = connection->locality,
                .code = tpm_read_header(&reader).code,
                .submitted = runner->turn->now,
        };
        list_init(&request->link);
        if (!runner_submit(runner, request))
                connection_answer_rc(connection, RM_RC(TPM2_RC_INITIALIZE));
        turn_leave(runner->turn);
        return true;
}

/* The connection may be gone afterwards. */
static void connection_cancel_next(Connection *connection) {
        uint8_t bytes[TPM_HEADER_SIZE];
        TpmWriter writer = TPM_WRITER(bytes, sizeof(bytes));

        connection->next = NULL;
        tpm_write_begin(&writer, TPM2_ST_NO_SESSIONS, TPM2_RC_CANCELED);
        connection->ops->reply(connection->userdata, bytes, tpm_write_end(&writer));
}

TSS2_RC connection_cancel(Connection *connection) {
        Runner *runner = connection->connections->runner;
        TSS2_RC rc = TSS2_RC_SUCCESS;

        turn_enter(runner->turn);
        if (!connection->stale)
                rc = runner_cancel(runner, &connection->request);
        else if (connection->next)
                connection_cancel_next(connection);
        turn_leave(runner->turn);
        return rc;
}

TSS2_RC connection_set_locality(Connection *connection, uint8_t locality) {
        TSS2_RC rc = policy_locality(connection->localities, locality);

        if (rc != TSS2_RC_SUCCESS) {
                refusal_log_locality(&connection->refusals_logged, &connection->owner.peer, locality);
                return rc;
        }
        if (locality != 0 && !supervisor_has_localities(connection->connections->runner->supervisor))
                return RM_RC_NOT_IMPLEMENTED;
        connection->locality = locality;
        return TSS2_RC_SUCCESS;
}

/* All of them */

Connection *connections_find(const Connections *connections, uint64_t id) {
        list_for_each(link, &connections->all) {
                Connection *connection = list_entry(link, Connection, link);

                if (connection->owner.id == id && !connection->closed && connection->owner.space != RM_NONE)
                        return connection;
        }
        return NULL;
}

void connections_drop(Connections *connections) {
        list_for_each(link, &connections->all) connection_drop(list_entry(link, Connection, link));
}

void connections_init(Connections *connections, Runner *runner, uint32_t max_connections) {
        connections->runner = runner;
        list_init(&connections->all);
        quota_init(&connections->quota, max_connections);
}

void connections_clear(Connections *connections) {
        list_for_each(link, &connections->all) {
                Connection *connection = list_entry(link, Connection, link);

                g_clear_handle_id(&connection->request.timer, g_source_remove);
                if (!connection->closed)
                        continue;
                quota_release(connection->charge);
                g_free(connection);
        }
        quota_clear(&connections->quota);
}
