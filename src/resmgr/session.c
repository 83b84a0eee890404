/* SPDX-License-Identifier: BSD-2-Clause */
#include "resmgr/state.h"
#include "tpm/context.h"

/* HMAC and policy sessions share one index space: the upper byte of a handle does not tell sessions apart. */
#define INDEX(handle) ((handle)&TPM2_HR_HANDLE_MASK)

uint32_t rm_session_new(Rm *rm, uint32_t space) {
        uint32_t i = 0;

        while (i < rm->n_sessions_used && rm->sessions[i].state != RM_SESSION_FREE)
                i++;
        if (i == RM_SESSIONS)
                return RM_NONE;
        if (i == rm->n_sessions_used)
                rm->n_sessions_used++;
        rm->sessions[i] = (RmSession){
                .space = space,
                .uid = space == RM_NONE ? 0 : rm_space(rm, space)->uid,
                .state = RM_SESSION_PENDING,
                .residency = RM_ABSENT,
                .copy = RM_NO_COPY,
                .token = RM_NO_COPY,
                .since = rm->now,
        };
        return i;
}

void rm_session_free(Rm *rm, uint32_t i) {
        RmSession *session = &rm->sessions[i];

        rm_copy_free(rm, &session->copy);
        rm_copy_free(rm, &session->token);
        *session = (RmSession){ .space = RM_NONE, .state = RM_SESSION_FREE, .copy = RM_NO_COPY, .token = RM_NO_COPY };
        while (rm->n_sessions_used > 0 && rm->sessions[rm->n_sessions_used - 1].state == RM_SESSION_FREE)
                rm->n_sessions_used--;
}

uint32_t rm_session_find(Rm *rm, TPM2_HANDLE handle) {
        for (uint32_t i = 0; i < rm->n_sessions_used; i++)
                if (rm->sessions[i].state > RM_SESSION_PENDING && INDEX(rm->sessions[i].handle) == INDEX(handle))
                        return i;
        return RM_NONE;
}

uint32_t rm_session_find_usable(Rm *rm, uint32_t space, TPM2_HANDLE handle) {
        uint32_t i = rm_session_find(rm, handle);

        if (i == RM_NONE || rm->sessions[i].state != RM_SESSION_OWNED || rm->sessions[i].space != space)
                return RM_NONE;
        return i;
}

bool rm_session_may_flush(Rm *rm, uint32_t space, uint32_t i) {
        const RmSession *session = &rm->sessions[i];
        uint32_t uid = rm_space(rm, space)->uid;

        switch (session->state) {
        case RM_SESSION_OWNED:
        case RM_SESSION_CLIENT_SAVED:
                return session->space == space;
        case RM_SESSION_ABANDONED:
                return uid == 0 || session->uid == uid;
        case RM_SESSION_LEFTOVER:
                return uid == 0;
        default:
                return false;
        }
}

void rm_session_own(Rm *rm, uint32_t i, uint32_t space, TPM2_HANDLE handle) {
        RmSession *session = &rm->sessions[i];

        rm_copy_free(rm, &session->token);
        rm_session_loaded(rm, i);
        session->handle = handle;
        session->space = space;
        session->uid = rm_space(rm, space)->uid;
        session->state = RM_SESSION_OWNED;
        rm_use(rm, &session->use);
}

void rm_session_loaded(Rm *rm, uint32_t i) {
        RmSession *session = &rm->sessions[i];

        rm_copy_free(rm, &session->copy);
        session->residency = RM_RESIDENT;
        session->unsaveable = false;
}

void rm_session_settle(Rm *rm, uint32_t i) {
        RmSession *session = &rm->sessions[i];

        if (session->residency != RM_UNKNOWN)
                return;
        session->residency =
                session->copy.first != RM_NONE || session->state == RM_SESSION_LEFTOVER ? RM_ABSENT : RM_RESIDENT;
}

void rm_session_doom(Rm *rm, uint32_t i) {
        rm->sessions[i].space = RM_NONE;
        rm->sessions[i].state = RM_SESSION_DOOMED;
        rm->sessions[i].unsaveable = false; /* it is to be flushed now, not saved */
}

void rm_session_spare(Rm *rm, uint32_t i) {
        switch (rm->sessions[i].state) {
        case RM_SESSION_ABANDONED:
                rm->counters.abandoned_flushed++;
                break;
        case RM_SESSION_LEFTOVER:
                rm->counters.left_over_flushed++;
                break;
        case RM_SESSION_CLIENT_SAVED:
                rm->counters.client_saved_flushed++;
                break;
        default:
                break;
        }
        rm_session_doom(rm, i);
}

static uint32_t flush_state(Rm *rm, RmSessionState state) {
        uint32_t n = 0;

        for (uint32_t i = 0; i < rm->n_sessions_used; i++)
                if (rm->sessions[i].state == state) {
                        rm_session_doom(rm, i);
                        n++;
                }
        return n;
}

uint32_t rm_flush_abandoned(Rm *rm) {
        return flush_state(rm, RM_SESSION_ABANDONED);
}

uint32_t rm_flush_left_over(Rm *rm) {
        return flush_state(rm, RM_SESSION_LEFTOVER);
}

