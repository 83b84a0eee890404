/* SPDX-License-Identifier: BSD-2-Clause */
#include "test/bench/residency-replay.h"

#include <stdlib.h>

#include "resmgr/victim.h"

typedef struct State {
        bool known, resident;
        bool clean; /* a saved copy is what the TPM holds */
        RmUse use;
        uint64_t used; /* for LRU */
} State;

typedef struct Replay {
        const Trace *trace;
        const Prices *prices;
        unsigned slots;
        Policy policy;
        State *states;
        uint32_t residents[KINDS][SLOTS_MAX];
        unsigned n_residents[KINDS];
        RmVisits visits[KINDS];
        RmPrices learned;
        uint32_t command; /* the one at hand */
        uint32_t noise;
        double sum;
} Replay;

/* As the broker tells the core what each took, which is never the same twice: it is off by up to a quarter. */
static void pay(Replay *replay, const Thing *thing, RmMove move, double price) {
        double off = ((replay->noise >> 16) % 512 - 256.0) / 1024;

        replay->sum += price;
        replay->noise = replay->noise * 1664525 + 1013904223;
        if (thing->kind == KIND_OBJECT)
                rm_prices_learn(&replay->learned, move, (uint32_t)(price * (1 + off)), thing->bytes);
}

static double price_out(const Replay *replay, uint32_t i) {
        const Thing *thing = &replay->trace->things[i];

        return (thing->kind == KIND_SESSION ? 0 : replay->prices->flush) +
               (replay->states[i].clean ? 0 : replay->prices->save(thing));
}

/* As rm_candidate() in resmgr/residency.c, which has no prices for sessions. */
static RmCandidate candidate_of(const Replay *replay, uint32_t i) {
        const Thing *thing = &replay->trace->things[i];
        RmCandidate candidate = { .use = replay->states[i].use, .entry = i, .price = 1 };

        if (thing->kind == KIND_OBJECT)
                candidate.price =
                        rm_price(&replay->learned, RM_MOVE_LOAD, thing->bytes) +
                        rm_price(&replay->learned, RM_MOVE_FLUSH, 0) +
                        (replay->states[i].clean ? 0 : rm_price(&replay->learned, RM_MOVE_SAVE, thing->bytes));
        return candidate;
}

/* What it costs to let it go, as far as odds tell. */
static double loss_of(const Replay *replay, uint32_t i) {
        const Trace *trace = replay->trace;
        bool is_of_set = trace->set_size == 0 ||
                         i / trace->set_size == replay->command / trace->set_uses % (trace->n_things / trace->set_size);

        return is_of_set ? trace->things[i].odds * (price_out(replay, i) + replay->prices->load(&trace->things[i])) : 0;
}

static bool leaves_before(const Replay *replay, uint32_t i, uint32_t other) {
        const Thing *things = replay->trace->things;
        RmCandidate a = candidate_of(replay, i), b = candidate_of(replay, other);

        switch (replay->policy) {
        case POLICY_LRU:
                return replay->states[i].used < replay->states[other].used;
        case POLICY_ODDS:
                return loss_of(replay, i) < loss_of(replay, other);
        default:
                return rm_leaves_before(&replay->visits[things[i].kind], &a, &b);
        }
}

static bool is_named(const Use *uses, size_t n, uint32_t thing) {
        for (size_t k = 0; k < n; k++)
                if (uses[k].thing == thing)
                        return true;
        return false;
}

static void leave(Replay *replay, uint32_t i) {
        Kind kind = replay->trace->things[i].kind;
        unsigned k = 0;

        while (replay->residents[kind][k] != i)
                k++;
        replay->residents[kind][k] = replay->residents[kind][--replay->n_residents[kind]];
        replay->states[i].resident = false;
}

/* @uses: of the command at hand. It may need more than there is; then it has it. */
static void make_room(Replay *replay, Kind kind, const Use *uses, size_t n) {
        uint32_t victim = UINT32_MAX;
        const Thing *thing;

        rm_visits_full(&replay->visits[kind], replay->n_residents[kind]);
        for (unsigned k = 0; k < replay->n_residents[kind]; k++) {
                uint32_t i = replay->residents[kind][k];

                if (!is_named(uses, n, i) && (victim == UINT32_MAX || leaves_before(replay, i, victim)))
                        victim = i;
        }
        if (victim == UINT32_MAX)
                return;
        thing = &replay->trace->things[victim];
        if (!replay->states[victim].clean)
                pay(replay, thing, RM_MOVE_SAVE, replay->prices->save(thing));
        if (kind == KIND_OBJECT)
                pay(replay, thing, RM_MOVE_FLUSH, replay->prices->flush);
        replay->states[victim].clean = true;
        leave(replay, victim);
}

static void bring(Replay *replay, const Use *use, const Use *uses, size_t n) {
        const Thing *thing = &replay->trace->things[use->thing];
        State *state = &replay->states[use->thing];

        if (use->act == ACT_FLUSH || state->resident)
                return;
        if (replay->n_residents[thing->kind] == replay->slots)
                make_room(replay, thing->kind, uses, n);
        if (state->known)
                pay(replay, thing, RM_MOVE_LOAD, replay->prices->load(thing));
        else
                state->clean = use->act != ACT_MAKE && !thing->changes;
        state->known = state->resident = true;
        replay->residents[thing->kind][replay->n_residents[thing->kind]++] = use->thing;
}

static void note(Replay *replay, const Use *use) {
        const Thing *thing = &replay->trace->things[use->thing];
        State *state = &replay->states[use->thing];
        RmCandidate candidate;

        if (use->act == ACT_FLUSH) {
                if (state->resident)
                        leave(replay, use->thing);
                rm_visits_forget(&replay->visits[thing->kind], use->thing);
                state->known = false;
                state->use = (RmUse){ 0 };
                return;
        }
        if (thing->changes)
                state->clean = false;
        candidate = candidate_of(replay, use->thing);
        rm_visit(&replay->visits[thing->kind], &candidate, use->command + 1);
        state->use = candidate.use;
        state->used = use->command + 1;
}

double replay(const Trace *trace, const Prices *prices, unsigned slots, Policy policy) {
        Replay replay = {
                .trace = trace,
                .prices = prices,
                .slots = slots,
                .policy = policy,
                .states = calloc(trace->n_things, sizeof(State)),
                .sum = trace->n_commands * prices->command,
        };
        size_t end;

        if (!replay.states)
                exit(2);
        for (size_t u = 0; u < trace->n_uses; u = end) {
                replay.command = trace->uses[u].command;
                for (end = u; end < trace->n_uses && trace->uses[end].command == trace->uses[u].command;)
                        end++;
                for (size_t k = u; k < end; k++)
                        bring(&replay, &trace->uses[k], &trace->uses[u], end - u);
                for (size_t k = u; k < end; k++)
                        note(&replay, &trace->uses[k]);
        }
        free(replay.states);
        return replay.sum;
}
