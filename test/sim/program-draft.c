/* SPDX-License-Identifier: BSD-2-Clause */
#include "program-draft.h"

#include <stdlib.h>
#include <string.h>

void draft_begin(Draft *draft, Program *program, const char *what, TPM2_CC code) {
        memset(draft, 0, offsetof(Draft, bytes));
        draft->program = program;
        draft->step = &program->step;
        draft->parameters = TPM_WRITER(draft->bytes, sizeof(draft->bytes));
        memset(draft->step, 0, sizeof(*draft->step));
        draft->step->code = code;
        draft->step->what = what;
        draft->step->context = NOTHING;
        for (unsigned i = 0; i < 4; i++)
                draft->step->objects[i] = draft->step->sessions[i] = NOTHING;
}

static void draft_name(Draft *draft, const void *name, size_t n) {
        memcpy(draft->names + draft->n_names, name, n);
        draft->n_names += n;
}

void draft_value(Draft *draft, TPM2_HANDLE handle) {
        uint8_t bytes[4];

        tpm_put_u32(bytes, handle);
        draft_name(draft, bytes, sizeof(bytes));
        draft->handles[draft->step->n_handles++] = handle;
}

void draft_object(Draft *draft, uint32_t i) {
        const ProgramObject *object = i == NOTHING ? NULL : &draft->program->objects[i];

        draft->step->objects[draft->step->n_handles] = i;
        if (object)
                draft_name(draft, object->name, object->n_name);
        draft->handles[draft->step->n_handles++] =
                object ? object->handle
                       : TPM_TRANSIENT_FIRST +
                                 random_below(&draft->program->random, draft->program->limits.fits ? 3 : 12);
}

void draft_session(Draft *draft, uint32_t i) {
        draft->step->sessions[draft->step->n_handles] = i;
        draft_value(draft, i == NOTHING ? 0x0200003E : draft->program->sessions[i].handle);
}

static ProgramAuth *draft_add_auth(Draft *draft, uint32_t session, const ProgramObject *entity) {
        ProgramAuth *auth = &draft->step->auths[draft->step->n_auths++];

        *auth = (ProgramAuth){ .session = session, .entity = entity };
        return auth;
}

/* The number stands in the key, where an HMAC's key would be. */
void draft_password(Draft *draft, uint8_t number) {
        ProgramAuth *auth = draft_add_auth(draft, NOTHING, NULL);

        auth->n_key = program_auth_value(number, auth->key);
        auth->attributes = random_below(&draft->program->random, 2);
}

static ProgramAuth *draft_use_session(Draft *draft, uint32_t session, const ProgramObject *entity) {
        ProgramAuth *auth = draft_add_auth(draft, session, entity);

        for (unsigned i = 0; i < sizeof(auth->nonce); i++)
                auth->nonce[i] = random_below(&draft->program->random, 256);
        auth->attributes = random_below(&draft->program->random, 8) ? TPMA_SESSION_CONTINUESESSION : 0;
        program_key(&draft->program->sessions[session], auth);
        return auth;
}

static bool draft_has_session(const Draft *draft, uint32_t session) {
        for (unsigned i = 0; i < draft->step->n_auths; i++)
                if (draft->step->auths[i].session == session)
                        return true;
        return false;
}

void draft_authorize(Draft *draft, const ProgramObject *entity) {
        Random *random = &draft->program->random;
        unsigned how = random_below(random, 100);
        uint32_t session = NOTHING;

        if (how >= 65)
                session = program_pick_session(draft->program, how < 88 ? 1u << TPM2_SE_HMAC : 1u << TPM2_SE_POLICY);
        if (session != NOTHING && !draft_has_session(draft, session)) {
                draft->wrong[draft->step->n_auths] = random_below(random, 25) == 0;
                draft_use_session(draft, session, entity);
                return;
        }
        draft_password(draft, (entity ? entity->auth : 0) + (how < 3));
}

void draft_audit(Draft *draft, uint32_t session) {
        draft_use_session(draft, session, NULL)->attributes |= TPMA_SESSION_AUDIT;
}

void draft_2b(Draft *draft, const void *bytes, size_t n) {
        draft_u16(draft, n);
        tpm_write_bytes(&draft->parameters, bytes, n);
}

size_t draft_open(Draft *draft) {
        size_t at = draft->parameters.n_bytes;

        draft_u16(draft, 0);
        return at;
}

