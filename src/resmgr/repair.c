/* SPDX-License-Identifier: BSD-2-Clause */
#include "resmgr/repair.h"

#include "resmgr/share.h"

/* Ops that a repair is for. */
#define BIT(op) (1u << RM_OP_##op)
#define RENEWING (1u << 30)    /* LOAD and SAVE that renew, whatever else is for these */
#define SAVE_OBJECT (1u << 31) /* SAVE is that of a session */
#define ROOM (BIT(COMMAND) | BIT(LOAD))

typedef struct Repair {
        TSS2_RC first;
        unsigned n_codes;
        uint32_t ops;
        unsigned evicts;                                  /* bit RmKind: what may make room, objects first */
        RmFlow (*repair)(Rm *rm, RmJob *job, unsigned n); /* @n: how far it is from the first code */
} Repair;

#define OBJECT (1u << RM_OBJECT)
#define SESSION (1u << RM_SESSION)

/*
 * What takes the slots is not ours: sessions, where none of ours is loaded; or what is in no table, and was not flushed
 * when it was found. It is listed and flushed, once for a job.
 */
static bool list_strangers(const Rm *rm, RmJob *job, unsigned kinds) {
        bool strange_sessions = kinds & SESSION && rm->n_residents[RM_SESSION] == 0;

        if ((!strange_sessions && !rm->strangers_left) || job->listed || !rm_may_push(job, 2))
                return false;
        job->listed = true;
        return rm_push(job, RM_OP_RECONCILE, RM_NONE) == RM_FLOW_AGAIN;
}

static bool make_room(Rm *rm, RmJob *job, unsigned kinds) {
        const TpmCommand *command = rm_top(job)->op == RM_OP_COMMAND ? &job->command : NULL;

        if (kinds == OBJECT)
                rm_learn_slots(rm, RM_OBJECT, command, command ? rm_slots_needed(rm, command) : 1);
        else if (kinds == SESSION)
                rm_learn_slots(rm, RM_SESSION, NULL, 1);
        return (kinds & OBJECT && rm_evict(rm, job, RM_OBJECT)) || (kinds & SESSION && rm_evict(rm, job, RM_SESSION)) ||
               list_strangers(rm, job, kinds);
}

/* The TPM was reset, whatever the op does next; but to a Startup this is an answer like others. */
static RmFlow forget_all(Rm *rm, RmJob *job, unsigned n) {
        if (rm_top(job)->op != RM_OP_COMMAND || job->command.info.kind != TPM_COMMAND_STARTUP)
                rm_not_started(rm);
        return RM_FLOW_CONTINUE;
}

static RmFlow drop_session(Rm *rm, RmJob *job, unsigned n) {
        uint32_t i = rm_share_find_expendable(rm, job->client ? job->space : RM_NONE);

        if (i == RM_NONE || job->stuck || !rm_may_push(job, 1))
                return RM_FLOW_CONTINUE;
        rm_share_give_up(rm, i);
        return rm_push(job, RM_OP_FLUSH, i);
}

static RmFlow close_gap(Rm *rm, RmJob *job, unsigned n) {
        return rm_gap_close(rm, job) ? RM_FLOW_AGAIN : RM_FLOW_CONTINUE;
}

static RmFlow pause_job(Rm *rm, RmJob *job, unsigned n) {
        return RM_FLOW_PAUSE;
}

/* The TPM does not know a session that we put there, under this very handle, and not under that of another kind. */
static void drop_stale_session(Rm *rm, const RmJob *job, TPM2_HANDLE handle) {
        uint32_t i = rm_job_session(rm, job, handle);

        if (i != RM_NONE && rm_entry(rm, i)->handle == handle)
                rm_entry_doom(rm, i);
}

/* The same of what handle n of the command names: an object is loaded again, once. */
static RmFlow reload_handle(Rm *rm, RmJob *job, unsigned n) {
        uint32_t i;

        if (n >= job->command.n_handles)
                return RM_FLOW_CONTINUE;
        drop_stale_session(rm, job, job->command.handles[n]);
        i = rm_job_object(rm, job, n);
        if (i == RM_NONE || job->reloaded & 1u << n)
                return RM_FLOW_CONTINUE;
        job->reloaded |= 1u << n;
        rm_entry_lost(rm, i);
        return rm_job_object(rm, job, n) != RM_NONE ? RM_FLOW_AGAIN : RM_FLOW_CONTINUE;
}

