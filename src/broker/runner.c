/* SPDX-License-Identifier: BSD-2-Clause */
#include "broker/runner.h"

#include "broker/losses.h"
#include "tpm/header.h"

/* Ending */

/* The job is over; what its client is told comes before all else. */
static void runner_end(Runner *runner, Request *request, const RmOutput *output) {
        request->job = NULL;
        request_set_state(request, REQUEST_IDLE);
        if (runner->current == request)
                runner->current = NULL;

        if (request->owner) {
                chores_wake(&runner->chores, true);
                scheduler_ended(&runner->scheduler, request, runner->turn->now);
                runner->events->ended(runner->userdata, request, output);
                losses_log(runner->rm, &runner->losses_logged);
                return;
        }
        losses_log(runner->rm, &runner->losses_logged);
        chores_ended(&runner->chores, request->chore, output->rc, request->busy_us);
        if (request->chore == RM_CHORE_START)
                supervisor_start_ended(runner->supervisor, output->rc);
}

/* End a request that waits or pauses; it may not have the TPM working on it. */
static void runner_end_early(Runner *runner, Request *request, TSS2_RC rc) {
        RmOutput output = { .rc = rc };

        g_clear_handle_id(&request->timer, g_source_remove);
        if (request->state == REQUEST_WAITING)
                scheduler_remove(&runner->scheduler, request);
        else
                list_unlink(&request->link);
        if (request->job) {
                rm_job_cancel(runner->rm, request->job, rc, &output);
                runner_end(runner, request, &output);
        } else {
                request_set_state(request, REQUEST_IDLE);
                runner->events->ended(runner->userdata, request, &output);
        }
}

/* Stepping */

/* The TPM has answered the command that was out; or will not: @response is NULL. */
static void runner_count(Runner *runner, Request *request, const uint8_t *response, size_t n_response) {
        const RequestOwner *owner = request->owner;
        const Outgoing *outgoing = &runner->supervisor->outgoing;
        uint64_t took_us = (uint64_t)(runner->turn->now - outgoing->sent);
        TpmReader reader = TPM_READER(response, n_response);
        const BrokerRecord record = {
                .tpm = true,
                .client = owner ? owner->id : 0,
                .peer = owner ? &owner->peer : NULL,
                .locality = outgoing->locality,
                .took_us = took_us,
                .answered_us = (uint64_t)runner->turn->now,
                .command = outgoing->bytes,
                .n_command = outgoing->n_bytes,
                .response = response,
                .n_response = n_response,
        };

        histogram_add(&runner->stats->tpm, took_us);
        request->busy_us += took_us;
        rm_job_took(request->job, took_us);
        if (owner)
                runner->served_uid = owner->peer.uid;
        /* What is refused is quick, whatever it is; and a client may make up a code. */
        if (response && tpm_read_header(&reader).code == TPM2_RC_SUCCESS)
                stats_note_cost(runner->stats, outgoing->code, took_us);
        /* What is evicted for the reserve, the command before it has brought in. */
        if (owner)
                scheduler_charge(&runner->scheduler, request, took_us, runner->turn->now);
        else if (request->chore == RM_CHORE_RESERVE)
                scheduler_charge_user(&runner->scheduler, runner->served_uid, took_us, runner->turn->now);
        if (watch_wants_records(runner->watch))
                watch_tell_record(runner->watch, &record);
}

static void runner_transmit(Runner *runner, Request *request, const RmOutput *output) {
        const Outgoing outgoing = {
                .bytes = output->bytes,
                .n_bytes = output->n_bytes,
                .locality = output->own_command ? request->locality : 0,
                .code = output->code,
                .takes_long = output->takes_long,
                .peer = output->own_command ? &request->owner->peer : NULL,
        };

        request->own_out = output->own_command;
        request->cancel_sent = false;
        request->n_transmits++;
        supervisor_transmit(runner->supervisor, &outgoing);
}

static void runner_step(Runner *runner, Request *request, const uint8_t *response, size_t n_response);

static gboolean runner_pause_over(gpointer userdata) {
        Request *request = userdata;
        Runner *runner = request->runner;

        request->timer = 0;
        turn_enter(runner->turn);
        if (request == runner->current) {
                runner_step(runner, request, NULL, 0);
        } else {
                list_unlink(&request->link);
                scheduler_add_resumed(&runner->scheduler, request);
        }
        turn_leave(runner->turn);
        return G_SOURCE_REMOVE;
}

static void runner_pause(Runner *runner, Request *request, const RmOutput *output) {
        request->timer = g_timeout_add(output->pause_ms, runner_pause_over, request);
        if (output->yielding && request->owner) {
                request_set_state(request, REQUEST_PAUSED);
                list_append(&runner->paused, &request->link);
                runner->current = NULL;
        }
}

