/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef DAEMON_SHARED_H
#define DAEMON_SHARED_H

#include "backend/neighbours.h"
#include "broker/reserve.h"

/*
 * What a TPM that others use, too, is to keep free for them: --reserve=auto
 */
typedef struct Shared {
        const char *conf; /* of the back end */
        char *node;       /* by which others reach the TPM; NULL: unknown */
        Neighbours *neighbours;
        NeighboursKernel kernel;
        gint64 kernel_asked; /* when; 0: never */
} Shared;

/* Modules of the kernel come at any time. */
#define SHARED_KERNEL_US ((gint64)10 * G_USEC_PER_SEC)

void shared_init(Shared *shared, Loop *loop, const char *conf, void (*changed)(void *userdata), void *userdata);
void shared_clear(Shared *shared); /* also what is all zeros */

/* For ReserveConfig. @userdata: the Shared */
Reserve shared_ask(void *userdata, gint64 now);

/* What follows from a sign of neighbours, and from what the kernel may do for itself. */
Reserve shared_reserve(NeighboursSign sign, NeighboursKernel kernel);

/* One line for the log when nobody can be seen, to be freed; NULL: they can. */
char *shared_blindness(const Shared *shared);

#endif
