/* SPDX-License-Identifier: BSD-2-Clause */
#include "broker/broker-private.h"
#include "broker/losses.h"
#include "broker/refusal.h"
#include "tpm/protocol.h"

/*
 * The runner: moves the one job that has the TPM, and decides what is next
 */

/* Key generation and self tests; all else is done in a moment. */
static bool command_takes_long(TPM2_CC code) {
        switch (code) {
        case TPM2_CC_CreatePrimary:
        case TPM2_CC_Create:
        case TPM2_CC_CreateLoaded:
        case TPM2_CC_SelfTest:
        case TPM2_CC_IncrementalSelfTest:
                return true;
        default:
                return false;
        }
}

/* The job is over; what its client is told comes before all else. */
static void broker_end(Broker *broker, Request *request, const RmOutput *output) {
        request->job = NULL;
        request_set_state(request, REQUEST_IDLE);
        if (broker->current == request)
                broker->current = NULL;

        if (request->connection) {
                Connection *connection = request->connection;

                chores_wake(&broker->chores, true);
                refusal_log_quota(&connection->refusals_logged, &connection->peer, output->rc);
                connection_answer(connection, output->bytes, output->n_bytes);
                losses_log(broker->rm, &broker->losses_logged);
                return;
        }
        losses_log(broker->rm, &broker->losses_logged);

        chores_ended(&broker->chores, request->chore, output->rc);
        if (request->chore == RM_CHORE_START)
                supervisor_start_ended(&broker->supervisor, output->rc);
}

/* The TPM has answered the command that was out; or will not: @response is NULL. */
static void broker_count(Broker *broker, Request *request, const uint8_t *response, size_t n_response) {
        Connection *connection = request->connection;
        const Outgoing *outgoing = &broker->supervisor.outgoing;
        uint64_t took_us = (uint64_t)(broker->turn.now - outgoing->sent);
        const BrokerRecord record = {
                .tpm = true,
                .client = connection ? connection->id : 0,
                .peer = connection ? &connection->peer : NULL,
                .locality = outgoing->locality,
                .took_us = took_us,
                .answered_us = (uint64_t)broker->turn.now,
                .command = outgoing->bytes,
                .n_command = outgoing->n_bytes,
                .response = response,
                .n_response = n_response,
        };

        histogram_add(&broker->stats.tpm, took_us);
        request->busy_us += took_us;
        if (watch_wants_records(&broker->watch))
                watch_tell_record(&broker->watch, &record);
}

static void broker_transmit(Broker *broker, Request *request, const RmOutput *output) {
        const Outgoing outgoing = {
                .bytes = output->bytes,
                .n_bytes = output->n_bytes,
                .locality = output->own_command ? request->locality : 0,
                .code = output->code,
                .takes_long = command_takes_long(output->code),
                .peer = output->own_command ? &request->connection->peer : NULL,
        };

        request->own_out = output->own_command;
        request->asked = false;
        request->n_transmits++;
        supervisor_transmit(&broker->supervisor, &outgoing);
}

static void broker_step(Broker *broker, Request *request, const uint8_t *response, size_t n_response);

static gboolean broker_pause_over(gpointer userdata) {
        Request *request = userdata;
        Broker *broker = request->broker;

        request->timer = 0;
        turn_enter(&broker->turn);
        if (request == broker->current) {
                broker_step(broker, request, NULL, 0);
        } else {
                list_unlink(&request->link);
                scheduler_add_first(&broker->scheduler, request);
        }
        turn_leave(&broker->turn);
        return G_SOURCE_REMOVE;
}

static void broker_pause(Broker *broker, Request *request, const RmOutput *output) {
        request->timer = g_timeout_add(output->pause_ms, broker_pause_over, request);
        if (output->yielding && request->connection) {
                request_set_state(request, REQUEST_PAUSED);
                list_append(&broker->paused, &request->link);
                broker->current = NULL;
        }
}

static void broker_step(Broker *broker, Request *request, const uint8_t *response, size_t n_response) {
        RmOutput output = { 0 };
        RmStep step = rm_job_step(broker->rm, request->job, response, n_response, &output);

        /* Cancelled while repairs were under way: nothing was done for the client yet, and nothing shall be. */
        if (step != RM_STEP_REPLY && request->cancelled) {
                rm_job_cancel(broker->rm, request->job, TPM2_RC_CANCELED, &output);
                step = RM_STEP_REPLY;
        }

        switch (step) {
        case RM_STEP_TRANSMIT:
                broker_transmit(broker, request, &output);
                break;
        case RM_STEP_PAUSE:
                broker_pause(broker, request, &output);
                break;
        case RM_STEP_REPLY:
                broker_end(broker, request, &output);
                break;
        }
}

void broker_end_request(Broker *broker, Request *request, TSS2_RC rc) {
        RmOutput output = { 0 };

        g_clear_handle_id(&request->timer, g_source_remove);
        list_unlink(&request->link);
        if (request->job) {
                rm_job_cancel(broker->rm, request->job, rc, &output);
                broker_end(broker, request, &output);
        } else {
                request_set_state(request, REQUEST_IDLE);
                connection_answer_rc(request->connection, rc);
        }
}