static void runner_step(Runner *runner, Request *request, const uint8_t *response, size_t n_response) {
        RmOutput output = { 0 };
        RmStep step = rm_job_step(runner->rm, request->job, response, n_response, &output);

        /* Cancelled while repairs were under way: nothing was done for the client yet, and nothing shall be. */
        if (step != RM_STEP_REPLY && request->cancel_due) {
                rm_job_cancel(runner->rm, request->job, TPM2_RC_CANCELED, &output);
                step = RM_STEP_REPLY;
        }

        switch (step) {
        case RM_STEP_TRANSMIT:
                runner_transmit(runner, request, &output);
                break;
        case RM_STEP_PAUSE:
                runner_pause(runner, request, &output);
                break;
        case RM_STEP_REPLY:
                runner_end(runner, request, &output);
                break;
        }
}

/* Beginning */

static void runner_run(Runner *runner, Request *request) {
        request_set_state(request, REQUEST_RUNNING);
        runner->current = request;
        runner_step(runner, request, NULL, 0);
}

/* The TPM must be free. Return: false when @job is NULL. */
static bool runner_run_chore(Runner *runner, RmJob *job, RmChore chore) {
        if (!job)
                return false;
        runner->chore = (Request){ .runner = runner, .chore = chore, .job = job };
        list_init(&runner->chore.link);
        runner_run(runner, &runner->chore);
        return true;
}

static bool runner_run_request(Runner *runner) {
        Request *request = scheduler_next(&runner->scheduler, runner->turn->now);

        if (!request)
                return false;
        if (!request->job) {
                request->job = rm_job_begin(runner->rm, request->owner->space, request->command, request->n_command);
                /* All slots are held by paused jobs: it stays where it is until one of them has ended. */
                if (!request->job)
                        return false;
                request->wait_us = (uint64_t)(runner->turn->now - request->submitted);
                scheduler_charge(&runner->scheduler, request, SCHEDULER_COMMAND_US, runner->turn->now);
        }
        scheduler_remove(&runner->scheduler, request);
        runner_run(runner, request);
        return true;
}

/* Whether commands can be taken. */
static bool runner_is_up(const Runner *runner) {
        return runner->phase == BROKER_SERVING && supervisor_is_up(runner->supervisor);
}

/* Return: whether anything was begun; it may be over already. */
static bool runner_next(Runner *runner) {
        RmChore chore = RM_CHORE_DUE;
        RmJob *job;

        runner->events->idle(runner->userdata);
        if (runner->phase == BROKER_STOPPING && supervisor_is_open(runner->supervisor))
                return runner_run_chore(runner, chores_begin_cleanup(&runner->chores), RM_CHORE_CLEANUP);
        if (!runner_is_up(runner))
                return false;

        job = chores_begin_urgent(&runner->chores, &chore);
        if (job)
                return runner_run_chore(runner, job, chore);
        if (runner_run_request(runner))
                return true;
        job = chores_begin_idle(&runner->chores, &chore);
        return runner_run_chore(runner, job, chore);
}

/* Turns */

/* What is answered without the TPM goes round and round here; clients, timers and the bus must have their turn too. */
#define ROUNDS_MAX 64

static gboolean runner_go_on(gpointer userdata) {
        Runner *runner = userdata;

        runner->go_on_source = 0;
        turn_enter(runner->turn);
        turn_leave(runner->turn);
        return G_SOURCE_REMOVE;
}

static gboolean runner_look(gpointer userdata) {
        Runner *runner = userdata;

        runner->look_timer = 0;
        turn_enter(runner->turn);
        turn_leave(runner->turn);
        return G_SOURCE_REMOVE;
}

/* Nothing else may happen before those that wait for room, or for another, have waited for long enough. */
static void runner_watch_scheduler(Runner *runner) {
        gint64 deadline = scheduler_deadline(&runner->scheduler);
        gint64 wait_us = MAX(deadline - runner->turn->now, 0);

        if (deadline == G_MAXINT64 || (runner->look_timer && runner->look_at <= deadline))
                return;
        g_clear_handle_id(&runner->look_timer, g_source_remove);
        runner->look_at = deadline;
        runner->look_timer = g_timeout_add((guint)(wait_us / 1000) + 1, runner_look, runner);
}

static bool runner_decide(void *userdata) {
        Runner *runner = userdata;
        unsigned n = 0;

        if (runner_is_up(runner) && reserver_look(&runner->reserver, runner->turn->now))
                chores_wake(&runner->chores, false);
        while (!runner->current && n < ROUNDS_MAX && runner_next(runner))
                n++;
        if (n == ROUNDS_MAX && !runner->current) {
                if (!runner->go_on_source)
                        runner->go_on_source = g_idle_add_full(G_PRIORITY_DEFAULT, runner_go_on, runner, NULL);
                return false;
        }
        if (runner_is_up(runner))
                chores_watch(&runner->chores);
        if (!runner->current && runner_is_up(runner)) {
                chores_rest(&runner->chores);
                if (runner->scheduler.n_waiting == 0 && list_is_empty(&runner->paused))
                        supervisor_rest(runner->supervisor);
        }
        if (!runner->current && runner_is_up(runner))
                runner_watch_scheduler(runner);
        return !runner->current;
}

static void runner_settled(void *userdata) {
        Runner *runner = userdata;

        if (runner->phase == BROKER_STOPPING)
                runner->events->finished(runner->userdata);
}

