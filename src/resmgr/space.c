/* SPDX-License-Identifier: BSD-2-Clause */
#include "resmgr/space.h"

#include "tpm/command.h"
#include "tpm/context.h"

#define NUMBERS_LEFT_OUT 8

/* There are never more users than spaces. */
uint32_t rm_user_join(Rm *rm, uint32_t uid) {
        uint32_t user = RM_NONE;

        for (uint32_t i = 0; i < rm->n_users_used; i++) {
                if (rm_user(rm, i)->n_spaces == 0)
                        user = i;
                else if (rm_user(rm, i)->uid == uid) {
                        rm_user(rm, i)->n_spaces++;
                        return i;
                }
        }
        if (user == RM_NONE)
                user = rm->n_users_used++;
        *rm_user(rm, user) = (RmUser){ .uid = uid, .n_spaces = 1 };
        return user;
}

/* @by may be negative, as unsigned numbers go. */
static void held_add(RmHeld *held, RmHeld by) {
        held->objects += by.objects;
        held->cells += by.cells;
}

static void space_charge(Rm *rm, uint32_t i, RmHeld by) {
        RmSpace *space = rm_space(rm, i);
        RmUser *user = rm_user(rm, space->user);

        held_add(&space->held, by);
        held_add(&user->held, by);
        held_add(&rm->held, by);
        if (!space->waits)
                return;
        held_add(&user->waiting, by);
        held_add(&rm->waiting, by);
}

void rm_space_wait(Rm *rm, uint32_t i, bool waits) {
        RmSpace *space = rm_space(rm, i);
        RmHeld by = space->held;

        if (space->waits == waits)
                return;
        space->waits = waits;
        if (!waits)
                by = (RmHeld){ .objects = -by.objects, .cells = -by.cells };
        held_add(&rm_user(rm, space->user)->waiting, by);
        held_add(&rm->waiting, by);
}

uint32_t rm_space_find(const Rm *rm, uint32_t space, TPM2_HANDLE vhandle) {
        uint32_t i = rm_space(rm, space)->first_object;

        while (i != RM_NONE && rm_entry(rm, i)->vhandle < vhandle)
                i = rm_entry(rm, i)->next;
        return i != RM_NONE && rm_entry(rm, i)->vhandle == vhandle ? i : RM_NONE;
}

void rm_space_link(Rm *rm, uint32_t i) {
        RmEntry *object = rm_entry(rm, i);
        uint32_t *link = &rm_space(rm, object->space)->first_object;
        TPM2_HANDLE vhandle = TPM_TRANSIENT_FIRST;

        /* The list ascends, so the first gap in it is the lowest free handle, which is what a TPM gives too. */
        while (*link != RM_NONE && rm_entry(rm, *link)->vhandle == vhandle) {
                link = &rm_entry(rm, *link)->next;
                vhandle++;
        }
        object->vhandle = vhandle;
        object->next = *link;
        *link = i;
        rm_entry_set_state(rm, i, RM_LIVE);
}

static void unlink_object(Rm *rm, uint32_t i) {
        uint32_t *link = &rm_space(rm, rm_entry(rm, i)->space)->first_object;

        while (*link != RM_NONE && *link != i)
                link = &rm_entry(rm, *link)->next;
        if (*link == i)
                *link = rm_entry(rm, i)->next;
        rm_entry(rm, i)->next = RM_NONE;
}

/* There may be very many objects: free ones are in a list. */
static uint32_t find_free_object(Rm *rm) {
        uint32_t i = rm->free_object;

        if (i != RM_NONE)
                rm->free_object = rm_entry(rm, i)->next;
        else if (rm->n_objects_used < rm->limits.objects)
                i = RM_SESSIONS + rm->n_objects_used++;
        rm->n_objects += i != RM_NONE;
        return i;
}

/* The lowest, so that those in use stay together. */
static uint32_t find_free_session(Rm *rm) {
        uint32_t i = 0;

        while (i < rm->n_sessions_used && rm_entry(rm, i)->state != RM_FREE)
                i++;
        if (i == RM_SESSIONS)
                return RM_NONE;
        if (i == rm->n_sessions_used)
                rm->n_sessions_used++;
        return i;
}

