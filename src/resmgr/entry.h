/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RESMGR_ENTRY_H
#define RESMGR_ENTRY_H

#include "resmgr/cell.h"

/*
 * Entries: an object or a session each, in one array, sessions first
 *
 * The state of an object
 *
 *      FREE    --a command that returns a handle is about to go out-->           PENDING
 *      PENDING --it failed-->                                                    FREE
 *      PENDING --it succeeded-->                                                 LIVE
 *      LIVE    --flushed by its client, or gone without a context to load-->     FREE
 *      LIVE    --its client, its hierarchy or what is known of it is gone-->     DOOMED
 *      DOOMED  --flushed by us, or found gone-->                                 FREE
 */
extern const uint8_t rm_object_transitions[][2];

/*
 * The state of a session
 *
 *      FREE         --StartAuthSession or ContextLoad is about to go out-->      PENDING
 *      FREE         --the TPM lists it, and no table has it-->                   LEFT_OVER
 *      PENDING      --the command failed-->                                      FREE
 *      PENDING      --it succeeded-->                                            LIVE
 *      LIVE         --ContextSave by its client-->                               CLIENT_SAVED
 *      LIVE         --continueSession clear in a response; flushed; a reset-->   FREE
 *      LIVE         --not listed any more; its handle is another's; no room-->   FREE
 *      LIVE         --its client is gone, or the TPM does not know it-->         DOOMED
 *      CLIENT_SAVED --ContextLoad with the whole context, by whoever has it-->   LIVE
 *      CLIENT_SAVED --its client is gone-->                                      ABANDONED
 *      CLIENT_SAVED --flushed by its client; a reset; not listed any more-->     FREE
 *      CLIENT_SAVED --room is needed; it cannot be renewed; an administrator-->  DOOMED
 *      CLIENT_SAVED, ABANDONED --the TPM does not accept its context-->          DOOMED
 *      ABANDONED    --ContextLoad with the whole context-->                      LIVE
 *      ABANDONED    --flushed by its user; a reset; not listed any more-->       FREE
 *      ABANDONED    --room is needed; it cannot be renewed; an administrator-->  DOOMED
 *      LEFT_OVER    --ContextLoad with a context that the TPM accepts-->         LIVE
 *      LEFT_OVER    --flushed by root; a reset; not listed any more-->           FREE
 *      LEFT_OVER    --room is needed; an administrator-->                        DOOMED
 *      DOOMED       --flushed by us, or found gone-->                            FREE
 *      DOOMED       --ContextLoad with a context that the TPM accepts-->         LIVE
 */
extern const uint8_t rm_session_transitions[][2];

#define RM_NAME_MAX 66 /* the algorithm, and a digest of SHA-512 */

/* Where it is. */
typedef enum RmResidency {
        RM_ABSENT,   /* not in the TPM as what it is; a saved context of it is what we have */
        RM_RESIDENT, /* in the TPM, under its handle */
        RM_UNKNOWN,  /* a command that may change this is out, or its answer was lost */
} RmResidency;

