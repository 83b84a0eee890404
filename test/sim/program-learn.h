/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef SIM_PROGRAM_LEARN_H
#define SIM_PROGRAM_LEARN_H

#include "program-draft.h"

/* What a good answer tells a client, and must tell: for program-answer.c. */

/* The first contradiction is kept. */
void program_contradict(Program *program, const char *format, ...) __attribute__((format(printf, 2, 3)));

void program_check(Program *program, bool uncertain, const void *is, const void *must_be, size_t n, const char *what);
const uint8_t *program_read_2b(TpmReader *reader, size_t *ret_n);

/* What stands in the handle area of the command that is out; NULL: nothing that the client has. */
ProgramObject *program_object_at(Program *program, unsigned i);
ProgramSession *program_session_at(Program *program, unsigned i);

void program_forget_object(Program *program, uint32_t object); /* NOTHING: no matter */
void program_forget_session(Program *program, uint32_t session);

/* The command that is out succeeded. @handle: that it returned; @parameters: of the answer */
void program_learn(Program *program, TPM2_HANDLE handle, TpmReader *parameters);
void program_learn_flushed(Program *program, TPM2_HANDLE handle);

#endif
