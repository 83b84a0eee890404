/* SPDX-License-Identifier: BSD-2-Clause */
#include "resmgr/entry.h"

#include <stdlib.h>

const uint8_t rm_object_transitions[][2] = {
        { RM_FREE, RM_PENDING }, { RM_PENDING, RM_FREE }, { RM_PENDING, RM_LIVE },
        { RM_LIVE, RM_FREE },    { RM_LIVE, RM_DOOMED },  { RM_DOOMED, RM_FREE },
};

const uint8_t rm_session_transitions[][2] = {
        { RM_FREE, RM_PENDING },      { RM_FREE, RM_LEFT_OVER },      { RM_PENDING, RM_FREE },
        { RM_PENDING, RM_LIVE },      { RM_LIVE, RM_CLIENT_SAVED },   { RM_LIVE, RM_FREE },
        { RM_LIVE, RM_DOOMED },       { RM_CLIENT_SAVED, RM_LIVE },   { RM_CLIENT_SAVED, RM_ABANDONED },
        { RM_CLIENT_SAVED, RM_FREE }, { RM_CLIENT_SAVED, RM_DOOMED }, { RM_ABANDONED, RM_LIVE },
        { RM_ABANDONED, RM_FREE },    { RM_ABANDONED, RM_DOOMED },    { RM_LEFT_OVER, RM_LIVE },
        { RM_LEFT_OVER, RM_FREE },    { RM_LEFT_OVER, RM_DOOMED },    { RM_DOOMED, RM_FREE },
        { RM_DOOMED, RM_LIVE },
};

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static bool may_become(RmKind kind, RmState from, RmState to) {
        const uint8_t(*pairs)[2] = kind == RM_SESSION ? rm_session_transitions : rm_object_transitions;
        size_t n = kind == RM_SESSION ? COUNT(rm_session_transitions) : COUNT(rm_object_transitions);

        while (n > 0 && (pairs[n - 1][0] != from || pairs[n - 1][1] != to))
                n--;
        return n > 0 || from == to;
}

void rm_entry_set_state(Rm *rm, uint32_t i, RmState state) {
        if (!may_become(rm_kind(i), rm_entry(rm, i)->state, state)) {
                rm->counters.forbidden++;
#ifdef TABRMD_STRICT
                abort();
#endif
        }
        rm_entry(rm, i)->state = state;
}

void rm_entry_init(Rm *rm, uint32_t i, uint32_t space) {
        *rm_entry(rm, i) = (RmEntry){
                .state = RM_FREE,
                .residency = RM_ABSENT,
                .space = space,
                .next = RM_NONE,
                .context = RM_NO_CONTEXT,
                .client_context = RM_NO_CONTEXT,
                .since = rm->now,
        };
}

bool rm_entry_set_unknown(Rm *rm, uint32_t i) {
        RmEntry *entry = rm_entry(rm, i);
        RmKind kind = rm_kind(i);

        if (entry->residency == RM_ABSENT) {
                if (rm->n_residents[kind] == RM_RESIDENTS_MAX)
                        return false;
                rm->residents[kind][rm->n_residents[kind]++] = i;
        }
        if (entry->residency != RM_UNKNOWN)
                entry->was_resident = entry->residency == RM_RESIDENT;
        entry->residency = RM_UNKNOWN;
        return true;
}

bool rm_entry_set_resident(Rm *rm, uint32_t i, TPM2_HANDLE handle) {
        RmEntry *entry = rm_entry(rm, i);
        RmKind kind = rm_kind(i);

        if (!rm_entry_set_unknown(rm, i))
                return false;
        entry->residency = RM_RESIDENT;
        entry->handle = handle;
        /* Not for sessions: a TPM has a slot besides, which only the oldest saved one may use. */
        if (kind == RM_OBJECT && rm->slots[kind] != RM_SLOTS_UNKNOWN && rm->n_residents[kind] > rm->slots[kind])
                rm->slots[kind] = rm->n_residents[kind];
        return true;
}

void rm_entry_set_absent(Rm *rm, uint32_t i) {
        RmEntry *entry = rm_entry(rm, i);
        RmKind kind = rm_kind(i);

        if (entry->residency == RM_ABSENT)
                return;
        entry->residency = RM_ABSENT;
        entry->probe = entry->prove = false;
        entry->refused = 0;
        if (kind == RM_OBJECT)
                entry->handle = 0;
        for (uint32_t k = 0; k < rm->n_residents[kind]; k++)
                if (rm->residents[kind][k] == i) {
                        rm->residents[kind][k] = rm->residents[kind][--rm->n_residents[kind]];
                        break;
                }
}

void rm_entry_doubt(Rm *rm, uint32_t i) {
        rm_entry_set_unknown(rm, i);
        rm_entry(rm, i)->probe = rm_entry(rm, i)->prove = rm->due_probe = true;
}

void rm_entry_settle(Rm *rm, uint32_t i) {
        RmEntry *entry = rm_entry(rm, i);

        if (entry->residency != RM_UNKNOWN || entry->prove)
                return;
        if (entry->was_resident)
                entry->residency = RM_RESIDENT;
        else
                rm_entry_set_absent(rm, i);
}

void rm_settle_all(Rm *rm) {
        for (RmKind kind = 0; kind < RM_KINDS; kind++)
                for (uint32_t k = rm->n_residents[kind]; k > 0; k--)
                        rm_entry_settle(rm, rm->residents[kind][k - 1]);
}

void rm_entry_refuse(Rm *rm, uint32_t i) {
        rm_entry(rm, i)->refused = rm->moment;
        rm->counters.refusals++;
}

uint32_t rm_object_find_resident(const Rm *rm, TPM2_HANDLE handle) {
        for (uint32_t k = 0; k < rm->n_residents[RM_OBJECT]; k++)
                if (rm_entry(rm, rm->residents[RM_OBJECT][k])->handle == handle)
                        return rm->residents[RM_OBJECT][k];
        return RM_NONE;
}

void rm_entry_use(Rm *rm, uint32_t i) {
        RmCandidate candidate = rm_entry_candidate(rm, i);

        rm_entry(rm, i)->refused = 0;
        rm_visit(&rm->visits[rm_kind(i)], &candidate, rm->tick);
        rm_entry(rm, i)->use = candidate.use;
}

RmCandidate rm_entry_candidate(const Rm *rm, uint32_t i) {
        const RmEntry *entry = rm_entry(rm, i);
        uint32_t n_bytes = entry->context.first != RM_NONE ? entry->context.n_bytes : rm->prices.bytes[RM_MOVE_LOAD];
        RmCandidate candidate = {
                .use = entry->use,
                .entry = i,
                .price = 1,
                .is_expected = entry->expected_at == rm->tick,
                .n_commands =
                        entry->expected < UINT32_MAX / RM_VISIT ? (uint32_t)entry->expected : UINT32_MAX / RM_VISIT,
        };

        if (rm_kind(i) == RM_SESSION)
                return candidate;
        candidate.price = rm_price(&rm->prices, RM_MOVE_FLUSH, n_bytes) + rm_price(&rm->prices, RM_MOVE_LOAD, n_bytes);
        if (!entry->clean)
                candidate.price += rm_price(&rm->prices, RM_MOVE_SAVE, n_bytes);
        return candidate;
}
