/* SPDX-License-Identifier: BSD-2-Clause */
#include "test/lib/invariants.h"

#include "resmgr/capability.h"

#include <stdlib.h>
#include <string.h>

/* Return: what is broken, out of the calling function. */
#define DEMAND(condition, what)                                                                                        \
        do {                                                                                                           \
                if (!(condition))                                                                                      \
                        return what;                                                                                   \
        } while (0)

/* Entries of cells or objects that were met already. */
typedef struct Marks {
        uint8_t *seen;
        size_t size;
} Marks;

static Marks cells;
static Marks entries;

static void marks_clear(Marks *marks, size_t size) {
        if (marks->size < size) {
                free(marks->seen);
                marks->seen = malloc(size);
                marks->size = marks->seen ? size : 0;
        }
        memset(marks->seen, 0, size);
}

/* Return: false when the entry is out of range, or was met before. */
static bool marks_meet(Marks *marks, uint32_t i, uint32_t n_used) {
        return i < n_used && !marks->seen[i]++;
}

static const char *check_chain(Rm *rm, const RmContext *context, uint32_t *n_cells) {
        size_t n = 0;

        for (uint32_t i = context->first; i != RM_NONE; i = rm_cell(rm, i)->next, n++)
                DEMAND(marks_meet(&cells, i, rm->n_cells_used), "a cell of a copy has two owners, or is out of range");
        DEMAND(context->first == RM_NONE || n == (context->n_bytes + RM_CELL_PAYLOAD - 1) / RM_CELL_PAYLOAD,
               "a copy is longer or shorter than its cells");
        *n_cells += n;
        return NULL;
}

static const char *check_cells(Rm *rm) {
        const char *broken = NULL;
        uint32_t n = 0, n_free;

        marks_clear(&cells, rm->n_cells);
        for (uint32_t i = rm->free_cell; i != RM_NONE; i = rm_cell(rm, i)->next, n++)
                DEMAND(marks_meet(&cells, i, rm->n_cells_used), "a free cell is listed twice, or out of range");
        n_free = n;
        for (RmKind kind = 0; kind < RM_KINDS; kind++)
                for (uint32_t i = rm_first(kind); !broken && i < rm_end(rm, kind); i++)
                        if (rm_entry(rm, i)->state != RM_FREE)
                                broken = check_chain(rm, &rm_entry(rm, i)->context, &n)
                                                 ?: check_chain(rm, &rm_entry(rm, i)->client_context, &n);
        for (uint32_t i = 0; !broken && i < rm->n_fixed; i++)
                broken = check_chain(rm, &rm_fixed(rm, i)->answer, &n);
        DEMAND(broken || n == rm->n_cells_used, "cells were leaked");
        DEMAND(broken || rm->n_cells_taken + n_free == rm->n_cells_used, "cells are counted wrong");
        return broken;
}

static const char *check_object(Rm *rm, const RmEntry *object) {
        DEMAND(object->state != RM_LIVE || object->residency != RM_ABSENT || object->clean,
               "an object is absent without a context that is current");
        DEMAND((object->state == RM_DOOMED) == (object->space == RM_NONE), "an object is nobody's, yet not doomed");
        DEMAND(object->state != RM_DOOMED || object->residency != RM_ABSENT, "a doomed object is not in the TPM");
        return NULL;
}

static const char *check_session(Rm *rm, uint32_t i) {
        const RmEntry *session = rm_entry(rm, i);

        DEMAND(session->residency != RM_ABSENT || session->clean || session->state == RM_LEFT_OVER ||
                       session->state == RM_DOOMED,
               "a session is absent without a context");
        DEMAND((session->state == RM_LIVE || session->state == RM_CLIENT_SAVED) == (session->space != RM_NONE),
               "a session that is nobody's has a space");
        for (uint32_t k = 0; k < i; k++)
                DEMAND(!rm_exists(rm_entry(rm, k)) || (rm_entry(rm, k)->handle ^ session->handle) << 8 != 0,
                       "two sessions have one handle");
        return NULL;
}

