/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef BROKER_CHORES_H
#define BROKER_CHORES_H

#include "broker/sampler.h"

#include <glib.h>
#include <stdbool.h>

/*
 * Chores: the resource manager's own work, and when it is its turn
 *
 *      DUE      before every client command
 *      CLEANUP  one after a client command, so that it is not starved; the rest when no client waits
 *      RESERVE  before every client command: a neighbour finds room between any two of them
 *      RENEW    when no client waits; before the next client command when the sampler says so
 *      SAVE     when the TPM has been idle for CHORES_SAVE_MS
 *      EVICT    when it has been idle for evict_ms
 *
 * A kind with nothing to do is not asked again until something has changed: when nothing is left to do, no timer runs.
 * What the TPM refused is tried again after CHORES_RETRY_MIN_MS, and as long as it goes on refusing, after twice as
 * long each time.
 */
#define CHORES_SAVE_MS 50
#define CHORES_RETRY_MIN_MS 100
#define CHORES_RETRY_MAX_MS 10000

typedef struct Chores {
        Rm *rm;
        Turn *turn;
        unsigned evict_ms; /* 0: never */
        uint32_t pending;  /* bit RmChore: may have something to do */
        bool cleanup_owed;
        bool may_save; /* idle for long enough */
        bool may_evict;
        gint64 idle_since; /* monotonic, in us */
        guint timer;
        bool refused;        /* the TPM has refused something since it was tried again last */
        uint64_t n_refusals; /* of RmCounters, as far as they were seen */
        unsigned retry_ms;
        guint retry_timer;
        Sampler sampler;
} Chores;

void chores_clear(Chores *chores);

/* Something changed: all kinds are asked again. @command: a client's command has ended; else a client has gone. */
void chores_wake(Chores *chores, bool command);

RmJob *chores_begin(Chores *chores, RmChore chore);                             /* NULL: nothing to do */
void chores_ended(Chores *chores, RmChore chore, TSS2_RC rc, uint64_t busy_us); /* @busy_us: the TPM's time for it */

/* Return: what must be done before the next client command, or NULL. */
RmJob *chores_begin_urgent(Chores *chores, RmChore *ret_chore);

RmJob *chores_begin_cleanup(Chores *chores);

/* Return: what may be done now that no client waits, or NULL. */
RmJob *chores_begin_idle(Chores *chores, RmChore *ret_chore);

/* However busy the TPM is: see to it that what it refused is tried again, and that the gap is looked at, in time. */
void chores_watch(Chores *chores);

/* The TPM is free: see to it that a turn comes when more may be done. */
void chores_rest(Chores *chores);

#endif
