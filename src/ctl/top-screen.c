/* SPDX-License-Identifier: BSD-2-Clause */
#include "ctl/top-screen.h"

#include <inttypes.h>
#include <ncurses.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

#define HINTS "q quit  h help  <> sort  r reverse  p pause  d delay  f flush"

typedef enum Mode {
        MODE_TABLE,
        MODE_HELP,
        MODE_FLUSH, /* a question: y or n */
        MODE_DELAY, /* a number is typed */
} Mode;

typedef struct Screen {
        Ctl *ctl;
        TopModel model;
        Mode mode;
        double delay;
        bool paused;
        bool ended;
        bool colours;
        uint64_t selected; /* id of a client; 0: none */
        guint first;       /* row that is shown at the top */
        guint n_shown;     /* rows that have room */
        char *message;     /* below all; NULL: hints */
        bool gone;         /* the daemon does not answer, as the message says */
        char typed[16];
} Screen;

static void screen_say(Screen *screen, char *message) {
        g_free(screen->message);
        screen->message = message;
}

/* Drawing */

static chtype attribute_of(const Screen *screen, Colour colour) {
        if (colour == COLOUR_NONE)
                return A_NORMAL;
        if (colour == COLOUR_BOLD)
                return A_BOLD;
        return screen->colours ? (chtype)COLOR_PAIR(colour) : A_BOLD;
}

static void draw_line(const Screen *screen, int y, const TopLine *line, chtype more) {
        int left = COLS;

        if (y >= LINES)
                return;
        move(y, 0);
        for (guint i = 0; i < line->pieces->len && left > 0; i++) {
                const TopPiece *piece = &g_array_index(line->pieces, TopPiece, i);
                int n = (int)g_utf8_strlen(piece->text, -1);
                g_autofree char *cut = g_utf8_substring(piece->text, 0, MIN(n, left));

                attrset(more ? more : attribute_of(screen, piece->colour));
                addstr(cut);
                left -= n;
        }
        if (more)
                while (left-- > 0)
                        addch(' ');
        attrset(A_NORMAL);
}

static void draw_text(int y, chtype attribute, const char *text) {
        int n = (int)g_utf8_strlen(text, -1);
        g_autofree char *cut = g_utf8_substring(text, 0, MIN(n, MAX(COLS - 1, 0)));

        if (y < 0 || y >= LINES)
                return;
        attrset(attribute);
        mvaddstr(y, 0, cut);
        attrset(A_NORMAL);
}

static void draw_bottom(const Screen *screen) {
        const TopRow *row = NULL;
        g_autofree char *text = NULL;
        int y = LINES - 1;

        for (guint i = 0; i < screen->model.rows->len; i++) {
                const TopRow *other = screen->model.rows->pdata[i];

                if (other->id == screen->selected)
                        row = other;
        }
        if (screen->mode == MODE_FLUSH && row) {
                text = g_strdup_printf("flush all that client %" PRIu64 " (%s) has? y/n", row->id, row->name);
                draw_text(y, A_BOLD, text);
        } else if (screen->mode == MODE_DELAY) {
                text = g_strdup_printf("seconds between two looks (now %g): %s", screen->delay, screen->typed);
                draw_text(y, A_BOLD, text);
        } else if (screen->message) {
                draw_text(y, attribute_of(screen, screen->gone ? COLOUR_RED : COLOUR_BOLD), screen->message);
        } else {
                draw_text(y, screen->paused ? A_BOLD : A_DIM, screen->paused ? "paused; p goes on" : HINTS);
        }
}

static void draw_help(void) {
        static const char *const LINES_OF_HELP[] = {
                "tabrmctl top",
                "",
                "q             quit",
                "up, down, page up, page down, home, end",
                "              select a client",
                "< >           sort by the column to the left, to the right",
                "i u n m       sort by id, user, pid, command",
                "o s c t       ... objects, sessions, commands, TPM commands a second",
                "b w e         ... share of the time, wait, failed commands",
                "r             the other way round",
                "p, space      pause, and go on",
                "d             change the time between two looks",
                "f             flush what the client has that is selected; for root",
                "",
                "WAIT is the mean of the commands since the last look, BUSY% the",
                "TPM's time for the client, and FAILED counts from its beginning.",
                "",
                "any key goes back",
        };

        for (int i = 0; i < (int)G_N_ELEMENTS(LINES_OF_HELP); i++)
                draw_text(i, i == 0 ? A_BOLD : A_NORMAL, LINES_OF_HELP[i]);
}

static guint selected_index(const Screen *screen) {
        for (guint i = 0; i < screen->model.rows->len; i++)
                if (((const TopRow *)screen->model.rows->pdata[i])->id == screen->selected)
                        return i;
        return 0;
}

