/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef CTL_TOP_LOOK_H
#define CTL_TOP_LOOK_H

#include "ctl/ctl.h"
#include "ctl/top-model.h"

/* Ask the daemon; what this user may not ask is left out. Return: false with @error: nobody answers. */
bool top_look(Ctl *ctl, TopLook *ret_look, GError **error);

#endif