static const char *check_entry(Rm *rm, uint32_t i) {
        const RmEntry *entry = rm_entry(rm, i);

        DEMAND(!entry->clean || entry->context.first != RM_NONE, "an entry is clean without a context");
        DEMAND(entry->space == RM_NONE || rm_space(rm, entry->space)->open, "an entry belongs to a closed space");
        if (rm_kind(i) == RM_OBJECT)
                return check_object(rm, entry);
        return rm_exists(entry) ? check_session(rm, i) : NULL;
}

static const char *check_entries(Rm *rm) {
        const char *broken = NULL;
        uint32_t n = 0;

        marks_clear(&entries, RM_SESSIONS + rm->limits.objects);
        for (uint32_t i = rm->free_object; i != RM_NONE; i = rm_entry(rm, i)->next) {
                DEMAND(marks_meet(&entries, i, rm_end(rm, RM_OBJECT)),
                       "a free object is listed twice, or out of range");
                DEMAND(rm_entry(rm, i)->state == RM_FREE, "an object in use is listed as free");
        }
        for (RmKind kind = 0; kind < RM_KINDS; kind++)
                for (uint32_t i = rm_first(kind); !broken && i < rm_end(rm, kind); i++) {
                        n += kind == RM_OBJECT && rm_entry(rm, i)->state != RM_FREE;
                        if (rm_entry(rm, i)->state != RM_FREE)
                                broken = check_entry(rm, i);
                        else if ((kind == RM_OBJECT && !entries.seen[i]) || rm_entry(rm, i)->residency != RM_ABSENT)
                                broken = "what is free is in no list, or resident";
                }
        DEMAND(broken || n == rm->n_objects, "objects are counted wrong");
        return broken;
}

static const char *check_residents(Rm *rm, RmKind kind) {
        uint32_t n = 0;

        marks_clear(&entries, RM_SESSIONS + rm->limits.objects);
        DEMAND(rm->n_residents[kind] <= RM_RESIDENTS_MAX, "too many residents");
        for (uint32_t k = 0; k < rm->n_residents[kind]; k++) {
                const RmEntry *entry = rm_entry(rm, rm->residents[kind][k]);

                DEMAND(rm_kind(rm->residents[kind][k]) == kind, "a resident is of the wrong kind");
                DEMAND(marks_meet(&entries, rm->residents[kind][k], rm_end(rm, kind)), "a resident is listed twice");
                DEMAND(entry->residency != RM_ABSENT, "what is absent is listed as resident");
                for (uint32_t m = 0; m < k && entry->residency == RM_RESIDENT; m++)
                        DEMAND(rm_entry(rm, rm->residents[kind][m])->residency != RM_RESIDENT ||
                                       rm_entry(rm, rm->residents[kind][m])->handle != entry->handle,
                               "two residents have one physical handle");
        }
        for (uint32_t i = rm_first(kind); i < rm_end(rm, kind); i++)
                n += rm_entry(rm, i)->residency != RM_ABSENT;
        DEMAND(n == rm->n_residents[kind], "a resident is in no list");
        return NULL;
}

static const char *check_space(Rm *rm, uint32_t i) {
        const RmSpace *space = rm_space(rm, i);
        TPM2_HANDLE previous = 0;
        uint32_t n = 0, n_cells = 0;

        for (uint32_t k = space->first_object; k != RM_NONE; k = rm_entry(rm, k)->next, n++) {
                n_cells +=
                        rm_entry(rm, k)->context.first == RM_NONE ? 0 : rm_cells_for(rm_entry(rm, k)->context.n_bytes);
                DEMAND(n <= rm->n_objects_used, "the objects of a space go round in a ring");
                DEMAND(rm_entry(rm, k)->space == i && rm_entry(rm, k)->state == RM_LIVE,
                       "what a space lists is not its own");
                DEMAND(rm_entry(rm, k)->vhandle > previous, "virtual handles do not ascend");
                previous = rm_entry(rm, k)->vhandle;
        }
        for (uint32_t k = rm_first(RM_OBJECT); k < rm_end(rm, RM_OBJECT); k++)
                n += rm_entry(rm, k)->space == i && rm_entry(rm, k)->state == RM_PENDING;
        DEMAND(n == space->held.objects, "a space miscounts its objects");
        DEMAND(n_cells == space->held.cells, "a space miscounts its cells");
        DEMAND(n <= rm->limits.objects_per_space, "a space has more objects than its quota");
        n = 0;
        for (uint32_t k = 0; k < rm->n_sessions_used; k++)
                n += rm_entry(rm, k)->state != RM_FREE && rm_entry(rm, k)->space == i;
        DEMAND(n <= rm->limits.sessions_per_space, "a space has more sessions than its quota");
        return NULL;
}

