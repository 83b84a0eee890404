/* SPDX-License-Identifier: BSD-2-Clause */
#include "test/worlds/oracle.h"

#include "test/worlds/learn.h"
#include "test/worlds/state.h"
#include "tpm/command.h"

/* Codes of one class are one. */
#define CLASS_NO_ROOM 0x10000000u
#define CLASS_GONE 0x20000000u

static uint32_t class_of(uint32_t rc) {
        if (rc >> 16 == RM_RC_LAYER >> 16)
                rc &= 0xFFFF;
        switch (rc) {
        case TPM2_RC_OBJECT_MEMORY:
        case TPM2_RC_OBJECT_HANDLES:
        case TPM2_RC_SESSION_MEMORY:
        case TPM2_RC_SESSION_HANDLES:
        case TPM2_RC_MEMORY:
                return CLASS_NO_ROOM;
        }
        if ((rc >= TPM2_RC_REFERENCE_H0 && rc <= TPM2_RC_REFERENCE_S6) || (rc & 0xBF) == TPM2_RC_HANDLE ||
            (rc & 0xBF) == TPM2_RC_VALUE || (rc & 0xBF) == TPM2_RC_INTEGRITY)
                return CLASS_GONE;
        return rc;
}

/* Quotas */

static unsigned count(const Thing *things, unsigned n, bool sure) {
        unsigned n_used = 0;

        for (unsigned i = 0; i < n; i++)
                n_used += things[i].used && !(sure && things[i].unsure);
        return n_used;
}

/* Whether one more does not fit. @sure: even if all that is unsure is gone */
static bool is_full(const Exchange *x, bool sure) {
        const Saved *saved = &x->client->session;
        unsigned n = count(x->client->sessions, SESSIONS, sure);

        if (learn_makes_object(x))
                return count(x->client->objects, OBJECTS, sure) >= OBJECTS;
        if (!learn_makes_session(x))
                return false;
        /* A session that its own client saved is in its quota already, unless an answer about it was lost. */
        if (x->saved == saved && saved->live && !saved->abandoned)
                return !sure && saved->of.unsure && n >= SESSIONS;
        /* Whether a context is good is looked at before the quota, or after. */
        if (sure && x->saved && (!x->saved->live || x->saved->of.unsure))
                return false;
        return n + (saved->live && !saved->abandoned && !(sure && saved->of.unsure)) >= SESSIONS;
}

/* The verdict */

/* Whether nothing that this command does not need was left to make room with, after a warning. */
static bool is_told_rightly(const Exchange *x, TPM2_RC rc) {
        unsigned n_objects = x && x->thing && tpm_handle_is_transient(x->thing->handles[SIDE_REAL]);
        unsigned n_sessions = x && x->thing && !n_objects ? 1 + (x->second != NULL) : 0;
        unsigned n_all = 0;
        RmReport report;

        rm_report(world.rm, &report);
        for (RmState kind = 0; kind < RM_STATES; kind++)
                n_all += report.n_sessions[kind];
        switch (rc) {
        case TPM2_RC_OBJECT_MEMORY:
        case TPM2_RC_OBJECT_HANDLES:
                return report.n_objects_loaded <= n_objects;
        case TPM2_RC_SESSION_MEMORY:
                return report.n_sessions_loaded <= n_sessions;
        case TPM2_RC_MEMORY:
                return report.n_objects_loaded <= n_objects && report.n_sessions_loaded <= n_sessions;
        case TPM2_RC_SESSION_HANDLES:
                return report.n_sessions[RM_ABANDONED] == 0 && report.n_sessions[RM_DOOMED] == 0;
        case TPM2_RC_CONTEXT_GAP:
                return !world.struck_own || n_all == report.n_sessions_loaded;
        default:
                return !world_is_transitory(rc);
        }
}

/* Whether the client may be told what was injected. @x: NULL for a list */
static bool may_be_told(const Exchange *x, uint32_t class) {
        const Fault *fault = &FAULTS[world.step.fault];

        return world.struck && class == class_of(fault->rc) && is_told_rightly(x, fault->rc);
}

/*
 * Whether there was no room for the moment: the TPM refused what would have made some, or the client asks for the very
 * command again that it was just told has no room.
 */
static bool is_momentary(const Exchange *x, uint32_t class) {
        if (class != CLASS_NO_ROOM || (!world.struck && !x->hopeless))
                return false;
        world.n_excused++;
        return true;
}

/* @is: class of what the client hears */
static void judge_start(uint32_t is) {
        world.model.down = is != TPM2_RC_SUCCESS;
        if (is != TPM2_RC_SUCCESS)
                world_fail("Startup is answered by 0x%x", is);
}

/* The resource manager itself refuses it, unless something else stands in the way before. */
static void judge_foreign(uint32_t is, const Message *reply) {
        bool refused = is == CLASS_GONE && message_rc(reply) >> 16 == RM_RC_LAYER >> 16;

        if (is == TPM2_RC_SUCCESS || (!refused && !world.struck && !world.model.down))
                world_fail("a client names another client's session, and hears 0x%x", message_rc(reply));
}

static void judge_lost(Exchange *x, const Message *reply) {
        /* It was not executed, when what was lost was on its behalf. */
        if (message_rc(reply) != RM_RC(world.struck_own ? TPM2_RC_FAILURE : TPM2_RC_INITIALIZE))
                world_fail("an answer was lost, and the client hears 0x%x", message_rc(reply));
        if (world.struck_own)
                learn_lost(x);
}

