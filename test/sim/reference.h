/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef SIM_REFERENCE_H
#define SIM_REFERENCE_H

#include "test/lib/tpm-commands.h"

#include <stdbool.h>

/*
 * A TPM with room for one client
 *
 * The plainest manager there can be, for a client that has the TPM to itself: before each command it loads what the
 * command names, after it saves and flushes all of it, and it asks the TPM what became of everything. It shares no code
 * with the one under test. @roomless: it does nothing at all, and the client has the bare TPM.
 */
typedef struct ReferenceLimits {
        unsigned objects; /* as in RmLimits */
        unsigned sessions;
        bool roomless;
} ReferenceLimits;

void reference_start(uint64_t seed, const ReferenceLimits *limits);
void reference_stop(void);
void reference_reconnect(void); /* the client is gone, and another one is there */
Message reference_run(const Message *command);

#endif
