/* SPDX-License-Identifier: BSD-2-Clause */
#include "broker/supervisor.h"

#include "tpm/header.h"
#include "util/log.h"
#include "util/transition.h"

#define CODE_1_2_LAST 0x7f        /* a TPM 2.0 has none of these but BAD_TAG, which it has for what nobody sends */
#define TESTING_US G_USEC_PER_SEC /* after which the log says that the TPM tests itself */

static const uint8_t supervisor_transitions[][2] = {
        { SUPERVISOR_CLOSED, SUPERVISOR_OPENING },   { SUPERVISOR_OPENING, SUPERVISOR_STARTING },
        { SUPERVISOR_OPENING, SUPERVISOR_UP },       { SUPERVISOR_OPENING, SUPERVISOR_ABSENT },
        { SUPERVISOR_OPENING, SUPERVISOR_CLOSED },   { SUPERVISOR_STARTING, SUPERVISOR_ABSENT },
        { SUPERVISOR_STARTING, SUPERVISOR_CLOSED },  { SUPERVISOR_STARTING, SUPERVISOR_UP },
        { SUPERVISOR_STARTING, SUPERVISOR_LEAVING }, { SUPERVISOR_UP, SUPERVISOR_ABSENT },
        { SUPERVISOR_UP, SUPERVISOR_LEAVING },       { SUPERVISOR_ABSENT, SUPERVISOR_OPENING },
        { SUPERVISOR_ABSENT, SUPERVISOR_CLOSED },    { SUPERVISOR_LEAVING, SUPERVISOR_CLOSED },
        { SUPERVISOR_UP, SUPERVISOR_LATE },          { SUPERVISOR_LATE, SUPERVISOR_UP },
        { SUPERVISOR_LATE, SUPERVISOR_ABSENT },      { SUPERVISOR_LATE, SUPERVISOR_CLOSED },
};

static void supervisor_set_state(Supervisor *supervisor, SupervisorState state) {
        transition_check("the supervisor", supervisor_transitions, G_N_ELEMENTS(supervisor_transitions),
                         supervisor->state, state);
        supervisor->state = state;
}

bool supervisor_is_up(const Supervisor *supervisor) {
        return supervisor->state == SUPERVISOR_UP;
}

bool supervisor_is_open(const Supervisor *supervisor) {
        return supervisor->state == SUPERVISOR_STARTING || supervisor->state == SUPERVISOR_UP ||
               supervisor->state == SUPERVISOR_LEAVING;
}

bool supervisor_has_localities(const Supervisor *supervisor) {
        return supervisor->backend->localities;
}

/* Why there is a TPM, and why there is none */

static void supervisor_log_absent(Supervisor *supervisor, const char *reason) {
        /* Who has a busy device is said at the first try only; what comes then is the first part of that. */
        if (supervisor->reason && g_str_has_prefix(supervisor->reason, reason))
                return;
        if (!supervisor->was_started)
                log_limited(LOG_NOTICE, "waiting for a TPM: %s", reason);
        else if (!supervisor->reason)
                log_error("the TPM is lost: %s; until it is back commands are answered 0x%x", reason,
                          RM_RC(TPM2_RC_INITIALIZE));
        else
                log_limited(LOG_NOTICE, "the TPM is not back: %s", reason);
        g_free(supervisor->reason);
        supervisor->reason = g_strdup(reason);
        watch_tell_change(supervisor->watch);
}

static void supervisor_forget_reason(Supervisor *supervisor) {
        g_clear_pointer(&supervisor->reason, g_free);
        watch_tell_change(supervisor->watch);
}

static char *reason_late(const Outgoing *outgoing, const SupervisorTimes *times) {
        const Peer *peer = outgoing->peer;
        g_autofree char *whose =
                peer ? g_strdup_printf(PEER_FORMAT, PEER_ARGUMENTS(peer)) : g_strdup("the daemon's own");

        return g_strdup_printf("no answer to command 0x%x of %s within %g s (%s)", outgoing->code, whose,
                               outgoing->limit_ms / 1000.0,
                               outgoing->limit_ms == times->limit ? "--time-limit" : "--time-limit-long");
}

static char *reason_unusable(TSS2_RC rc) {
        if (rc == TPM2_RC_FAILURE)
                return g_strdup("it is in failure mode (0x101), which ends when the machine is switched off and on");
        if (rc == TPM2_RC_UPGRADE)
                return g_strdup("it is in field upgrade mode (0x12d): its vendor's program has to write its firmware");
        if (rc == TPM2_RC_TESTING)
                return g_strdup("it is testing itself (0x90a)");
        if (rc <= CODE_1_2_LAST)
                return g_strdup_printf("it is a TPM 1.2 (0x%x), and a TPM 2.0 is needed", rc);
        return g_strdup_printf("it answers 0x%x", rc);
}

