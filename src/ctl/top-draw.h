/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef CTL_TOP_DRAW_H
#define CTL_TOP_DRAW_H

#include "ctl/ctl.h"
#include "ctl/top-model.h"

/* The screen of `tabrmctl top`, and what is drawn on it */

typedef enum ScreenMode {
        SCREEN_TABLE,
        SCREEN_HELP,
        SCREEN_FLUSH, /* a question: y or n */
        SCREEN_DELAY, /* a number is typed */
} ScreenMode;

typedef struct Screen {
        Ctl *ctl;
        TopModel model;
        ScreenMode mode;
        double delay;
        bool paused;
        bool ended;
        bool colours;
        uint64_t selected; /* key of a row; 0: none */
        guint first;       /* row that is shown at the top */
        guint n_shown;     /* rows that have room */
        char *message;     /* below all; NULL: hints */
        bool gone;         /* the daemon does not answer, as the message says */
        char typed[16];
} Screen;

void screen_draw(Screen *screen);

/* Where the row that is selected stands; 0: none is. */
guint screen_selected_index(const Screen *screen);

#endif
