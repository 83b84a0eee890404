/* SPDX-License-Identifier: BSD-2-Clause */
#include "broker/losses.h"

#include "util/log.h"

#include <inttypes.h>

void losses_log(const Rm *rm, RmCounters *logged) {
        const RmCounters *now = rm_counters(rm);

        if (now->abandoned_flushed != logged->abandoned_flushed)
                log_limited(LOG_NOTICE,
                            "to make room, a saved session of a client that is gone was flushed: %" PRIu64 " so far",
                            now->abandoned_flushed);
        if (now->left_over_flushed != logged->left_over_flushed)
                log_limited(LOG_NOTICE,
                            "to make room, a saved session from before the start was flushed: %" PRIu64 " so far",
                            now->left_over_flushed);
        if (now->client_saved_flushed != logged->client_saved_flushed)
                log_limited(LOG_WARNING, "to make room, a saved session of a client was flushed: %" PRIu64 " so far",
                            now->client_saved_flushed);
        if (now->foreign_flushed != logged->foreign_flushed)
                log_limited(LOG_NOTICE,
                            "something that belongs to no client was flushed from the TPM: %" PRIu64 " so far",
                            now->foreign_flushed);
        if (now->taken_back != logged->taken_back)
                log_limited(LOG_WARNING,
                            "the TPM was reset, or an older state of it was put back: what cannot be proved to be its "
                            "owner's is given up: %" PRIu64 " times so far",
                            now->taken_back);
        if (now->forbidden > 0 && logged->forbidden == 0)
                log_error("fault in the daemon: an object or session goes from one state to another that it does not "
                          "lead to; please report it");
        *logged = *now;
}