typedef struct RmEntry {
        uint8_t state;         /* RmState; written by rm_entry_set_state() alone */
        uint8_t residency;     /* RmResidency; written by rm_entry_set_...() alone */
        bool was_resident;     /* before it became RM_UNKNOWN */
        bool clean;            /* the saved context is what the TPM holds, or would hold again */
        bool was_clean;        /* ... before the command that is out, which may change it */
        bool seen;             /* in the list of handles that is being read */
        bool probe;            /* an object: whether it is still there must be asked before the next client command */
        bool prove;            /* ... and whether it is the one of its Name, which is asked instead */
        bool suspect;          /* an object: the context may be another's; it is to be proved once it is loaded */
        bool sequence;         /* an object that changes with every use */
        uint32_t space;        /* RM_NONE: nobody's */
        uint32_t uid;          /* of a session: whose share it counts against */
        uint32_t next;         /* object of space->first_object, ascending by vhandle; or of rm->free_object */
        TPM2_HANDLE handle;    /* of an object: the physical one, 0 unless in the TPM; of a session: its only one */
        TPM2_HANDLE vhandle;   /* of an object */
        TPM2_HANDLE hierarchy; /* of an object; 0: unknown, since it was never saved */
        uint8_t n_name;        /* of an object; 0: its Name is not known */
        uint8_t name[RM_NAME_MAX];
        RmContext context;        /* a loaded session has none, since a context loads once */
        RmContext client_context; /* what the client of a session got from ContextSave */
        RmUse use;
        uint64_t expected;    /* in so many commands it is used again: rm_expect() ... */
        uint64_t expected_at; /* ... said so for this tick */
        uint64_t refused;  /* rm->moment when saving or flushing it was refused last; 0: it went well, or was used since
                            */
        uint64_t number;   /* sequence of a session's context: the oldest saved session has the lowest */
        uint64_t renewed;  /* round of a session's last renewal: see gap.c */
        uint64_t saved;    /* tick at which its client saved a session */
        uint64_t saved_at; /* rm->now at that time */
        uint64_t since;    /* rm->now when a session was seen first */
} RmEntry;

static inline RmEntry *rm_entry(const Rm *rm, uint32_t i) {
        return (RmEntry *)rm_array(rm, RM_ARRAY_ENTRIES) + i;
}

static inline RmKind rm_kind(uint32_t i) {
        return i < RM_SESSIONS ? RM_SESSION : RM_OBJECT;
}

/* Entries of a kind are those from the first up to, and without, the end. */
static inline uint32_t rm_first(RmKind kind) {
        return kind == RM_SESSION ? 0 : RM_SESSIONS;
}

static inline uint32_t rm_end(const Rm *rm, RmKind kind) {
        return kind == RM_SESSION ? rm->n_sessions_used : RM_SESSIONS + rm->n_objects_used;
}

/* It is more than the intention of a command that is not over. */
static inline bool rm_exists(const RmEntry *entry) {
        return entry->state != RM_FREE && entry->state != RM_PENDING;
}

void rm_entry_init(Rm *rm, uint32_t i, uint32_t space); /* FREE, absent, without a context */
void rm_entry_set_state(Rm *rm, uint32_t i, RmState state);

/*
 * Its residency, and the list of residents with it. Return: false when that list is full. A session keeps its handle;
 * for an object it is the physical one.
 */
bool rm_entry_set_unknown(Rm *rm, uint32_t i);
bool rm_entry_set_resident(Rm *rm, uint32_t i, TPM2_HANDLE handle);
void rm_entry_set_absent(Rm *rm, uint32_t i);

/* An object in the TPM is to be asked for its Name before the next client command, and is given up if it is another. */
void rm_entry_doubt(Rm *rm, uint32_t i);

/* What was sent was not done: what is unknown is where it was. Not while the tables are in doubt, for rm_settle_all().
 */
void rm_entry_settle(Rm *rm, uint32_t i);
void rm_settle_all(Rm *rm);

/*
 * The TPM refused to save or flush it. For that moment, which is the job, it is not tried again. For other jobs of
 * clients it is the last choice; chores wait until rm_retry(), or until something was saved or flushed.
 */
void rm_entry_refuse(Rm *rm, uint32_t i);

static inline bool rm_may_try(const Rm *rm, const RmEntry *entry) {
        return entry->refused == 0 ||
               (entry->refused != rm->moment && (rm->for_client || entry->refused <= rm->retried));
}

/* The object in the TPM that has this physical handle, or RM_NONE. */
uint32_t rm_object_find_resident(const Rm *rm, TPM2_HANDLE handle);

/* It is used by the command of this tick. */
void rm_entry_use(Rm *rm, uint32_t i);

/* As the policy sees it (resmgr/victim.h). */
RmCandidate rm_entry_candidate(const Rm *rm, uint32_t i);

#endif
