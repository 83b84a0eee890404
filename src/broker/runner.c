/* SPDX-License-Identifier: BSD-2-Clause */
#include "broker/tell.h"
#include "tpm/protocol.h"
#include "util/log.h"

/*
 * The runner: moves the one job that has the TPM, decides what is next, and minds the back end
 */

static void broker_lost(Broker *broker, const char *reason);
static void broker_schedule_reopen(Broker *broker);

static gboolean broker_tick(gpointer userdata) {
        g_autofree char *reason = NULL;
        Broker *broker = userdata;

        if (broker->backend->state != BACKEND_BUSY) {
                broker->tick_timer = 0;
                return G_SOURCE_REMOVE;
        }
        if (g_get_monotonic_time() < broker->deadline)
                return G_SOURCE_CONTINUE;

        broker->tick_timer = 0;
        reason = tell_why_late(broker);
        turn_enter(&broker->turn);
        backend_close(broker->backend);
        broker_lost(broker, reason);
        turn_leave(&broker->turn);
        return G_SOURCE_REMOVE;
}

static unsigned broker_limit_ms(const Broker *broker, TPM2_CC code) {
        switch (code) {
        case TPM2_CC_CreatePrimary:
        case TPM2_CC_Create:
        case TPM2_CC_CreateLoaded:
        case TPM2_CC_SelfTest:
        case TPM2_CC_IncrementalSelfTest:
                return broker->times.limit_long;
        default:
                return broker->times.limit;
        }
}

/* The limit is looked at by a slow tick that ends by itself: a timer for each command would cost more than the rest
 * here. */
static void broker_watch(Broker *broker, TPM2_CC code) {
        broker->code = code;
        broker->limit_ms = broker_limit_ms(broker, code);
        broker->sent = broker->turn.now;
        broker->deadline = broker->turn.now + (gint64)broker->limit_ms * 1000;
        if (!broker->tick_timer)
                broker->tick_timer = g_timeout_add(broker->times.tick, broker_tick, broker);
}

/* The TPM cannot be used, or not yet. */
static void broker_not_started(Broker *broker, TSS2_RC rc, const char *detail) {
        backend_close(broker->backend);
        if (!broker->wait) {
                broker->phase = BROKER_NEW;
        } else {
                tell_absent(broker, detail);
                broker_schedule_reopen(broker);
        }
        broker->started(broker->started_userdata, rc, detail);
}

static void broker_start_ended(Broker *broker, TSS2_RC rc) {
        g_autofree char *reason = NULL;

        if (rc != TSS2_RC_SUCCESS) {
                reason = tell_why_unusable(rc);
                broker_not_started(broker, rc, reason);
                return;
        }
        broker->phase = BROKER_RUNNING;
        tell_present(broker);
        chores_wake(&broker->chores, true);
        broker->started(broker->started_userdata, rc, NULL);
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
                tell_quota(connection, output->rc);
                connection_answer(connection, output->bytes, output->n_bytes);
                tell_losses(broker);
                return;
        }
        tell_losses(broker);

        chores_ended(&broker->chores, request->chore, output->rc);
        if (request->chore == RM_CHORE_START && broker->phase == BROKER_STARTING)
                broker_start_ended(broker, output->rc);
}

/* The TPM has answered the command that was out; or will not: @response is NULL. */
static void broker_count(Broker *broker, Request *request, const uint8_t *response, size_t n_response) {
        Connection *connection = request->connection;
        uint64_t took_us = (uint64_t)(broker->turn.now - broker->sent);
        const BrokerRecord record = {
                .tpm = true,
                .client = connection ? connection->id : 0,
                .peer = connection ? &connection->peer : NULL,
                .locality = broker->out_locality,
                .took_us = took_us,
                .answered_us = (uint64_t)broker->turn.now,
                .command = broker->out,
                .n_command = broker->n_out,
                .response = response,
                .n_response = n_response,
        };

        histogram_add(&broker->stats.tpm, took_us);
        request->busy_us += took_us;
        if (watch_wants_records(&broker->watch))
                watch_tell_record(&broker->watch, &record);
}

