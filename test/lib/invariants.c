/* SPDX-License-Identifier: BSD-2-Clause */
#include "test/lib/invariants.h"

#include "resmgr/state.h"

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
static Marks objects;

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

static const char *check_chain(Rm *rm, const RmCopy *copy, uint32_t *n_cells) {
        size_t n = 0;

        for (uint32_t i = copy->first; i != RM_NONE; i = rm_cell(rm, i)->next, n++)
                DEMAND(marks_meet(&cells, i, rm->n_cells_used), "a cell of a copy has two owners, or is out of range");
        DEMAND(copy->first == RM_NONE || n == (copy->n_bytes + RM_CELL_PAYLOAD - 1) / RM_CELL_PAYLOAD,
               "a copy is longer or shorter than its cells");
        *n_cells += n;
        return NULL;
}

static const char *check_cells(Rm *rm) {
        const char *broken = NULL;
        uint32_t n = 0;

        marks_clear(&cells, rm->n_cells);
        for (uint32_t i = rm->free_cell; i != RM_NONE; i = rm_cell(rm, i)->next, n++)
                DEMAND(marks_meet(&cells, i, rm->n_cells_used), "a free cell is listed twice, or out of range");
        for (uint32_t i = 0; !broken && i < rm->n_objects_used; i++)
                if (rm_object(rm, i)->state != RM_OBJECT_FREE)
                        broken = check_chain(rm, &rm_object(rm, i)->copy, &n);
        for (uint32_t i = 0; !broken && i < rm->n_sessions_used; i++)
                if (rm->sessions[i].state != RM_SESSION_FREE)
                        broken = check_chain(rm, &rm->sessions[i].copy, &n)
                                         ?: check_chain(rm, &rm->sessions[i].token, &n);
        for (uint32_t i = 0; !broken && i < rm->n_fixed; i++)
                broken = check_chain(rm, &rm->fixed[i].answer, &n);
        DEMAND(broken || n == rm->n_cells_used, "cells were leaked");
        return broken;
}

static const char *check_object(Rm *rm, const RmObject *object) {
        DEMAND(!object->clean || object->copy.first != RM_NONE, "an object is clean without a copy");
        DEMAND(object->state != RM_OBJECT_LIVE || object->residency != RM_ABSENT || object->clean,
               "an object is absent without a copy that is current");
        DEMAND((object->state == RM_OBJECT_DOOMED) == (object->space == RM_NONE),
               "an object is nobody's, yet not doomed");
        DEMAND(object->space == RM_NONE || rm_space(rm, object->space)->open, "an object belongs to a closed space");
        return NULL;
}

static const char *check_objects(Rm *rm) {
        const char *broken = NULL;
        uint32_t n = 0;

        marks_clear(&objects, rm->limits.objects);
        for (uint32_t i = rm->free_object; i != RM_NONE; i = rm_object(rm, i)->next) {
                DEMAND(marks_meet(&objects, i, rm->n_objects_used), "a free object is listed twice, or out of range");
                DEMAND(rm_object(rm, i)->state == RM_OBJECT_FREE, "an object in use is listed as free");
        }
        for (uint32_t i = 0; !broken && i < rm->n_objects_used; i++) {
                const RmObject *object = rm_object(rm, i);

                n += object->state != RM_OBJECT_FREE;
                if (object->state != RM_OBJECT_FREE)
                        broken = check_object(rm, object);
                else if (!objects.seen[i] || object->residency != RM_ABSENT)
                        broken = "a free object is in no list, or resident";
        }
        DEMAND(broken || n == rm->n_objects, "objects are counted wrong");
        return broken;
}

static const char *check_residents(Rm *rm) {
        uint32_t n = 0;

        marks_clear(&objects, rm->limits.objects);
        DEMAND(rm->n_residents <= RM_RESIDENTS_MAX, "too many residents");
        for (uint32_t k = 0; k < rm->n_residents; k++) {
                const RmObject *object = rm_object(rm, rm->residents[k]);

                DEMAND(marks_meet(&objects, rm->residents[k], rm->n_objects_used), "a resident is listed twice");
                DEMAND(object->residency != RM_ABSENT, "an absent object is listed as resident");
                for (uint32_t m = 0; m < k && object->residency == RM_RESIDENT; m++)
                        DEMAND(rm_object(rm, rm->residents[m])->residency != RM_RESIDENT ||
                                       rm_object(rm, rm->residents[m])->phandle != object->phandle,
                               "two residents have one physical handle");
        }
        for (uint32_t i = 0; i < rm->n_objects_used; i++)
                n += rm_object(rm, i)->residency != RM_ABSENT;
        DEMAND(n == rm->n_residents, "a resident is in no list");
        return NULL;
}

