/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef TPM_COMMAND_TABLE_H
#define TPM_COMMAND_TABLE_H

#include "tpm/reader.h"

#include <tss2/tss2_tpm2_types.h>

/*
 * What each command does to handles, by its attributes as the TPM lists them (TPMA_CC, Part 2, section 8.9), and the
 * few exceptions that the attributes do not tell.
 */
#define TPM_COMMANDS_MAX 512

typedef enum TpmCommandKind {
        TPM_COMMAND_PLAIN,
        TPM_COMMAND_CONTEXT_LOAD,       /* a context in the parameters; its handle tells what is loaded */
        TPM_COMMAND_CONTEXT_SAVE,       /* unloads sessions, but not objects */
        TPM_COMMAND_FLUSH_CONTEXT,      /* its handle is a parameter */
        TPM_COMMAND_GET_CAPABILITY,     /* lists handles */
        TPM_COMMAND_START_AUTH_SESSION, /* the handle returned is a session's */
        TPM_COMMAND_START_SEQUENCE,     /* the object returned changes with every use */
        TPM_COMMAND_STARTUP,            /* unloads everything */
        TPM_COMMAND_SHUTDOWN,           /* what follows it may undo it */
        TPM_COMMAND_HIERARCHY_CONTROL,  /* flushes the objects of the hierarchy that it disables */
        TPM_COMMAND_SET_AUDIT,          /* says which commands are audited */
        TPM_COMMAND_RECONFIGURE,        /* changes what is fixed otherwise */
} TpmCommandKind;

typedef struct TpmCommandInfo {
        uint32_t attributes;    /* TPMA_CC */
        TPM2_HANDLE flushes[2]; /* hierarchies whose objects it flushes */
        uint8_t kind;           /* TpmCommandKind */
        bool takes_long;        /* it makes a key, or tests the TPM: seconds, or minutes */
        uint8_t extra;          /* object slots it was seen to need beyond what its attributes say */
        uint16_t n_uses;        /* since that was learned, or tried again */
        uint16_t n_trust;       /* ... after which it is tried again; 0: never learned */
} TpmCommandInfo;

typedef struct TpmCommandTable {
        uint32_t n_commands;
        TpmCommandInfo commands[TPM_COMMANDS_MAX]; /* ascending by command code */
} TpmCommandTable;

/* The command code of TPMA_CC attributes: index and vendor bit. */
static inline TPM2_CC tpm_command_code(uint32_t attributes) {
        return attributes & (TPMA_CC_COMMANDINDEX_MASK | TPMA_CC_V);
}

/* Return: NULL when the TPM does not list the code. */
TpmCommandInfo *tpm_command_table_find(TpmCommandTable *table, TPM2_CC code);

/*
 * Add the n entries of a TPML_CCA, which GetCapability(TPM_CAP_COMMANDS) gives, in whatever order. Return: the code to
 * go on with, or 0: nothing was added.
 */
TPM2_CC tpm_command_table_add(TpmCommandTable *table, TpmReader *list, uint32_t n);

#endif
