/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef BROKER_LOSSES_H
#define BROKER_LOSSES_H

#include "resmgr/resmgr.h"

/*
 * Losses: what the resource manager has flushed to make room. Somebody may miss it, and learns why from the log.
 *
 * @logged: what the log has already; brought up to date
 */
void losses_log(const Rm *rm, RmCounters *logged);

#endif
