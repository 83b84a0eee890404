/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef BROKER_RESERVE_H
#define BROKER_RESERVE_H

#include "resmgr/resmgr.h"

#include <glib.h>
#include <stdbool.h>

/*
 * Reserve: how many slots of the TPM others are to find free, at any time
 *
 * A fixed number, or what somebody says who watches them. Whoever is not seen there may still be seen in what the TPM
 * answers: contexts that others saved move the numbers of ours, and lists have handles that are in no table. Either
 * means that somebody is there, for RESERVE_GRACE_US, who may need RESERVE_MOST of each kind.
 */
#define RESERVE_MOST 2 /* a key, and its parent where the TPM copies what is persistent; two sessions for a command */
#define RESERVE_GRACE_US ((gint64)10 * 60 * G_USEC_PER_SEC)

typedef struct Reserve {
        uint32_t n_objects;
        uint32_t n_sessions;
        const char *reason; /* a word, static: why it is not less; docs/MANAGER.md has them all */
} Reserve;

typedef struct ReserveConfig {
        Reserve (*ask)(void *userdata, gint64 now); /* NULL: it is fixed, RmLimits.reserve */
        void *userdata;
} ReserveConfig;

typedef struct Reserver {
        Rm *rm;
        ReserveConfig config;
        Reserve kept;       /* what the resource manager was told; no reason: nothing yet */
        uint64_t n_foreign; /* signs of others in what the TPM answered, as far as they were seen */
        gint64 foreign;     /* when one was seen last; 0: never */
} Reserver;

/* Tell the resource manager, should anything have changed. Return: more has to be free than before. */
bool reserver_look(Reserver *reserver, gint64 now);

/* What is to be kept free now. It changes nothing. */
Reserve reserver_ask(const Reserver *reserver, gint64 now);

#endif
