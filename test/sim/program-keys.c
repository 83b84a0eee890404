/* SPDX-License-Identifier: BSD-2-Clause */
#include "chip.h"
#include "program-ops.h"

#include <string.h>

#define ATTRIBUTES_OWN (TPMA_OBJECT_USERWITHAUTH | TPMA_OBJECT_NODA)
#define ATTRIBUTES_MADE                                                                                                \
        (ATTRIBUTES_OWN | TPMA_OBJECT_FIXEDTPM | TPMA_OBJECT_FIXEDPARENT | TPMA_OBJECT_SENSITIVEDATAORIGIN)

static void write_hmac_scheme(Draft *draft) {
        draft_u16(draft, TPM2_ALG_HMAC);
        draft_u16(draft, TPM2_ALG_SHA256);
}

static void write_policy(Draft *draft, const ProgramObject *object) {
        uint8_t digest[DIGEST_SIZE] = { 0 };

        program_extend(digest, TPM2_CC_PolicyAuthValue, NULL, 0);
        draft_2b(draft, digest, object->policy ? sizeof(digest) : 0);
}

static void write_public(Draft *draft, const ProgramObject *object, uint32_t unique) {
        size_t at = draft_open(draft);
        uint8_t bytes[4];

        tpm_put_u32(bytes, unique);
        if (object->kind == THING_PARENT) {
                draft_u16(draft, TPM2_ALG_SYMCIPHER);
                draft_u16(draft, TPM2_ALG_SHA256);
                draft_u32(draft, ATTRIBUTES_MADE | TPMA_OBJECT_RESTRICTED | TPMA_OBJECT_DECRYPT);
                draft_u16(draft, 0);
                draft_u16(draft, TPM2_ALG_AES);
                draft_u16(draft, 128);
                draft_u16(draft, TPM2_ALG_CFB);
        } else {
                draft_u16(draft, TPM2_ALG_KEYEDHASH);
                draft_u16(draft, TPM2_ALG_SHA256);
                draft_u32(draft, object->kind == THING_SEALED ? ATTRIBUTES_MADE & ~TPMA_OBJECT_SENSITIVEDATAORIGIN
                                                              : ATTRIBUTES_MADE | TPMA_OBJECT_SIGN_ENCRYPT);
                write_policy(draft, object);
                if (object->kind == THING_SEALED)
                        draft_u16(draft, TPM2_ALG_NULL);
                else
                        write_hmac_scheme(draft);
        }
        draft_2b(draft, bytes, sizeof(bytes));
        draft_close(draft, at);
}

static void write_sensitive(Draft *draft, const ProgramObject *object) {
        size_t at = draft_open(draft);
        uint8_t value[16];

        draft_2b(draft, value, program_auth_value(object->auth, value));
        draft_2b(draft, PROGRAM_TEXT, object->kind == THING_SEALED ? strlen(PROGRAM_TEXT) : 0);
        draft_close(draft, at);
}

static ProgramObject *make_object(Draft *draft, ThingKind kind) {
        ProgramObject *made = &draft->step->made;

        *made = (ProgramObject){
                .kind = kind,
                .auth = random_below(&draft->program->random, 3),
                .policy = kind == THING_HMAC && random_below(&draft->program->random, 2),
        };
        return made;
}

static bool create_primary(Draft *draft, ThingKind kind) {
        static const TPM2_HANDLE hierarchies[] = { TPM2_RH_OWNER, TPM2_RH_OWNER, TPM2_RH_NULL, TPM2_RH_ENDORSEMENT };
        Random *random = &draft->program->random;
        const ProgramObject *made = make_object(draft, kind);

        draft_value(draft, hierarchies[random_below(random, 4)]);
        draft_authorize(draft, NULL);
        write_sensitive(draft, made);
        /* The same template gives the same key: of a client's keys some are twins, but no two clients share one. */
        write_public(draft, made, draft->program->number << 8 | random_below(random, 6));
        draft_u16(draft, 0);
        draft_u32(draft, 0);
        draft->step->returns_handle = true;
        return true;
}

bool op_create_primary(Draft *draft) {
        return create_primary(draft, THING_HMAC);
}

bool op_create_parent(Draft *draft) {
        return create_primary(draft, THING_PARENT);
}

bool op_create(Draft *draft) {
        uint32_t parent = program_pick(draft->program, KIND(THING_PARENT));
        const ProgramObject *made;

        if (parent == NOTHING)
                return false;
        made = make_object(draft, random_below(&draft->program->random, 2) ? THING_HMAC : THING_SEALED);
        draft_object(draft, parent);
        draft_authorize(draft, &draft->program->objects[parent]);
        write_sensitive(draft, made);
        write_public(draft, made, 0);
        draft_u16(draft, 0);
        draft_u32(draft, 0);
        return true;
}

bool op_create_loaded(Draft *draft) {
        uint32_t parent = program_pick(draft->program, KIND(THING_PARENT));
        ProgramObject *made;

        if (parent == NOTHING)
                return false;
        made = make_object(draft, random_below(&draft->program->random, 2) ? THING_HMAC : THING_SEALED);
        made->random = true;
        draft_object(draft, parent);
        draft_authorize(draft, &draft->program->objects[parent]);
        write_sensitive(draft, made);
        write_public(draft, made, 0);
        draft->step->returns_handle = true;
        return true;
}

