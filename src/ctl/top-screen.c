/* SPDX-License-Identifier: BSD-2-Clause */
#include "ctl/top-screen.h"

#include "ctl/top-draw.h"
#include "ctl/top-look.h"

#include <inttypes.h>
#include <ncurses.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

static void screen_say(Screen *screen, char *message) {
        g_free(screen->message);
        screen->message = message;
}

static void select_row(Screen *screen, int by) {
        int n = (int)screen->model.rows->len, at = (int)screen_selected_index(screen) + by;

        if (n == 0)
                return;
        /* The first step selects the first one. */
        if (screen->selected == 0 && by > 0)
                at = by == 1 ? (int)screen->first : at;
        at = CLAMP(at, 0, n - 1);
        screen->selected = ((const TopRow *)screen->model.rows->pdata[at])->key;
}

static void sort_by(Screen *screen, int column) {
        screen->model.sort = (column + TOP_COLUMNS) % TOP_COLUMNS;
        top_model_sort(&screen->model);
}

/* The next column that is shown. */
static void sort_beside(Screen *screen, int step) {
        int widths[TOP_COLUMNS], column = screen->model.sort;

        top_layout(&screen->model, COLS, widths);
        for (int n = 0; n < TOP_COLUMNS; n++) {
                column = (column + step + TOP_COLUMNS) % TOP_COLUMNS;
                if (widths[column] > 0)
                        break;
        }
        sort_by(screen, column);
}

/* The same once more: not at all. */
static void fold_by(Screen *screen, TopFold fold) {
        screen->model.fold = screen->model.fold == fold ? TOP_FOLD_NOTHING : fold;
        screen->selected = 0;
        screen->first = 0;
        top_model_build(&screen->model);
}

static void key_selects(Screen *screen, int key) {
        switch (key) {
        case KEY_UP:
                select_row(screen, -1);
                return;
        case KEY_DOWN:
                select_row(screen, 1);
                return;
        case KEY_PPAGE:
                select_row(screen, -(int)MAX(screen->n_shown, 1));
                return;
        case KEY_NPAGE:
                select_row(screen, (int)MAX(screen->n_shown, 1));
                return;
        case KEY_HOME:
                select_row(screen, -(int)screen->model.rows->len);
                return;
        case KEY_END:
                select_row(screen, (int)screen->model.rows->len);
                return;
        default:
                return;
        }
}

static void key_in_table(Screen *screen, int key) {
        switch (key) {
        case 'q':
                screen->ended = true;
                return;
        case 'h':
        case '?':
                screen->mode = SCREEN_HELP;
                return;
        case 'p':
        case ' ':
                screen->paused = !screen->paused;
                return;
        case 'r':
                screen->model.reversed = !screen->model.reversed;
                top_model_sort(&screen->model);
                return;
        case 'd':
                screen->mode = SCREEN_DELAY;
                screen->typed[0] = '\0';
                return;
        case 'f':
                if (screen->selected && !(screen->selected & TOP_KEY_OF_PROGRAM))
                        screen->mode = SCREEN_FLUSH;
                else
                        screen_say(screen, g_strdup("no client is selected"));
                return;
        case 'U':
                fold_by(screen, TOP_FOLD_USERS);
                return;
        case 'P':
                fold_by(screen, TOP_FOLD_PROGRAMS);
                return;
        case '<':
        case KEY_LEFT:
                sort_beside(screen, -1);
                return;
        case '>':
        case KEY_RIGHT:
                sort_beside(screen, 1);
                return;
        default:
                key_selects(screen, key);
                break;
        }
        for (int i = 0; i < TOP_COLUMNS; i++)
                if (key == top_columns[i].key)
                        sort_by(screen, i);
}

static void flush_selected(Screen *screen) {
        g_autoptr(GVariant) reply = NULL;
        g_autoptr(GError) error = NULL;
        guint32 n_objects, n_sessions;
        int code;

        reply = ctl_call(screen->ctl, "FlushClient", g_variant_new("(t)", screen->selected), "(uu)", NULL, &error);
        if (!reply) {
                screen_say(screen, ctl_describe(screen->ctl, error, &code));
                return;
        }
        g_variant_get(reply, "(uu)", &n_objects, &n_sessions);
        screen_say(screen, g_strdup_printf("flushed: %u objects, %u sessions", n_objects, n_sessions));
}