static RmFlow drop_auth_session(Rm *rm, RmJob *job, unsigned n) {
        if (n < job->command.n_auths)
                drop_stale_session(rm, job, job->command.auths[n].session);
        return RM_FLOW_CONTINUE;
}

/* docs/ARCHITECTURE.md has the same table, and test/lib/repairs.py compares them. */
static const Repair REPAIRS[] = {
        { TPM2_RC_OBJECT_MEMORY, 1, ROOM, OBJECT, NULL },
        { TPM2_RC_OBJECT_HANDLES, 1, ROOM, OBJECT, NULL },
        { TPM2_RC_SESSION_MEMORY, 1, ROOM | RENEWING, SESSION, NULL },
        { TPM2_RC_MEMORY, 1, ROOM, OBJECT | SESSION, NULL },
        { TPM2_RC_SESSION_HANDLES, 1, ROOM, 0, drop_session },
        { TPM2_RC_CONTEXT_GAP, 1, ROOM | BIT(SAVE) | RENEWING, 0, close_gap },
        { TPM2_RC_RETRY, 1, UINT32_MAX, 0, pause_job },
        { TPM2_RC_YIELDED, 1, UINT32_MAX, 0, pause_job },
        { TPM2_RC_TESTING, 1, UINT32_MAX, 0, pause_job },
        { TPM2_RC_REFERENCE_H0, TPM_HANDLES_MAX, BIT(COMMAND), 0, reload_handle },
        { TPM2_RC_REFERENCE_S0, TPM_HANDLES_MAX, BIT(COMMAND), 0, drop_auth_session },
        { TPM2_RC_INITIALIZE, 1, ~BIT(START), 0, forget_all },
};

static const Repair *find_repair(const RmFrame *frame, TSS2_RC rc) {
        bool saves_object = frame->op == RM_OP_SAVE && rm_kind(frame->at) == RM_OBJECT;
        uint32_t bit = frame->renewing ? RENEWING : saves_object ? SAVE_OBJECT : 1u << frame->op;

        for (size_t i = 0; i < sizeof(REPAIRS) / sizeof(REPAIRS[0]); i++)
                if (rc >= REPAIRS[i].first && rc < REPAIRS[i].first + REPAIRS[i].n_codes && REPAIRS[i].ops & bit)
                        return &REPAIRS[i];
        return NULL;
}

/* What tells a client's command from its others, whatever its size. */
static uint64_t hash_command(const RmJob *job) {
        uint64_t hash = 14695981039346656037u; /* FNV-1a */
        size_t n = tpm_handle_offset(job->command.n_handles);

        for (size_t i = 0; i < n && i < job->n_original; i++)
                if (i < 2 || i >= 6)
                        hash = (hash ^ job->original[i]) * 1099511628211u;
        return hash;
}

/*
 * A command that failed with everything evicted gets the TPM's code at once the next time, and once only: by the time
 * after next, things may be different.
 */
static RmFlow make_room_for_command(Rm *rm, RmJob *job, const Repair *repair, uint64_t hopeless) {
        if (hopeless == hash_command(job) && rm->tick == rm_space(rm, job->space)->hopeless_at + 1)
                return RM_FLOW_CONTINUE;
        if (make_room(rm, job, repair->evicts))
                return RM_FLOW_AGAIN;
        rm_space(rm, job->space)->hopeless = hash_command(job);
        rm_space(rm, job->space)->hopeless_at = rm->tick;
        return RM_FLOW_CONTINUE;
}

RmFlow rm_repair(Rm *rm, RmJob *job, TSS2_RC rc) {
        bool is_command = rm_top(job)->op == RM_OP_COMMAND;
        const Repair *repair = find_repair(rm_top(job), rc);
        uint64_t hopeless = is_command ? rm_space(rm, job->space)->hopeless : 0;

        if (is_command && !(repair && repair->repair == pause_job))
                rm_space(rm, job->space)->hopeless = 0;
        if (repair && repair->repair)
                return repair->repair(rm, job, rc - repair->first);
        if (repair && is_command)
                return make_room_for_command(rm, job, repair, hopeless);
        return repair && make_room(rm, job, repair->evicts) ? RM_FLOW_AGAIN : RM_FLOW_CONTINUE;
}