/* Opening */

static void supervisor_open(Supervisor *supervisor) {
        turn_enter(supervisor->turn);
        supervisor_set_state(supervisor, SUPERVISOR_OPENING);
        backend_open(supervisor->backend);
        turn_leave(supervisor->turn);
}

static gboolean supervisor_reopen(gpointer userdata) {
        Supervisor *supervisor = userdata;

        supervisor->reopen_timer = 0;
        supervisor_open(supervisor);
        return G_SOURCE_REMOVE;
}

/* A TPM that opens and is lost again before it has answered anything is tried as seldom as one that does not open. */
static void supervisor_schedule_reopen(Supervisor *supervisor) {
        supervisor->reopen_timer = g_timeout_add(supervisor->reopen_ms, supervisor_reopen, supervisor);
        supervisor->reopen_ms = MIN(supervisor->reopen_ms * 2, supervisor->times.reopen_max);
}

static void supervisor_up(Supervisor *supervisor, SupervisorUp how) {
        supervisor_set_state(supervisor, SUPERVISOR_UP);
        supervisor->was_started = true;
        supervisor_forget_reason(supervisor);
        supervisor->events->up(supervisor->userdata, how);
}

static void supervisor_opened(void *userdata) {
        Supervisor *supervisor = userdata;

        turn_enter(supervisor->turn);
        if (supervisor->was_started) {
                if (supervisor->mode != TPM2_RC_UPGRADE)
                        log_notice("the TPM is back");
                supervisor_up(supervisor, SUPERVISOR_REOPENED);
        } else {
                supervisor_set_state(supervisor, SUPERVISOR_STARTING);
                supervisor->testing_since = 0;
                supervisor->events->opened(supervisor->userdata);
        }
        turn_leave(supervisor->turn);
}

/* Losing */

/* Of no TPM that was never there: one whose configuration is a mistake would be waited for in vain. */
static bool supervisor_waits(const Supervisor *supervisor) {
        return supervisor->wait && !supervisor->backend->misconfigured;
}

/* The TPM cannot be used, or not yet. */
static void supervisor_not_started(Supervisor *supervisor, TSS2_RC rc, const char *detail) {
        if (supervisor_waits(supervisor)) {
                supervisor_log_absent(supervisor, detail);
                supervisor_schedule_reopen(supervisor);
        }
        supervisor->started(supervisor->started_userdata, rc, detail);
}

/* The back end is closed now, by itself or by us. */
static void supervisor_lose(Supervisor *supervisor, const char *reason) {
        bool is_leaving = supervisor->state == SUPERVISOR_LEAVING;
        bool is_new = supervisor->state != SUPERVISOR_LATE;

        supervisor->is_out = false;
        if (is_leaving) {
                supervisor_set_state(supervisor, SUPERVISOR_CLOSED);
        } else if (supervisor->was_started) {
                supervisor_set_state(supervisor, SUPERVISOR_ABSENT);
                supervisor->stats->n_lost += !supervisor->reason;
                supervisor_log_absent(supervisor, reason);
                supervisor_schedule_reopen(supervisor);
        } else {
                supervisor_set_state(supervisor, supervisor_waits(supervisor) ? SUPERVISOR_ABSENT : SUPERVISOR_CLOSED);
        }
        if (is_new)
                supervisor->events->lost(supervisor->userdata);
        if (!is_leaving && !supervisor->was_started)
                supervisor_not_started(supervisor, RM_RC(TPM2_RC_FAILURE), reason);
}

static void supervisor_lost(void *userdata, const char *reason) {
        Supervisor *supervisor = userdata;

        turn_enter(supervisor->turn);
        supervisor_lose(supervisor, reason);
        turn_leave(supervisor->turn);
}

/* Commands */

/* It is let go of only when it does not answer for as long again: what it holds would be in doubt then. */
static void supervisor_await_late(Supervisor *supervisor, const char *reason) {
        turn_enter(supervisor->turn);
        supervisor_set_state(supervisor, SUPERVISOR_LATE);
        supervisor->stats->n_lost++;
        supervisor_log_absent(supervisor, reason);
        supervisor_cancel(supervisor);
        supervisor->events->lost(supervisor->userdata);
        /* What these point to ends with its request. */
        supervisor->outgoing.bytes = NULL;
        supervisor->outgoing.peer = NULL;
        turn_leave(supervisor->turn);
}

