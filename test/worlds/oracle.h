/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef TEST_WORLDS_ORACLE_H
#define TEST_WORLDS_ORACLE_H

#include "test/worlds/act.h"

/*
 * The oracle
 *
 * A client must be answered what the reference answers, by class: success, no room, "there is no such thing", or the
 * code itself. "No room" is right where the quota is used up. A client may be told an injected warning, other than one
 * that only asks for a repetition; then nothing was done for it. Where a fault made a thing unsure, success and "there
 * is no such thing" are both right, and the answer settles it.
 */
void oracle_judge(Exchange *x, const Message *reply);

/* Handles that GetCapability lists for a client. */
void oracle_judge_list(Client *client, TPM2_HT type, const Message *reply);

/* Everything that is due was done: the TPM holds what clients have, and the tables agree. */
void oracle_judge_rest(void);

#endif
