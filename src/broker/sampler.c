/* SPDX-License-Identifier: BSD-2-Clause */
#include "broker/sampler.h"

void sampler_clear(Sampler *sampler) {
        g_clear_handle_id(&sampler->timer, g_source_remove);
}

/* A renewal is a load and a save. */
static uint64_t longest_us(const RmGap *gap, uint64_t busy_us) {
        return gap->max / 4 * (busy_us / 2);
}

static uint64_t by_rate_us(const Sampler *sampler, const RmGap *gap) {
        uint64_t elapsed_us = (uint64_t)(sampler->turn->now - sampler->sampled);
        uint64_t advance = gap->newest - sampler->newest;

        return elapsed_us / MAX(advance, 1) * (gap->max / 8);
}

void sampler_ended(Sampler *sampler, uint64_t busy_us) {
        RmGap gap = rm_gap(sampler->rm);
        uint64_t us = MIN(longest_us(&gap, busy_us), by_rate_us(sampler, &gap));

        /* It could not be renewed, or its number makes no sense: what others do is not known. */
        if (gap.newest <= sampler->newest)
                us = sampler->wait_ms * 1000;
        sampler->wait_ms = (unsigned)CLAMP(us / 1000, SAMPLER_MIN_MS, SAMPLER_MAX_MS);
        sampler->sampled = sampler->turn->now;
        sampler->newest = gap.newest;
}

static gboolean sampler_look(gpointer userdata) {
        Sampler *sampler = userdata;

        sampler->timer = 0;
        turn_enter(sampler->turn);
        sampler->due = rm_gap_sample(sampler->rm);
        turn_leave(sampler->turn);
        return G_SOURCE_REMOVE;
}

void sampler_watch(Sampler *sampler) {
        if (!sampler->on || sampler->timer || !rm_gap_is_at_stake(sampler->rm))
                return;
        sampler->timer = g_timeout_add(MAX(sampler->wait_ms, SAMPLER_MIN_MS), sampler_look, sampler);
}
