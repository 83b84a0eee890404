/* SPDX-License-Identifier: BSD-2-Clause */
#include "program-ops.h"

#include <string.h>

void program_init(Program *program, unsigned number, const ProgramLimits *limits) {
        memset(program, 0, sizeof(*program));
        program->number = number;
        program->limits = *limits;
}

void program_restart(Program *program) {
        memset(program->objects, 0, sizeof(program->objects));
        memset(program->sessions, 0, sizeof(program->sessions));
        program->must_start = false;
}

void program_doubt(Program *program) {
        for (unsigned i = 0; i < PROGRAM_OBJECTS; i++)
                program->objects[i].uncertain = true;
        for (unsigned i = 0; i < PROGRAM_SESSIONS; i++)
                program->sessions[i].uncertain = true;
        for (unsigned i = 0; i < PROGRAM_CONTEXTS; i++)
                program->contexts[i].of_object.uncertain = program->contexts[i].of_session.uncertain = true;
}

bool program_has_session(const Program *program, TPM2_HANDLE handle) {
        for (unsigned i = 0; i < PROGRAM_SESSIONS; i++)
                if (program->sessions[i].used && (program->sessions[i].handle ^ handle) << 8 == 0)
                        return true;
        return false;
}

TPM2_HANDLE program_session(const Program *program) {
        for (unsigned i = 0; i < PROGRAM_SESSIONS; i++)
                if (program->sessions[i].used)
                        return program->sessions[i].handle;
        return 0;
}

static const ProgramOp *choose(Program *program) {
        unsigned sum = 0;
        unsigned n;

        for (unsigned i = 0; i < program_n_ops; i++)
                sum += program_ops[i].weight;
        n = random_below(&program->random, sum);
        for (unsigned i = 0; i < program_n_ops; i++) {
                if (n < program_ops[i].weight)
                        return &program_ops[i];
                n -= program_ops[i].weight;
        }
        return &program_ops[0];
}

/* Cut short, with something behind it, or said to be another kind of command. */
static void damage(Program *program, Message *message) {
        unsigned how = random_below(&program->random, 5);

        if (how < 2)
                message->n -= 1 + random_below(&program->random, message->n - TPM_HEADER_SIZE);
        else if (how < 4)
                for (unsigned n = 1 + random_below(&program->random, 3); n > 0; n--)
                        message->bytes[message->n++] = 0;
        else
                message->bytes[1] ^= 3;
        program->step.damaged = true;
        tpm_put_u32(message->bytes + 2, message->n);
}

static bool fits(const Program *program) {
        unsigned n = 0;

        for (unsigned i = 0; i < PROGRAM_OBJECTS; i++)
                n += program->objects[i].kind != THING_NONE;
        return !program->limits.fits || !program->step.returns_handle || n < program->limits.objects;
}

Message program_next(Program *program, uint64_t seed, TPM2_HANDLE foreign) {
        const ProgramOp *op;
        Message message;
        Draft draft;

        program->random.state = seed;
        if (program->must_start) {
                draft_begin(&draft, program, "Startup", TPM2_CC_Startup);
                draft_u16(&draft, TPM2_SU_CLEAR);
                return draft_end(&draft);
        }
        do {
                op = choose(program);
                draft_begin(&draft, program, op->what, op->code);
                draft.handles[0] = foreign;
        } while (!op->make(&draft) || !fits(program));
        message = draft_end(&draft);
        /* That would be an authorization area, put there by hand. */
        if (op->code == TPM2_CC_PolicyGetDigest && program->step.code == TPM2_CC_GetRandom)
                message.bytes[1] = TPM2_ST_SESSIONS & 0xFF;
        else if (message.n > TPM_HEADER_SIZE && random_below(&program->random, 12) == 0)
                damage(program, &message);
        return message;
}
