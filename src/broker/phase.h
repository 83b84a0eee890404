/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef BROKER_PHASE_H
#define BROKER_PHASE_H

#include <stdbool.h>

/*
 * Phase: whether the broker serves clients; whether there is a TPM is the supervisor's state
 *
 *      SERVING  --broker_stop()-->                        STOPPING
 *      SERVING  --broker_free()-->                        STOPPED
 *      STOPPING --nothing left to flush, or it took too
 *                 long; broker_free()-->                  STOPPED
 */
typedef enum BrokerPhase {
        BROKER_SERVING,
        BROKER_STOPPING,
        BROKER_STOPPED,
} BrokerPhase;

void phase_set(BrokerPhase *phase, BrokerPhase to);

/* No client is admitted any more, and no command begun. */
bool phase_is_over(BrokerPhase phase);

#endif