bool op_load(Draft *draft) {
        const ProgramCreated *created =
                &draft->program->created[random_below(&draft->program->random, PROGRAM_CREATED)];
        uint32_t parent = program_pick(draft->program, KIND(THING_PARENT));

        if (parent == NOTHING || created->kind == THING_NONE)
                return false;
        draft->step->made = (ProgramObject){ .kind = created->kind, .auth = created->auth, .random = true };
        draft_object(draft, parent);
        draft_authorize(draft, &draft->program->objects[parent]);
        tpm_write_bytes(&draft->parameters, created->bytes, created->n_bytes);
        draft->step->returns_handle = true;
        return true;
}

/* The sensitive part is the client's: what the TPM computes with it is known beforehand. */
bool op_load_external(Draft *draft) {
        ProgramObject *made = make_object(draft, THING_EXTERNAL);
        uint8_t bytes[2 * DIGEST_SIZE];
        uint8_t digest[DIGEST_SIZE];
        uint8_t value[16];
        size_t at = draft_open(draft);

        for (unsigned i = 0; i < sizeof(bytes); i++)
                bytes[i] = random_below(&draft->program->random, 256);
        draft_u16(draft, TPM2_ALG_KEYEDHASH);
        draft_2b(draft, value, program_auth_value(made->auth, value));
        draft_2b(draft, bytes, DIGEST_SIZE);
        draft_2b(draft, bytes + DIGEST_SIZE, DIGEST_SIZE);
        draft_close(draft, at);

        at = draft_open(draft);
        draft_u16(draft, TPM2_ALG_KEYEDHASH);
        draft_u16(draft, TPM2_ALG_SHA256);
        draft_u32(draft, ATTRIBUTES_OWN | TPMA_OBJECT_SIGN_ENCRYPT);
        draft_u16(draft, 0);
        write_hmac_scheme(draft);
        sha256(digest, bytes, sizeof(bytes), "", 0);
        draft_2b(draft, digest, sizeof(digest));
        draft_close(draft, at);
        draft_u32(draft, TPM2_RH_NULL);

        hmac256(made->mac, bytes + DIGEST_SIZE, DIGEST_SIZE, PROGRAM_TEXT, strlen(PROGRAM_TEXT));
        made->has_mac = !chip_is_fake();
        draft->step->returns_handle = true;
        return true;
}

bool op_read_public(Draft *draft) {
        uint32_t object = program_pick(draft->program, KINDS_LOADED);

        draft_object(draft, object);
        draft->step->steady = object != NOTHING && !draft->program->objects[object].random;
        return true;
}

bool op_hmac(Draft *draft) {
        uint32_t object = program_pick(draft->program, KINDS_KEYS);

        draft_object(draft, object);
        draft_authorize(draft, object == NOTHING ? NULL : &draft->program->objects[object]);
        draft_2b(draft, PROGRAM_TEXT, strlen(PROGRAM_TEXT));
        draft_u16(draft, TPM2_ALG_NULL);
        draft->step->steady = object != NOTHING && !draft->program->objects[object].random;
        return true;
}

bool op_unseal(Draft *draft) {
        uint32_t object = program_pick(draft->program, KIND(THING_SEALED));

        if (object == NOTHING)
                return false;
        draft_object(draft, object);
        draft_authorize(draft, &draft->program->objects[object]);
        draft->step->steady = true;
        return true;
}

bool op_certify(Draft *draft) {
        uint32_t object = program_pick(draft->program, KINDS_LOADED);
        uint32_t key = program_pick(draft->program, KINDS_KEYS);

        if (object == NOTHING || key == NOTHING)
                return false;
        draft_object(draft, object);
        draft_object(draft, key);
        draft_authorize(draft, &draft->program->objects[object]);
        draft_authorize(draft, &draft->program->objects[key]);
        draft_2b(draft, "", 0);
        draft_u16(draft, TPM2_ALG_NULL);
        return true;
}

#define PERSISTENT(program) (0x81000000 + (program)->number)

/* There and back again: the second time it is the persistent one that goes. */
bool op_persist(Draft *draft) {
        Program *program = draft->program;
        uint32_t object = program_pick(program, KIND(THING_HMAC) | KIND(THING_PARENT));

        if (!program->limits.nv)
                return false;
        draft_value(draft, TPM2_RH_OWNER);
        if (program->persistent.kind != THING_NONE) {
                draft_value(draft, PERSISTENT(program));
        } else if (object != NOTHING) {
                draft_object(draft, object);
                draft->step->made = program->objects[object];
        } else {
                return false;
        }
        draft_password(draft, 0);
        draft_u32(draft, PERSISTENT(program));
        return true;
}

/* A persistent parent needs a slot of its own while it is used, and another for what it makes. */
bool op_use_persistent(Draft *draft) {
        Program *program = draft->program;

        if (program->persistent.kind == THING_NONE)
                return false;
        draft->step->n_handles = 1;
        draft->handles[0] = PERSISTENT(program);
        draft->step->steady = !program->persistent.random;
        return true;
}
