/* SPDX-License-Identifier: BSD-2-Clause */
#include "broker/tell.h"

#include "tpm/protocol.h"
#include "util/log.h"

#include <inttypes.h>

#define LOCALITY_TOLD 0x80 /* in Connection.told, beside a bit for each quota */

#define CODE_1_2_LAST 0x7f /* a TPM 2.0 has none of these but BAD_TAG, which it has for what nobody sends */

void tell_losses(Broker *broker) {
        const RmCounters *now = rm_counters(broker->rm);
        RmCounters *then = &broker->logged;

        if (now->abandoned_flushed != then->abandoned_flushed)
                log_limited(LOG_NOTICE,
                            "to make room, a saved session of a client that is gone was flushed: %" PRIu64 " so far",
                            now->abandoned_flushed);
        if (now->left_over_flushed != then->left_over_flushed)
                log_limited(LOG_NOTICE,
                            "to make room, a saved session from before the start was flushed: %" PRIu64 " so far",
                            now->left_over_flushed);
        if (now->client_saved_flushed != then->client_saved_flushed)
                log_limited(LOG_WARNING, "to make room, a saved session of a client was flushed: %" PRIu64 " so far",
                            now->client_saved_flushed);
        if (now->foreign_flushed != then->foreign_flushed)
                log_limited(LOG_NOTICE,
                            "something that belongs to no client was flushed from the TPM: %" PRIu64 " so far",
                            now->foreign_flushed);
        *then = *now;
}

void tell_quota(Connection *connection, TSS2_RC rc) {
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
                if (rc != quotas[i].rc || connection->told & 1u << i)
                        continue;
                connection->told |= 1u << i;
                log_limited(LOG_NOTICE, PEER_FORMAT " is answered 0x%x: %s", PEER_ARGUMENTS(&connection->peer), rc,
                            quotas[i].text);
        }
}

void tell_locality(Connection *connection, uint8_t locality) {
        if (connection->told & LOCALITY_TOLD)
                return;
        connection->told |= LOCALITY_TOLD;
        log_limited(LOG_NOTICE,
                    PEER_FORMAT " may not use locality %u; a socket with locality= (see --socket), or "
                                "--allow-locality on the bus, makes it",
                    PEER_ARGUMENTS(&connection->peer), locality);
}

void tell_absent(Broker *broker, const char *reason) {
        /* Who has a busy device is said at the first try only; what comes then is the first part of that. */
        if (broker->told && g_str_has_prefix(broker->told, reason))
                return;
        if (broker->phase != BROKER_RUNNING)
                log_limited(LOG_NOTICE, "waiting for a TPM: %s", reason);
        else if (!broker->told)
                log_error("the TPM is lost: %s; until it is back commands are answered 0x%x", reason,
                          RM_RC(TPM2_RC_INITIALIZE));
        else
                log_limited(LOG_NOTICE, "the TPM is not back: %s", reason);
        g_free(broker->told);
        broker->told = g_strdup(reason);
        watch_tell_change(&broker->watch);
}

void tell_present(Broker *broker) {
        g_clear_pointer(&broker->told, g_free);
        watch_tell_change(&broker->watch);
}

char *tell_why_late(const Broker *broker) {
        const Request *request = broker->current;
        g_autofree char *whose = g_strdup("the daemon's own");

        if (request && request->connection && request->own_out) {
                const Peer *peer = &request->connection->peer;

                g_free(whose);
                whose = g_strdup_printf(PEER_FORMAT, PEER_ARGUMENTS(peer));
        }
        return g_strdup_printf("no answer to command 0x%x of %s within %g s (%s)", broker->code, whose,
                               broker->limit_ms / 1000.0,
                               broker->limit_ms == broker->times.limit ? "--time-limit" : "--time-limit-long");
}

char *tell_why_unusable(TSS2_RC rc) {
        if (rc == TPM2_RC_FAILURE)
                return g_strdup("it is in failure mode (0x101), which ends when the machine is switched off and on");
        if (rc <= CODE_1_2_LAST)
                return g_strdup_printf("it is a TPM 1.2 (0x%x), and a TPM 2.0 is needed", rc);
        return g_strdup_printf("it answers 0x%x", rc);
}
