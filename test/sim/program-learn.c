/* SPDX-License-Identifier: BSD-2-Clause */
#include "program-learn.h"

#include "chip.h"
#include "program-ops.h"
#include "tpm/command.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void program_contradict(Program *program, const char *format, ...) {
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

void program_forget_object(Program *program, uint32_t i) {
        if (i != NOTHING)
                program->objects[i].kind = THING_NONE;
}

void program_forget_session(Program *program, uint32_t i) {
        if (i != NOTHING)
                program->sessions[i].used = false;
}

static void add_object(Program *program, const ProgramObject *object, TPM2_HANDLE handle) {
        uint32_t twin = find_object(program, handle);
        uint32_t i = 0;

        if (twin != NOTHING && !program->objects[twin].uncertain && !program->haunted && !program->wild)
                program_contradict(program, "handle %08x was given out twice", handle);
        program_forget_object(program, twin);
        while (i < PROGRAM_OBJECTS && program->objects[i].kind != THING_NONE)
                i++;
        if (i == PROGRAM_OBJECTS) {
                program_contradict(program, "more objects than its quota");
                return;
        }
        program->objects[i] = *object;
        program->objects[i].handle = handle;
}

static void add_session(Program *program, const ProgramSession *session) {
        for (uint32_t i = 0; i < PROGRAM_SESSIONS; i++) {
                ProgramSession *twin = &program->sessions[i];

                if (!twin->used || (twin->handle ^ session->handle) << 8 != 0)
                        continue;
                if (!twin->uncertain && !program->wild)
                        program_contradict(program, "session %08x was given out twice", session->handle);
                twin->used = false;
        }
        for (uint32_t i = 0; i < PROGRAM_SESSIONS; i++) {
                if (program->sessions[i].used)
                        continue;
                program->sessions[i] = *session;
                return;
        }
        program_contradict(program, "more sessions than its quota");
}

/* An answer about an object or session that the client does not have; the fake refuses no guess that fits. */
static void haunt(Program *program) {
        if (!program->haunted && !chip_is_fake())
                program_contradict(program, "%s: answered for nothing", program->step.what);
}

void program_check(Program *program, bool uncertain, const void *is, const void *must_be, size_t n, const char *what) {
        if (!uncertain && (!is || memcmp(is, must_be, n) != 0))
                program_contradict(program, "%s: not what it must be", what);
}

const uint8_t *program_read_2b(TpmReader *reader, size_t *ret_n) {
        *ret_n = tpm_read_u16(reader);
        return tpm_read_bytes(reader, *ret_n);
}

static void created(Program *program, TpmReader *parameters) {
        ProgramCreated *to = &program->created[random_below(&program->random, PROGRAM_CREATED)];
        const uint8_t *from = parameters->bytes + parameters->at;
        size_t n;

        program_read_2b(parameters, &n);
        program_read_2b(parameters, &n);
        n = parameters->at - (size_t)(from - parameters->bytes);
        if (parameters->bad || n > sizeof(to->bytes)) {
                program_contradict(program, "Create: not an answer");
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
                        program_contradict(program, "%s: no name", program->step.what);
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
        const uint8_t *nonce = program_read_2b(parameters, &n);

        if (!nonce || n != sizeof(session->nonce)) {
                program_contradict(program, "StartAuthSession: no nonce");
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
        program_forget_session(program, step->sessions[0]);
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
                program_contradict(program, "a session's context was loaded twice");
        if (handle != context->of_session.handle)
                program_contradict(program, "session %08x came back as %08x", context->of_session.handle, handle);
        context->spent = true;
        add_session(program, &context->of_session);
}

void program_learn_flushed(Program *program, TPM2_HANDLE handle) {
        program_forget_object(program, find_object(program, handle));
        for (uint32_t i = 0; i < PROGRAM_SESSIONS; i++)
                if (program->sessions[i].used && (program->sessions[i].handle ^ handle) << 8 == 0 && handle >> 31 == 0)
                        program_forget_session(program, i);
        for (uint32_t i = 0; i < PROGRAM_CONTEXTS; i++)
                if (program->contexts[i].session && (program->contexts[i].of_session.handle ^ handle) << 8 == 0 &&
                    handle >> 31 == 0)
                        program->contexts[i].spent = true;
}

static void completed(Program *program, uint32_t i, TpmReader *parameters) {
        ProgramObject *sequence = i == NOTHING ? NULL : &program->objects[i];
        uint8_t digest[DIGEST_SIZE];
        size_t n;
        const uint8_t *answer = program_read_2b(parameters, &n);

        if (!sequence) {
                haunt(program);
                return;
        }
        if (sequence->kind == THING_HASH_SEQUENCE && program->step.code == TPM2_CC_SequenceComplete) {
                sha256(digest, sequence->text, sequence->n_text, program->step.text, program->step.n_text);
                program_check(program, sequence->uncertain || n != sizeof(digest) || chip_is_fake(), answer, digest,
                              sizeof(digest), "the digest of a sequence");
        }
        program_forget_object(program, i);
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
        const uint8_t *bytes = program_read_2b(parameters, &n);
        bool in_doubt = object && object->uncertain && program->haunted;

        if (!object || !bytes) {
                haunt(program);
        } else if (program->step.code == TPM2_CC_ReadPublic) {
                bytes = program_read_2b(parameters, &n);
                program_check(program, in_doubt, n == NAME_SIZE ? bytes : NULL, object->name, NAME_SIZE, "a name");
        } else if (program->step.code == TPM2_CC_Unseal) {
                program_check(program, in_doubt, bytes, PROGRAM_TEXT, n, "what was sealed");
        } else if (object->has_mac) {
                program_check(program, in_doubt, bytes, object->mac, sizeof(object->mac), "an HMAC");
        } else if (n == sizeof(object->mac)) {
                memcpy(object->mac, bytes, n);
                object->has_mac = true;
        }
}

ProgramObject *program_object_at(Program *program, unsigned i) {
        uint32_t object = program->step.objects[i];

        return object == NOTHING ? NULL : &program->objects[object];
}

ProgramSession *program_session_at(Program *program, unsigned i) {
        uint32_t session = program->step.sessions[i];

        return session == NOTHING ? NULL : &program->sessions[session];
}

static void persisted(Program *program) {
        ProgramObject *persistent = &program->persistent;

        *persistent = persistent->kind == THING_NONE ? program->step.made : (ProgramObject){ 0 };
}

static void updated(Program *program) {
        ProgramObject *sequence = program_object_at(program, 0);

        if (!sequence)
                haunt(program);
        else if (sequence->n_text + program->step.n_text <= PROGRAM_TEXT_MAX) {
                memcpy(sequence->text + sequence->n_text, program->step.text, program->step.n_text);
                sequence->n_text += program->step.n_text;
        }
}

static void checked_digest(Program *program, TpmReader *parameters) {
        ProgramSession *session = program_session_at(program, 0);
        size_t n;
        const uint8_t *digest = program_read_2b(parameters, &n);

        if (!session)
                haunt(program);
        else
                program_check(program, session->uncertain || chip_is_fake(), digest, session->digest,
                              sizeof(session->digest), "a policy's digest");
}

void program_learn(Program *program, TPM2_HANDLE handle, TpmReader *parameters) {
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
                      tpm_handle_is_persistent(program->step.sent) ? &program->persistent
                                                                   : program_object_at(program, 0),
                      parameters);
                break;
        case TPM2_CC_HMAC:
        case TPM2_CC_Unseal:
                asked(program, program_object_at(program, 0), parameters);
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
                policed(program, program_session_at(program, 1));
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
                policed(program, program_session_at(program, 0));
        }
}