const TurnOps runner_turn_ops = { .decide = runner_decide, .settled = runner_settled };

/* What the supervisor says */

static void runner_opened(void *userdata) {
        Runner *runner = userdata;

        if (!runner_run_chore(runner, chores_begin(&runner->chores, RM_CHORE_START), RM_CHORE_START))
                supervisor_start_ended(runner->supervisor, TSS2_RC_SUCCESS);
}

static void runner_up(void *userdata, SupervisorUp how) {
        Runner *runner = userdata;

        if (how == SUPERVISOR_REOPENED)
                rm_reopened(runner->rm);
        chores_wake(&runner->chores, true);
}

static void runner_response(void *userdata, const uint8_t *response, size_t n_response) {
        Runner *runner = userdata;
        Request *request = runner->current;

        request->own_out = false;
        runner_count(runner, request, response, n_response);
        runner_step(runner, request, response, n_response);
}

/* The answer to what is out does not come; the command may have been executed. */
static void runner_lose_current(Runner *runner) {
        Request *request = runner->current;
        RmOutput output = { 0 };

        if (!request_is_at_the_tpm(request)) {
                runner_end_early(runner, request, RM_RC(TPM2_RC_INITIALIZE));
                return;
        }
        runner_count(runner, request, NULL, 0);
        rm_job_lost(runner->rm, request->job, &output);
        runner_end(runner, request, &output);
}

/* Whose command the TPM has not seen hears that it is not there, as who comes now: it was not executed. */
static void runner_lost(void *userdata) {
        Runner *runner = userdata;
        struct list *link;
        Request *request;

        if (runner->current)
                runner_lose_current(runner);
        while ((link = list_first(&runner->paused)))
                runner_end_early(runner, list_entry(link, Request, link), RM_RC(TPM2_RC_INITIALIZE));
        while ((request = scheduler_peek(&runner->scheduler)))
                runner_end_early(runner, request, RM_RC(TPM2_RC_INITIALIZE));
}

const SupervisorEvents runner_supervisor_events = {
        .opened = runner_opened,
        .up = runner_up,
        .response = runner_response,
        .lost = runner_lost,
};

/* What connections say */

bool runner_submit(Runner *runner, Request *request) {
        if (phase_is_over(runner->phase))
                request_set_state(request, REQUEST_DROPPED);
        else if (runner->phase == BROKER_SERVING && supervisor_want(runner->supervisor))
                scheduler_add(&runner->scheduler, request);
        else
                return false;
        return true;
}

bool runner_withdraw(Runner *runner, Request *request) {
        if (request->state == REQUEST_IDLE || request->state == REQUEST_DROPPED)
                return true;
        if (request->state != REQUEST_WAITING || request->job)
                return false;
        scheduler_remove(&runner->scheduler, request);
        request_set_state(request, REQUEST_IDLE);
        return true;
}

static TSS2_RC runner_cancel_current(Runner *runner, Request *request) {
        if (!request->own_out) {
                request->cancel_due = true;
                return TSS2_RC_SUCCESS;
        }
        if (!request->cancel_sent)
                request->cancel_sent = supervisor_cancel(runner->supervisor);
        return request->cancel_sent ? TSS2_RC_SUCCESS : RM_RC_NOT_IMPLEMENTED;
}

TSS2_RC runner_cancel(Runner *runner, Request *request) {
        if (request_is_at_the_tpm(request))
                return runner_cancel_current(runner, request);
        if (request_is_under_way(request))
                runner_end_early(runner, request, TPM2_RC_CANCELED);
        return TSS2_RC_SUCCESS;
}

bool runner_drop(Runner *runner, Request *request) {
        RmOutput output = { 0 };

        if (request->state == REQUEST_RUNNING)
                return false;
        g_clear_handle_id(&request->timer, g_source_remove);
        if (request->state == REQUEST_WAITING)
                scheduler_remove(&runner->scheduler, request);
        else
                list_unlink(&request->link);
        if (request->job)
                rm_job_cancel(runner->rm, request->job, TPM2_RC_CANCELED, &output);
        request->job = NULL;
        if (request_is_under_way(request))
                request_set_state(request, REQUEST_DROPPED);
        return true;
}

void runner_wake(Runner *runner) {
        chores_wake(&runner->chores, false);
}

/* Its own beginning and end */

void runner_init(Runner *runner, unsigned idle_evict_ms) {
        list_init(&runner->paused);
        scheduler_init(&runner->scheduler, runner->rm, runner->stats);
        runner->chores = (Chores){
                .rm = runner->rm,
                .turn = runner->turn,
                .evict_ms = idle_evict_ms,
                .sampler = { .rm = runner->rm, .turn = runner->turn, .on = runner->supervisor->backend->shared },
        };
}

void runner_clear(Runner *runner) {
        g_clear_handle_id(&runner->chore.timer, g_source_remove);
        g_clear_handle_id(&runner->go_on_source, g_source_remove);
        g_clear_handle_id(&runner->look_timer, g_source_remove);
        chores_clear(&runner->chores);
        scheduler_clear(&runner->scheduler);
}
