/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef BROKER_SCHEDULER_H
#define BROKER_SCHEDULER_H

#include "broker/request.h"

/*
 * Scheduler: whose request next
 *
 * First come, first served. A connection has one request at a time, so that its next one stands behind everybody
 * else's: turns are taken by construction, and a flooder gains nothing. All of it takes constant time.
 */
typedef struct Scheduler {
        struct list waiting; /* Request.link */
} Scheduler;

void scheduler_init(Scheduler *scheduler);
void scheduler_add(Scheduler *scheduler, Request *request);
void scheduler_add_first(Scheduler *scheduler, Request *request); /* one that had its turn, and paused */
Request *scheduler_peek(const Scheduler *scheduler);              /* NULL: nobody waits */
void scheduler_remove(Request *request);

#endif
