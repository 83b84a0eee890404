/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef BROKER_TURN_H
#define BROKER_TURN_H

#include "resmgr/resmgr.h"

#include <glib.h>

/*
 * Turn: a way into the broker and out of it
 *
 * Clients, the back end and timers call in; what they are told may make them call in again, before the first call has
 * returned. Each entrance is a turn_enter() and ends with a turn_leave(). Only the outermost one reads the clock, and
 * only where it leaves is it decided what the TPM does next: by then everything that happened is known.
 */
typedef struct TurnOps {
        /* The outermost one is about to leave. Return: there is nothing left to do in this turn. */
        bool (*decide)(void *userdata);
        /* It has left, with nothing left to do. Everything may be freed here. */
        void (*settled)(void *userdata);
} TurnOps;

typedef struct Turn {
        Rm *rm;
        const TurnOps *ops;
        void *userdata;
        unsigned n_inside; /* entrances that were not left yet */
        gint64 now;        /* monotonic, in us, when the outermost one entered */
} Turn;

void turn_enter(Turn *turn);
void turn_leave(Turn *turn); /* the turn may be gone afterwards */

#endif