static gboolean supervisor_tick(gpointer userdata) {
        Supervisor *supervisor = userdata;
        const Outgoing *outgoing = &supervisor->outgoing;
        g_autofree char *reason = NULL;
        bool is_late = supervisor->state == SUPERVISOR_LATE;

        if (supervisor->is_out &&
            g_get_monotonic_time() < outgoing->sent + (gint64)outgoing->limit_ms * (is_late ? 2000 : 1000))
                return G_SOURCE_CONTINUE;

        if (supervisor->is_out && supervisor->state == SUPERVISOR_UP) {
                reason = reason_late(outgoing, &supervisor->times);
                supervisor_await_late(supervisor, reason);
                return G_SOURCE_CONTINUE;
        }
        supervisor->tick_timer = 0;
        if (!supervisor->is_out)
                return G_SOURCE_REMOVE;
        reason = is_late ? g_strdup(supervisor->reason) : reason_late(outgoing, &supervisor->times);
        backend_close(supervisor->backend);
        supervisor_lost(supervisor, reason);
        return G_SOURCE_REMOVE;
}

void supervisor_transmit(Supervisor *supervisor, const Outgoing *outgoing) {
        g_autoptr(GError) error = NULL;

        supervisor->outgoing = *outgoing;
        supervisor->outgoing.sent = supervisor->turn->now;
        supervisor->outgoing.limit_ms = outgoing->takes_long ? supervisor->times.limit_long : supervisor->times.limit;
        supervisor->is_out = true;
        /* The limit is looked at by a slow tick that ends by itself: a timer for each command would cost more than the
         * rest here. */
        if (!supervisor->tick_timer)
                supervisor->tick_timer = g_timeout_add(supervisor->times.tick, supervisor_tick, supervisor);
        if (!backend_transmit(supervisor->backend, outgoing->bytes, outgoing->n_bytes, outgoing->locality, &error))
                supervisor_lose(supervisor, error ? error->message : "the command could not be sent");
}

bool supervisor_cancel(Supervisor *supervisor) {
        return backend_cancel(supervisor->backend);
}

/* What it says to nearly all commands. */
static const struct Mode {
        TPM2_RC rc;
        TPM2_CC answered[2]; /* in it: what is said to them proves nothing */
        const char *name;
        const char *meaning;
} MODES[] = {
        /* Part 1, section 12.4 */
        { TPM2_RC_FAILURE,
          { TPM2_CC_GetTestResult, TPM2_CC_GetCapability },
          "failure mode",
          "until the machine is switched off and on" },
        /* Part 1, section 12.5 */
        { TPM2_RC_UPGRADE,
          { TPM2_CC_FieldUpgradeData, TPM2_CC_FieldUpgradeData },
          "field upgrade mode",
          "until its vendor's program has written its firmware, for which it is let go of between commands" },
};

static const struct Mode *mode_find(TPM2_RC rc) {
        for (size_t i = 0; i < G_N_ELEMENTS(MODES); i++)
                if (MODES[i].rc == rc)
                        return &MODES[i];
        return NULL;
}

static void supervisor_note_mode(Supervisor *supervisor, TPM2_RC rc) {
        const struct Mode *was = mode_find(supervisor->mode), *is = mode_find(rc);
        const struct Mode *about = is ? is : was;
        TPM2_CC code = supervisor->outgoing.code;

        /* To FieldUpgradeData, TPM_RC_UPGRADE even says that it is in no such mode (Part 2, section 6.6.3). */
        if (is == was || code == about->answered[0] || code == about->answered[1])
                return;
        supervisor->mode = is ? is->rc : 0;
        if (is)
                log_limited(LOG_ERR, "the TPM is in %s: it answers 0x%x to commands %s", is->name, rc, is->meaning);
        else
                log_limited(LOG_NOTICE, "the TPM has left %s: it answered 0x%x", was->name, rc);
}

void supervisor_start_ended(Supervisor *supervisor, TSS2_RC rc) {
        g_autofree char *reason = NULL;

        if (supervisor->state != SUPERVISOR_STARTING)
                return;
        /* Where such a TPM is waited for, what it answers all the same is for clients to ask. */
        if (rc == TSS2_RC_SUCCESS || (supervisor->wait && mode_find(rc))) {
                supervisor_note_mode(supervisor, rc);
                supervisor_up(supervisor, SUPERVISOR_STARTED);
                supervisor->started(supervisor->started_userdata, TSS2_RC_SUCCESS, NULL);
                return;
        }
        reason = reason_unusable(rc);
        backend_close(supervisor->backend);
        supervisor_set_state(supervisor, supervisor->wait ? SUPERVISOR_ABSENT : SUPERVISOR_CLOSED);
        supervisor_not_started(supervisor, rc, reason);
}

