/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef TEST_WORLDS_ALPHABET_H
#define TEST_WORLDS_ALPHABET_H

#include "test/worlds/act.h"

/* What a client may do */
typedef struct Act {
        const char *name;
        bool (*build)(Exchange *x); /* Return: false when it is not applicable */
        Effect effect;
        Compare compare;
        void (*run)(Client *client); /* in place of a command */
} Act;

extern const Act ACTS[];
extern const unsigned N_ACTS;

/* act.c: what is no single command */
void act_list(Client *client);
void act_leave(Client *client);
void act_purge(Client *client);

#endif
