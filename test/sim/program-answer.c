/* SPDX-License-Identifier: BSD-2-Clause */
#include "program-ops.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* What an answer tells a client, and what it must tell */

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

static void contradict(Program *program, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void contradict(Program *program, const char *format, ...) {
        va_list arguments;

        if (program->contradiction[0])
                return;
        va_start(arguments, format);
        vsnprintf(program->contradiction, sizeof(program->contradiction), format, arguments);
        va_end(arguments);
}

static uint32_t find_object(const Program *program, TPM2_HANDLE handle) {
        for (uint32_t i = 0; i < PROGRAM_OBJECTS; i++)
                if (program->objects[i].kind != THING_NONE && program->objects[i].handle == handle)
                        return i;
        return NOTHING;
}

static void forget_object(Program *program, uint32_t i) {
        if (i != NOTHING)
                program->objects[i].kind = THING_NONE;
}

static void forget_session(Program *program, uint32_t i) {
        if (i != NOTHING)
                program->sessions[i].used = false;
}

static void add_object(Program *program, const ProgramObject *object, TPM2_HANDLE handle) {
        uint32_t twin = find_object(program, handle);
        uint32_t i = 0;

        if (twin != NOTHING && !program->objects[twin].uncertain && !program->haunted && !program->wild)
                contradict(program, "handle %08x was given out twice", handle);
        forget_object(program, twin);
        while (i < PROGRAM_OBJECTS && program->objects[i].kind != THING_NONE)
                i++;
        if (i == PROGRAM_OBJECTS) {
                contradict(program, "more objects than its quota");
                return;
        }
        program->objects[i] = *object;
        program->objects[i].handle = handle;
}

static void add_session(Program *program, const ProgramSession *session) {
        for (uint32_t i = 0; i < PROGRAM_SESSIONS; i++) {
                if (program->sessions[i].used)
                        continue;
                program->sessions[i] = *session;
                return;
        }
        contradict(program, "more sessions than its quota");
}

/* An answer about an object or session that the client does not have. */
static void haunt(Program *program) {
        if (!program->haunted)
                contradict(program, "%s: answered for nothing", program->step.what);
}

static void check(Program *program, bool uncertain, const void *is, const void *must_be, size_t n, const char *what) {
        if (!uncertain && (!is || memcmp(is, must_be, n) != 0))
                contradict(program, "%s: not what it must be", what);
}

static const uint8_t *read_2b(TpmReader *reader, size_t *ret_n) {
        *ret_n = tpm_read_u16(reader);
        return tpm_read_bytes(reader, *ret_n);
}

static void created(Program *program, TpmReader *parameters) {
        ProgramCreated *to = &program->created[random_below(&program->random, PROGRAM_CREATED)];
        const uint8_t *from = parameters->bytes + parameters->at;
        size_t n;

        read_2b(parameters, &n);
        read_2b(parameters, &n);
        n = parameters->at - (size_t)(from - parameters->bytes);
        if (parameters->bad || n > sizeof(to->bytes)) {
                contradict(program, "Create: not an answer");
                return;
        }
        to->kind = program->step.made.kind;
        to->auth = program->step.made.auth;
        memcpy(to->bytes, from, n);
        to->n_bytes = n;
}

static void loaded(Program *program, TPM2_HANDLE handle, TpmReader *parameters) {
        ProgramObject *made = &program->step.made;
        bool sequence = KINDS_SEQUENCES & KIND(made->kind);

        if (!sequence) {
                size_t n = tpm_reader_left(parameters);

                if (n < NAME_SIZE + 2) {
                        contradict(program, "%s: no name", program->step.what);
                        return;
                }
                memcpy(made->name, parameters->bytes + parameters->at + n - NAME_SIZE, NAME_SIZE);
                made->n_name = NAME_SIZE;
        }
        add_object(program, made, handle);
}

static void started(Program *program, TPM2_HANDLE handle, TpmReader *parameters) {
        ProgramSession *session = &program->step.started;
        uint32_t bind = program->step.objects[1];
        uint8_t value[16];
        size_t n;
        const uint8_t *nonce = read_2b(parameters, &n);

        if (!nonce || n != sizeof(session->nonce)) {
                contradict(program, "StartAuthSession: no nonce");
                return;
        }
        session->handle = handle;
        memcpy(session->nonce, nonce, n);
        if (bind != NOTHING) {
                n = program_auth_value(program->objects[bind].auth, value);
                program_session_key(session, value, n, program->step.text);
                session->bound = true;
        }
        add_session(program, session);
}

static void saved(Program *program, const uint8_t *bytes, size_t n_bytes) {
        const ProgramStep *step = &program->step;
        uint32_t best = NOTHING;
        uint32_t first = random_below(&program->random, PROGRAM_CONTEXTS);

        for (uint32_t k = 0; k < PROGRAM_CONTEXTS; k++) {
                uint32_t i = (first + k) % PROGRAM_CONTEXTS;
                const ProgramContext *context = &program->contexts[i];

                if (!context->used || (best == NOTHING && (!context->session || context->spent)))
                        best = i;
                if (!context->used)
                        break;
        }
        if (best != NOTHING && n_bytes <= sizeof(program->contexts[0].bytes)) {
                ProgramContext *context = &program->contexts[best];

                *context =
                        (ProgramContext){ .used = true, .session = step->sessions[0] != NOTHING, .n_bytes = n_bytes };
                memcpy(context->bytes, bytes, n_bytes);
                if (context->session)
                        context->of_session = program->sessions[step->sessions[0]];
                else if (step->objects[0] != NOTHING)
                        context->of_object = program->objects[step->objects[0]];
        }
        forget_session(program, step->sessions[0]);
}

static void restored(Program *program, TPM2_HANDLE handle) {
        ProgramContext *context = &program->contexts[program->step.context];

        if (!context->session) {
                if (context->of_object.kind == THING_NONE)
                        haunt(program);
                add_object(program, &context->of_object, handle);
                return;
        }
        if (context->spent && !context->of_session.uncertain)
                contradict(program, "a session's context was loaded twice");
        if (handle != context->of_session.handle)
                contradict(program, "session %08x came back as %08x", context->of_session.handle, handle);
        context->spent = true;
        add_session(program, &context->of_session);
}

static void flushed(Program *program, TPM2_HANDLE handle) {
        forget_object(program, find_object(program, handle));
        for (uint32_t i = 0; i < PROGRAM_SESSIONS; i++)
                if (program->sessions[i].used && (program->sessions[i].handle ^ handle) << 8 == 0 && handle >> 31 == 0)
                        forget_session(program, i);
        for (uint32_t i = 0; i < PROGRAM_CONTEXTS; i++)
                if (program->contexts[i].session && (program->contexts[i].of_session.handle ^ handle) << 8 == 0 &&
                    handle >> 31 == 0)
                        program->contexts[i].spent = true;
}

static void completed(Program *program, uint32_t i, TpmReader *parameters) {
        ProgramObject *sequence = i == NOTHING ? NULL : &program->objects[i];
        uint8_t digest[DIGEST_SIZE];
        size_t n;
        const uint8_t *answer = read_2b(parameters, &n);

        if (!sequence) {
                haunt(program);
                return;
        }
        if (sequence->kind == THING_HASH_SEQUENCE && program->step.code == TPM2_CC_SequenceComplete) {
                sha256(digest, sequence->text, sequence->n_text, program->step.text, program->step.n_text);
                check(program, sequence->uncertain || n != sizeof(digest), answer, digest, sizeof(digest),
                      "the digest of a sequence");
        }
        forget_object(program, i);
}

static void policed(Program *program, ProgramSession *session) {
        TPM2_CC code = program->step.code;
        uint8_t bytes[4];

        if (!session)
                return;
        switch (code) {
        case TPM2_CC_PolicyRestart:
                memset(session->digest, 0, sizeof(session->digest));
                session->with_auth = session->with_password = false;
                break;
        case TPM2_CC_PolicyAuthValue:
        case TPM2_CC_PolicyPassword:
                program_extend(session->digest, TPM2_CC_PolicyAuthValue, NULL, 0);
                session->with_auth = code == TPM2_CC_PolicyAuthValue;
                session->with_password = !session->with_auth;
                break;
        case TPM2_CC_PolicyCommandCode:
                tpm_put_u32(bytes, TPM2_CC_HMAC);
                program_extend(session->digest, code, bytes, sizeof(bytes));
                break;
        case TPM2_CC_PolicySecret:
                tpm_put_u32(bytes, TPM2_RH_ENDORSEMENT);
                program_extend(session->digest, code, bytes, sizeof(bytes));
                sha256(session->digest, session->digest, DIGEST_SIZE, "", 0);
                break;
        default:
                break;
        }
}

/* A 2B that must be what is remembered; the first time it is remembered. */
static void asked(Program *program, ProgramObject *object, TpmReader *parameters) {
        size_t n;
        const uint8_t *bytes = read_2b(parameters, &n);
        bool in_doubt = object && object->uncertain && program->haunted;

        if (!object || !bytes) {
                haunt(program);
        } else if (program->step.code == TPM2_CC_ReadPublic) {
                bytes = read_2b(parameters, &n);
                check(program, in_doubt, n == NAME_SIZE ? bytes : NULL, object->name, NAME_SIZE, "a name");
        } else if (program->step.code == TPM2_CC_Unseal) {
                check(program, in_doubt, bytes, PROGRAM_TEXT, n, "what was sealed");
        } else if (object->has_mac) {
                check(program, in_doubt, bytes, object->mac, sizeof(object->mac), "an HMAC");
        } else if (n == sizeof(object->mac)) {
                memcpy(object->mac, bytes, n);
                object->has_mac = true;
        }
}

static ProgramObject *object_at(Program *program, unsigned i) {
        uint32_t object = program->step.objects[i];

        return object == NOTHING ? NULL : &program->objects[object];
}

static ProgramSession *session_at(Program *program, unsigned i) {
        uint32_t session = program->step.sessions[i];

        return session == NOTHING ? NULL : &program->sessions[session];
}

static void persisted(Program *program) {
        ProgramObject *persistent = &program->persistent;

        *persistent = persistent->kind == THING_NONE ? program->step.made : (ProgramObject){ 0 };
}

static void updated(Program *program) {
        ProgramObject *sequence = object_at(program, 0);

        if (!sequence)
                haunt(program);
        else if (sequence->n_text + program->step.n_text <= PROGRAM_TEXT_MAX) {
                memcpy(sequence->text + sequence->n_text, program->step.text, program->step.n_text);
                sequence->n_text += program->step.n_text;
        }
}

static void checked_digest(Program *program, TpmReader *parameters) {
        ProgramSession *session = session_at(program, 0);
        size_t n;
        const uint8_t *digest = read_2b(parameters, &n);

        if (!session)
                haunt(program);
        else
                check(program, session->uncertain, digest, session->digest, sizeof(session->digest),
                      "a policy's digest");
}

static void succeed(Program *program, TPM2_HANDLE handle, TpmReader *parameters) {
        switch (program->step.code) {
        case TPM2_CC_CreatePrimary:
        case TPM2_CC_Load:
        case TPM2_CC_CreateLoaded:
        case TPM2_CC_LoadExternal:
        case TPM2_CC_HashSequenceStart:
        case TPM2_CC_HMAC_Start:
                loaded(program, handle, parameters);
                break;
        case TPM2_CC_Create:
                created(program, parameters);
                break;
        case TPM2_CC_ReadPublic:
                asked(program,
                      program->step.objects[0] == NOTHING && program->persistent.kind != THING_NONE
                              ? &program->persistent
                              : object_at(program, 0),
                      parameters);
                break;
        case TPM2_CC_HMAC:
        case TPM2_CC_Unseal:
                asked(program, object_at(program, 0), parameters);
                break;
        case TPM2_CC_StartAuthSession:
                started(program, handle, parameters);
                break;
        case TPM2_CC_ContextSave:
                saved(program, parameters->bytes + parameters->at, tpm_reader_left(parameters));
                break;
        case TPM2_CC_ContextLoad:
                restored(program, handle);
                break;
        case TPM2_CC_SequenceUpdate:
                updated(program);
                break;
        case TPM2_CC_SequenceComplete:
                completed(program, program->step.objects[0], parameters);
                break;
        case TPM2_CC_EventSequenceComplete:
                completed(program, program->step.objects[1], parameters);
                break;
        case TPM2_CC_PolicyGetDigest:
                checked_digest(program, parameters);
                break;
        case TPM2_CC_PolicySecret:
                policed(program, session_at(program, 1));
                break;
        case TPM2_CC_EvictControl:
                persisted(program);
                break;
        case TPM2_CC_NV_DefineSpace:
                program->nv_defined = true;
                break;
        case TPM2_CC_NV_UndefineSpace:
                program->nv_defined = false;
                break;
        case TPM2_CC_Startup:
                program->must_start = false;
                break;
        default:
                policed(program, session_at(program, 0));
        }
}

static void settle_auth(Program *program, ProgramAuth *auth, TpmReader *auths, const uint8_t *hash) {
        ProgramSession *session = auth->session == NOTHING ? NULL : &program->sessions[auth->session];
        uint8_t hmac[DIGEST_SIZE];
        size_t n_nonce, n_hmac;
        const uint8_t *nonce = read_2b(auths, &n_nonce);
        uint8_t attributes = tpm_read_u8(auths);
        const uint8_t *answer = read_2b(auths, &n_hmac);

        if (!session)
                return;
        if (!nonce || n_nonce != sizeof(session->nonce)) {
                contradict(program, "%s: no nonce", program->step.what);
                return;
        }
        memcpy(session->nonce, nonce, n_nonce);
        auth->attributes = attributes;
        if (auth->keyed && !(session->with_password && auth->entity)) {
                program_hmac(session, auth, hash, false, hmac);
                check(program, n_hmac != sizeof(hmac) && session->uncertain, n_hmac == sizeof(hmac) ? answer : NULL,
                      hmac, sizeof(hmac), "the HMAC of an answer");
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
                if (object_at(program, i))
                        object_at(program, i)->uncertain = true;
                if (session_at(program, i))
                        session_at(program, i)->uncertain = true;
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
                forget_object(program, step->objects[class - CLASS_HANDLE]);
                forget_session(program, step->sessions[class - CLASS_HANDLE]);
        } else if (class >= CLASS_SESSION && class < CLASS_SESSION + step->n_auths) {
                forget_session(program, step->auths[class - CLASS_SESSION].session);
        } else if (class == CLASS_PARAMETER + 1 && step->code == TPM2_CC_FlushContext) {
                forget_object(program, step->objects[0]);
                forget_session(program, step->sessions[0]);
        }
}

static uint64_t hash_of(const uint8_t *bytes, size_t n) {
        uint64_t hash = 0xCBF29CE484222325;

        for (size_t i = 0; i < n; i++)
                hash = (hash ^ bytes[i]) * 0x100000001B3;
        return hash;
}

static void settle(Program *program, TpmReader *reader, bool with_auths, ProgramLine *line) {
        ProgramStep *step = &program->step;
        TPM2_HANDLE handle = step->returns_handle ? tpm_read_u32(reader) : 0;
        size_t n = with_auths ? tpm_read_u32(reader) : tpm_reader_left(reader);
        const uint8_t *bytes = tpm_read_bytes(reader, n);
        TpmReader parameters = TPM_READER(bytes, bytes ? n : 0);
        uint8_t head[8] = { 0 };
        uint8_t hash[DIGEST_SIZE];

        if (step->steady && bytes)
                line->hash = hash_of(bytes, n);
        if (step->code == TPM2_CC_FlushContext)
                flushed(program, step->sent);
        else
                succeed(program, handle, &parameters);
        tpm_put_u32(head + 4, step->code);
        sha256(hash, head, sizeof(head), bytes ? bytes : head, bytes ? n : 0);
        for (unsigned i = 0; with_auths && i < step->n_auths; i++)
                settle_auth(program, &step->auths[i], reader, hash);
        if (reader->bad)
                contradict(program, "%s: the answer is too short", step->what);
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
                contradict(program, "%s: the answer is not as long as it says", step->what);
        else if (header.code == TPM2_RC_SUCCESS)
                settle(program, &reader, header.tag == TPM2_ST_SESSIONS, &line);
        else
                fail(program, header.code);
        if (header.code == TPM2_RC_SUCCESS && (step->steady || step->code != TPM2_CC_GetCapability) &&
            step->code != TPM2_CC_Certify && step->code != TPM2_CC_ContextSave)
                line.whole = hash_of(bytes, n_bytes);
        /*
         * Of a session's context that was changed, or is spent, a resource manager can say less than the TPM, and which
         * session has its handle by now is the TPM's business.
         */
        if (header.code != TPM2_RC_SUCCESS && step->context != NOTHING && step->code == TPM2_CC_ContextLoad &&
            (step->damaged || program->contexts[step->context].spent))
                line.rc = CLASS_REFUSED;
        return line;
}
