/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef SIM_PROGRAM_OPS_H
#define SIM_PROGRAM_OPS_H

#include "program-draft.h"

/* One kind of step. @make drafts a command, or returns false when the client has not what it takes. */
typedef struct ProgramOp {
        const char *what;
        unsigned weight;
        TPM2_CC code;
        bool (*make)(Draft *draft);
} ProgramOp;

extern const ProgramOp program_ops[];
extern const unsigned program_n_ops;

/* program-keys.c */
bool op_create_primary(Draft *draft);
bool op_create_parent(Draft *draft);
bool op_create(Draft *draft);
bool op_load(Draft *draft);
bool op_create_loaded(Draft *draft);
bool op_load_external(Draft *draft);
bool op_read_public(Draft *draft);
bool op_hmac(Draft *draft);
bool op_unseal(Draft *draft);
bool op_certify(Draft *draft);
bool op_persist(Draft *draft);
bool op_use_persistent(Draft *draft);

/* program-ops.c: PolicyAuthValue, as a digest */
void program_extend(uint8_t *digest, TPM2_CC code, const void *more, size_t n_more);

#endif
