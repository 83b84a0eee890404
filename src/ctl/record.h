/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef CTL_RECORD_H
#define CTL_RECORD_H

#include "tpm/command.h"

#include <glib.h>

/* A record of a trace (manager/record.h), taken apart, and what it looks like. */
typedef struct Record {
        GVariant *variant; /* the bytes are its */
        bool tpm;          /* a command of the TPM, not of a client */
        guint64 when_us, n_dropped, client;
        guint32 uid, pid;
        const char *name;
        guint8 locality;
        guint64 wait_us, took_us;
        guint32 n_transmits;
        const uint8_t *command, *response;
        gsize n_command, n_response; /* the latter 0: no answer came */

        TpmCommand parsed;
        unsigned n_handles;
        TPM2_HANDLE handles[TPM_HANDLES_MAX + 1]; /* that of FlushContext, too */
        bool answered;                            /* @answer is meaningful */
        TpmResponse answer;
} Record;

/* Return: false: it is none. @bytes stay where they are as long as the record is used. */
bool record_parse(TpmCommandTable *table, const uint8_t *bytes, size_t n_bytes, Record *ret_record);
void record_clear(Record *record);

G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Record, record_clear)

const char *record_answer_text(const Record *record); /* until the next call */

/* Columns of the text and their widths; 0: left out. */
#define RECORD_COLUMNS 12

typedef struct RecordLayout {
        int widths[RECORD_COLUMNS];
        bool whole; /* the last one is as wide as its contents */
} RecordLayout;

RecordLayout record_layout(int room); /* for a terminal of so many columns; 0: for whatever reads it */

void record_text_head(const RecordLayout *layout, GString *to);
void record_text(const Record *record, const RecordLayout *layout, bool dump, GString *to);
void record_json(const Record *record, bool dump, GString *to);

#endif
