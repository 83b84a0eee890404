/* SPDX-License-Identifier: BSD-2-Clause */
#include "resmgr/victim.h"

/* A mean follows what is new by a quarter; the regret forgets a 256th with each visit. */
#define MEAN_SHARE 4
#define REGRET_SHARE 256
#define REGRET_UNIT 256 /* it is kept in such parts of a price */
#define REGRET_MISSES 2 /* so many in favour of the other rule, and that decides */
#define PRICE_SHARE 8   /* a mean of prices follows by an eighth, */
#define PRICE_RISE 4    /* and takes a command for at most four times as long as usual: a neighbour had the TPM */
#define INTERVAL_MAX (UINT32_MAX / 16)

static uint32_t follow(uint32_t mean, uint32_t value, int64_t share) {
        return (uint32_t)(mean + ((int64_t)value - mean) / share);
}

/*
 * Until the next use, as seen from visit @now. A late entry may come any moment, within what its intervals differ. If
 * it is later than that it left the working set, and is the less likely to come the longer it was not used.
 */
static uint64_t expected_wait(const RmUse *use, RmRule rule, uint64_t now) {
        uint64_t elapsed = (now - use->last) * RM_VISIT, wait = elapsed;

        if (rule == RM_RULE_INTERVAL && use->interval > 0 && elapsed <= use->interval + 2ull * use->deviation + RM_VISIT)
                wait = (use->interval > elapsed ? use->interval - elapsed : 0) + use->deviation;
        return wait < UINT32_MAX ? wait : UINT32_MAX;
}

/* A slot is worth, for each visit that it is held, the price of moving its entry over the visits until its next use. */
static bool leaves_before(const RmCandidate *a, const RmCandidate *b, RmRule rule, uint64_t now) {
        uint64_t wait_a = expected_wait(&a->use, rule, now), wait_b = expected_wait(&b->use, rule, now);

        return rule == RM_RULE_INTERVAL ? wait_a * b->price > wait_b * a->price : wait_a > wait_b;
}

bool rm_leaves_before(const RmVisits *visits, const RmCandidate *a, const RmCandidate *b) {
        return leaves_before(a, b, (RmRule)visits->rule, visits->n + 1);
}

/* Return: whether it was there. */
static bool shadow_use(RmShadow *shadow, RmRule rule, const RmCandidate *candidate, const RmVisits *visits) {
        uint32_t k = 0;
        bool found;

        while (k < shadow->n && shadow->slots[k].entry != candidate->entry)
                k++;
        found = k < shadow->n;
        if (!found && shadow->n == visits->n_slots) {
                k = 0;
                for (uint32_t other = 1; other < shadow->n; other++)
                        if (leaves_before(&shadow->slots[other], &shadow->slots[k], rule, visits->n))
                                k = other;
        } else if (!found) {
                shadow->n++;
        }
        shadow->slots[k] = *candidate;
        return found;
}

/* A rule decides until the other has shown clearly that it does better. */
static void choose_rule(RmVisits *visits, bool interval_had_it, bool recency_had_it, uint32_t price) {
        int64_t paid = ((int64_t)recency_had_it - interval_had_it) * price * REGRET_UNIT;
        int64_t enough = (int64_t)price * REGRET_UNIT * REGRET_MISSES;

        visits->regret += paid - visits->regret / REGRET_SHARE;
        if (visits->regret > enough)
                visits->rule = RM_RULE_RECENCY;
        else if (visits->regret < -enough)
                visits->rule = RM_RULE_INTERVAL;
}

/*
 * One long interval says little: its client paused, or the set it belongs to was not in use. It counts for no more than
 * what may be expected; if intervals are long from now on, the next ones will tell.
 */
static void learn_interval(RmUse *use, uint64_t visits) {
        uint32_t interval = (uint32_t)(visits < INTERVAL_MAX / RM_VISIT ? visits * RM_VISIT : INTERVAL_MAX);
        uint64_t most = use->interval + 2ull * use->deviation + RM_VISIT;

        if (use->interval == 0) {
                use->interval = interval;
                use->deviation = interval / 2;
                return;
        }
        if (interval > most)
                interval = (uint32_t)most;
        use->deviation =
                follow(use->deviation, interval > use->interval ? interval - use->interval : use->interval - interval,
                       MEAN_SHARE);
        use->interval = follow(use->interval, interval, MEAN_SHARE);
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
                learn_interval(use, visits->n - use->last);
        use->last = visits->n;
        use->command = command;
        if (visits->n_slots < 2) /* there is no choice */
                return;
        for (RmRule rule = 0; rule < RM_RULES; rule++)
                had_it[rule] = shadow_use(&visits->shadows[rule], rule, candidate, visits);
        if (!is_new && !goes_on)
                choose_rule(visits, had_it[RM_RULE_INTERVAL], had_it[RM_RULE_RECENCY], candidate->price);
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
