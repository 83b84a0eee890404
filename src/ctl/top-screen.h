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

#define TOP_DELAY_WRONG "a delay is from 0.1 to 3600 s"

static inline bool top_delay_is_good(double delay) {
        return delay >= 0.1 && delay <= 3600;
}

int top_screen_run(Ctl *ctl, const TopOptions *options); /* Return: exit code */

bool top_look(Ctl *ctl, TopLook *ret_look, GError **error); /* top.c */

#endif