static bool held_are(const RmHeld *sum, const RmHeld *held) {
        return sum->objects == held->objects && sum->cells == held->cells;
}

static void held_sum(RmHeld *sum, const RmHeld *held) {
        sum->objects += held->objects;
        sum->cells += held->cells;
}

/* Of one user, or of all: what its spaces have, and those of them that wait. */
static const char *check_held(Rm *rm, uint32_t user, const RmHeld *held, const RmHeld *waiting) {
        RmHeld sum = { 0 }, sum_waiting = { 0 };

        for (uint32_t i = 0; i < rm->n_spaces_used; i++) {
                const RmSpace *space = rm_space(rm, i);

                if (!space->open || (user != RM_NONE && space->user != user))
                        continue;
                DEMAND(space->uid == rm_user(rm, space->user)->uid, "a space counts for another's uid");
                held_sum(&sum, &space->held);
                if (space->waits)
                        held_sum(&sum_waiting, &space->held);
        }
        DEMAND(held_are(&sum, held), "what a user has is counted wrong");
        DEMAND(held_are(&sum_waiting, waiting), "what those have that wait for room is counted wrong");
        return NULL;
}

static const char *check_users(Rm *rm) {
        const char *broken = check_held(rm, RM_NONE, &rm->held, &rm->waiting);

        for (uint32_t i = 0; !broken && i < rm->n_users_used; i++)
                if (rm_user(rm, i)->n_spaces > 0)
                        broken = check_held(rm, i, &rm_user(rm, i)->held, &rm_user(rm, i)->waiting);
        return broken;
}

/* What is pending belongs to a job, and each job has at most one of a kind. */
static const char *check_jobs(Rm *rm) {
        int n[RM_KINDS] = { 0 };

        for (RmKind kind = 0; kind < RM_KINDS; kind++)
                for (uint32_t i = rm_first(kind); i < rm_end(rm, kind); i++)
                        n[kind] += rm_entry(rm, i)->state == RM_PENDING;
        for (unsigned i = 0; i < RM_JOBS; i++) {
                if (!(rm->jobs_used & 1u << i))
                        continue;
                DEMAND(rm_job(rm, i)->n_frames <= RM_FRAMES_MAX, "a job has too many frames");
                n[RM_OBJECT] -= rm_job(rm, i)->pending[RM_OBJECT] != RM_NONE;
                n[RM_SESSION] -= rm_job(rm, i)->pending[RM_SESSION] != RM_NONE;
        }
        DEMAND(n[RM_OBJECT] == 0 && n[RM_SESSION] == 0, "something is pending for no job, or missing for one");
        return NULL;
}

const char *rm_invariant_broken(Rm *rm) {
        const char *broken = check_cells(rm)
                                     ?: check_entries(rm)
                                     ?: check_residents(rm, RM_SESSION)
                                     ?: check_residents(rm, RM_OBJECT);

        for (uint32_t i = 0; !broken && i < rm->n_spaces_used; i++)
                if (rm_space(rm, i)->open)
                        broken = check_space(rm, i);
        broken = broken ?: check_users(rm);
        DEMAND(broken || rm->counters.forbidden == 0, "a state was changed to one that it does not lead to");
        return broken ?: check_jobs(rm);
}