void draft_close(Draft *draft, size_t at) {
        size_t n = draft->parameters.n_bytes - at - 2;

        draft->bytes[at] = n >> 8;
        draft->bytes[at + 1] = n;
}

/* What the HMACs of a command are over (Part 1, section 16.7). */
static void draft_hash(const Draft *draft, uint8_t *ret_hash) {
        uint8_t head[4 + sizeof(draft->names)];

        tpm_put_u32(head, draft->step->code);
        memcpy(head + 4, draft->names, draft->n_names);
        sha256(ret_hash, head, 4 + draft->n_names, draft->bytes, draft->parameters.n_bytes);
}

static void draft_write_auth(const Draft *draft, unsigned i, TpmWriter *writer) {
        const ProgramAuth *auth = &draft->step->auths[i];
        const ProgramSession *session = auth->session == NOTHING ? NULL : &draft->program->sessions[auth->session];
        uint8_t hmac[DIGEST_SIZE];
        uint8_t hash[DIGEST_SIZE];

        tpm_write_u32(writer, session ? session->handle : TPM2_RH_PW);
        tpm_write_u16(writer, session ? sizeof(auth->nonce) : 0);
        tpm_write_bytes(writer, auth->nonce, session ? sizeof(auth->nonce) : 0);
        tpm_write_u8(writer, auth->attributes);
        if (!session) {
                tpm_write_u16(writer, auth->n_key);
                tpm_write_bytes(writer, auth->key, auth->n_key);
        } else if (session->with_password && auth->entity) {
                uint8_t value[16];
                size_t n = program_auth_value(auth->entity->auth, value);

                tpm_write_u16(writer, n);
                tpm_write_bytes(writer, value, n);
        } else if (auth->n_key > 0) {
                draft_hash(draft, hash);
                program_hmac(session, auth, hash, true, hmac);
                hmac[0] ^= draft->wrong[i];
                tpm_write_u16(writer, sizeof(hmac));
                tpm_write_bytes(writer, hmac, sizeof(hmac));
        } else {
                tpm_write_u16(writer, 0);
        }
}

Message draft_end(Draft *draft) {
        ProgramStep *step = draft->step;
        Message message;
        TpmWriter writer = TPM_WRITER(message.bytes, sizeof(message.bytes));
        size_t at;

        step->sent = draft->handles[0];
        if (draft->parameters.bad)
                abort(); /* it would be another command than it is said to be */
        tpm_write_begin(&writer, step->n_auths ? TPM2_ST_SESSIONS : TPM2_ST_NO_SESSIONS, step->code);
        for (unsigned i = 0; i < step->n_handles; i++)
                tpm_write_u32(&writer, draft->handles[i]);
        at = writer.n_bytes;
        if (step->n_auths) {
                tpm_write_u32(&writer, 0);
                for (unsigned i = 0; i < step->n_auths; i++)
                        draft_write_auth(draft, i, &writer);
                tpm_put_u32(message.bytes + at, writer.n_bytes - at - 4);
        }
        tpm_write_bytes(&writer, draft->bytes, draft->parameters.n_bytes);
        message.n = tpm_write_end(&writer);
        return message;
}

uint32_t program_pick(Program *program, unsigned kinds) {
        uint32_t found[PROGRAM_OBJECTS];
        unsigned n = 0;

        if (random_below(&program->random, 20) == 0)
                kinds = KINDS_ALL;
        for (uint32_t i = 0; i < PROGRAM_OBJECTS; i++)
                if (program->objects[i].kind != THING_NONE && kinds & KIND(program->objects[i].kind))
                        found[n++] = i;
        return n ? found[random_below(&program->random, n)] : NOTHING;
}

uint32_t program_pick_session(Program *program, unsigned types) {
        uint32_t found[PROGRAM_SESSIONS];
        unsigned n = 0;

        for (uint32_t i = 0; i < PROGRAM_SESSIONS; i++)
                if (program->sessions[i].used && types & 1u << program->sessions[i].type)
                        found[n++] = i;
        return n ? found[random_below(&program->random, n)] : NOTHING;
}

unsigned program_n_sessions(const Program *program) {
        unsigned n = 0;

        for (unsigned i = 0; i < PROGRAM_SESSIONS; i++)
                n += program->sessions[i].used;
        for (unsigned i = 0; i < PROGRAM_CONTEXTS; i++)
                n += program->contexts[i].used && program->contexts[i].session && !program->contexts[i].spent;
        return n;
}
