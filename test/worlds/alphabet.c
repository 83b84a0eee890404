/* SPDX-License-Identifier: BSD-2-Clause */
#include "test/worlds/alphabet.h"

#include "tpm/command.h"

/* Handles of nothing, of a kind that is right; the reference has none so high. */
#define NO_OBJECT 0x80FFFFF0u

static Client *other_of(const Client *client) {
        return &world.model.clients[client == &world.model.clients[0]];
}

/* The first thing in use, of @changes where @any is false; NULL: there is none. */
static Thing *first(Thing *things, unsigned n, bool any, bool changes) {
        for (unsigned i = 0; i < n; i++)
                if (things[i].used && (any || things[i].changes == changes))
                        return &things[i];
        return NULL;
}

static Thing *first_object(Client *client) {
        return first(client->objects, OBJECTS, true, false);
}

static Thing *first_session(Client *client) {
        return first(client->sessions, SESSIONS, true, false);
}

static bool plain(Exchange *x, Message command) {
        x->commands[SIDE_REAL] = x->commands[SIDE_REFERENCE] = command;
        return true;
}

static bool with_handle(Exchange *x, TPM2_CC code) {
        for (Side side = 0; x->thing && side < SIDES; side++)
                x->commands[side] = cmd_with_handle(code, x->thing->handles[side] ?: NO_OBJECT);
        return x->thing;
}

static bool build_make(Exchange *x) {
        return plain(x, cmd_create_primary(TPM2_RH_OWNER, 0));
}

static bool build_child(Exchange *x) {
        x->thing = first(x->client->objects, OBJECTS, false, false);
        for (Side side = 0; x->thing && side < SIDES; side++)
                x->commands[side] = cmd_create_loaded(x->thing->handles[side] ?: NO_OBJECT);
        return x->thing;
}

/* A handle that the client does not have; the other client may have one of that number. */
static bool of_nothing(Exchange *x, TPM2_CC code, unsigned i) {
        x->thing = NULL;
        x->commands[SIDE_REAL] = cmd_with_handle(code, TPM_TRANSIENT_FIRST + i);
        x->commands[SIDE_REFERENCE] = cmd_with_handle(code, NO_OBJECT);
        return true;
}

static bool build_read(Exchange *x, unsigned i) {
        x->thing = &x->client->objects[i];
        if (x->thing->used)
                return with_handle(x, TPM2_CC_ReadPublic);
        return of_nothing(x, TPM2_CC_ReadPublic, i);
}

static bool build_read0(Exchange *x) {
        return build_read(x, 0);
}

static bool build_read1(Exchange *x) {
        return build_read(x, 1);
}

static bool build_flush(Exchange *x) {
        x->thing = first_object(x->client);
        return x->thing ? with_handle(x, TPM2_CC_FlushContext) : of_nothing(x, TPM2_CC_FlushContext, 0);
}

static bool build_store(Exchange *x) {
        x->thing = first_object(x->client);
        x->saved = &x->client->object;
        return with_handle(x, TPM2_CC_ContextSave);
}

static bool load(Exchange *x, Saved *saved) {
        x->saved = saved;
        for (Side side = 0; side < SIDES; side++)
                x->commands[side] = cmd_context_load(saved->bytes[side], saved->n[side]);
        return saved->of.used;
}

static bool build_fetch(Exchange *x) {
        return load(x, &x->client->object);
}

static bool build_hash(Exchange *x) {
        return plain(x, cmd_hash_start());
}

static bool build_update(Exchange *x) {
        const char *text = x->client == world.model.clients ? "a" : "b";

        x->thing = first(x->client->objects, OBJECTS, false, true);
        for (Side side = 0; x->thing && side < SIDES; side++)
                x->commands[side] = cmd_sequence_update(x->thing->handles[side] ?: NO_OBJECT, text);
        return x->thing;
}

static bool build_complete(Exchange *x) {
        x->thing = first(x->client->objects, OBJECTS, false, true);
        for (Side side = 0; x->thing && side < SIDES; side++)
                x->commands[side] = cmd_sequence_complete(x->thing->handles[side] ?: NO_OBJECT, TPM2_RH_NULL);
        return x->thing;
}

