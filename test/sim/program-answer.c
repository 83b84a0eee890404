/* SPDX-License-Identifier: BSD-2-Clause */
#include "program-learn.h"

#include "chip.h"

#include <string.h>

/* An answer: whether it may be one, what became of sessions by it, and its line in the transcript */

#define CLASS_HANDLE 0x10000000u
#define CLASS_SESSION 0x20000000u
#define CLASS_PARAMETER 0x30000000u
#define CLASS_REFUSED 0x40000000u

#define NOT_STARTED 0x100
#define LOST RM_RC(TPM2_RC_FAILURE)

uint32_t program_class_of(uint32_t rc) {
        uint32_t number = rc >> 8 & 0xF;

        if (rc >> 16 == RM_RC_LAYER >> 16)
                rc &= 0xFFFF;
        if (rc >= TPM2_RC_REFERENCE_H0 && rc < TPM2_RC_REFERENCE_H0 + 7)
                return CLASS_HANDLE + rc - TPM2_RC_REFERENCE_H0;
        if (rc >= TPM2_RC_REFERENCE_S0 && rc < TPM2_RC_REFERENCE_S0 + 7)
                return CLASS_SESSION + rc - TPM2_RC_REFERENCE_S0;
        if (rc & 0x80 && ((rc & 0x3F) == 0x0B || (rc & 0x3F) == 0x04)) {
                if (rc & TPM2_RC_P)
                        return CLASS_PARAMETER + number;
                return number > 8 ? CLASS_SESSION + number - 9 : CLASS_HANDLE + number - 1;
        }
        return rc;
}

static void settle_auth(Program *program, ProgramAuth *auth, TpmReader *auths, const uint8_t *hash) {
        ProgramSession *session = auth->session == NOTHING ? NULL : &program->sessions[auth->session];
        uint8_t hmac[DIGEST_SIZE];
        size_t n_nonce, n_hmac;
        const uint8_t *nonce = program_read_2b(auths, &n_nonce);
        uint8_t attributes = tpm_read_u8(auths);
        const uint8_t *answer = program_read_2b(auths, &n_hmac);

        if (!session)
                return;
        if (!chip_is_fake() && (!nonce || n_nonce != sizeof(session->nonce))) {
                program_contradict(program, "%s: no nonce", program->step.what);
                return;
        }
        if (n_nonce == sizeof(session->nonce))
                memcpy(session->nonce, nonce, n_nonce);
        auth->attributes = attributes;
        if (!chip_is_fake() && auth->n_key > 0 && !(session->with_password && auth->entity)) {
                program_hmac(session, auth, hash, false, hmac);
                program_check(program, n_hmac != sizeof(hmac) && session->uncertain,
                              n_hmac == sizeof(hmac) ? answer : NULL, hmac, sizeof(hmac), "the HMAC of an answer");
        }
        if (session->type == TPM2_SE_POLICY) {
                memset(session->digest, 0, sizeof(session->digest));
                session->with_auth = session->with_password = false;
        }
        if (!(attributes & TPMA_SESSION_CONTINUESESSION))
                session->used = false;
}

/* Whatever the command that was lost may have changed. */
static void doubt(Program *program) {
        const ProgramStep *step = &program->step;

        for (unsigned i = 0; i < step->n_handles; i++) {
                if (program_object_at(program, i))
                        program_object_at(program, i)->uncertain = true;
                if (program_session_at(program, i))
                        program_session_at(program, i)->uncertain = true;
        }
        for (unsigned i = 0; i < step->n_auths; i++)
                if (step->auths[i].session != NOTHING)
                        program->sessions[step->auths[i].session].uncertain = true;
        if (step->context != NOTHING)
                program->contexts[step->context].of_session.uncertain = true;
}

/* What the TPM says is gone, is gone. */
static void fail(Program *program, uint32_t rc) {
        const ProgramStep *step = &program->step;
        uint32_t class = program_class_of(rc);
        bool value = (rc & 0xBF) == TPM2_RC_VALUE;

        if (rc == LOST)
                doubt(program);
        if (class == NOT_STARTED)
                program->must_start = step->code != TPM2_CC_Startup;
        if (step->code == TPM2_CC_Startup)
                program->must_start = false;
        if (value || step->damaged)
                return;
        if (class >= CLASS_HANDLE && class < CLASS_HANDLE + step->n_handles) {
                program_forget_object(program, step->objects[class - CLASS_HANDLE]);
                program_forget_session(program, step->sessions[class - CLASS_HANDLE]);
        } else if (class >= CLASS_SESSION && class < CLASS_SESSION + step->n_auths) {
                program_forget_session(program, step->auths[class - CLASS_SESSION].session);
        } else if (class == CLASS_PARAMETER + 1 && step->code == TPM2_CC_FlushContext) {
                program_forget_object(program, step->objects[0]);
                program_forget_session(program, step->sessions[0]);
        }
}

static void settle(Program *program, TpmReader *reader, bool with_auths, ProgramLine *line) {
        ProgramStep *step = &program->step;
        TPM2_HANDLE handle = step->returns_handle ? tpm_read_u32(reader) : 0;
        size_t n = with_auths ? tpm_read_u32(reader) : tpm_reader_left(reader);
        const uint8_t *bytes = tpm_read_bytes(reader, n);
        TpmReader parameters = TPM_READER(bytes, bytes ? n : 0);
        uint8_t head[8] = { 0 };
        uint8_t hash[DIGEST_SIZE];

        if (step->steady && bytes && !chip_is_fake())
                line->hash = hash_bytes(HASH_BEGIN, bytes, n);
        if (step->code == TPM2_CC_FlushContext)
                program_learn_flushed(program, step->sent);
        else
                program_learn(program, handle, &parameters);
        tpm_put_u32(head + 4, step->code);
        sha256(hash, head, sizeof(head), bytes ? bytes : head, bytes ? n : 0);
        for (unsigned i = 0; with_auths && i < step->n_auths; i++)
                settle_auth(program, &step->auths[i], reader, hash);
        if (reader->bad)
                program_contradict(program, "%s: the answer is too short", step->what);
}

ProgramLine program_answer(Program *program, const uint8_t *bytes, size_t n_bytes) {
        ProgramStep *step = &program->step;
        TpmReader reader = TPM_READER(bytes, n_bytes);
        TpmHeader header = tpm_read_header(&reader);
        ProgramLine line = {
                .what = step->what,
                .rc = program_class_of(header.code),
                .n = header.size,
                .exact = header.code,
        };

        if (reader.bad || header.size != n_bytes)
                program_contradict(program, "%s: the answer is not as long as it says", step->what);
        else if (header.code == TPM2_RC_SUCCESS)
                settle(program, &reader, header.tag == TPM2_ST_SESSIONS, &line);
        else
                fail(program, header.code);
        if (header.code == TPM2_RC_SUCCESS && (step->steady || step->code != TPM2_CC_GetCapability) &&
            step->code != TPM2_CC_Certify && step->code != TPM2_CC_ContextSave)
                line.whole = hash_bytes(HASH_BEGIN, bytes, n_bytes);
        /*
         * Of a session's context that was changed, or is spent, a resource manager can say less than the TPM, and which
         * session has its handle by now is the TPM's business.
         */
        if (header.code != TPM2_RC_SUCCESS && step->context != NOTHING && step->code == TPM2_CC_ContextLoad &&
            (step->damaged || program->contexts[step->context].spent))
                line.rc = CLASS_REFUSED;
        return line;
}
