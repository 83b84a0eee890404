/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef CTL_FIELDS_H
#define CTL_FIELDS_H

#include "ctl/columns.h"

#include <glib.h>

/*
 * Fields of a list that the manager sends, a dictionary a{sv} in each row
 *
 * One table of them says what is printed and what can be sorted by; the help text is made of it, too.
 */
typedef enum FieldSort {
        FIELD_UNSORTED,
        FIELD_ASCENDS,
        FIELD_DESCENDS, /* the largest first */
} FieldSort;

typedef struct Field {
        const char *key;
        Column column;
        FieldSort sort;
        char *(*text)(GVariant *row, const char *key); /* to be freed */
} Field;

/* Texts of a field: what a number, a number that may not be known (0), a duration in us, a text and a uid look like */
char *field_number(GVariant *row, const char *key);
char *field_known(GVariant *row, const char *key);
char *field_us(GVariant *row, const char *key);
char *field_text(GVariant *row, const char *key);
char *field_user(GVariant *row, const char *key);

/* The rows, of GVariant *, below a line of titles; to be freed. @room: columns there are; 0: as many as are needed. */
char *fields_text(const Field *fields, size_t n_fields, const GPtrArray *rows, int room);
void fields_print(const Field *fields, size_t n_fields, const GPtrArray *rows); /* ... which fits the terminal */

const Field *fields_find_sort(const Field *fields, size_t n_fields, const char *key); /* NULL: not to sort by */
char *fields_sort_keys(const Field *fields, size_t n_fields); /* "id (default), uid or pid"; to be freed */
void fields_sort(const Field *field, GPtrArray *rows);

#endif
