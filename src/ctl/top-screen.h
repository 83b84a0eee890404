/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef CTL_TOP_SCREEN_H
#define CTL_TOP_SCREEN_H

#include "ctl/ctl.h"

/* `tabrmctl top` on a terminal */

typedef struct TopOptions {
        double delay; /* seconds */
        int count;    /* looks; 0: until it is ended */
} TopOptions;

/* Seconds between two looks */
#define TOP_DELAY 1
#define TOP_DELAY_MIN 0.1
#define TOP_DELAY_MAX 3600
#define TOP_DELAY_WRONG "a delay is from " G_STRINGIFY(TOP_DELAY_MIN) " to " G_STRINGIFY(TOP_DELAY_MAX) " s"

static inline bool top_delay_is_good(double delay) {
        return delay >= TOP_DELAY_MIN && delay <= TOP_DELAY_MAX;
}

int top_screen_run(Ctl *ctl, const TopOptions *options); /* Return: exit code */

#endif