static const char *check_space(Rm *rm, uint32_t i) {
        const RmSpace *space = rm_space(rm, i);
        TPM2_HANDLE previous = 0;
        uint32_t n = 0;

        for (uint32_t k = space->first_object; k != RM_NONE; k = rm_object(rm, k)->next, n++) {
                DEMAND(n <= rm->n_objects_used, "the objects of a space go round in a ring");
                DEMAND(rm_object(rm, k)->space == i && rm_object(rm, k)->state == RM_OBJECT_LIVE,
                       "what a space lists is not its own");
                DEMAND(rm_object(rm, k)->vhandle > previous, "virtual handles do not ascend");
                previous = rm_object(rm, k)->vhandle;
        }
        for (uint32_t k = 0; k < rm->n_objects_used; k++)
                n += rm_object(rm, k)->space == i && rm_object(rm, k)->state == RM_OBJECT_PENDING;
        DEMAND(n == space->n_objects, "a space miscounts its objects");
        DEMAND(n <= rm->limits.objects_per_space, "a space has more objects than its quota");
        n = 0;
        for (uint32_t k = 0; k < rm->n_sessions_used; k++)
                n += rm->sessions[k].state != RM_SESSION_FREE && rm->sessions[k].space == i;
        DEMAND(n <= rm->limits.sessions_per_space, "a space has more sessions than its quota");
        return NULL;
}

static const char *check_session(Rm *rm, const RmSession *session) {
        DEMAND(session->residency != RM_ABSENT || session->copy.first != RM_NONE ||
                       session->state == RM_SESSION_LEFTOVER,
               "a session is absent without a copy");
        DEMAND(session->space == RM_NONE || rm_space(rm, session->space)->open, "a session belongs to a closed space");
        DEMAND(session->state == RM_SESSION_OWNED || session->state == RM_SESSION_CLIENT_SAVED ||
                       session->space == RM_NONE,
               "a session that is nobody's has a space");
        for (const RmSession *other = rm->sessions; other < session; other++)
                DEMAND(other->state <= RM_SESSION_PENDING || (other->handle ^ session->handle) << 8 != 0,
                       "two sessions have one handle");
        return NULL;
}

static const char *check_sessions(Rm *rm) {
        const char *broken = NULL;

        for (uint32_t i = 0; !broken && i < rm->n_sessions_used; i++)
                if (rm->sessions[i].state > RM_SESSION_PENDING)
                        broken = check_session(rm, &rm->sessions[i]);
        return broken;
}

/* What is pending belongs to a job, and each job has at most one of a kind. */
static const char *check_jobs(Rm *rm) {
        int n_objects = 0;
        int n_sessions = 0;

        for (uint32_t i = 0; i < rm->n_objects_used; i++)
                n_objects += rm_object(rm, i)->state == RM_OBJECT_PENDING;
        for (uint32_t i = 0; i < rm->n_sessions_used; i++)
                n_sessions += rm->sessions[i].state == RM_SESSION_PENDING;
        for (unsigned i = 0; i < RM_JOBS; i++) {
                if (!rm->jobs[i].used)
                        continue;
                DEMAND(rm->jobs[i].n_frames <= RM_FRAMES_MAX, "a job has too many frames");
                n_objects -= rm->jobs[i].pending_object != RM_NONE;
                n_sessions -= rm->jobs[i].pending_session != RM_NONE;
        }
        DEMAND(n_objects == 0 && n_sessions == 0, "something is pending for no job, or missing for one");
        return NULL;
}

const char *rm_invariant_broken(Rm *rm) {
        const char *broken = check_cells(rm) ?: check_objects(rm) ?: check_residents(rm);

        for (uint32_t i = 0; !broken && i < rm->n_spaces_used; i++)
                if (rm_space(rm, i)->open)
                        broken = check_space(rm, i);
        return broken ?: check_sessions(rm) ?: check_jobs(rm);
}

/* What a command may take out of the TPM is marked unknown while it is out, and still has its handle. */
static bool own_object(Rm *rm, uint32_t space, TPM2_HANDLE phandle) {
        bool own = phandle == TPM_TRANSIENT_LAST;

        for (uint32_t k = 0; k < rm->n_residents; k++) {
                const RmObject *object = rm_object(rm, rm->residents[k]);

                own |= object->phandle == phandle && object->space == space;
        }
        return own;
}

static bool own_session(Rm *rm, uint32_t space, TPM2_HANDLE handle) {
        uint32_t i = rm_session_find(rm, handle);

        return i == RM_NONE || rm->sessions[i].space == space;
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
        for (uint32_t k = 0; k < rm->n_residents; k++) {
                const RmObject *object = rm_object(rm, rm->residents[k]);

                DEMAND(object->residency != RM_RESIDENT || object->probe || lists(object->phandle),
                       "an object claims to be in the TPM");
        }
        for (uint32_t i = 0; i < rm->n_sessions_used; i++) {
                const RmSession *session = &rm->sessions[i];

                DEMAND(session->state <= RM_SESSION_PENDING || session->state == RM_SESSION_DOOMED ||
                               session->residency != RM_RESIDENT || lists(session->handle),
                       "a session claims to be loaded");
        }
        return NULL;
}

const char *rm_rest_broken(Rm *rm) {
        for (uint32_t k = 0; k < rm->n_residents; k++)
                DEMAND(rm_object(rm, rm->residents[k])->residency != RM_UNKNOWN,
                       "nothing is out, and where an object is is unknown");
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
