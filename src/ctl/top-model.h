/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef CTL_TOP_MODEL_H
#define CTL_TOP_MODEL_H

#include "ctl/columns.h"
#include "ctl/format.h"

/*
 * What `tabrmctl top` shows, without a terminal: two looks at the daemon make rates, rates make lines of coloured text.
 */

/* One look. All is 0 where the daemon did not say it. */
typedef struct TopLook {
        gint64 at;          /* us since 1970 */
        GVariant *status;   /* a{sv}: all properties; NULL: not told to this user */
        GVariant *clients;  /* aa{sv} */
        GVariant *programs; /* aa{sv}; NULL: the daemon does not tell */
} TopLook;

/* What was done between two looks */
typedef struct TopWork {
        uint64_t n_commands, n_transmits, n_failed;
        uint64_t wait_us, busy_us;
} TopWork;

#define TOP_KEY_OF_PROGRAM (UINT64_C(1) << 63)

/* A client; or clients of one program that have left since the last look; or all of a program, or of a user. */
typedef struct TopRow {
        uint64_t key; /* the id of a client; TOP_KEY_OF_PROGRAM and a hash */
        uint64_t id;  /* 0: it is no client */
        bool dim;     /* it has left */
        TopWork work;
        uint32_t uid, pid;
        char *user, *name, *unit, *state;
        const char *door;
        uint64_t n_objects, n_sessions, n_failed;
        uint64_t n_clients, n_gone;    /* of a program or user */
        double commands, tpm_commands; /* per second */
        double busy;                   /* share of the time, 0 to 1 */
        uint64_t mean_wait_us;         /* of the commands since the last look */
} TopRow;

typedef struct TopColumn {
        Column column;
        char key;       /* that sorts by it */
        bool descends;  /* the largest first */
        int width_most; /* where there is room */
} TopColumn;

enum {
        TOP_ID,
        TOP_USER,
        TOP_PID,
        TOP_NAME,
        TOP_UNIT,
        TOP_DOOR,
        TOP_OBJECTS,
        TOP_SESSIONS,
        TOP_COMMANDS,
        TOP_TPM,
        TOP_BUSY,
        TOP_WAIT,
        TOP_FAILED,
        TOP_STATE,
        TOP_COLUMNS,
};

extern const TopColumn top_columns[TOP_COLUMNS];

typedef enum TopFold {
        TOP_FOLD_NOTHING,
        TOP_FOLD_PROGRAMS,
        TOP_FOLD_USERS,
} TopFold;

typedef struct TopModel {
        TopFold fold;
        TopLook before, now; /* before.clients is NULL: there was one look only */
        GPtrArray *rows;     /* of TopRow */
        int sort;            /* column */
        bool reversed;
} TopModel;

void top_model_init(TopModel *model);
void top_model_clear(TopModel *model);

/* The next look, which it takes. */
void top_model_update(TopModel *model, TopLook look);
void top_model_build(TopModel *model); /* the rows, when they are folded in another way */
void top_model_sort(TopModel *model);

char *top_cell(const TopRow *row, int column); /* as text, to be freed */

/* How much a number of a dictionary has grown; what is less than before was begun anew. @before may be NULL. */
uint64_t top_growth(GVariant *before, GVariant *now, const char *key);

/* top-lines.c */

/* A line: pieces of text, each with a colour. */
typedef struct TopPiece {
        char *text;
        Colour colour;
} TopPiece;

typedef struct TopLine {
        GArray *pieces; /* of TopPiece */
} TopLine;

GPtrArray *top_header(const TopModel *model); /* of TopLine */

/* Which columns are shown in that width, and how wide; 0: not shown. */
void top_layout(const TopModel *model, int width, int widths[TOP_COLUMNS]);
TopLine *top_titles(const TopModel *model, const int widths[TOP_COLUMNS]);
TopLine *top_row(const TopRow *row, const int widths[TOP_COLUMNS]);

char *top_line_text(const TopLine *line); /* plain */
void top_line_free(TopLine *line);

#endif
