/* SPDX-License-Identifier: BSD-2-Clause */
#include "resmgr/share.h"

#include "tpm/header.h"

/* One of so many is kept for root; where there are few, one. */
#define ROOTS_PART 32
#define FEW 4

#define YOUNG_US (10 * 1000 * 1000)

/*
 * Whether a user may have one more of what there is: as long as it has less than (n_all - others) / others times what
 * is left. So one user alone gets all but @others, many users get about the same, and the last part is never one
 * user's.
 */
static bool may_have_more(uint32_t uid, uint32_t n_of_uid, uint32_t n_taken, uint32_t n_all, uint32_t others) {
        uint32_t n_left = n_all > n_taken ? n_all - n_taken : 0;
        uint32_t n_kept = n_all / ROOTS_PART > 0 ? n_all / ROOTS_PART : n_all > FEW;

        if (uid == 0)
                return n_left > 0;
        return n_left > n_kept && (uint64_t)n_of_uid * others < (uint64_t)(n_all - others) * n_left;
}

/*
 * May end without a command that waits for room: what belongs to a client that does not wait for room itself, and is
 * not the one that asks.
 */
static bool may_end(const Rm *rm, uint32_t owner, uint32_t asking) {
        return owner != asking && owner != RM_NONE && !rm_space(rm, owner)->waits;
}

/* Cells are shared like objects; and enough of them are left to evict all that is in the TPM. */
static TSS2_RC admit_object(const Rm *rm, uint32_t i, bool if_others_end) {
        const RmSpace *space = rm_space(rm, i);
        const RmUser *user = rm_user(rm, space->user);
        RmHeld of_uid = user->held, taken = { .objects = rm->n_objects, .cells = rm->n_cells_taken };

        /* There is left what those have that wait for room, and the one that asks: see may_end(). */
        if (if_others_end) {
                RmHeld own = { 0 };

                if (!space->waits)
                        own = space->held;
                of_uid = (RmHeld){ user->waiting.objects + own.objects, user->waiting.cells + own.cells };
                taken.objects -= rm->held.objects - rm->waiting.objects - own.objects;
                taken.cells -= rm->held.cells - rm->waiting.cells - own.cells;
        }
        if (space->held.objects >= rm->limits.objects_per_space ||
            !may_have_more(space->uid, of_uid.objects, taken.objects, rm->limits.objects, rm->limits.objects / 2) ||
            !may_have_more(space->uid, of_uid.cells, taken.cells, rm->n_cells, rm->n_cells / 2) ||
            rm->n_cells - taken.cells < (rm->n_residents[RM_OBJECT] + 2) * rm_cells_for(rm->max_context))
                return RM_RC(TPM2_RC_OBJECT_MEMORY);
        return TSS2_RC_SUCCESS;
}

static bool is_saved(const RmEntry *session) {
        return session->state == RM_CLIENT_SAVED || session->state == RM_ABANDONED;
}

/* One that was saved not long ago is in use, by programs that hand it on in a file, and does not give way. */
static bool is_young(const Rm *rm, const RmEntry *session) {
        return is_saved(session) && rm->now - session->saved_at < YOUNG_US;
}

typedef struct Sessions {
        uint32_t n_of_space, n_of_uid;
        uint32_t n_taken;   /* that do not give way */
        uint32_t n_handles; /* of all of them */
} Sessions;

typedef enum Counting {
        ALL_GIVE_WAY,     /* saved sessions do, young ones too */
        YOUNG_ARE_IN_USE, /* ... but young ones do not */
        OTHERS_HAVE_ENDED /* what other clients have that do not wait for room is gone, and so are young files */
} Counting;

/* All but @loaded, which is there already. */
static Sessions count_sessions(const Rm *rm, uint32_t space, uint32_t loaded, Counting counting) {
        Sessions sessions = { 0 };

        for (uint32_t k = 0; k < rm->n_sessions_used; k++) {
                const RmEntry *session = rm_entry(rm, k);
                bool young = counting != ALL_GIVE_WAY && is_young(rm, session);
                bool is_used = session->space != RM_NONE || young;

                if (session->state == RM_FREE || k == loaded)
                        continue;
                if (counting == OTHERS_HAVE_ENDED &&
                    (session->space == RM_NONE ? young : may_end(rm, session->space, space)))
                        continue;
                sessions.n_handles++;
                sessions.n_of_space += session->space == space;
                sessions.n_of_uid += is_used && session->uid == rm_space(rm, space)->uid;
                sessions.n_taken += is_used && (!is_saved(session) || young);
        }
        return sessions;
}

static TSS2_RC admit_session(const Rm *rm, uint32_t space, const Sessions *sessions) {
        uint32_t n_all = rm->active_sessions_max;
        uint32_t others = n_all / 8 > 4 ? n_all / 8 : n_all > 4 ? 4 : n_all - 1;

        if (sessions->n_of_space >= rm->limits.sessions_per_space)
                return RM_RC(TPM2_RC_SESSION_MEMORY);
        if (!may_have_more(rm_space(rm, space)->uid, sessions->n_of_uid, sessions->n_taken, n_all, others))
                return RM_RC(TPM2_RC_SESSION_HANDLES);
        return TSS2_RC_SUCCESS;
}

TSS2_RC rm_share_admit(const Rm *rm, RmKind kind, uint32_t space, uint32_t loaded) {
        Sessions sessions;

        if (kind == RM_OBJECT)
                return admit_object(rm, space, false);
        sessions = count_sessions(rm, space, loaded, ALL_GIVE_WAY);
        return admit_session(rm, space, &sessions);
}

