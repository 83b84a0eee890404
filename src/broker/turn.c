/* SPDX-License-Identifier: BSD-2-Clause */
#include "broker/turn.h"

void turn_enter(Turn *turn) {
        if (turn->n_inside++ > 0)
                return;
        turn->now = g_get_monotonic_time();
        rm_set_time(turn->rm, (uint64_t)turn->now);
}

void turn_leave(Turn *turn) {
        bool settled;

        if (turn->n_inside > 1) {
                turn->n_inside--;
                return;
        }
        settled = turn->ops->decide(turn->userdata);
        turn->n_inside = 0;
        if (settled)
                turn->ops->settled(turn->userdata);
}
