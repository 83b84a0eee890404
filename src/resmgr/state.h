/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RESMGR_STATE_H
#define RESMGR_STATE_H

#include "resmgr/resmgr.h"
#include "tpm/command.h"
#include "tpm/context.h"
#include "tpm/response.h"
#include "tpm/writer.h"

/*
 * The state of the resource manager: one flat block, private to resmgr/
 *
 * struct Rm stands at its beginning, behind it the arrays of spaces, objects and cells. Links are indices; RM_NONE ends
 * them. Free entries are linked too, and entries beyond the first n_..._used were never touched, so that memory which
 * is not needed is never written.
 */

/* Where an object or session is. */
typedef enum RmResidency {
        RM_ABSENT,   /* not in the TPM; a saved copy of it is */
        RM_RESIDENT, /* in the TPM, under phandle */
        RM_UNKNOWN,  /* a command that may change this is out, or its answer was lost */
} RmResidency;

/*
 * The life of an object
 *
 *      FREE    --a command that returns a handle is about to go out--> PENDING
 *      PENDING --it failed-->                                          FREE
 *      PENDING --it succeeded-->                                       LIVE
 *      LIVE    --flushed by its client, or found dead-->               FREE
 *      LIVE    --its client is gone, and it is in the TPM-->           DOOMED
 *      DOOMED  --flushed by us-->                                      FREE
 */
typedef enum RmObjectState {
        RM_OBJECT_FREE,
        RM_OBJECT_PENDING,
        RM_OBJECT_LIVE,
        RM_OBJECT_DOOMED,
} RmObjectState;

typedef struct RmUse {
        uint64_t last;     /* tick of the last use */
        uint64_t interval; /* ticks between the last two; 0: used once */
} RmUse;

/* A saved context in cells. */
typedef struct RmCopy {
        uint32_t first; /* cell; RM_NONE: there is no copy */
        uint32_t n_bytes;
} RmCopy;

typedef struct RmObject {
        uint32_t space; /* RM_NONE: nobody's */
        uint32_t next;  /* of space->first_object, ascending by vhandle; or of rm->free_object */
        TPM2_HANDLE vhandle;
        TPM2_HANDLE phandle;   /* 0 unless in the TPM */
        TPM2_HANDLE hierarchy; /* 0: unknown, never saved */
        uint8_t state;         /* RmObjectState */
        uint8_t residency;     /* RmResidency */
        bool sequence;         /* it changes with every use */
        bool clean;            /* the copy is what the TPM holds */
        bool was_clean;        /* ... before the command that is out, which may change it */
        bool probe;            /* whether it is still there must be asked before the next client command */
        bool seen;             /* in the list of handles that is being read */
        bool unsaveable;       /* saving it failed, and it was not used since */
        RmCopy copy;
        RmUse use;
} RmObject;

/*
 * The life of a session
 *
 *      FREE         --StartAuthSession or ContextLoad is about to go out--> PENDING
 *      PENDING      --it failed--> FREE, --it succeeded-->                  OWNED
 *      OWNED        --ContextSave by its client-->                          CLIENT_SAVED
 *      OWNED        --continueSession clear in a response, flushed-->       FREE
 *      OWNED        --its client is gone-->                                 DOOMED
 *      CLIENT_SAVED --ContextLoad with the token, by whoever holds it-->    OWNED
 *      CLIENT_SAVED --its client is gone-->                                 ABANDONED
 *      ABANDONED    --ContextLoad with the token-->                         OWNED
 *      LEFTOVER     --ContextLoad with a context that the TPM accepts-->    OWNED
 *      ABANDONED, LEFTOVER --room is needed-->                              DOOMED or FREE
 *      DOOMED       --flushed by us-->                                      FREE
 */
typedef enum RmSessionState {
        RM_SESSION_FREE,
        RM_SESSION_PENDING,
        RM_SESSION_OWNED,
        RM_SESSION_CLIENT_SAVED,
        RM_SESSION_ABANDONED,
        RM_SESSION_LEFTOVER, /* saved before we started; we hold no copy */
        RM_SESSION_DOOMED,
} RmSessionState;

