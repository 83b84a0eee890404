/* SPDX-License-Identifier: BSD-2-Clause */
#include "broker/refusal.h"

#include "tpm/header.h"
#include "util/log.h"

#include <glib.h>

#define REFUSAL_LOCALITY 0x80 /* beside a bit for each quota */

void refusal_log_quota(uint8_t *logged, const Peer *peer, TSS2_RC rc) {
        static const struct {
                TSS2_RC rc;
                const char *text;
        } quotas[] = {
                { RM_RC(TPM2_RC_OBJECT_MEMORY),
                  "there is no more room for objects of it, or of its user; see --max-transients and --max-objects" },
                { RM_RC(TPM2_RC_SESSION_MEMORY), "there is no more room for sessions of it; see --max-sessions" },
                { RM_RC(TPM2_RC_SESSION_HANDLES),
                  "there is no more room for sessions of its user; flush saved ones that are not needed" },
        };

        for (size_t i = 0; i < G_N_ELEMENTS(quotas); i++) {
                if (rc != quotas[i].rc || *logged & 1u << i)
                        continue;
                *logged |= 1u << i;
                log_limited(LOG_NOTICE, PEER_FORMAT " is answered 0x%x: %s", PEER_ARGUMENTS(peer), rc, quotas[i].text);
        }
}

void refusal_log_locality(uint8_t *logged, const Peer *peer, uint8_t locality) {
        if (*logged & REFUSAL_LOCALITY)
                return;
        *logged |= REFUSAL_LOCALITY;
        log_limited(LOG_NOTICE,
                    PEER_FORMAT " may not use locality %u; a socket with locality= (see --socket), or "
                                "--allow-locality on the bus, makes it",
                    PEER_ARGUMENTS(peer), locality);
}
