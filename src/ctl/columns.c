/* SPDX-License-Identifier: BSD-2-Clause */
#include "ctl/columns.h"

#include <glib.h>
#include <sys/ioctl.h>

static int least_width(const Column *column, int width) {
        return column->least > 0 ? MIN(column->least, width) : width;
}

/* The one that is left out next: of the largest rank, the one at the right. */
static size_t find_last(const Column *columns, size_t n, const int *widths) {
        size_t found = n;

        for (size_t i = 0; i < n; i++)
                if (widths[i] > 0 && (found == n || columns[i].rank >= columns[found].rank))
                        found = i;
        return found;
}

void columns_fit(const Column *columns, size_t n, int room, int gap, int *widths) {
        int needed = -gap;

        if (room <= 0)
                return;
        for (size_t i = 0; i < n; i++)
                if (widths[i] > 0)
                        needed += least_width(&columns[i], widths[i]) + gap;
        for (size_t last; needed > room && (last = find_last(columns, n, widths)) < n;) {
                needed -= least_width(&columns[last], widths[last]) + gap;
                widths[last] = 0;
        }
        /* What is left goes to those that can be shortened, from the right: they are texts, the last one a sentence. */
        for (size_t i = n; i > 0; i--) {
                int least = least_width(&columns[i - 1], widths[i - 1]);
                int more = MIN(widths[i - 1] - least, room - needed);

                widths[i - 1] = least + MAX(more, 0);
                needed += MAX(more, 0);
        }
}

int columns_of_terminal(int fd) {
        struct winsize size = { 0 };

        return ioctl(fd, TIOCGWINSZ, &size) == 0 ? size.ws_col : 0;
}

char *columns_cell(const Column *column, const char *text, int width) {
        int n = (int)g_utf8_strlen(text, -1);
        g_autofree char *cut = n > width ? g_utf8_substring(text, 0, width) : g_strdup(text);
        int pad = n > width ? 0 : width - n;

        return g_strdup_printf("%*s%s%*s", column->right ? pad : 0, "", cut, column->right ? 0 : pad, "");
}