/* The row that is selected stays in sight. */
static void scroll_to_selected(Screen *screen) {
        guint n = screen->model.rows->len, at = selected_index(screen);

        if (screen->selected && at < screen->first)
                screen->first = at;
        if (screen->selected && screen->n_shown > 0 && at >= screen->first + screen->n_shown)
                screen->first = at - screen->n_shown + 1;
        if (screen->first + screen->n_shown > n)
                screen->first = n > screen->n_shown ? n - screen->n_shown : 0;
}

static void draw_rows(Screen *screen, int y) {
        TopModel *model = &screen->model;
        int widths[TOP_COLUMNS];
        TopLine *line;

        top_layout(model, COLS, widths);
        line = top_titles(model, widths);
        draw_line(screen, y, line, A_REVERSE);
        top_line_free(line);
        screen->n_shown = (guint)MAX(LINES - 1 - (y + 1), 0);
        scroll_to_selected(screen);
        for (guint i = 0; i < screen->n_shown && screen->first + i < model->rows->len; i++) {
                const TopRow *row = model->rows->pdata[screen->first + i];

                line = top_row(row, widths);
                draw_line(screen, y + 1 + (int)i, line, row->id == screen->selected ? A_STANDOUT : 0);
                top_line_free(line);
        }
}

#define TABLE_LINES 4 /* at least: titles, two rows, the bottom */

static void screen_draw(Screen *screen) {
        erase();
        if (screen->mode == MODE_HELP) {
                draw_help();
        } else if (screen->model.now.clients) {
                g_autoptr(GPtrArray) header = top_header(&screen->model);
                int n = MAX(MIN((int)header->len, LINES - TABLE_LINES), 0);

                for (int i = 0; i < n; i++)
                        draw_line(screen, i, header->pdata[i], 0);
                draw_rows(screen, n + (LINES > n + TABLE_LINES && n > 0));
        }
        if (screen->mode != MODE_HELP)
                draw_bottom(screen);
        refresh();
}

/* Keys */

static void select_row(Screen *screen, int by) {
        int n = (int)screen->model.rows->len, at = (int)selected_index(screen) + by;

        if (n == 0)
                return;
        /* The first step selects the first one. */
        if (screen->selected == 0 && by > 0)
                at = by == 1 ? (int)screen->first : at;
        at = CLAMP(at, 0, n - 1);
        screen->selected = ((const TopRow *)screen->model.rows->pdata[at])->id;
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

static void key_in_table(Screen *screen, int key) {
        switch (key) {
        case 'q':
                screen->ended = true;
                return;
        case 'h':
        case '?':
                screen->mode = MODE_HELP;
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
                screen->mode = MODE_DELAY;
                screen->typed[0] = '\0';
                return;
        case 'f':
                if (screen->selected)
                        screen->mode = MODE_FLUSH;
                else
                        screen_say(screen, g_strdup("no client is selected"));
                return;
        case '<':
        case KEY_LEFT:
                sort_beside(screen, -1);
                return;
        case '>':
        case KEY_RIGHT:
                sort_beside(screen, 1);
                return;
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

        reply = ctl_call(screen->ctl, "FlushClient", g_variant_new("(t)", screen->selected), "(uu)", NULL, &error);
        if (!reply) {
                g_dbus_error_strip_remote_error(error);
                screen_say(screen, format_text(error->message));
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
                screen->mode = MODE_TABLE;
        } else {
                screen->mode = MODE_TABLE;
        }
}

static void on_key(Screen *screen, int key) {
        if (key == KEY_RESIZE)
                return;
        if (!screen->gone)
                screen_say(screen, NULL);
        switch (screen->mode) {
        case MODE_TABLE:
                key_in_table(screen, key);
                break;
        case MODE_HELP:
                screen->mode = MODE_TABLE;
                break;
        case MODE_FLUSH:
                if (key == 'y')
                        flush_selected(screen);
                screen->mode = MODE_TABLE;
                break;
        case MODE_DELAY:
                key_in_delay(screen, key);
                break;
        }
}

static void screen_look(Screen *screen) {
        g_autoptr(GError) error = NULL;
        g_autofree char *reason = NULL;
        TopLook now;

        if (top_look(screen->ctl, &now, &error)) {
                if (screen->gone)
                        screen_say(screen, NULL);
                screen->gone = false;
                top_model_update(&screen->model, now);
                return;
        }
        g_dbus_error_strip_remote_error(error);
        reason = format_text(error->message);
        screen_say(screen, g_strdup_printf("the daemon does not answer: %s", reason));
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
        gint64 next = 0;
        int n = 0;

        if (!screen_begin(&screen))
                return EX_USAGE;
        top_model_init(&screen.model);
        while (!screen.ended) {
                bool still = screen.paused || screen.mode == MODE_FLUSH;
                gint64 now = g_get_monotonic_time();
                int key;

                if (now >= next && !still) {
                        screen_look(&screen);
                        next = now + (gint64)(screen.delay * G_USEC_PER_SEC);
                        n++;
                }
                screen_draw(&screen);
                if (options->iterations > 0 && n >= options->iterations)
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
