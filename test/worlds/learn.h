/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef TEST_WORLDS_LEARN_H
#define TEST_WORLDS_LEARN_H

#include "test/worlds/act.h"

/* What a client knows after an answer */

bool learn_makes_object(const Exchange *x);
bool learn_makes_session(const Exchange *x);

/* Whether a fault may have changed or flushed what the command names or loads. */
bool learn_is_unsure(const Exchange *x);

/* The command succeeded. Fails the world when the answer is another than the reference's. */
void learn_success(Exchange *x, const Message replies[SIDES]);

/* What the command names, and was unsure, is gone. */
void learn_gone(Exchange *x);

/* The command's own answer was lost: nobody knows whether it was done. */
void learn_lost(Exchange *x);

#endif