static void broker_run(Broker *broker, Request *request) {
        request_set_state(request, REQUEST_RUNNING);
        broker->current = request;
        broker_step(broker, request, NULL, 0);
}

bool broker_run_chore(Broker *broker, RmJob *job, RmChore chore) {
        if (!job)
                return false;
        broker->chore = (Request){ .broker = broker, .chore = chore, .job = job };
        list_init(&broker->chore.link);
        broker_run(broker, &broker->chore);
        return true;
}

static bool broker_run_request(Broker *broker) {
        Request *request = scheduler_peek(&broker->scheduler);

        if (!request)
                return false;
        if (!request->job) {
                request->job =
                        rm_job_begin(broker->rm, request->connection->space, request->command, request->n_command);
                /* All slots are held by paused jobs: it stays where it is until one of them has ended. */
                if (!request->job)
                        return false;
                request->wait_us = (uint64_t)(broker->turn.now - request->submitted);
        }
        scheduler_remove(request);
        broker_run(broker, request);
        return true;
}

bool broker_is_up(const Broker *broker) {
        return broker->phase == BROKER_SERVING && supervisor_is_up(&broker->supervisor);
}

/* Return: whether anything was begun; it may be over already. */
static bool broker_next(Broker *broker) {
        RmChore chore = RM_CHORE_DUE;
        RmJob *job;

        broker_flush_all_due(broker);
        if (broker->phase == BROKER_STOPPING && supervisor_is_open(&broker->supervisor))
                return broker_run_chore(broker, chores_begin_cleanup(&broker->chores), RM_CHORE_CLEANUP);
        if (!broker_is_up(broker))
                return false;

        job = chores_begin_urgent(&broker->chores, &chore);
        if (job)
                return broker_run_chore(broker, job, chore);
        if (broker_run_request(broker))
                return true;
        job = chores_begin_idle(&broker->chores, &chore);
        return broker_run_chore(broker, job, chore);
}

/* What is answered without the TPM goes round and round here; clients, timers and the bus must have their turn too. */
#define ROUNDS_MAX 64

static gboolean broker_go_on(gpointer userdata) {
        Broker *broker = userdata;

        broker->more = 0;
        turn_enter(&broker->turn);
        turn_leave(&broker->turn);
        return G_SOURCE_REMOVE;
}

static bool broker_decide(void *userdata) {
        Broker *broker = userdata;
        unsigned n = 0;

        while (!broker->current && n < ROUNDS_MAX && broker_next(broker))
                n++;
        if (n == ROUNDS_MAX && !broker->current) {
                if (!broker->more)
                        broker->more = g_idle_add_full(G_PRIORITY_DEFAULT, broker_go_on, broker, NULL);
                return false;
        }
        if (!broker->current && broker_is_up(broker))
                chores_rest(&broker->chores);
        return !broker->current;
}

static void broker_settled(void *userdata) {
        Broker *broker = userdata;

        if (broker->phase == BROKER_STOPPING)
                broker_finish_stop(broker);
}

const TurnOps broker_turn_ops = { .decide = broker_decide, .settled = broker_settled };

static void broker_response(void *userdata, const uint8_t *response, size_t n_response) {
        Broker *broker = userdata;
        Request *request = broker->current;

        request->own_out = false;
        broker_count(broker, request, response, n_response);
        broker_step(broker, request, response, n_response);
}

static void broker_opened(void *userdata) {
        Broker *broker = userdata;

        if (!broker_run_chore(broker, chores_begin(&broker->chores, RM_CHORE_START), RM_CHORE_START))
                supervisor_start_ended(&broker->supervisor, TSS2_RC_SUCCESS);
}

static void broker_up(void *userdata, bool again) {
        Broker *broker = userdata;

        if (again)
                rm_forget_residents(broker->rm);
        chores_wake(&broker->chores, true);
}

/* The answer to what is out does not come; the command may have been executed. */
static void broker_lose_current(Broker *broker) {
        Request *request = broker->current;
        RmOutput output = { 0 };

        if (request->timer) {
                broker_end_request(broker, request, RM_RC(TPM2_RC_FAILURE));
                return;
        }
        broker_count(broker, request, NULL, 0);
        rm_job_lost(broker->rm, request->job, &output);
        broker_end(broker, request, &output);
}

static void broker_lost(void *userdata) {
        Broker *broker = userdata;
        struct list *link;

        if (broker->current)
                broker_lose_current(broker);
        while ((link = list_first(&broker->paused)))
                broker_end_request(broker, list_entry(link, Request, link), RM_RC(TPM2_RC_FAILURE));
        while ((link = list_first(&broker->scheduler.waiting)))
                broker_end_request(broker, list_entry(link, Request, link), RM_RC(TPM2_RC_FAILURE));
}

const SupervisorEvents broker_supervisor_events = {
        .opened = broker_opened,
        .up = broker_up,
        .response = broker_response,
        .lost = broker_lost,
};
