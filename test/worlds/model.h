/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef TEST_WORLDS_MODEL_H
#define TEST_WORLDS_MODEL_H

#include "test/worlds/world.h"

/* What clients have, and what becomes of it without their doing */

/* The client does not have it any more, and neither has the reference. */
void model_forget(Thing *thing);
void model_forget_saved(Saved *saved);

/* @object: else it is a session */
void model_each(void (*function)(Thing *thing, bool object));
void model_doubt_object(Thing *thing, bool object);

/*
 * After a Clear or a reset: what the reference lost is gone, unless it is unsure whether the TPM that is shared lost
 * it, too.
 */
void model_settle(void);

/* The session that a lost command of the resource manager's own names may be gone. */
void model_lost(const uint8_t *bytes, size_t n_bytes);

/* The TPM refused a command of the resource manager's own. */
void model_refused(const uint8_t *bytes, size_t n_bytes);

/* The TPM was reset: all may be gone. */
void model_reset(void);

/* The TPM was let go of and opened again: whatever is in it may be gone, but not what is in a saved context. */
void model_reopened(void);

/* The resource manager says that it flushed saved sessions to make room. */
void model_flushed(void);

void model_left(Client *client);
void model_purged(Client *client);

#endif