static void judge_by_reference(Exchange *x, uint32_t is, const Message *reply) {
        static Message replies[SIDES];
        bool unsure = learn_is_unsure(x);
        uint32_t should;

        replies[SIDE_REAL] = *reply;
        replies[SIDE_REFERENCE] = world_direct(SIDE_REFERENCE, &x->commands[SIDE_REFERENCE]);
        should = class_of(message_rc(&replies[SIDE_REFERENCE]));
        if (is != should &&
            !(unsure && (is == TPM2_RC_SUCCESS || is == CLASS_GONE || (is & 0xBF) == TPM2_RC_HIERARCHY ||
                         is == TPM2_RC_SEQUENCE))) /* it is there, and has no public area */
                world_fail("the client hears 0x%x, and by the reference 0x%x", message_rc(reply),
                           message_rc(&replies[SIDE_REFERENCE]));
        else if (is == TPM2_RC_SUCCESS)
                learn_success(x, replies);
        else if (is == CLASS_GONE && unsure)
                learn_gone(x);
}

/* Whether the client hears rightly that nothing was done for it. */
static bool is_put_off(Exchange *x, uint32_t is) {
        if (is == TPM2_RC_INITIALIZE && world.model.down && x->effect != EFFECT_START)
                return true;
        if (is == CLASS_NO_ROOM && is_full(x, false))
                return true;
        if (may_be_told(x, is)) {
                x->client->refused |= is == CLASS_NO_ROOM;
                world.n_told++;
                return true;
        }
        return is_momentary(x, is);
}

void oracle_judge(Exchange *x, const Message *reply) {
        uint32_t is = class_of(message_rc(reply));

        if (is == TPM2_RC_SUCCESS && world.own_sent)
                x->client->refused = false;
        if (world.lost)
                judge_lost(x, reply);
        else if (x->foreign)
                judge_foreign(is, reply);
        else if (is_put_off(x, is))
                return;
        else if (x->effect == EFFECT_START && world.model.down)
                judge_start(is);
        else if (is_full(x, true))
                world_fail("the quota is used up, and the client hears 0x%x", message_rc(reply));
        else
                judge_by_reference(x, is, reply);
}

static bool lists(const TPM2_HANDLE *handles, unsigned n, TPM2_HANDLE handle) {
        for (unsigned i = 0; i < n; i++)
                if (handles[i] == handle)
                        return true;
        return false;
}

void oracle_judge_list(Client *client, TPM2_HT type, const Message *reply) {
        Thing *things = type == TPM2_HT_TRANSIENT       ? client->objects
                        : type == TPM2_HT_SAVED_SESSION ? &client->session.of
                                                        : client->sessions;
        unsigned n_things = type == TPM2_HT_TRANSIENT ? OBJECTS : type == TPM2_HT_SAVED_SESSION ? 1 : SESSIONS;
        TPM2_HANDLE handles[16];
        unsigned n, n_found = 0;

        if (message_rc(reply) != TPM2_RC_SUCCESS) {
                bool told = may_be_told(NULL, class_of(message_rc(reply))) || world.lost ||
                            (world.model.down && message_rc(reply) == TPM2_RC_INITIALIZE);

                if (!told)
                        world_fail("a list is refused with 0x%x", message_rc(reply));
                return;
        }
        n = message_handles(reply, handles, 16);
        for (unsigned i = 0; i < n_things; i++) {
                TPM2_HANDLE handle = things[i].handles[SIDE_REAL];
                bool used = type == TPM2_HT_SAVED_SESSION ? client->session.live : things[i].used;

                if (type == TPM2_HT_SAVED_SESSION)
                        handle = TPM2_HR_HMAC_SESSION | (handle & TPM2_HR_HANDLE_MASK);
                n_found += used && lists(handles, n, handle);
                if (used && !things[i].unsure && !lists(handles, n, handle))
                        world_fail("0x%x is not listed", handle);
        }
        if (n_found != n)
                world_fail("%u handles are listed, and %u of them are the client's", n, n_found);
}

/* Everything that was left over is flushed. */
void oracle_judge_rest(void) {
        TPM2_HANDLE handles[16];
        RmReport report;
        unsigned n_objects = world_list(SIDE_REAL, TPM2_HT_TRANSIENT, handles, 16);
        unsigned n_loaded = world_list(SIDE_REAL, TPM2_HT_LOADED_SESSION, handles, 16);
        unsigned n_saved = world_list(SIDE_REAL, TPM2_HT_SAVED_SESSION, handles, 16);
        unsigned n_sessions = 0;

        rm_report(world.rm, &report);
        for (RmState kind = 0; kind < RM_STATES; kind++)
                n_sessions += report.n_sessions[kind];
        if (n_objects != report.n_objects_loaded)
                world_fail("%u objects are loaded, and the tables have %u", n_objects, report.n_objects_loaded);
        if (n_loaded != report.n_sessions_loaded || n_loaded + n_saved != n_sessions)
                world_fail("%u sessions are loaded and %u saved, and the tables have %u and %u", n_loaded, n_saved,
                           report.n_sessions_loaded, n_sessions - report.n_sessions_loaded);
        if (state_n_unknown() > 0)
                world_fail("nothing is out, and where something is is unknown");
        if (report.n_sessions[RM_DOOMED] > 0)
                world_fail("%u sessions are left over", report.n_sessions[RM_DOOMED]);
}
