/* SPDX-License-Identifier: BSD-2-Clause */
#include "ctl/top-draw.h"

#include <inttypes.h>
#include <ncurses.h>

#define HINTS "q quit  h help  <> sort  r reverse  U P fold  p pause  d delay  f flush"

static chtype attribute_of(const Screen *screen, Colour colour) {
        if (colour == COLOUR_NONE)
                return A_NORMAL;
        if (colour == COLOUR_BOLD)
                return A_BOLD;
        if (colour == COLOUR_DIM)
                return A_DIM;
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

                if (other->key == screen->selected)
                        row = other;
        }
        if (screen->mode == SCREEN_FLUSH && row) {
                text = g_strdup_printf("flush all that client %" PRIu64 " (%s) has? y/n", row->id, row->name);
                draw_text(y, A_BOLD, text);
        } else if (screen->mode == SCREEN_DELAY) {
                text = g_strdup_printf("seconds between two looks (now %g): %s", screen->delay, screen->typed);
                draw_text(y, A_BOLD, text);
        } else if (screen->message) {
                draw_text(y, attribute_of(screen, screen->gone ? COLOUR_RED : COLOUR_BOLD), screen->message);
        } else if (screen->paused) {
                draw_text(y, A_BOLD, "paused; p goes on");
        } else if (screen->model.fold != TOP_FOLD_NOTHING) {
                draw_text(y, A_BOLD,
                          screen->model.fold == TOP_FOLD_USERS ? "folded by user; U unfolds"
                                                               : "folded by user and program; P unfolds");
        } else {
                draw_text(y, A_DIM, HINTS);
        }
}

static void draw_help(void) {
        static const char *const LINES_OF_HELP[] = {
                "tabrmctl top",
                "",
                "q             quit",
                "h, ?          this",
                "up, down, page up, page down, home, end",
                "              select a row",
                "<, >, left, right",
                "              sort by the column to the left, to the right",
                "i u n m y g   ... id, user, pid, command, unit, door",
                "o s c t       ... objects, sessions, commands, TPM commands a second",
                "b w e x       ... share of the time, wait, failed commands, state",
                "r             the other way round",
                "U, P          fold by user, by user and program; again: unfold",
                "p, space      pause, and go on",
                "d             change the time between two looks",
                "f             flush what the selected client has; for root",
                "",
                "WAIT is the mean of the commands since the last look, BUSY% the",
                "TPM's time for the client, and FAILED counts from its beginning.",
                "A dim row has clients of one program that have left since then.",
                "",
                "any key goes back",
        };

        for (int i = 0; i < (int)G_N_ELEMENTS(LINES_OF_HELP); i++)
                draw_text(i, i == 0 ? A_BOLD : A_NORMAL, LINES_OF_HELP[i]);
}

guint screen_selected_index(const Screen *screen) {
        for (guint i = 0; i < screen->model.rows->len; i++)
                if (((const TopRow *)screen->model.rows->pdata[i])->key == screen->selected)
                        return i;
        return 0;
}

/* The row that is selected stays in sight. */
static void scroll_to_selected(Screen *screen) {
        guint n = screen->model.rows->len, at = screen_selected_index(screen);

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
                draw_line(screen, y + 1 + (int)i, line, row->key == screen->selected ? A_STANDOUT : 0);
                top_line_free(line);
        }
}

#define TABLE_LINES 4 /* at least: titles, two rows, the bottom */

void screen_draw(Screen *screen) {
        erase();
        if (screen->mode == SCREEN_HELP) {
                draw_help();
        } else if (screen->model.now.clients) {
                g_autoptr(GPtrArray) header = top_header(&screen->model);
                int n = MAX(MIN((int)header->len, LINES - TABLE_LINES), 0);

                for (int i = 0; i < n; i++)
                        draw_line(screen, i, header->pdata[i], 0);
                draw_rows(screen, n + (LINES > n + TABLE_LINES && n > 0));
        }
        if (screen->mode != SCREEN_HELP)
                draw_bottom(screen);
        refresh();
}