typedef struct RmSession {
        TPM2_HANDLE handle;
        uint32_t space;    /* RM_NONE: nobody's */
        uint32_t uid;      /* whose share it counts against */
        uint8_t state;     /* RmSessionState */
        uint8_t residency; /* RmResidency */
        bool seen;         /* in the list of handles that is being read */
        bool unsaveable;
        uint64_t renewed;  /* tick of the last renewal */
        uint64_t sequence; /* of the copy: the oldest saved session has the lowest */
        uint64_t saved;    /* tick at which its client saved it */
        uint64_t since;    /* rm->now when it was seen first */
        RmCopy copy;       /* current unless RESIDENT */
        RmCopy token;      /* what its client got from ContextSave */
        RmUse use;
} RmSession;

typedef struct RmSpace {
        bool open;
        uint32_t uid;
        uint32_t first_object;
        uint32_t n_objects;
        uint32_t next;     /* of rm->free_space */
        uint64_t hopeless; /* hash of a command that failed with everything evicted; 0: none */
} RmSpace;

#define RM_CELL_SIZE 256
#define RM_CELL_PAYLOAD (RM_CELL_SIZE - sizeof(uint32_t))

typedef struct RmCell {
        uint32_t next;
        uint8_t bytes[RM_CELL_PAYLOAD];
} RmCell;

/* What one level of a job does; see job.c. */
typedef enum RmOp {
        RM_OP_COMMAND,       /* the client's command */
        RM_OP_LOAD_OBJECT,   /* ContextLoad from the copy */
        RM_OP_SAVE_OBJECT,   /* ContextSave into the copy */
        RM_OP_FLUSH_OBJECT,  /* out of the TPM; the copy stays */
        RM_OP_LOAD_SESSION,  /* ContextLoad from the copy */
        RM_OP_SAVE_SESSION,  /* ContextSave into the copy */
        RM_OP_FLUSH_SESSION, /* out of the TPM for good */
        RM_OP_REGAP,         /* load and save the oldest saved session, to renew its sequence number */
        RM_OP_FLUSH_HANDLE,  /* FlushContext of a handle that is in no table */
        RM_OP_DROP_FOREIGN,  /* flush one saved session that we do not hold */
        RM_OP_START,         /* Startup, attributes, properties */
        RM_OP_RECONCILE,     /* compare the tables with what the TPM lists */
} RmOp;

typedef struct RmFrame {
        uint8_t op;    /* RmOp */
        uint8_t phase; /* of ops that need several commands */
        uint32_t at;   /* object or session, or a handle */
} RmFrame;

#define RM_FRAMES_MAX 12
#define RM_JOBS 8             /* one with the TPM, the others paused */
#define RM_TRANSMITS_MAX 4096 /* of one job: a TPM that lies must not keep us for ever */

struct RmJob {
        bool used;
        bool client;  /* begun for a client */
        bool waiting; /* bytes are out */
        uint32_t space;
        uint32_t pending_object; /* made for what the command returns, or RM_NONE */
        uint32_t pending_session;
        bool settled;      /* what was due was pushed above the command */
        bool counted;      /* its hits and misses are */
        uint32_t n_missed; /* loads that were pushed for it */
        uint32_t reloaded; /* bit i: handle i was found stale once already */
        uint32_t n_transmits;
        uint32_t paused_ms; /* in all */
        uint32_t pause_ms;  /* the next one */
        TSS2_RC rc;         /* of the reply */
        unsigned n_frames;
        RmFrame frames[RM_FRAMES_MAX];
        TpmCommand command; /* the client's */
        size_t n_original;
        size_t n_out;
        size_t n_used;                     /* the most that out ever held, for wiping */
        uint8_t original[TPM_MESSAGE_MAX]; /* never changed: resends are built from it */
        uint8_t out[TPM_MESSAGE_MAX];
};

/* The answer to a GetCapability for what never changes. */
#define RM_FIXED_MAX 32
#define RM_QUERY_SIZE 12 /* capability, property, count */

typedef struct RmFixed {
        uint8_t query[RM_QUERY_SIZE];
        RmCopy answer; /* whole */
} RmFixed;

#define RM_RESIDENTS_MAX 128 /* objects in the TPM at a time */
#define RM_SESSIONS 1024     /* entries; TPMs known have 64 */
#define RM_SLOTS_UNKNOWN UINT32_MAX

struct Rm {
        RmLimits limits;
        uint32_t n_cells;
        uint64_t spaces_offset; /* of the arrays, from the beginning of the block */
        uint64_t objects_offset;
        uint64_t cells_offset;