static uint32_t abandoned_max(const Rm *rm) {
        if (rm->limits.abandoned != RM_NONE)
                return rm->limits.abandoned;
        return rm->active_sessions_max > 8 ? rm->active_sessions_max - 8 : rm->active_sessions_max;
}

/* How many sessions a user has, whatever their state. */
static uint32_t weight(const Rm *rm, uint32_t uid) {
        uint32_t n = 0;

        for (uint32_t i = 0; i < rm->n_sessions_used; i++)
                n += rm->sessions[i].state > RM_SESSION_PENDING && rm->sessions[i].state != RM_SESSION_LEFTOVER &&
                     rm->sessions[i].uid == uid;
        return n;
}

/* The oldest in that state of the user that has most, so that nobody can push out what is another's. */
static uint32_t oldest_of_heaviest(Rm *rm, RmSessionState state, uint32_t at_least) {
        uint32_t best = RM_NONE;
        uint32_t n_best = 0;

        for (uint32_t i = 0; i < rm->n_sessions_used; i++) {
                const RmSession *session = &rm->sessions[i];
                uint32_t n;

                if (session->state != state || session->unsaveable)
                        continue;
                n = weight(rm, session->uid);
                if (n < at_least)
                        continue;
                if (best == RM_NONE || n > n_best || (n == n_best && session->saved < rm->sessions[best].saved)) {
                        best = i;
                        n_best = n;
                }
        }
        return best;
}

static uint32_t any_in_state(const Rm *rm, RmSessionState state) {
        for (uint32_t i = 0; i < rm->n_sessions_used; i++)
                if (rm->sessions[i].state == state && !rm->sessions[i].unsaveable)
                        return i;
        return RM_NONE;
}

uint32_t rm_session_expendable(Rm *rm, const RmJob *job) {
        uint32_t asking = job->client ? weight(rm, rm_space(rm, job->space)->uid) : 0;
        uint32_t i = any_in_state(rm, RM_SESSION_DOOMED);

        if (i == RM_NONE)
                i = any_in_state(rm, RM_SESSION_LEFTOVER);
        if (i == RM_NONE)
                i = oldest_of_heaviest(rm, RM_SESSION_ABANDONED, 0);
        /* What a client that is still there may load any moment is taken from nobody who has less than who asks. */
        if (i == RM_NONE)
                i = oldest_of_heaviest(rm, RM_SESSION_CLIENT_SAVED, asking);
        return i;
}

void rm_session_close(Rm *rm, uint32_t i) {
        RmSession *session = &rm->sessions[i];
        uint32_t n_abandoned = 0;

        if (session->state != RM_SESSION_CLIENT_SAVED) {
                rm_session_doom(rm, i);
                return;
        }
        session->space = RM_NONE;
        session->state = RM_SESSION_ABANDONED;
        for (uint32_t k = 0; k < rm->n_sessions_used; k++)
                n_abandoned += rm->sessions[k].state == RM_SESSION_ABANDONED;
        if (n_abandoned > abandoned_max(rm)) {
                uint32_t oldest = oldest_of_heaviest(rm, RM_SESSION_ABANDONED, 0);

                rm_session_spare(rm, oldest != RM_NONE ? oldest : i);
        }
}

bool rm_session_keep_copy(Rm *rm, uint32_t i, const uint8_t *bytes, size_t n_bytes) {
        RmSession *session = &rm->sessions[i];
        TpmContext context;

        if (!tpm_context_parse(bytes, n_bytes, &context) || !rm_copy_store(rm, &session->copy, bytes, n_bytes))
                return false;
        session->sequence = context.sequence;
        session->residency = RM_ABSENT;
        /* What kept others from being saved may be over. */
        for (uint32_t k = 0; k < rm->n_sessions_used; k++)
                rm->sessions[k].unsaveable = false;
        return true;
}

bool rm_session_keep_token(Rm *rm, uint32_t i) {
        RmSession *session = &rm->sessions[i];
        uint8_t bytes[TPM_MESSAGE_MAX];
        TpmWriter writer = TPM_WRITER(bytes, sizeof(bytes));

        rm_copy_write(rm, &session->copy, &writer);
        if (writer.bad || !rm_copy_store(rm, &session->token, bytes, writer.n_bytes))
                return false;
        session->state = RM_SESSION_CLIENT_SAVED;
        session->saved = rm->tick;
        return true;
}

uint64_t rm_session_newest(const Rm *rm) {
        uint64_t newest = 0;

        for (uint32_t i = 0; i < rm->n_sessions_used; i++)
                if (rm->sessions[i].sequence > newest)
                        newest = rm->sessions[i].sequence;
        return newest;
}

uint32_t rm_session_oldest(Rm *rm) {
        uint32_t oldest = RM_NONE;

        for (uint32_t i = 0; i < rm->n_sessions_used; i++) {
                const RmSession *session = &rm->sessions[i];

                if (session->residency != RM_ABSENT || session->copy.first == RM_NONE)
                        continue;
                if (oldest == RM_NONE || session->sequence < rm->sessions[oldest].sequence)
                        oldest = i;
        }
        return oldest;
}

uint32_t rm_session_n_loaded(Rm *rm) {
        uint32_t n = 0;

        for (uint32_t i = 0; i < rm->n_sessions_used; i++)
                n += rm->sessions[i].state > RM_SESSION_PENDING && rm->sessions[i].residency != RM_ABSENT;
        return n;
}