static void broker_transmit(Broker *broker, Request *request, const RmOutput *output) {
        uint8_t locality = output->own_command ? request->locality : 0;
        g_autoptr(GError) error = NULL;

        request->own_out = output->own_command;
        request->asked = false;
        request->n_transmits++;
        broker->out = output->bytes;
        broker->n_out = output->n_bytes;
        broker->out_locality = locality;
        broker_watch(broker, output->code);
        if (!backend_transmit(broker->backend, output->bytes, output->n_bytes, locality, &error))
                broker_lost(broker, error ? error->message : "the command could not be sent");
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
        return broker->phase == BROKER_RUNNING && broker->backend->state >= BACKEND_READY;
}

/* Return: whether anything was begun; it may be over already. */
static bool broker_next(Broker *broker) {
        RmChore chore = RM_CHORE_DUE;
        RmJob *job;

        broker_flush_all_due(broker);
        if (broker->phase == BROKER_STOPPING && broker->backend->state >= BACKEND_READY)
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

        if (!request || request->timer)
                return;

        broker->reopen_ms = broker->times.reopen_min;
        turn_enter(&broker->turn);
        request->own_out = false;
        broker_count(broker, request, response, n_response);
        broker_step(broker, request, response, n_response);
        turn_leave(&broker->turn);
}

void broker_open(Broker *broker) {
        turn_enter(&broker->turn);
        broker->opening = true;
        backend_open(broker->backend);
        turn_leave(&broker->turn);
}

static gboolean broker_reopen(gpointer userdata) {
        Broker *broker = userdata;

        broker->reopen_timer = 0;
        broker_open(broker);
        return G_SOURCE_REMOVE;
}

/* A TPM that opens and is lost again before it has answered anything is tried as seldom as one that does not open. */
static void broker_schedule_reopen(Broker *broker) {
        broker->reopen_timer = g_timeout_add(broker->reopen_ms, broker_reopen, broker);
        broker->reopen_ms = MIN(broker->reopen_ms * 2, broker->times.reopen_max);
}

static void broker_opened_event(void *userdata) {
        Broker *broker = userdata;

        turn_enter(&broker->turn);
        broker->opening = false;
        if (broker->phase == BROKER_RUNNING) {
                log_notice("the TPM is back");
                tell_present(broker);
                rm_forget_residents(broker->rm);
                chores_wake(&broker->chores, true);
        } else if (broker->phase == BROKER_STARTING &&
                   !broker_run_chore(broker, chores_begin(&broker->chores, RM_CHORE_START), RM_CHORE_START)) {
                broker_start_ended(broker, TSS2_RC_SUCCESS);
        }
        turn_leave(&broker->turn);
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

/* The back end is closed now, by itself or by us. */
static void broker_lost(Broker *broker, const char *reason) {
        bool starting = broker->phase == BROKER_STARTING;
        struct list *link;

        if (broker->phase == BROKER_RUNNING) {
                broker->stats.n_lost += !broker->told;
                tell_absent(broker, reason);
                broker_schedule_reopen(broker);
        }
        broker->opening = false;
        if (starting)
                broker->phase = BROKER_NEW; /* the end of the chore is not yet that of starting */
        if (broker->current)
                broker_lose_current(broker);
        while ((link = list_first(&broker->paused)))
                broker_end_request(broker, list_entry(link, Request, link), RM_RC(TPM2_RC_FAILURE));
        while ((link = list_first(&broker->scheduler.waiting)))
                broker_end_request(broker, list_entry(link, Request, link), RM_RC(TPM2_RC_FAILURE));
        if (starting) {
                broker->phase = BROKER_STARTING;
                broker_not_started(broker, RM_RC(TPM2_RC_FAILURE), reason);
        }
}

static void broker_lost_event(void *userdata, const char *reason) {
        Broker *broker = userdata;

        turn_enter(&broker->turn);
        broker_lost(broker, reason);
        turn_leave(&broker->turn);
}

const BackendEvents broker_events = {
        .opened = broker_opened_event,
        .response = broker_response,
        .lost = broker_lost_event,
};