        uint32_t reserve;
        bool flush_all;
        bool due_start;          /* the TPM must be started, or started again */
        bool due_reconcile;      /* the tables may be wrong */
        bool due_probe;          /* some resident objects may be gone */
        bool shut_down;          /* a client's Shutdown succeeded, and no command came since */
        bool audited;            /* a session was used for audit, and no command without one succeeded since */
        bool capability_audited; /* GetCapability is on the list of audited commands */

        uint64_t tick;          /* client commands so far */
        uint32_t object_slots;  /* learned; RM_SLOTS_UNKNOWN */
        uint32_t session_slots; /* learned; RM_SLOTS_UNKNOWN */

        /* TPM properties (Part 2, section 6.13) */
        uint32_t transient_min;
        uint32_t loaded_min;
        uint32_t active_sessions_max;
        uint32_t memory; /* TPMA_MEMORY */
        uint32_t max_command;
        uint32_t max_response;
        uint32_t gap; /* TPM_PT_CONTEXT_GAP_MAX */
        uint32_t manufacturer, vendor[4], firmware[2], revision;

        uint64_t now; /* rm_set_time() */

        RmCounters counters;

        uint32_t n_spaces_used, free_space;
        uint32_t n_objects, n_objects_used, free_object;
        uint32_t n_cells_used, free_cell;
        uint32_t n_sessions_used;

        uint32_t n_residents; /* objects that are not ABSENT */
        uint32_t residents[RM_RESIDENTS_MAX];

        uint32_t n_fixed, next_fixed; /* entries in use; the one to be replaced next */
        RmFixed fixed[RM_FIXED_MAX];

        TpmCommandTable table;
        RmSession sessions[RM_SESSIONS];
        RmJob jobs[RM_JOBS];
};

static inline RmSpace *rm_space(Rm *rm, uint32_t i) {
        return (RmSpace *)((uint8_t *)rm + rm->spaces_offset) + i;
}

static inline RmObject *rm_object(Rm *rm, uint32_t i) {
        return (RmObject *)((uint8_t *)rm + rm->objects_offset) + i;
}

static inline RmCell *rm_cell(Rm *rm, uint32_t i) {
        return (RmCell *)((uint8_t *)rm + rm->cells_offset) + i;
}

/* The TPM says that it was not started: it was reset behind our back, and nothing is resident. */
void rm_not_started(Rm *rm);

/* The command that is out, or was to go out, did nothing: what is unknown is where it was. */
void rm_settle_all(Rm *rm);

/* cell.c: saved contexts in cells */

#define RM_NO_COPY ((RmCopy){ .first = RM_NONE })

/* Return: false, and nothing changed, when there is no room; else what *copy held before is freed. */
bool rm_copy_store(Rm *rm, RmCopy *copy, const uint8_t *bytes, size_t n_bytes);
void rm_copy_free(Rm *rm, RmCopy *copy);
void rm_copy_write(Rm *rm, const RmCopy *copy, TpmWriter *writer);
bool rm_copy_equals(Rm *rm, const RmCopy *copy, const uint8_t *bytes, size_t n_bytes); /* whole, in constant time */

/* space.c: handle spaces and their quotas */

/* Return: index of the object of that virtual handle, or RM_NONE: not one of this space. */
uint32_t rm_space_find(Rm *rm, uint32_t space, TPM2_HANDLE vhandle);

/* Return: TSS2_RC_SUCCESS when the space may have one more object, or the refusal. */
TSS2_RC rm_space_admit_object(Rm *rm, uint32_t space);
TSS2_RC rm_space_admit_session(Rm *rm, uint32_t space);

/* Give a pending object the lowest virtual handle that is free in its space, and make it live. */
void rm_space_link(Rm *rm, uint32_t object);
void rm_space_unlink(Rm *rm, uint32_t object);

/* object.c */

uint32_t rm_object_new(Rm *rm, uint32_t space); /* PENDING, charged to the space; RM_NONE: the table is full */
void rm_object_free(Rm *rm, uint32_t object);
void rm_object_doom(Rm *rm, uint32_t object); /* its client is gone */

/*
 * Its residency, and the list of residents with it. Return: false when that list is full. Unknown settles to what it
 * was before: an object that had a physical handle still has it.
 */
