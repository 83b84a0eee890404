/* SPDX-License-Identifier: BSD-2-Clause */
#include "resmgr/victim.h"

/* A mean follows what is new by such a share of the difference. */
#define INTERVAL_SHARE 4
#define FIRST_INTERVAL_SHARE 8
#define PRICE_SHARE 8
#define PRICE_RISE 4 /* a move takes so many times the usual at most: beyond that, a neighbour had the TPM */

/* With each visit, so much is forgotten of what the shadows paid, which is kept in parts of a price. */
#define PAID_SHARE 512
#define PAID_UNIT 512
#define MISSES_AHEAD 2 /* by which another rule must be better */

#define INTERVAL_MAX (UINT32_MAX / 16)

static uint32_t follow(uint32_t mean, uint32_t value, int64_t share) {
        return (uint32_t)(mean + ((int64_t)value - mean) / share);
}

/* How long after the last visit the next one may be expected at most. */
static uint64_t latest(uint64_t interval, uint64_t deviation) {
        return interval + 2 * deviation + RM_VISIT;
}

/*
 * Until the next use, as seen from visit @now. A late entry may come any moment, within what its intervals differ. If
 * it is later than that it left the working set, and is the less likely to come the longer it was not used.
 */
static uint64_t expected_wait(const RmVisits *visits, const RmUse *use, RmRule rule, uint64_t now) {
        uint64_t elapsed = (now - use->last) * RM_VISIT, wait = elapsed;
        uint64_t interval = use->interval, deviation = use->deviation;

        if (interval == 0 && rule == RM_RULE_NEWCOMERS) {
                interval = visits->first_interval;
                deviation = interval / 2;
        }
        if (rule != RM_RULE_RECENCY && interval > 0 && elapsed <= latest(interval, deviation))
                wait = (interval > elapsed ? interval - elapsed : 0) + deviation;
        return wait < UINT32_MAX ? wait : UINT32_MAX;
}

/* The same, but that what is known needs no guess. */
static uint64_t candidate_wait(const RmVisits *visits, const RmCandidate *candidate, RmRule rule, uint64_t now) {
        return candidate->is_expected ? (uint64_t)candidate->n_commands * RM_VISIT
                                      : expected_wait(visits, &candidate->use, rule, now);
}

/* A slot is worth, for each visit that it is held, the price of moving its entry over the visits until its next use. */
static bool leaves_before(const RmVisits *visits, RmRule rule, uint64_t now, const RmCandidate *a,
                          const RmCandidate *b) {
        uint64_t wait_a = candidate_wait(visits, a, rule, now);
        uint64_t wait_b = candidate_wait(visits, b, rule, now);

        return rule == RM_RULE_RECENCY ? wait_a > wait_b : wait_a * b->price > wait_b * a->price;
}

bool rm_leaves_before(const RmVisits *visits, const RmCandidate *a, const RmCandidate *b) {
        return leaves_before(visits, (RmRule)visits->rule, visits->n + 1, a, b);
}

/* Return: whether it was there. */
static bool shadow_use(RmVisits *visits, RmRule rule, const RmCandidate *candidate) {
        RmShadow *shadow = &visits->shadows[rule];
        uint32_t k = 0;
        bool found;

        while (k < shadow->n && shadow->slots[k].entry != candidate->entry)
                k++;
        found = k < shadow->n;
        if (!found && shadow->n == visits->n_slots) {
                k = 0;
                for (uint32_t other = 1; other < shadow->n; other++)
                        if (leaves_before(visits, rule, visits->n, &shadow->slots[other], &shadow->slots[k]))
                                k = other;
        } else if (!found) {
                shadow->n++;
        }
        shadow->slots[k] = *candidate;
        shadow->slots[k].is_expected = false; /* it is used now */
        return found;
}

/* A rule decides until another has shown clearly that it does better. */
static void choose_rule(RmVisits *visits, const bool had_it[RM_RULES], uint32_t price) {
        uint64_t ahead = (uint64_t)price * PAID_UNIT * MISSES_AHEAD;
        RmRule best = 0;

        for (RmRule rule = 0; rule < RM_RULES; rule++) {
                visits->paid[rule] -= visits->paid[rule] / PAID_SHARE;
                visits->paid[rule] += had_it[rule] ? 0 : (uint64_t)price * PAID_UNIT;
                if (visits->paid[rule] < visits->paid[best])
                        best = rule;
        }
        if (visits->paid[best] + ahead < visits->paid[visits->rule])
                visits->rule = best;
}