uint32_t rm_entry_new(Rm *rm, RmKind kind, uint32_t space) {
        uint32_t i = kind == RM_SESSION ? find_free_session(rm) : find_free_object(rm);

        if (i == RM_NONE)
                return RM_NONE;
        rm_entry_init(rm, i, space);
        if (space == RM_NONE)
                return i;
        rm_entry(rm, i)->uid = rm_space(rm, space)->uid;
        rm_entry_set_state(rm, i, RM_PENDING);
        if (kind == RM_OBJECT)
                space_charge(rm, space, (RmHeld){ .objects = 1 });
        return i;
}

/* The context of an object counts against its space, or does not any more. */
static void charge_cells(Rm *rm, uint32_t i, bool counts) {
        const RmEntry *object = rm_entry(rm, i);
        uint32_t n = object->context.first != RM_NONE ? rm_cells_for(object->context.n_bytes) : 0;

        if (rm_kind(i) == RM_OBJECT && object->space != RM_NONE)
                space_charge(rm, object->space, (RmHeld){ .cells = counts ? n : -n });
}

/*
 * Whether a number was there before, as after a reset, or when a state was put back. A TPM whose numbers fall for no
 * such reason is believed the less the more often they do.
 */
static bool number_falls(Rm *rm, RmKind kind, uint64_t number) {
        RmNumbers *numbers = &rm->numbers[kind];
        bool falls = numbers->newest != 0 && number <= numbers->newest;
        bool trusted = numbers->n_rises > 0 && numbers->n_rises >= numbers->n_trusted;

        numbers->newest = number;
        if (!falls) {
                numbers->n_rises += numbers->n_rises < UINT32_MAX;
                return false;
        }
        numbers->n_rises = 0;
        if (numbers->n_trusted < 1u << 30)
                numbers->n_trusted = numbers->n_trusted * 2 + 1;
        return trusted;
}

/*
 * A number that is further from the last one than by what was saved for us was reached with the help of others. Some
 * TPMs count both kinds together, some leave numbers out now and then, and the answer to a save may have been lost.
 */
static void count_foreign_saves(Rm *rm, RmKind kind, uint64_t number) {
        RmNumbers *numbers = &rm->numbers[kind];
        uint64_t n_ours = ++rm->n_contexts - numbers->n_ours;

        numbers->n_ours = rm->n_contexts;
        if (numbers->newest != 0 && number > numbers->newest && number - numbers->newest > n_ours + NUMBERS_LEFT_OUT)
                rm->counters.foreign_saves += number - numbers->newest - n_ours;
}

void rm_numbers_forget(Rm *rm) {
        for (RmKind kind = 0; kind < RM_KINDS; kind++)
                rm->numbers[kind].newest = 0;
}

/* What came later than this number never was, and its handles may be others' now; and so may be those of residents. */
static void take_back(Rm *rm, uint32_t i, uint64_t number) {
        for (uint32_t k = rm->n_sessions_used; k > 0 && rm_kind(i) == RM_SESSION; k--) {
                const RmEntry *session = rm_entry(rm, k - 1);

                if (k - 1 != i && rm_exists(session) && session->residency == RM_ABSENT && session->number >= number)
                        rm_entry_free(rm, k - 1);
        }
        rm->counters.taken_back++;
        /* A context that was saved since then may be that of another object, under the same handle, of the past. */
        for (uint32_t k = rm_first(RM_OBJECT); k < rm_end(rm, RM_OBJECT); k++)
                rm_entry(rm, k)->suspect = rm_entry(rm, k)->state == RM_LIVE && rm_entry(rm, k)->n_name > 0;
        /* The session is its caller's to free; whether the object is what it was is asked. */
        rm_residents_doubted(rm, rm_kind(i) == RM_SESSION ? i : RM_NONE);
}

bool rm_entry_keep_context(Rm *rm, uint32_t i, const uint8_t *bytes, size_t n_bytes, bool is_new) {
        RmEntry *entry = rm_entry(rm, i);
        TpmContext context;

        if (!tpm_context_parse(bytes, n_bytes, &context))
                return false;
        if (is_new)
                count_foreign_saves(rm, rm_kind(i), context.sequence);
        if (is_new && number_falls(rm, rm_kind(i), context.sequence)) {
                take_back(rm, i, context.sequence);
                return false;
        }
        charge_cells(rm, i, false);
        if (!rm_context_store(rm, &entry->context, bytes, n_bytes)) {
                charge_cells(rm, i, true);
                return false;
        }
        charge_cells(rm, i, true);
        entry->clean = true;
        entry->refused = 0;
        rm->retried = rm->moment; /* what kept others from being saved may be over */
        if (rm_kind(i) == RM_OBJECT) {
                if (n_bytes > rm->max_context)
                        rm->max_context = n_bytes;
                entry->hierarchy = context.hierarchy;
                entry->sequence = context.saved_handle == TPM_CONTEXT_SEQUENCE;
                return true;
        }
        entry->number = context.sequence;
        rm_entry_set_absent(rm, i);
        return true;
}