/* What a command may take out of the TPM is marked unknown while it is out, and still has its handle. */
static bool own_object(Rm *rm, uint32_t space, TPM2_HANDLE phandle) {
        bool own = phandle >= TPM_TRANSIENT_LAST; /* which are never loaded */

        for (uint32_t k = 0; k < rm->n_residents[RM_OBJECT]; k++) {
                const RmEntry *object = rm_entry(rm, rm->residents[RM_OBJECT][k]);

                own |= object->handle == phandle && object->space == space;
        }
        return own;
}

static bool own_session(Rm *rm, uint32_t space, TPM2_HANDLE handle) {
        uint32_t i = rm_session_find(rm, handle);

        return i == RM_NONE || rm_entry(rm, i)->space == space;
}

static const char *check_flush(Rm *rm, uint32_t space, const uint8_t *bytes) {
        TpmReader reader = TPM_READER(bytes + TPM_HEADER_SIZE, sizeof(TPM2_HANDLE));
        TPM2_HANDLE handle = tpm_read_u32(&reader);
        uint32_t i = tpm_handle_is_session(handle) ? rm_session_find(rm, handle) : RM_NONE;

        DEMAND(i == RM_NONE || rm_session_may_flush(rm, space, i), "a session that is flushed is another client's");
        DEMAND(!tpm_handle_is_transient(handle) || own_object(rm, space, handle),
               "an object that is flushed is another client's");
        return NULL;
}

const char *rm_border_broken(Rm *rm, uint32_t space, const uint8_t *bytes, size_t n_bytes) {
        TpmCommand command = tpm_command_parse(&rm->table, bytes, n_bytes);

        /* Without its last handle a command is refused before the TPM looks at what the others mean. */
        for (unsigned i = 0; command.handles_whole && i < command.n_handles; i++) {
                DEMAND(!tpm_handle_is_transient(command.handles[i]) || own_object(rm, space, command.handles[i]),
                       "an object in the handle area is another client's");
                DEMAND(!tpm_handle_is_session(command.handles[i]) || own_session(rm, space, command.handles[i]),
                       "a session in the handle area is another client's");
        }
        for (unsigned i = 0; i < command.n_auths; i++)
                DEMAND(!tpm_handle_is_session(command.auths[i].session) ||
                               own_session(rm, space, command.auths[i].session),
                       "a session in the authorization area is another client's");
        if (command.info.kind == TPM_COMMAND_FLUSH_CONTEXT && command.header.tag == TPM2_ST_NO_SESSIONS &&
            n_bytes == TPM_HEADER_SIZE + sizeof(TPM2_HANDLE))
                return check_flush(rm, space, bytes);
        return NULL;
}

const char *rm_claim_broken(Rm *rm, bool (*lists)(TPM2_HANDLE handle)) {
        for (RmKind kind = 0; kind < RM_KINDS; kind++)
                for (uint32_t k = 0; k < rm->n_residents[kind]; k++) {
                        const RmEntry *entry = rm_entry(rm, rm->residents[kind][k]);

                        /* Of a session that is to be flushed it does not matter where it is. */
                        DEMAND(entry->residency != RM_RESIDENT || entry->probe || lists(entry->handle) ||
                                       (kind == RM_SESSION && entry->state == RM_DOOMED),
                               "an object or session claims to be in the TPM");
                }
        return NULL;
}

const char *rm_rest_broken(Rm *rm) {
        for (RmKind kind = 0; kind < RM_KINDS; kind++)
                for (uint32_t k = 0; k < rm->n_residents[kind]; k++)
                        DEMAND(rm_entry(rm, rm->residents[kind][k])->residency != RM_UNKNOWN,
                               "nothing is out, and where something is is unknown");
        return NULL;
}

bool rm_is_in_doubt(const Rm *rm) {
        return rm->due_start || rm->due_reconcile;
}

bool rm_has_handle(Rm *rm, TPM2_HANDLE handle) {
        if (tpm_handle_is_session(handle))
                return rm_session_find(rm, handle) != RM_NONE;
        return rm_object_find_resident(rm, handle) != RM_NONE;
}