static bool build_hmac(Exchange *x) {
        return plain(x, cmd_start_session(TPM2_SE_HMAC));
}

static bool build_policy(Exchange *x) {
        return plain(x, cmd_start_session(TPM2_SE_POLICY));
}

static bool build_extend(Exchange *x) {
        x->thing = first(x->client->sessions, SESSIONS, false, true);
        for (Side side = 0; x->thing && side < SIDES; side++)
                x->commands[side] = cmd_policy_pcr(x->thing->handles[side]);
        return x->thing;
}

static bool authorize(Exchange *x, Thing *session, uint8_t attributes) {
        x->thing = session;
        for (Side side = 0; session && side < SIDES; side++)
                x->commands[side] = cmd_get_random_auth(
                        4, &(TestAuth){ session->handles[side], TPMA_SESSION_ENCRYPT | attributes }, 1);
        return session;
}

static bool build_ask(Exchange *x) {
        Thing *session = first_session(x->client);

        if (!session || !session->changes)
                return authorize(x, session, TPMA_SESSION_CONTINUESESSION);
        x->thing = session;
        x->compare = COMPARE_ALL;
        return with_handle(x, TPM2_CC_PolicyGetDigest);
}

/* Sessions that are needed at the same time. */
static bool build_both(Exchange *x) {
        Thing *sessions = x->client->sessions;

        for (unsigned i = 0; i < 2; i++)
                if (!sessions[i].used || sessions[i].unsure)
                        return false;
        x->thing = &sessions[0];
        x->second = &sessions[1];
        for (Side side = 0; side < SIDES; side++) {
                const TestAuth auths[] = {
                        { sessions[0].handles[side], TPMA_SESSION_ENCRYPT | TPMA_SESSION_CONTINUESESSION },
                        { sessions[1].handles[side], TPMA_SESSION_AUDIT | TPMA_SESSION_CONTINUESESSION },
                };

                x->commands[side] = cmd_get_random_auth(4, auths, 2);
        }
        return true;
}

static bool build_end(Exchange *x) {
        return authorize(x, first_session(x->client), 0);
}

/* A client that has a context which is good already keeps that one. */
static bool build_save(Exchange *x) {
        x->thing = first_session(x->client);
        x->saved = &x->client->session;
        return !x->saved->live && with_handle(x, TPM2_CC_ContextSave);
}

static bool build_load(Exchange *x) {
        return load(x, &x->client->session);
}

static bool build_take(Exchange *x) {
        return load(x, &other_of(x->client)->session);
}

static bool is_own(const Client *client, TPM2_HANDLE handle) {
        for (unsigned i = 0; i < SESSIONS; i++)
                if (client->sessions[i].used && client->sessions[i].handles[SIDE_REAL] == handle)
                        return true;
        return false;
}

static Thing *foreign_session(Exchange *x) {
        Thing *session = first_session(other_of(x->client));

        x->foreign = true;
        return session && !is_own(x->client, session->handles[SIDE_REAL]) ? session : NULL;
}

static bool build_trespass(Exchange *x) {
        return authorize(x, foreign_session(x), TPMA_SESSION_CONTINUESESSION);
}

static bool build_pry(Exchange *x) {
        x->thing = foreign_session(x);
        return with_handle(x, TPM2_CC_ContextSave);
}

static bool build_drop(Exchange *x) {
        x->thing = first_session(x->client);
        return with_handle(x, TPM2_CC_FlushContext);
}

static bool build_discard(Exchange *x) {
        x->saved = &x->client->session;
        for (Side side = 0; side < SIDES; side++)
                x->commands[side] = cmd_with_handle(TPM2_CC_FlushContext, x->saved->of.handles[side]);
        return x->saved->live;
}

static bool build_raid(Exchange *x) {
        x->thing = foreign_session(x);
        return with_handle(x, TPM2_CC_FlushContext);
}

