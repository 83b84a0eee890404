/* SPDX-License-Identifier: BSD-2-Clause */
#include "broker/reserve.h"

#include "util/log.h"

static uint64_t count_foreign(const Reserver *reserver) {
        const RmCounters *counters = rm_counters(reserver->rm);

        return counters->foreign_found + counters->foreign_saves;
}

Reserve reserver_ask(const Reserver *reserver, gint64 now) {
        bool foreign = reserver->foreign != 0 && now - reserver->foreign < RESERVE_GRACE_US;
        Reserve reserve;

        if (!reserver->config.ask)
                return reserver->kept;
        reserve = reserver->config.ask(reserver->config.userdata, now);
        if (!foreign || (reserve.n_objects >= RESERVE_MOST && reserve.n_sessions >= RESERVE_MOST))
                return reserve;
        return (Reserve){ RESERVE_MOST, RESERVE_MOST, "traces" };
}

bool reserver_look(Reserver *reserver, gint64 now) {
        uint64_t n_foreign;
        Reserve before = reserver->kept, reserve;

        if (!reserver->config.ask)
                return false;
        n_foreign = count_foreign(reserver);
        if (n_foreign != reserver->n_foreign)
                reserver->foreign = now;
        reserver->n_foreign = n_foreign;
        reserve = reserver_ask(reserver, now);
        if (before.reason && before.n_objects == reserve.n_objects && before.n_sessions == reserve.n_sessions)
                return false;
        reserver->kept = reserve;
        rm_set_reserve(reserver->rm, reserve.n_objects, reserve.n_sessions);
        log_info("slots of the TPM that stay free for others: %u for objects, %u for sessions (%s)", reserve.n_objects,
                 reserve.n_sessions, reserve.reason);
        return reserve.n_objects > before.n_objects || reserve.n_sessions > before.n_sessions;
}