static void key_in_delay(Screen *screen, int key) {
        size_t n = strlen(screen->typed);
        double delay;

        if ((key == KEY_BACKSPACE || key == 127 || key == '\b') && n > 0) {
                screen->typed[n - 1] = '\0';
        } else if (((key >= '0' && key <= '9') || key == '.') && n < sizeof(screen->typed) - 1) {
                screen->typed[n] = (char)key;
                screen->typed[n + 1] = '\0';
        } else if (key == '\n' || key == '\r' || key == KEY_ENTER) {
                delay = g_ascii_strtod(screen->typed, NULL);
                if (top_delay_is_good(delay))
                        screen->delay = delay;
                else
                        screen_say(screen, g_strdup(TOP_DELAY_WRONG));
                screen->mode = SCREEN_TABLE;
        } else {
                screen->mode = SCREEN_TABLE;
        }
}

static void on_key(Screen *screen, int key) {
        if (key == KEY_RESIZE)
                return;
        if (!screen->gone)
                screen_say(screen, NULL);
        switch (screen->mode) {
        case SCREEN_TABLE:
                key_in_table(screen, key);
                break;
        case SCREEN_HELP:
                screen->mode = SCREEN_TABLE;
                break;
        case SCREEN_FLUSH:
                if (key == 'y')
                        flush_selected(screen);
                screen->mode = SCREEN_TABLE;
                break;
        case SCREEN_DELAY:
                key_in_delay(screen, key);
                break;
        }
}

static void screen_look(Screen *screen) {
        g_autoptr(GError) error = NULL;
        TopLook now;
        int code;

        if (top_look(screen->ctl, &now, &error)) {
                if (screen->gone)
                        screen_say(screen, NULL);
                screen->gone = false;
                top_model_update(&screen->model, now);
                return;
        }
        screen_say(screen, ctl_describe(screen->ctl, error, &code));
        screen->gone = true;
}

static bool screen_begin(Screen *screen) {
        SCREEN *terminal = newterm(NULL, stdout, stdin);

        if (!terminal) {
                g_printerr("tabrmctl: this terminal is not known (TERM); --batch does without\n");
                return false;
        }
        (void)cbreak();
        (void)noecho();
        (void)keypad(stdscr, TRUE);
        (void)curs_set(0);
        (void)set_escdelay(25);
        screen->colours = has_colors() && !getenv("NO_COLOR");
        if (screen->colours) {
                (void)start_color();
                (void)use_default_colors();
                (void)init_pair(COLOUR_GREEN, COLOR_GREEN, -1);
                (void)init_pair(COLOUR_YELLOW, COLOR_YELLOW, -1);
                (void)init_pair(COLOUR_RED, COLOR_RED, -1);
        }
        return true;
}

int top_screen_run(Ctl *ctl, const TopOptions *options) {
        Screen screen = { .ctl = ctl, .delay = options->delay };
        gint64 next = g_get_monotonic_time() + (gint64)(screen.delay * G_USEC_PER_SEC);
        g_autoptr(GError) error = NULL;
        TopLook first;
        int n = 1;

        if (!top_look(ctl, &first, &error))
                return ctl_fail(ctl, error);
        top_model_init(&screen.model);
        top_model_update(&screen.model, first);
        if (!screen_begin(&screen)) {
                top_model_clear(&screen.model);
                return EX_USAGE;
        }
        while (!screen.ended) {
                bool still = screen.paused || screen.mode == SCREEN_FLUSH;
                gint64 now = g_get_monotonic_time();
                int key;

                if (now >= next && !still) {
                        screen_look(&screen);
                        next = now + (gint64)(screen.delay * G_USEC_PER_SEC);
                        n++;
                }
                screen_draw(&screen);
                if (options->count > 0 && n >= options->count)
                        break;
                timeout((int)CLAMP((next - g_get_monotonic_time()) / 1000, still ? 500 : 0, 1000));
                key = getch();
                if (key != ERR)
                        on_key(&screen, key);
        }
        (void)endwin();
        g_free(screen.message);
        top_model_clear(&screen.model);
        return EXIT_SUCCESS;
}
