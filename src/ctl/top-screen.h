/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef CTL_TOP_SCREEN_H
#define CTL_TOP_SCREEN_H

#include "ctl/ctl.h"
#include "ctl/top-model.h"

/* `tabrmctl top` on a terminal */

typedef struct TopOptions {
        double delay;   /* seconds */
        int iterations; /* 0: until it is ended */
} TopOptions;

int top_screen_run(Ctl *ctl, const TopOptions *options); /* Return: exit code */

bool top_look(Ctl *ctl, TopLook *ret_look, GError **error); /* top.c */

#endif
