/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef TEST_WORLDS_STATE_H
#define TEST_WORLDS_STATE_H

#include "test/worlds/world.h"

/*
 * The state of a world: all that decides what can follow
 *
 * This alone knows the private structures of the resource manager and of the fake TPM.
 */

/* A copy of a state, for going back to it, between two steps. */
size_t state_size(void);
void state_save(void *ret_state);
void state_restore(const void *state);

/*
 * Two states of one hash are the same to a client, and stay so. Ticks, counters, identities and free lists are left
 * out, and so is what tells client A from client B. What an object or a session contains counts only as far as it
 * differs from the reference. Of the times of uses, only the order in which contexts would be evicted counts, and of
 * two that are alike either may be the first: any other victim is as right as the one that is chosen. World.exact keeps
 * these.
 */
uint64_t state_hash(void);

/* Objects and sessions of which it is not known whether they are in the TPM. */
unsigned state_n_unknown(void);

/* Whether there is a context from which the object that this thing is can be loaded as it is. */
bool state_has_context(const Thing *thing);

/* The client's last command ended with "no room", and no command came since: the same is not repaired again. */
bool state_is_hopeless(const Client *client);

/*
 * The object under a handle of the TPM that is shared, if whether it is still there is to be asked, since a command may
 * have flushed it. A refusal to that question takes it out: its handle could be another object's.
 *
 * Return: NULL when there is none.
 */
Thing *state_probed(TPM2_HANDLE handle);

#endif
