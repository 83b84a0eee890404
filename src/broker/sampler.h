/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef BROKER_SAMPLER_H
#define BROKER_SAMPLER_H

#include "broker/turn.h"

#include <glib.h>
#include <stdbool.h>

/*
 * Sampler: when the context gap of a TPM that others use, too, is looked at
 *
 * As long as a session of ours is saved, sessions that others save bring it nearer to the end of the gap, whether we
 * sleep or work. Only saving a session tells how many they were. So the oldest one is renewed: before others can have
 * saved more than a quarter of the gap, by the time that a save takes this TPM; and sooner, before they will have saved
 * an eighth, by how fast they were since the last time.
 */
#define SAMPLER_MIN_MS 20
#define SAMPLER_MAX_MS (60 * 1000)

typedef struct Sampler {
        Rm *rm;
        Turn *turn;
        bool on;          /* the TPM is shared */
        bool due;         /* RM_CHORE_RENEW shall be run now */
        unsigned wait_ms; /* until the next one */
        gint64 sampled;   /* Turn.now when it was looked at last */
        uint64_t newest;  /* RmGap.newest then */
        guint timer;
} Sampler;

void sampler_clear(Sampler *sampler);

/* RM_CHORE_RENEW has ended, in which the TPM worked for so long. */
void sampler_ended(Sampler *sampler, uint64_t busy_us);

/* See to it that it is looked at in time. Nothing is saved, no timer runs. */
void sampler_watch(Sampler *sampler);

#endif
