/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RESMGR_BLOCK_H
#define RESMGR_BLOCK_H

#include "resmgr/resmgr.h"
#include "resmgr/victim.h"
#include "tpm/command-table.h"

/*
 * The state of the resource manager: one flat block, private to resmgr/
 *
 * struct Rm stands at its beginning, and behind it the arrays of entries, spaces, jobs, fixed answers and cells, each
 * of which is described by the header of its own module. Links are indices; RM_NONE ends them. Free ones are linked
 * too, and what lies beyond the first n_..._used was never touched, so that memory that is not needed is never written.
 */
typedef enum RmArray {
        RM_ARRAY_ENTRIES,
        RM_ARRAY_SPACES,
        RM_ARRAY_USERS,
        RM_ARRAY_JOBS,
        RM_ARRAY_FIXED,
        RM_ARRAY_CELLS,
        RM_ARRAYS,
} RmArray;

typedef enum RmKind {
        RM_SESSION,
        RM_OBJECT,
        RM_KINDS,
} RmKind;

#define RM_SESSIONS 1024     /* entries for sessions; TPMs known have 64 */
#define RM_RESIDENTS_MAX 128 /* of each kind in the TPM at a time */
#define RM_SLOTS_UNKNOWN UINT32_MAX

/* The TPM counts the contexts that it saves, those of sessions and those of objects (Part 1, section 30.5). */
typedef struct RmNumbers {
        uint64_t newest;    /* given out last; 0: none since it was reset */
        uint32_t n_rises;   /* ... since one was not above that before it */
        uint32_t n_trusted; /* after so many of them, one that is not above is believed */
        uint64_t n_ours;    /* Rm.n_contexts when that one was given out */
} RmNumbers;

/* What clients have. */
typedef struct RmHeld {
        uint32_t objects; /* pending ones, too */
        uint32_t cells;   /* of the contexts of objects */
} RmHeld;

struct Rm {
        RmLimits limits;
        uint64_t offsets[RM_ARRAYS]; /* of the arrays, from the beginning of the block */
        uint32_t n_cells, n_cells_taken;

        bool due_start;      /* the TPM must be started, or started again */
        bool due_reconcile;  /* the tables may be wrong */
        bool strangers_left; /* rm_retry() makes it due again, since the TPM refused to flush what is in no table */
        bool due_probe;      /* some resident objects may be gone */
        bool due_sample;     /* rm_gap_sample() */
        uint64_t n_samples;
        bool flush_left_over;    /* the next time that tables are compared, nobody's saved sessions are flushed */
        bool shut_down;          /* a client's Shutdown succeeded, and no command came since */
        bool down;               /* the TPM was reset, and nobody has started it since: it answers INITIALIZE */
        bool audited;            /* a session was used for audit, and no command without one succeeded since */
        uint32_t audit_space;    /* ... of the space that used it last */
        bool capability_audited; /* GetCapability is on the list of audited commands */
        bool fixed_stale;        /* what never changes may have changed */

        uint64_t tick;    /* client commands so far */
        uint64_t n_jobs;  /* begun so far */
        uint64_t moment;  /* of these, the one that is stepped */
        bool for_client;  /* ... is a client's */
        uint64_t retried; /* what was refused in jobs up to this one is tried again by chores */
        uint64_t now;     /* rm_set_time() */
        RmCounters counters;

        RmNumbers numbers[RM_KINDS];
        uint64_t n_contexts; /* that the TPM has saved for us, of either kind */

        /* TPMS_CLOCK_INFO, when it was started: what they were tells whether what was loaded then still can be there */
        bool clock_known;
        uint32_t reset_count, restart_count;

        /* TPM properties (Part 2, section 6.13) */
        uint32_t slots_min[RM_KINDS]; /* TPM_PT_HR_LOADED_MIN, TPM_PT_HR_TRANSIENT_MIN */
        uint32_t active_sessions_max;
        uint32_t memory; /* TPMA_MEMORY */
        uint32_t max_command;
        uint32_t max_context; /* TPM_PT_MAX_OBJECT_CONTEXT, or what was seen beyond it */
        uint32_t gap;         /* TPM_PT_CONTEXT_GAP_MAX */
        uint32_t manufacturer, vendor[4], firmware[2], revision;

        RmVisits visits[RM_KINDS];
        RmPrices prices;

        uint32_t slots[RM_KINDS];       /* in the TPM; learned, or RM_SLOTS_UNKNOWN */
        uint32_t reserve[RM_KINDS];     /* rm_set_reserve() */
        uint32_t n_residents[RM_KINDS]; /* entries that are not RM_ABSENT */
        uint32_t residents[RM_KINDS][RM_RESIDENTS_MAX];

        uint32_t jobs_used, jobs_dirty; /* bit i: job i; what it sent or answered is still in its buffer */
        uint32_t n_spaces_used, free_space;
        uint32_t n_users_used;
        RmHeld held;    /* by all spaces */
        RmHeld waiting; /* ... by those that wait for room */
        uint32_t n_objects, n_objects_used, free_object;
        uint32_t n_cells_used, free_cell;
        uint32_t n_sessions_used;
        uint32_t n_fixed, next_fixed; /* in use; the one to be replaced next */

        TpmCommandTable table;
};

static inline void *rm_array(const Rm *rm, RmArray array) {
        return (uint8_t *)rm + rm->offsets[array];
}

#endif