/* How many sessions a user has, whatever their state. */
static uint32_t weigh_uid(const Rm *rm, uint32_t uid) {
        uint32_t n = 0;

        for (uint32_t i = 0; i < rm->n_sessions_used; i++)
                n += rm_exists(rm_entry(rm, i)) && rm_entry(rm, i)->state != RM_LEFT_OVER &&
                     rm_entry(rm, i)->uid == uid;
        return n;
}

/* The oldest in that state of the user that has most, so that nobody can push out what is another's. */
static uint32_t find_oldest_of_heaviest(const Rm *rm, RmState state, uint32_t at_least, bool young) {
        uint32_t best = RM_NONE;
        uint32_t n_best = 0;

        for (uint32_t i = 0; i < rm->n_sessions_used; i++) {
                const RmEntry *session = rm_entry(rm, i);
                uint32_t n;

                if (session->state != state || !rm_may_try(rm, session) || (!young && is_young(rm, session)))
                        continue;
                n = weigh_uid(rm, session->uid);
                if (n < at_least)
                        continue;
                if (best == RM_NONE || n > n_best || (n == n_best && session->saved < rm_entry(rm, best)->saved)) {
                        best = i;
                        n_best = n;
                }
        }
        return best;
}

static uint32_t find_in_state(const Rm *rm, RmState state) {
        for (uint32_t i = 0; i < rm->n_sessions_used; i++)
                if (rm_entry(rm, i)->state == state && rm_may_try(rm, rm_entry(rm, i)))
                        return i;
        return RM_NONE;
}

static uint32_t find_expendable(const Rm *rm, uint32_t space, bool young) {
        uint32_t asking = space != RM_NONE ? weigh_uid(rm, rm_space(rm, space)->uid) : 0;
        uint32_t i = find_in_state(rm, RM_DOOMED);

        if (i == RM_NONE)
                i = find_in_state(rm, RM_LEFT_OVER);
        if (i == RM_NONE)
                i = find_oldest_of_heaviest(rm, RM_ABANDONED, 0, young);
        /* What a client that is still there may load any moment is taken from nobody who has less than who asks. */
        if (i == RM_NONE)
                i = find_oldest_of_heaviest(rm, RM_CLIENT_SAVED, asking, young);
        return i;
}

uint32_t rm_share_find_expendable(const Rm *rm, uint32_t space) {
        return find_expendable(rm, space, true);
}

static RmRoom object_room(const Rm *rm, uint32_t space) {
        if (admit_object(rm, space, false) == TSS2_RC_SUCCESS)
                return RM_ROOM_NOW;
        return admit_object(rm, space, true) == TSS2_RC_SUCCESS ? RM_ROOM_LATER : RM_ROOM_NEVER;
}

static RmRoom session_room(const Rm *rm, uint32_t space, uint32_t loaded) {
        Sessions now = count_sessions(rm, space, loaded, YOUNG_ARE_IN_USE);
        Sessions later = count_sessions(rm, space, loaded, OTHERS_HAVE_ENDED);
        bool is_new = loaded == RM_NONE;

        if (admit_session(rm, space, &now) == TSS2_RC_SUCCESS &&
            (!is_new || now.n_handles < rm->active_sessions_max || find_expendable(rm, space, false) != RM_NONE))
                return RM_ROOM_NOW;
        if (admit_session(rm, space, &later) != TSS2_RC_SUCCESS ||
            (is_new && later.n_handles >= rm->active_sessions_max))
                return RM_ROOM_NEVER;
        return RM_ROOM_LATER;
}

RmRoom rm_share_room(const Rm *rm, RmKind kind, uint32_t space, uint32_t loaded) {
        return kind == RM_SESSION ? session_room(rm, space, loaded) : object_room(rm, space);
}

void rm_share_give_up(Rm *rm, uint32_t i) {
        RmState state = rm_entry(rm, i)->state;

        rm->counters.abandoned_flushed += state == RM_ABANDONED;
        rm->counters.left_over_flushed += state == RM_LEFT_OVER;
        rm->counters.client_saved_flushed += state == RM_CLIENT_SAVED;
        rm_entry_doom(rm, i);
}

static uint32_t count_in_state(const Rm *rm, RmState state) {
        uint32_t n = 0;

        for (uint32_t k = 0; k < rm->n_sessions_used; k++)
                n += rm_entry(rm, k)->state == state;
        return n;
}

void rm_share_abandon(Rm *rm, uint32_t i) {
        bool is_strict = rm->limits.abandoned != RM_NONE;
        uint32_t most = rm->active_sessions_max > 8 ? rm->active_sessions_max - 8 : rm->active_sessions_max;

        if (rm_entry(rm, i)->state != RM_CLIENT_SAVED) {
                rm_entry_doom(rm, i);
                return;
        }
        rm_entry(rm, i)->space = RM_NONE;
        rm_entry_set_state(rm, i, RM_ABANDONED);
        if (count_in_state(rm, RM_ABANDONED) > (is_strict ? rm->limits.abandoned : most)) {
                uint32_t oldest = find_oldest_of_heaviest(rm, RM_ABANDONED, 0, is_strict);

                if (oldest != RM_NONE || is_strict)
                        rm_share_give_up(rm, oldest != RM_NONE ? oldest : i);
        }
}
