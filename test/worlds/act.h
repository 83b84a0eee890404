/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef TEST_WORLDS_ACT_H
#define TEST_WORLDS_ACT_H

#include "test/worlds/world.h"

/*
 * The alphabet
 *
 * Each act of a client is one command, or for leave and list a few; the others are chores. An act that makes no sense
 * in a state, such as the use of a session where there is none, is not applicable there.
 */
typedef enum Effect {
        EFFECT_NONE,
        EFFECT_KEY,   /* returns the handle of a new primary key */
        EFFECT_CHILD, /* ... of a new key below another */
        EFFECT_SEQUENCE,
        EFFECT_HMAC_SESSION,
        EFFECT_POLICY_SESSION,
        EFFECT_LOAD_OBJECT, /* from Exchange.saved */
        EFFECT_LOAD_SESSION,
        EFFECT_SAVE_OBJECT, /* into Exchange.saved */
        EFFECT_SAVE_SESSION,
        EFFECT_END,     /* flushes what is named */
        EFFECT_DISCARD, /* flushes the session of Exchange.saved */
        EFFECT_CLEAR,   /* flushes the objects of the owner hierarchy, for good */
        EFFECT_DISABLE, /* flushes them */
        EFFECT_ENABLE,  /* may flush any object, as far as its attributes tell, and does not */
        EFFECT_START,
} Effect;

/* What of a good answer must be the same on both sides, or as it was before. */
typedef enum Compare {
        COMPARE_NOTHING,
        COMPARE_IDENTITY, /* of ReadPublic */
        COMPARE_ALL,
        COMPARE_USES, /* of the session that GetRandom used */
} Compare;

/* A client's command on both sides. */
typedef struct Exchange {
        Client *client;
        Effect effect;
        Compare compare;
        bool foreign;  /* it names a session of the other client, and must be refused */
        bool hopeless; /* see state_is_hopeless() */
        Thing *thing;  /* it names; NULL: nothing that exists */
        Thing *second; /* ... besides */
        Saved *saved;  /* it loads, or is saved into */
        Message commands[SIDES];
} Exchange;

unsigned act_count(void);

/* "A.make", with the client before the act, or "cleanup" */
const char *act_name(unsigned act);

/* The same for an act of either client */
unsigned act_kind(unsigned act);

/* Return: false when the act is not applicable. The outcome is in world. */
bool act_run(Step step);

#endif
