/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef CTL_COLUMNS_H
#define CTL_COLUMNS_H

#include <stdbool.h>
#include <stddef.h>

/*
 * Columns of a table, and what becomes of them where there is not room for all
 */
typedef struct Column {
        const char *title;
        bool right; /* aligned */
        int least;  /* width to which it may be shortened; 0: it may not */
        int rank;   /* where shortening is not enough, those of the largest rank are left out first */
} Column;

/*
 * @widths: as wide as the contents are, 0 for those that are not wanted; what each gets, 0 for those that are left out.
 * @room: 0: as much as they want.
 * @gap: between two columns
 */
void columns_fit(const Column *columns, size_t n, int room, int gap, int *widths);

int columns_of_terminal(int fd); /* 0: it is none */

char *columns_cell(const Column *column, const char *text, int width); /* cut or padded to the width; to be freed */

#endif
