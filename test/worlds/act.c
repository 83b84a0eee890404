/* SPDX-License-Identifier: BSD-2-Clause */
#include "test/worlds/act.h"

#include "test/worlds/alphabet.h"
#include "test/worlds/model.h"
#include "test/worlds/oracle.h"
#include "test/worlds/state.h"

#include <stdio.h>

#define CHORES_MAX 64 /* of a kind, in one step */

void act_list(Client *client) {
        static const TPM2_HT TYPES[] = { TPM2_HT_TRANSIENT, TPM2_HT_LOADED_SESSION, TPM2_HT_SAVED_SESSION };

        for (unsigned i = 0; i < 3 && !world_failed() && !world.struck; i++) {
                Message ask = cmd_get_capability(TPM2_CAP_HANDLES, (uint32_t)TYPES[i] << TPM2_HR_SHIFT, 16);
                Message reply = world_command(client, &ask);

                oracle_judge_list(client, TYPES[i], &reply);
        }
}

void act_leave(Client *client) {
        unsigned i = client - world.model.clients;

        rm_space_close(world.rm, client->space);
        client->refused = false;
        model_left(client);
        world_check();
        if (rm_space_open(world.rm, 1000 + i, &client->space) != TSS2_RC_SUCCESS)
                world_fail("the client cannot come back");
}

/* An administrator takes from the client what it has. */
void act_purge(Client *client) {
        uint32_t n_objects, n_sessions;

        rm_flush_space(world.rm, client->space, &n_objects, &n_sessions);
        model_purged(client);
        world_check();
}

/* The TPM is let go of, and opened again. */
static void reopen(void) {
        model_reopened();
        rm_reopened(world.rm);
        world_check();
}

/* The same, and meanwhile a neighbour has put an object, and a session, under the very handles of ours. */
static void meddle(void) {
        static const TPM2_HT TYPES[] = { TPM2_HT_TRANSIENT, TPM2_HT_LOADED_SESSION };
        const Message others[] = { cmd_create_primary(TPM2_RH_OWNER, 99), cmd_start_session(TPM2_SE_HMAC) };
        TPM2_HANDLE handle;

        model_reopened();
        for (unsigned i = 0; i < 2; i++)
                if (world_list(SIDE_REAL, TYPES[i], &handle, 1) > 0) {
                        Message flush = cmd_with_handle(TPM2_CC_FlushContext, handle);

                        world_direct(SIDE_REAL, &flush);
                        world_direct(SIDE_REAL, &others[i]);
                }
        rm_reopened(world.rm);
        world_check();
}

static const struct {
        const char *name;
        RmChore chore;
        unsigned at_most;
        void (*before)(void);
} CHORES[] = {
        { "cleanup", RM_CHORE_CLEANUP, CHORES_MAX, NULL },
        { "save", RM_CHORE_SAVE, 1, NULL },
        { "renew", RM_CHORE_RENEW, 1, NULL },
        { "evict", RM_CHORE_EVICT, 1, NULL },
        { "reopen", RM_CHORE_DUE, CHORES_MAX, reopen },
        { "meddle", RM_CHORE_DUE, CHORES_MAX, meddle },
};
#define N_CHORES (sizeof(CHORES) / sizeof(CHORES[0]))

unsigned act_count(void) {
        return CLIENTS * N_ACTS + N_CHORES;
}

const char *act_name(unsigned act) {
        static char name[32];

        if (act >= CLIENTS * N_ACTS)
                return CHORES[act - CLIENTS * N_ACTS].name;
        snprintf(name, sizeof(name), "%c.%s", 'A' + (char)(act / N_ACTS), ACTS[act % N_ACTS].name);
        return name;
}

unsigned act_kind(unsigned act) {
        return act < CLIENTS * N_ACTS ? act % N_ACTS : act;
}

/* The timer has come as well, after which what was refused is tried again. */
static void chore(unsigned i) {
        bool done;

        if (CHORES[i].before)
                CHORES[i].before();
        rm_retry(world.rm);
        done = world_chore(RM_CHORE_DUE, CHORES_MAX) && world_chore(CHORES[i].chore, CHORES[i].at_most);

        if (CHORES[i].chore == RM_CHORE_CLEANUP && done && !world.struck && !world.model.down && !world_failed())
                oracle_judge_rest();
}

static bool command(Client *client, const Act *act) {
        static Exchange x;
        Message reply;

        x.client = client;
        x.effect = act->effect;
        x.compare = act->compare;
        x.foreign = false;
        x.hopeless = client->refused && state_is_hopeless(client);
        x.thing = x.second = NULL;
        x.saved = NULL;
        if (!act->build(&x))
                return false;
        reply = world_command(client, &x.commands[SIDE_REAL]);
        if (!world_failed())
                oracle_judge(&x, &reply);
        return true;
}

bool act_run(Step step) {
        Client *client = &world.model.clients[step.act / N_ACTS];
        const Act *act = &ACTS[step.act % N_ACTS];
        const RmCounters *counters = rm_counters(world.rm);

        world.step = step;
        world.n_sent = 0;
        world.n_flushed = counters->abandoned_flushed + counters->client_saved_flushed;
        world.struck = world.struck_own = world.own_sent = world.lost = false;
        if (step.act >= CLIENTS * N_ACTS)
                chore(step.act - CLIENTS * N_ACTS);
        else if (act->run)
                act->run(client);
        else
                return command(client, act);
        return true;
}
