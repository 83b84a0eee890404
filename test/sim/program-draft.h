/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef SIM_PROGRAM_DRAFT_H
#define SIM_PROGRAM_DRAFT_H

#include "program.h"

/*
 * A command in the making
 *
 * Handles first, then authorizations in the order of the handles, and parameters at any time; draft_end() puts it
 * together, with HMACs over the whole.
 */
typedef struct Draft {
        Program *program;
        ProgramStep *step;
        TPM2_HANDLE handles[3];
        uint8_t names[3 * NAME_SIZE];
        size_t n_names;
        bool wrong[3];                      /* the secret of authorization i */
        uint8_t bytes[PROGRAM_CONTEXT_MAX]; /* of the parameters, of which a context is the largest */
        TpmWriter parameters;
} Draft;

#define NOTHING UINT32_MAX

void draft_begin(Draft *draft, Program *program, const char *what, TPM2_CC code);
void draft_value(Draft *draft, TPM2_HANDLE handle); /* whose name is the handle itself */
void draft_object(Draft *draft, uint32_t object);   /* NOTHING: a handle that is likely nobody's */
void draft_session(Draft *draft, uint32_t session); /* NOTHING: likewise */
void draft_password(Draft *draft, uint8_t number);
void draft_authorize(Draft *draft, const ProgramObject *entity); /* NULL: with an empty secret; somehow or other */
void draft_audit(Draft *draft, uint32_t session);
Message draft_end(Draft *draft);

void draft_2b(Draft *draft, const void *bytes, size_t n);
size_t draft_open(Draft *draft); /* a TPM2B whose size draft_close() fills in */
void draft_close(Draft *draft, size_t at);

static inline void draft_u8(Draft *draft, uint8_t value) {
        tpm_write_u8(&draft->parameters, value);
}

static inline void draft_u16(Draft *draft, uint16_t value) {
        tpm_write_u16(&draft->parameters, value);
}

static inline void draft_u32(Draft *draft, uint32_t value) {
        tpm_write_u32(&draft->parameters, value);
}

/* Return: an object of one of the kinds (a set of bits), or now and then of another one; NOTHING: none. */
uint32_t program_pick(Program *program, unsigned kinds);
uint32_t program_pick_session(Program *program, unsigned types);
unsigned program_n_sessions(const Program *program);

#define KIND(kind) (1u << (kind))
#define KINDS_KEYS (KIND(THING_HMAC) | KIND(THING_EXTERNAL))
#define KINDS_LOADED (KINDS_KEYS | KIND(THING_PARENT) | KIND(THING_SEALED))
#define KINDS_SEQUENCES (KIND(THING_HASH_SEQUENCE) | KIND(THING_HMAC_SEQUENCE) | KIND(THING_EVENT_SEQUENCE))
#define KINDS_ALL (KINDS_LOADED | KINDS_SEQUENCES)

#define PROGRAM_TEXT "what the program says"

#endif