/* Take it from its client: out of its list, and no longer charged to it. */
static void disown_entry(Rm *rm, uint32_t i) {
        RmEntry *entry = rm_entry(rm, i);

        if (entry->space == RM_NONE)
                return;
        charge_cells(rm, i, false);
        if (rm_kind(i) == RM_OBJECT) {
                if (entry->state == RM_LIVE)
                        unlink_object(rm, i);
                space_charge(rm, entry->space, (RmHeld){ .objects = -1u });
        }
        entry->space = RM_NONE;
}

void rm_entry_free(Rm *rm, uint32_t i) {
        RmEntry *entry = rm_entry(rm, i);

        disown_entry(rm, i);
        rm_visits_forget(&rm->visits[rm_kind(i)], i);
        rm_entry_set_absent(rm, i);
        rm_context_free(rm, &entry->context);
        rm_context_free(rm, &entry->client_context);
        entry->clean = false;
        entry->number = 0;
        rm_entry_set_state(rm, i, RM_FREE);
        if (rm_kind(i) == RM_OBJECT) {
                rm->n_objects--;
                entry->next = rm->free_object;
                rm->free_object = i;
                return;
        }
        while (rm->n_sessions_used > 0 && rm_entry(rm, rm->n_sessions_used - 1)->state == RM_FREE)
                rm->n_sessions_used--;
}

void rm_entry_doom(Rm *rm, uint32_t i) {
        RmEntry *entry = rm_entry(rm, i);

        if (rm_kind(i) == RM_OBJECT && entry->residency == RM_ABSENT) {
                rm_entry_free(rm, i);
                return;
        }
        disown_entry(rm, i);
        rm_visits_forget(&rm->visits[rm_kind(i)], i);
        if (rm_kind(i) == RM_OBJECT) {
                rm_context_free(rm, &entry->context);
                entry->clean = false;
        }
        entry->refused = 0; /* it is to be flushed now, not saved */
        rm_entry_set_state(rm, i, RM_DOOMED);
}

void rm_entry_flushed(Rm *rm, uint32_t i) {
        if (rm_kind(i) == RM_OBJECT && rm_entry(rm, i)->state == RM_LIVE && rm_entry(rm, i)->clean)
                rm_entry_set_absent(rm, i);
        else
                rm_entry_free(rm, i);
}

void rm_entry_lost(Rm *rm, uint32_t i) {
        if (!rm_exists(rm_entry(rm, i)))
                return; /* with all others, in a reset */
        if (rm_kind(i) == RM_SESSION)
                rm_entry_doom(rm, i);
        else
                rm_entry_flushed(rm, i);
}

void rm_objects_lost(Rm *rm) {
        while (rm->n_residents[RM_OBJECT] > 0)
                rm_entry_lost(rm, rm->residents[RM_OBJECT][rm->n_residents[RM_OBJECT] - 1]);
}

static void doubt_resident(Rm *rm, uint32_t i) {
        const RmEntry *entry = rm_entry(rm, i);

        if (rm_kind(i) == RM_OBJECT && entry->state == RM_LIVE && !entry->clean && entry->n_name > 0) {
                rm_entry_doubt(rm, i);
        } else if (rm_kind(i) == RM_OBJECT) {
                rm_entry_flushed(rm, i);
        } else {
                rm_entry_free(rm, i);
        }
}

void rm_residents_doubted(Rm *rm, uint32_t except) {
        for (RmKind kind = 0; kind < RM_KINDS; kind++)
                for (uint32_t k = rm->n_residents[kind]; k > 0; k--)
                        if (rm->residents[kind][k - 1] != except)
                                doubt_resident(rm, rm->residents[kind][k - 1]);
        rm->due_reconcile = true;
}
