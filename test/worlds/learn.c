/* SPDX-License-Identifier: BSD-2-Clause */
#include "test/worlds/learn.h"

#include "test/worlds/model.h"
#include "tpm/command.h"

#include <string.h>

bool learn_makes_object(const Exchange *x) {
        return x->effect == EFFECT_KEY || x->effect == EFFECT_CHILD || x->effect == EFFECT_SEQUENCE ||
               x->effect == EFFECT_LOAD_OBJECT;
}

bool learn_makes_session(const Exchange *x) {
        return x->effect == EFFECT_HMAC_SESSION || x->effect == EFFECT_POLICY_SESSION ||
               x->effect == EFFECT_LOAD_SESSION;
}

bool learn_is_unsure(const Exchange *x) {
        return (x->thing && x->thing->unsure) ||
               (x->saved && x->effect != EFFECT_SAVE_OBJECT && x->effect != EFFECT_SAVE_SESSION && x->saved->of.unsure);
}

/* The key's public area, which ends with it, stands behind @n bytes of other parameters. */
static uint64_t identity_of(const Message *reply, size_t n) {
        TpmReader reader = TPM_READER(reply->bytes, reply->n);

        tpm_read_bytes(&reader, TPM_HEADER_SIZE + n + 16);
        return tpm_read_u64(&reader);
}

static void compare(const Exchange *x, const Message replies[SIDES]) {
        const Message *real = &replies[SIDE_REAL];
        size_t uses = TPM_HEADER_SIZE + 4 + 6 + 2;

        if (x->compare == COMPARE_IDENTITY && identity_of(real, 0) != x->thing->identity)
                world_fail("another key answers");
        if (learn_is_unsure(x))
                return;
        if (x->compare == COMPARE_ALL &&
            (real->n != replies[SIDE_REFERENCE].n || memcmp(real->bytes, replies[SIDE_REFERENCE].bytes, real->n) != 0))
                world_fail("the answer is not that of the reference");
        if (x->compare == COMPARE_USES && memcmp(real->bytes + uses, replies[SIDE_REFERENCE].bytes + uses, 8) != 0)
                world_fail("the session is not what it was");
}

/* Where a new object stands: the lowest handle that is free, and what is unsure may be free. */
static Thing *place_object(Client *client, TPM2_HANDLE handle) {
        for (unsigned i = 0; i < OBJECTS; i++) {
                Thing *thing = &client->objects[i];

                if (handle == TPM_TRANSIENT_FIRST + i && (!thing->used || thing->unsure))
                        return thing;
                if (!thing->used)
                        break;
        }
        world_fail("handle 0x%x is not the lowest that is free", handle);
        return NULL;
}

static Thing *place_session(Client *client, TPM2_HANDLE handle) {
        Thing *place = NULL;

        for (unsigned c = 0; c < CLIENTS; c++)
                for (unsigned i = 0; i < SESSIONS; i++) {
                        Thing *thing = &world.model.clients[c].sessions[i];

                        if (thing->used && (thing->handles[SIDE_REAL] ^ handle) << 8 == 0) {
                                if (!thing->unsure)
                                        world_fail("session 0x%x is given twice", handle);
                                model_forget(thing);
                        }
                }
        for (unsigned c = 0; c < CLIENTS; c++) {
                Saved *saved = &world.model.clients[c].session;

                if (saved->live && (saved->of.handles[SIDE_REAL] ^ handle) << 8 == 0) {
                        if (!saved->of.unsure)
                                world_fail("session 0x%x is given while it is saved", handle);
                        model_forget_saved(saved);
                }
        }
        for (unsigned i = SESSIONS; i > 0; i--)
                if (!client->sessions[i - 1].used || (client->sessions[i - 1].unsure && !place))
                        place = &client->sessions[i - 1];
        if (!place)
                world_fail("the client has more sessions than its quota");
        return place;
}