bool rm_object_set_unknown(Rm *rm, uint32_t object);
void rm_object_settle(Rm *rm, uint32_t object);
bool rm_object_set_resident(Rm *rm, uint32_t object, TPM2_HANDLE phandle);
void rm_object_set_absent(Rm *rm, uint32_t object);

/* It is not in the TPM any more, though we did not take it out: it lives on by its copy, or is freed. */
void rm_object_lost(Rm *rm, uint32_t object);
void rm_object_forget_residents(Rm *rm);

/* What a context tells about the object it was saved from; @bytes become its copy. */
bool rm_object_keep_copy(Rm *rm, uint32_t object, const uint8_t *bytes, size_t n_bytes);

/* The resident object of that physical handle, or RM_NONE. */
uint32_t rm_object_find_resident(Rm *rm, TPM2_HANDLE phandle);

/* session.c */

uint32_t rm_session_new(Rm *rm, uint32_t space); /* PENDING; RM_NONE: the table is full */
void rm_session_free(Rm *rm, uint32_t session);
uint32_t rm_session_find(Rm *rm, TPM2_HANDLE handle); /* by the low 24 bits, whoever owns it; or RM_NONE */
uint32_t rm_session_find_usable(Rm *rm, uint32_t space, TPM2_HANDLE handle); /* owned by the space, not saved by it */
bool rm_session_may_flush(Rm *rm, uint32_t space, uint32_t session);

/* Hand a session to a space: it started it, or loaded its context. */
void rm_session_own(Rm *rm, uint32_t session, uint32_t space, TPM2_HANDLE handle);
void rm_session_close(Rm *rm, uint32_t session); /* its client is gone */

void rm_session_settle(Rm *rm, uint32_t session); /* UNKNOWN back to what it was: with a copy, it is not in the TPM */
void rm_session_loaded(Rm *rm, uint32_t session); /* RESIDENT; the copy is spent, since a context loads once */
void rm_session_doom(Rm *rm, uint32_t session);   /* to be flushed; no longer its client's */
void rm_session_spare(Rm *rm, uint32_t session);  /* doom it to make room, and count that */
bool rm_session_keep_copy(Rm *rm, uint32_t session, const uint8_t *bytes, size_t n_bytes);
bool rm_session_keep_token(Rm *rm, uint32_t session); /* the copy becomes what its client holds */
uint64_t rm_session_newest(const Rm *rm);             /* the highest sequence of all */
uint32_t rm_session_oldest(Rm *rm);                   /* saved, with a copy, lowest sequence; or RM_NONE */

/* The saved session that can best be spared when session handles run out; or RM_NONE. */
uint32_t rm_session_expendable(Rm *rm, const RmJob *job);
uint32_t rm_session_n_loaded(Rm *rm);

/* residency.c: what stays in the TPM */

void rm_use(Rm *rm, RmUse *use);

/* Return: what to evict, or RM_NONE when all that is resident is needed by the job. @job may be NULL. */
uint32_t rm_victim_object(Rm *rm, const RmJob *job);
uint32_t rm_victim_session(Rm *rm, const RmJob *job);

/* Slots that would have to be free for a command, as far as is known. */
uint32_t rm_slots_needed(Rm *rm, const TpmCommand *command);
bool rm_object_slots_short(Rm *rm, uint32_t n_needed);
bool rm_session_slots_short(Rm *rm, uint32_t n_needed);

/* A warning came while n_needed slots were needed. @command: NULL for a ContextLoad of ours. */
void rm_learn_object_slots(Rm *rm, const TpmCommand *command, uint32_t n_needed);
void rm_learn_session_slots(Rm *rm);
void rm_unlearn(Rm *rm, const TpmCommand *command); /* it succeeded: what was learned about it is doubted in time */

/* job.c: the stack */

typedef enum RmFlow {
        RM_FLOW_SEND,  /* job->out is to be sent */
        RM_FLOW_AGAIN, /* look at the top of the stack again */
        RM_FLOW_PAUSE,
        RM_FLOW_REPLY, /* job->out is the reply */
} RmFlow;

RmJob *rm_job_new(Rm *rm, bool client); /* NULL: all slots are taken */

RmFlow rm_push(RmJob *job, RmOp op, uint32_t at);
RmFlow rm_pop(RmJob *job); /* the last one ends the job: a chore, since commands end with a reply */
RmFlow rm_reply_rc(RmJob *job, TSS2_RC rc);
static inline RmFrame *rm_top(RmJob *job) {
        return &job->frames[job->n_frames - 1];
}