static uint32_t difference(uint32_t a, uint32_t b) {
        return a > b ? a - b : b - a;
}

/*
 * One long interval says little: its client paused, or the set it belongs to was not in use. It counts for no more than
 * what may be expected; if intervals are long from now on, the next ones will tell.
 */
static void learn_interval(RmVisits *visits, RmUse *use) {
        uint64_t elapsed = visits->n - use->last, most = latest(use->interval, use->deviation);
        uint32_t interval = (uint32_t)(elapsed < INTERVAL_MAX / RM_VISIT ? elapsed * RM_VISIT : INTERVAL_MAX);

        if (use->interval > 0) {
                interval = interval < most ? interval : (uint32_t)most;
                use->deviation = follow(use->deviation, difference(interval, use->interval), INTERVAL_SHARE);
                use->interval = follow(use->interval, interval, INTERVAL_SHARE);
                return;
        }
        use->interval = interval;
        use->deviation = interval / 2;
        most = latest(visits->first_interval, visits->first_interval / 2);
        if (visits->first_interval > 0 && interval > most)
                interval = (uint32_t)most;
        visits->first_interval =
                visits->first_interval > 0 ? follow(visits->first_interval, interval, FIRST_INTERVAL_SHARE) : interval;
}

void rm_visit(RmVisits *visits, RmCandidate *candidate, uint64_t command) {
        RmUse *use = &candidate->use;
        bool is_new = use->last == 0, goes_on;
        bool had_it[RM_RULES];

        if (visits->command != command) {
                visits->command_before = visits->command;
                visits->command = command;
        }
        goes_on = !is_new && use->command >= visits->command_before;
        visits->n += !goes_on;
        if (!is_new && !goes_on)
                learn_interval(visits, use);
        use->last = visits->n;
        use->command = command;
        if (visits->n_slots < 2) /* there is no choice */
                return;
        for (RmRule rule = 0; rule < RM_RULES; rule++)
                had_it[rule] = shadow_use(visits, rule, candidate);
        if (!is_new && !goes_on)
                choose_rule(visits, had_it, candidate->price);
}

void rm_visits_forget(RmVisits *visits, uint32_t entry) {
        for (RmRule rule = 0; rule < RM_RULES; rule++) {
                RmShadow *shadow = &visits->shadows[rule];

                for (uint32_t k = 0; k < shadow->n; k++)
                        if (shadow->slots[k].entry == entry) {
                                shadow->slots[k] = shadow->slots[--shadow->n];
                                break;
                        }
        }
}

void rm_visits_full(RmVisits *visits, uint32_t n_slots) {
        visits->n_slots = n_slots < RM_SHADOW_SLOTS ? n_slots : RM_SHADOW_SLOTS;
        for (RmRule rule = 0; rule < RM_RULES; rule++)
                if (visits->shadows[rule].n > visits->n_slots)
                        visits->shadows[rule].n = visits->n_slots;
}

void rm_prices_learn(RmPrices *prices, RmMove move, uint32_t us, uint32_t n_bytes) {
        uint32_t usual = prices->us[move];

        if (us == 0)
                return;
        if (usual == 0) {
                prices->us[move] = us;
                prices->bytes[move] = n_bytes;
                return;
        }
        if (us / PRICE_RISE > usual)
                us = usual * PRICE_RISE;
        prices->us[move] = follow(usual, us, PRICE_SHARE);
        prices->bytes[move] = follow(prices->bytes[move], n_bytes, PRICE_SHARE);
}

uint32_t rm_price(const RmPrices *prices, RmMove move, uint32_t n_bytes) {
        uint64_t base = prices->us[RM_MOVE_FLUSH], price;

        /* The same bytes come back. */
        if (move == RM_MOVE_SAVE && prices->us[move] == 0)
                move = RM_MOVE_LOAD;
        if (base == 0 || prices->us[RM_MOVE_LOAD] == 0)
                return 1;
        price = prices->us[move];
        if (price > base && n_bytes > 0 && prices->bytes[move] > 0)
                price = base + (price - base) * n_bytes / prices->bytes[move];
        return price < INTERVAL_MAX ? (uint32_t)price : INTERVAL_MAX;
}