/* A TPM that tests itself is asked again for up to 30 s. */
static void supervisor_log_testing(Supervisor *supervisor) {
        g_autofree char *reason = reason_unusable(TPM2_RC_TESTING);

        if (!supervisor->testing_since)
                supervisor->testing_since = supervisor->turn->now;
        else if (supervisor->turn->now - supervisor->testing_since >= TESTING_US)
                supervisor_log_absent(supervisor, reason);
}

static void supervisor_log_answer(Supervisor *supervisor, const uint8_t *response, size_t n_response) {
        TpmReader reader = TPM_READER(response, n_response);
        TPM2_RC rc = tpm_read_header(&reader).code;

        if (supervisor->was_started)
                supervisor_note_mode(supervisor, rc);
        else if (rc == TPM2_RC_TESTING)
                supervisor_log_testing(supervisor);
}

void supervisor_rest(Supervisor *supervisor) {
        if (supervisor->mode != TPM2_RC_UPGRADE || supervisor->state != SUPERVISOR_UP || supervisor->is_out)
                return;
        backend_close(supervisor->backend);
        supervisor_set_state(supervisor, SUPERVISOR_ABSENT);
        supervisor->reopen_ms = supervisor->times.reopen_max;
        supervisor_schedule_reopen(supervisor);
}

bool supervisor_want(Supervisor *supervisor) {
        if (supervisor->mode == TPM2_RC_UPGRADE && supervisor->state == SUPERVISOR_ABSENT) {
                g_clear_handle_id(&supervisor->reopen_timer, g_source_remove);
                supervisor_open(supervisor);
        }
        return supervisor->state == SUPERVISOR_UP ||
               (supervisor->mode == TPM2_RC_UPGRADE && supervisor->state == SUPERVISOR_OPENING);
}

/* What comes while nothing is out answers no question of ours. */
static void supervisor_response(void *userdata, const uint8_t *response, size_t n_response) {
        Supervisor *supervisor = userdata;

        if (!supervisor->is_out)
                return;
        supervisor->reopen_ms = supervisor->times.reopen_min;
        turn_enter(supervisor->turn);
        supervisor->is_out = false;
        supervisor_log_answer(supervisor, response, n_response);
        if (supervisor->state == SUPERVISOR_LATE) {
                log_notice("the TPM is back");
                supervisor_up(supervisor, SUPERVISOR_ANSWERED);
        } else {
                supervisor->events->response(supervisor->userdata, response, n_response);
        }
        turn_leave(supervisor->turn);
}

/* Its own beginning and end */

static const BackendEvents supervisor_backend_events = {
        .opened = supervisor_opened,
        .response = supervisor_response,
        .lost = supervisor_lost,
};

void supervisor_init(Supervisor *supervisor) {
        supervisor->reopen_ms = supervisor->times.reopen_min;
        backend_listen(supervisor->backend, &supervisor_backend_events, supervisor);
}

void supervisor_clear(Supervisor *supervisor) {
        backend_close(supervisor->backend);
        g_clear_handle_id(&supervisor->tick_timer, g_source_remove);
        g_clear_handle_id(&supervisor->reopen_timer, g_source_remove);
        g_clear_pointer(&supervisor->reason, g_free);
}

void supervisor_start(Supervisor *supervisor, void (*started)(void *userdata, TSS2_RC rc, const char *detail),
                      void *userdata) {
        supervisor->started = started;
        supervisor->started_userdata = userdata;
        supervisor_open(supervisor);
}

void supervisor_stop(Supervisor *supervisor) {
        g_clear_handle_id(&supervisor->reopen_timer, g_source_remove);
        if (supervisor->state == SUPERVISOR_LATE)
                supervisor->is_out = false;
        if (supervisor_is_open(supervisor)) {
                supervisor_set_state(supervisor, SUPERVISOR_LEAVING);
        } else if (supervisor->state != SUPERVISOR_CLOSED && supervisor->state != SUPERVISOR_LEAVING) {
                backend_close(supervisor->backend);
                supervisor_set_state(supervisor, SUPERVISOR_CLOSED);
        }
}