static void learn_new(Exchange *x, const Message replies[SIDES]) {
        TPM2_HANDLE handle = message_handle(&replies[SIDE_REAL]);
        bool good = message_rc(&replies[SIDE_REFERENCE]) == TPM2_RC_SUCCESS;
        Thing new = x->saved ? x->saved->of : (Thing){ 0 };
        Thing *place;

        if (x->effect == EFFECT_LOAD_SESSION) {
                x->saved->of.handles[SIDE_REFERENCE] = 0;
                x->saved->live = false;
        }
        place = learn_makes_object(x) ? place_object(x->client, handle) : place_session(x->client, handle);
        if (!place)
                return;
        model_forget(place);
        new.used = true;
        new.unsure |= !good;
        new.handles[SIDE_REAL] = handle;
        new.handles[SIDE_REFERENCE] = good ? message_handle(&replies[SIDE_REFERENCE]) : 0;
        if (!x->saved)
                new.changes = x->effect == EFFECT_SEQUENCE || x->effect == EFFECT_POLICY_SESSION;
        if (x->effect == EFFECT_KEY || x->effect == EFFECT_CHILD)
                new.identity = identity_of(&replies[SIDE_REAL], x->effect == EFFECT_KEY ? 8 : 8 + 18);
        *place = new;
}

static void learn_saved(Exchange *x, const Message replies[SIDES]) {
        Saved *saved = x->saved;

        *saved = (Saved){ .of = *x->thing, .clears = world.model.clears };
        for (Side side = 0; side < SIDES; side++) {
                if (message_rc(&replies[side]) == TPM2_RC_SUCCESS)
                        saved->n[side] = replies[side].n - TPM_HEADER_SIZE;
                else
                        saved->of.unsure = true;
                if (saved->n[side] > CONTEXT_MAX)
                        world_fail("a context of %zu bytes", saved->n[side]);
                else
                        memcpy(saved->bytes[side], replies[side].bytes + TPM_HEADER_SIZE, saved->n[side]);
        }
        if (x->effect == EFFECT_SAVE_SESSION) {
                saved->live = true;
                *x->thing = (Thing){ 0 };
        } else {
                saved->of.handles[SIDE_REFERENCE] = 0; /* the object keeps it */
        }
}

void learn_success(Exchange *x, const Message replies[SIDES]) {
        compare(x, replies);
        if (world_failed())
                return;
        if (learn_makes_object(x) || learn_makes_session(x))
                learn_new(x, replies);
        if (x->effect == EFFECT_SAVE_OBJECT || x->effect == EFFECT_SAVE_SESSION)
                learn_saved(x, replies);
        if (x->effect == EFFECT_END)
                model_forget(x->thing);
        if (x->effect == EFFECT_DISCARD)
                model_forget_saved(x->saved);
        world.model.clears += x->effect == EFFECT_CLEAR;
        if (x->effect == EFFECT_CLEAR || x->effect == EFFECT_DISABLE)
                model_settle();
}

/* Nobody knows whether the TPM did it. What it did, the reference does as well. */
void learn_lost(Exchange *x) {
        bool flushes = x->effect == EFFECT_CLEAR || x->effect == EFFECT_DISABLE;

        if (x->thing && (x->thing->changes || x->effect != EFFECT_NONE))
                x->thing->unsure = true;
        if (x->thing && tpm_handle_is_session(x->thing->handles[SIDE_REAL]))
                x->thing->unsure = true;
        if (x->second)
                x->second->unsure = true;
        if (x->effect == EFFECT_LOAD_SESSION || x->effect == EFFECT_DISCARD)
                x->saved->of.unsure = true;
        if (flushes || x->effect == EFFECT_ENABLE)
                model_each(model_doubt_object);
        if ((!flushes && x->effect != EFFECT_ENABLE) || FAULTS[world.step.fault].kind != FAULT_LOST_AFTER)
                return;
        world_direct(SIDE_REFERENCE, &x->commands[SIDE_REFERENCE]);
        world.model.clears += x->effect == EFFECT_CLEAR;
        if (flushes)
                model_settle();
}

void learn_gone(Exchange *x) {
        if (x->thing)
                model_forget(x->thing);
        else if (x->effect == EFFECT_LOAD_SESSION || x->effect == EFFECT_DISCARD)
                model_forget_saved(x->saved);
}