/* A command of ours into job->out. */
RmFlow rm_send_flush(RmJob *job, TPM2_HANDLE handle);
RmFlow rm_send_save(RmJob *job, TPM2_HANDLE handle);
RmFlow rm_send_load(Rm *rm, RmJob *job, const RmCopy *copy);
RmFlow rm_send_get_capability(RmJob *job, TPM2_CAP capability, uint32_t property, uint32_t count);

/* A successful answer to a command of ours: its parameters. */
typedef struct RmAnswer {
        TSS2_RC rc;
        const uint8_t *bytes; /* behind the header */
        size_t n_bytes;
} RmAnswer;

/* What GetCapability answers: the reader stands before the first of n entries. */
typedef struct RmList {
        TpmReader reader;
        uint32_t n;
        bool more;
} RmList;

/* Return: false unless it is a whole list of this. Half a list is none: what it leaves out would seem not to exist. */
bool rm_read_list(const RmAnswer *answer, TPM2_CAP capability, size_t n_entry, RmList *ret_list);

/* chore.c */

/* Push what must be settled before a client's command may go out. Return: false when there is nothing. */
bool rm_push_due(Rm *rm, RmJob *job);

/* command.c: the client's command */

RmFlow rm_command_build(Rm *rm, RmJob *job);
bool rm_command_pins_object(Rm *rm, const RmJob *job, uint32_t object);
bool rm_command_pins_session(Rm *rm, const RmJob *job, uint32_t session);

/* The client's own object that handle i names, or its own session of that handle; else RM_NONE. */
uint32_t rm_command_object(Rm *rm, const RmJob *job, unsigned i);
uint32_t rm_command_session(Rm *rm, const RmJob *job, TPM2_HANDLE handle);

TPM2_HANDLE rm_command_first_parameter_handle(const RmJob *job);
bool rm_command_is_flush(const RmJob *job);                                  /* well formed */
bool rm_command_presents_session(const RmJob *job, TpmContext *ret_context); /* a ContextLoad of a session */

/* commit.c: what the client's command did */

RmFlow rm_command_settle(Rm *rm, RmJob *job, const uint8_t *response, size_t n_response);

/* repair.c: what is done about what the TPM says, and the ops that do it */

RmFlow rm_repair_build(Rm *rm, RmJob *job);
RmFlow rm_repair_settle(Rm *rm, RmJob *job, const RmAnswer *answer);

/* The TPM did nothing, and asks for the same again (Part 3, table 4). */
static inline bool rm_is_transitory(TSS2_RC rc) {
        return rc == TPM2_RC_RETRY || rc == TPM2_RC_YIELDED || rc == TPM2_RC_TESTING;
}

/* Whether a ContextLoad that failed thus will never succeed: the context, and nothing else, was at fault. */
static inline bool rm_context_is_dead(TSS2_RC rc) {
        return rc & TPM2_RC_FMT1 || rc == TPM2_RC_BAD_CONTEXT;
}

/* Push what makes room after a warning. Return: false when nothing can be done, or @rc is none of those. */
bool rm_repair(Rm *rm, RmJob *job, TSS2_RC rc);
bool rm_evict_object(Rm *rm, RmJob *job);
bool rm_evict_session(Rm *rm, RmJob *job);

/* When three quarters of the context gap lie between the oldest saved session and the newest. */
bool rm_renew_oldest(Rm *rm, RmJob *job);

/* reconcile.c: START and RECONCILE */

RmFlow rm_reconcile_build(Rm *rm, RmJob *job);
RmFlow rm_reconcile_settle(Rm *rm, RmJob *job, const RmAnswer *answer);

/* capability.c */

/* Return: RM_FLOW_AGAIN when the TPM has to be asked. */
RmFlow rm_capability_build(Rm *rm, RmJob *job);

/* The TPM answered; job->out is what it said, and becomes what the client hears. */
RmFlow rm_capability_commit(Rm *rm, RmJob *job);

/* A SetCommandCodeAuditStatus succeeded. */
void rm_capability_set_audit(Rm *rm, const RmJob *job);

/* What is fixed may have changed. */
void rm_capability_forget(Rm *rm);

#endif