static bool build_clear(Exchange *x) {
        return plain(x, cmd_clear());
}

static bool build_enable(Exchange *x) {
        return plain(x, cmd_hierarchy_control(TPM2_RH_OWNER, TPM2_YES));
}

static bool build_disable(Exchange *x) {
        return plain(x, cmd_hierarchy_control(TPM2_RH_OWNER, TPM2_NO));
}

static bool build_shutdown(Exchange *x) {
        Message command = cmd_startup(TPM2_SU_STATE);

        tpm_put_u32(command.bytes + 6, TPM2_CC_Shutdown);
        return plain(x, command);
}

static bool build_start(Exchange *x) {
        return world.model.down && plain(x, cmd_startup(TPM2_SU_CLEAR));
}

const Act ACTS[] = {
        { "make", build_make, EFFECT_KEY, COMPARE_NOTHING, NULL },
        { "child", build_child, EFFECT_CHILD, COMPARE_NOTHING, NULL },
        { "read0", build_read0, EFFECT_NONE, COMPARE_IDENTITY, NULL },
        { "read1", build_read1, EFFECT_NONE, COMPARE_IDENTITY, NULL },
        { "flush", build_flush, EFFECT_END, COMPARE_NOTHING, NULL },
        { "store", build_store, EFFECT_SAVE_OBJECT, COMPARE_NOTHING, NULL },
        { "fetch", build_fetch, EFFECT_LOAD_OBJECT, COMPARE_NOTHING, NULL },
        { "hash", build_hash, EFFECT_SEQUENCE, COMPARE_NOTHING, NULL },
        { "update", build_update, EFFECT_NONE, COMPARE_NOTHING, NULL },
        { "complete", build_complete, EFFECT_END, COMPARE_ALL, NULL },
        { "hmac", build_hmac, EFFECT_HMAC_SESSION, COMPARE_NOTHING, NULL },
        { "policy", build_policy, EFFECT_POLICY_SESSION, COMPARE_NOTHING, NULL },
        { "extend", build_extend, EFFECT_NONE, COMPARE_NOTHING, NULL },
        { "ask", build_ask, EFFECT_NONE, COMPARE_USES, NULL },
        { "both", build_both, EFFECT_NONE, COMPARE_USES, NULL },
        { "end", build_end, EFFECT_END, COMPARE_USES, NULL },
        { "save", build_save, EFFECT_SAVE_SESSION, COMPARE_NOTHING, NULL },
        { "load", build_load, EFFECT_LOAD_SESSION, COMPARE_NOTHING, NULL },
        { "take", build_take, EFFECT_LOAD_SESSION, COMPARE_NOTHING, NULL },
        { "trespass", build_trespass, EFFECT_NONE, COMPARE_NOTHING, NULL },
        { "pry", build_pry, EFFECT_NONE, COMPARE_NOTHING, NULL },
        { "drop", build_drop, EFFECT_END, COMPARE_NOTHING, NULL },
        { "discard", build_discard, EFFECT_DISCARD, COMPARE_NOTHING, NULL },
        { "raid", build_raid, EFFECT_NONE, COMPARE_NOTHING, NULL },
        { "clear", build_clear, EFFECT_CLEAR, COMPARE_NOTHING, NULL },
        { "enable", build_enable, EFFECT_ENABLE, COMPARE_NOTHING, NULL },
        { "disable", build_disable, EFFECT_DISABLE, COMPARE_NOTHING, NULL },
        { "shutdown", build_shutdown, EFFECT_NONE, COMPARE_NOTHING, NULL },
        { "start", build_start, EFFECT_START, COMPARE_NOTHING, NULL },
        { "list", NULL, EFFECT_NONE, COMPARE_NOTHING, act_list },
        { "leave", NULL, EFFECT_NONE, COMPARE_NOTHING, act_leave },
        { "purge", NULL, EFFECT_NONE, COMPARE_NOTHING, act_purge },
};
const unsigned N_ACTS = sizeof(ACTS) / sizeof(ACTS[0]);
