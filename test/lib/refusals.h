/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef TEST_REFUSALS_H
#define TEST_REFUSALS_H

#include "resmgr/resmgr.h"
#include "test/lib/tpm-commands.h"

/*
 * Handles that the TPM refused to save or flush
 *
 * The resource manager tries these again a little later. Until then they may be loaded though the reserve leaves no
 * room for them. The
 * list is made from the commands and answers that pass between the resource manager and the TPM: it does not trust the
 * tables.
 */
typedef struct Refusals {
        TPM2_HANDLE handles[256];
        unsigned n;
} Refusals;

/* The TPM answered so. A handle that it flushed, saved or gave out anew is not refused any more. */
void refusals_note_answer(Refusals *refusals, const Rm *rm, const uint8_t *command, size_t n_command,
                          const Message *answer);

/* This was made up in place of the TPM's answer. */
void refusals_note_lie(Refusals *refusals, const uint8_t *command, size_t n_command, const Message *answer);

/* The upper byte of a session's handle is ignored, since saved sessions are listed without their kind. */
bool refusals_include(const Refusals *refusals, TPM2_HANDLE handle);

/* How many of these handles are not refused. */
unsigned refusals_count_others(const Refusals *refusals, const TPM2_HANDLE *handles, unsigned n);

#endif
