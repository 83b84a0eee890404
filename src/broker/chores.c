/* SPDX-License-Identifier: BSD-2-Clause */
#include "broker/chores.h"

#define BIT(chore) (1u << (chore))
#define CHORES_ALL                                                                                                     \
        (BIT(RM_CHORE_DUE) | BIT(RM_CHORE_CLEANUP) | BIT(RM_CHORE_RESERVE) | BIT(RM_CHORE_SAVE) |                      \
         BIT(RM_CHORE_RENEW) | BIT(RM_CHORE_EVICT))

void chores_clear(Chores *chores) {
        g_clear_handle_id(&chores->timer, g_source_remove);
        g_clear_handle_id(&chores->retry_timer, g_source_remove);
        sampler_clear(&chores->sampler);
}

void chores_wake(Chores *chores, bool command) {
        chores->pending |= CHORES_ALL;
        if (!command)
                return;
        chores->cleanup_owed = true;
        chores->may_save = false;
        chores->may_evict = false;
        chores->idle_since = g_get_monotonic_time();
}

RmJob *chores_begin(Chores *chores, RmChore chore) {
        RmJob *job = rm_job_begin_chore(chores->rm, chore);

        if (!job)
                chores->pending &= ~BIT(chore);
        return job;
}

/* Return: whether the TPM refused anything since this was asked last. */
static bool chores_see_refusals(Chores *chores) {
        uint64_t n = rm_counters(chores->rm)->refusals;
        bool refused = n != chores->n_refusals;

        chores->n_refusals = n;
        chores->refused |= refused;
        return refused;
}

void chores_ended(Chores *chores, RmChore chore, TSS2_RC rc, uint64_t busy_us) {
        bool refused = chores_see_refusals(chores);

        chores->pending |= BIT(RM_CHORE_DUE);
        /* One that fails would fail again at once, for ever. */
        if (rc != TSS2_RC_SUCCESS)
                chores->pending &= ~BIT(chore);
        chores->refused |= rc != TSS2_RC_SUCCESS;
        if (rc == TSS2_RC_SUCCESS && !refused)
                chores->retry_ms = CHORES_RETRY_MIN_MS;
        if (chore == RM_CHORE_CLEANUP)
                chores->cleanup_owed = false;
        if (chore == RM_CHORE_RENEW)
                sampler_ended(&chores->sampler, busy_us);
}

static RmJob *chores_begin_if(Chores *chores, bool condition, RmChore chore, RmChore *ret_chore) {
        RmJob *job;

        if (!condition || !(chores->pending & BIT(chore)))
                return NULL;
        job = chores_begin(chores, chore);
        if (job)
                *ret_chore = chore;
        return job;
}

RmJob *chores_begin_cleanup(Chores *chores) {
        RmChore chore = RM_CHORE_CLEANUP;

        return chores_begin_if(chores, true, chore, &chore);
}

static RmJob *chores_begin_sample(Chores *chores, RmChore *ret_chore) {
        if (!chores->sampler.due)
                return NULL;
        chores->sampler.due = false;
        chores->pending |= BIT(RM_CHORE_RENEW);
        return chores_begin_if(chores, true, RM_CHORE_RENEW, ret_chore);
}

RmJob *chores_begin_urgent(Chores *chores, RmChore *ret_chore) {
        RmJob *job = chores_begin_if(chores, true, RM_CHORE_DUE, ret_chore);

        job = job ?: chores_begin_if(chores, chores->cleanup_owed, RM_CHORE_CLEANUP, ret_chore);
        job = job ?: chores_begin_sample(chores, ret_chore);
        return job ?: chores_begin_if(chores, true, RM_CHORE_RESERVE, ret_chore);
}

RmJob *chores_begin_idle(Chores *chores, RmChore *ret_chore) {
        RmJob *job = chores_begin_if(chores, true, RM_CHORE_CLEANUP, ret_chore);

        job = job ?: chores_begin_if(chores, true, RM_CHORE_RENEW, ret_chore);
        job = job ?: chores_begin_if(chores, chores->may_evict, RM_CHORE_EVICT, ret_chore);
        return job ?: chores_begin_if(chores, chores->may_save, RM_CHORE_SAVE, ret_chore);
}

/* How long until the TPM has been idle for @ms; 0: it has. */
static unsigned chores_left_ms(const Chores *chores, unsigned ms) {
        gint64 idle_ms = (g_get_monotonic_time() - chores->idle_since) / 1000;

        return idle_ms >= ms ? 0 : ms - (unsigned)idle_ms;
}

static gboolean chores_timer(gpointer userdata) {
        Chores *chores = userdata;

        chores->timer = 0;
        chores->may_save = chores_left_ms(chores, CHORES_SAVE_MS) == 0;
        chores->may_evict = chores->evict_ms > 0 && chores_left_ms(chores, chores->evict_ms) == 0;
        turn_enter(chores->turn);
        turn_leave(chores->turn);
        return G_SOURCE_REMOVE;
}

static gboolean chores_retry(gpointer userdata) {
        Chores *chores = userdata;

        chores->retry_timer = 0;
        chores->retry_ms = MIN(chores->retry_ms * 2, CHORES_RETRY_MAX_MS);
        chores->refused = false;
        rm_retry(chores->rm);
        chores_wake(chores, false);
        turn_enter(chores->turn);
        turn_leave(chores->turn);
        return G_SOURCE_REMOVE;
}

static void chores_await_retry(Chores *chores) {
        chores_see_refusals(chores);
        if (!chores->refused || chores->retry_timer)
                return;
        chores->retry_ms = MAX(chores->retry_ms, CHORES_RETRY_MIN_MS);
        chores->retry_timer = g_timeout_add(chores->retry_ms, chores_retry, chores);
}

void chores_watch(Chores *chores) {
        chores_await_retry(chores);
        sampler_watch(&chores->sampler);
}

void chores_rest(Chores *chores) {
        bool save = chores->pending & BIT(RM_CHORE_SAVE) && !chores->may_save;
        bool evict = chores->pending & BIT(RM_CHORE_EVICT) && !chores->may_evict && chores->evict_ms > 0;
        unsigned ms = G_MAXUINT;

        /* A timer that comes too early because of commands since then is cheaper than a new one for each command. */
        if (chores->timer || (!save && !evict))
                return;
        if (save)
                ms = chores_left_ms(chores, CHORES_SAVE_MS);
        if (evict)
                ms = MIN(ms, chores_left_ms(chores, chores->evict_ms));
        chores->timer = g_timeout_add(ms, chores_timer, chores);
}
