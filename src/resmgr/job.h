/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RESMGR_JOB_H
#define RESMGR_JOB_H

#include "resmgr/session.h"
#include "tpm/command.h"
#include "tpm/context.h"

/*
 * Jobs: a stack of frames each, the client's command at the bottom
 *
 * A frame is one level of the work, its op. rm_<op>_build() makes the frame on top into a TPM command;
 * rm_<op>_settle() takes the answer, unless that is none, or calls for a repair (resmgr/repair.h). When the answer is a
 * failure, what it might have changed is as it was before. What is uncovered again is built afresh from the client's
 * original bytes, since handles may have moved. step.c makes its table from this list.
 *
 *      op, the name of its functions, whether it is about an entry, which settles when the TPM refuses
 */
#define RM_OPS(X)                                                                                                      \
        X(COMMAND, command, false)           /* the client's command */                                                \
        X(LOAD, load, true)                  /* ContextLoad of the saved context */                                    \
        X(SAVE, save, true)                  /* ContextSave; an object stays, a session leaves the TPM */              \
        X(FLUSH, flush, true)                /* FlushContext; an object that has a current context lives on */         \
        X(FLUSH_HANDLE, flush_handle, false) /* FlushContext of a handle that is in no table */                        \
        X(PROVE, prove, false)               /* ReadPublic: is it the object of that Name? */                          \
        X(DROP_FOREIGN, drop_foreign, false) /* flush one saved session that we do not hold */                         \
        X(START, start, false)               /* Startup, attributes, properties */                                     \
        X(RECONCILE, reconcile, false)       /* compare the tables with what the TPM lists */

typedef enum RmOp {
#define RM_OP(op, name, is_of_entry) RM_OP_##op,
        RM_OPS(RM_OP)
#undef RM_OP
} RmOp;

/* What is to be done next. */
typedef enum RmFlow {
        RM_FLOW_CONTINUE, /* with the function that called */
        RM_FLOW_SEND,     /* send job->out */
        RM_FLOW_AGAIN,    /* build the frame that is on top now */
        RM_FLOW_PAUSE,    /* then build it again */
        RM_FLOW_REPLY,    /* job->out is the reply */
        RM_FLOW_LOST,     /* the answer makes no sense: whatever was asked may have been done, or not */
} RmFlow;

typedef struct RmFrame {
        uint8_t op;    /* RmOp */
        uint8_t phase; /* of ops that need several commands */
        bool renewing; /* LOAD and SAVE of the oldest saved session, to give it a new number */
        uint32_t at;   /* entry, or handle */
} RmFrame;

#define RM_FRAMES_MAX 12
#define RM_JOBS 8             /* one with the TPM, the others paused; the last one for chores alone */
#define RM_TRANSMITS_MAX 4096 /* of one job: a TPM that lies must not keep us for ever */

struct RmJob {
        uint64_t moment; /* its number */
        bool client;     /* begun for a client */
        bool waiting;    /* bytes are out */
        uint32_t space;
        uint32_t pending[RM_KINDS]; /* made for what the command returns, or RM_NONE */
        bool marked;                /* its command is out, and what that may change is marked */
        bool parse_again;           /* attributes may have become known since it began */
        bool counted;               /* its hits and misses are */
        uint32_t n_missed;          /* loads that were pushed for it */
        uint32_t foreign;           /* bit k: what it names k-th is not its client's */
        uint32_t reloaded;          /* bit i: handle i was found stale once already */
        bool stuck;                 /* the TPM refused to flush, or renew, a session for it: it makes no more room so */
        bool raw;                   /* the TPM is in a mode in which it answers this, and little else */
        bool listed;                /* what the TPM holds was compared with the tables, to make room */
        uint32_t n_transmits;
        uint32_t took_us;   /* the last of them: rm_job_took() */
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

/* A whole answer of the TPM. */
typedef struct RmAnswer {
        TSS2_RC rc;
        const uint8_t *bytes; /* with its header */
        size_t n_bytes;
        const uint8_t *parameters; /* ... and behind it */
        size_t n_parameters;
} RmAnswer;

static inline RmJob *rm_job(const Rm *rm, uint32_t i) {
        return (RmJob *)rm_array(rm, RM_ARRAY_JOBS) + i;
}

static inline RmFrame *rm_top(RmJob *job) {
        return &job->frames[job->n_frames - 1];
}

RmJob *rm_job_new(Rm *rm, bool client); /* NULL: all slots are taken */
void rm_job_end(Rm *rm, RmJob *job);    /* what it holds as its reply stays until the next one begins */

/* Return: RM_FLOW_AGAIN; or a reply: the stack is full; or, of the last frame, the end of the job, which is a chore. */
RmFlow rm_push(RmJob *job, RmOp op, uint32_t at);
RmFlow rm_pop(RmJob *job);

static inline bool rm_may_push(const RmJob *job, unsigned n) {
        return job->n_frames + n <= RM_FRAMES_MAX;
}

/* A response without parameters, with them from cells, or with whatever the writer on job->out has so far. */
RmFlow rm_reply_rc(RmJob *job, TSS2_RC rc);
RmFlow rm_reply_context(Rm *rm, RmJob *job, const RmContext *context);
RmFlow rm_reply_written(RmJob *job, TpmWriter *writer);

/* A command of ours into job->out: its parameters are numbers, or a saved context; or the client's first @n bytes. */
#define RM_SEND(job, code, ...)                                                                                        \
        rm_send_numbers(job, code, (const uint32_t[]){ __VA_ARGS__ },                                                  \
                        sizeof((const uint32_t[]){ __VA_ARGS__ }) / sizeof(uint32_t))
RmFlow rm_send_numbers(RmJob *job, TPM2_CC code, const uint32_t numbers[], size_t n);
RmFlow rm_send_load(Rm *rm, RmJob *job, const RmContext *context);
RmFlow rm_send_original(RmJob *job, size_t n);

/* What the client's command names: its own object by handle i, its own session of that handle; or RM_NONE. */
uint32_t rm_job_object(const Rm *rm, const RmJob *job, unsigned i);
uint32_t rm_job_session(const Rm *rm, const RmJob *job, TPM2_HANDLE handle);

/* All that it names, by handles first, and then by authorizations: n of them, of which some are RM_NONE. */
static inline unsigned rm_job_n_names(const RmJob *job) {
        return job->command.n_handles + job->command.n_auths;
}
uint32_t rm_job_name(const Rm *rm, const RmJob *job, unsigned k);
bool rm_job_pins(const Rm *rm, const RmJob *job, uint32_t entry); /* it names this */

/* What its FlushContext names, if it is one, and well formed: an object of its own, anybody's session; or RM_NONE. */
bool rm_job_is_flush(const RmJob *job);
TPM2_HANDLE rm_job_first_parameter_handle(const RmJob *job);
uint32_t rm_job_find_flushed(const Rm *rm, const RmJob *job);

bool rm_job_presents_session(const RmJob *job, TpmContext *ret_context); /* a ContextLoad of a session */
bool rm_job_presents_last(Rm *rm, const RmJob *job, uint32_t session);   /* ... the whole of its last context */

#endif
