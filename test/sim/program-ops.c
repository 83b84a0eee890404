/* SPDX-License-Identifier: BSD-2-Clause */
#include "program-ops.h"

#include <string.h>

void program_extend(uint8_t *digest, TPM2_CC code, const void *more, size_t n_more) {
        uint8_t bytes[64];

        tpm_put_u32(bytes, code);
        memcpy(bytes + 4, more ? more : "", n_more);
        sha256(digest, digest, DIGEST_SIZE, bytes, 4 + n_more);
}

static bool op_get_random(Draft *draft) {
        uint32_t session = program_pick_session(draft->program, 1u << TPM2_SE_HMAC);

        if (session != NOTHING && random_below(&draft->program->random, 2))
                draft_audit(draft, session);
        draft_u16(draft, random_below(&draft->program->random, 40));
        return true;
}

static bool op_hash(Draft *draft) {
        draft_2b(draft, PROGRAM_TEXT, random_below(&draft->program->random, 20));
        draft_u16(draft, TPM2_ALG_SHA256);
        draft_u32(draft, random_below(&draft->program->random, 2) ? TPM2_RH_NULL : TPM2_RH_OWNER);
        return true;
}

/* Sequences (Part 3, section 17) */

static bool op_hash_start(Draft *draft) {
        bool event = random_below(&draft->program->random, 4) == 0;
        ProgramObject *made = &draft->step->made;
        uint8_t value[16];

        *made = (ProgramObject){ .kind = event ? THING_EVENT_SEQUENCE : THING_HASH_SEQUENCE };
        made->auth = random_below(&draft->program->random, 2);
        draft_2b(draft, value, program_auth_value(made->auth, value));
        draft_u16(draft, event ? TPM2_ALG_NULL : TPM2_ALG_SHA256);
        draft->step->returns_handle = true;
        return true;
}

static bool op_hmac_start(Draft *draft) {
        uint32_t key = program_pick(draft->program, KINDS_KEYS);

        if (key == NOTHING)
                return false;
        draft->step->made =
                (ProgramObject){ .kind = THING_HMAC_SEQUENCE, .random = draft->program->objects[key].random };
        draft_object(draft, key);
        draft_authorize(draft, &draft->program->objects[key]);
        draft_2b(draft, "", 0);
        draft_u16(draft, TPM2_ALG_NULL);
        draft->step->returns_handle = true;
        return true;
}

static void write_text(Draft *draft) {
        draft->step->n_text = random_below(&draft->program->random, sizeof(draft->step->text));
        for (unsigned i = 0; i < draft->step->n_text; i++)
                draft->step->text[i] = random_below(&draft->program->random, 256);
        draft_2b(draft, draft->step->text, draft->step->n_text);
}

/* One that has room for more text. */
static uint32_t pick_sequence(Draft *draft, unsigned kinds) {
        uint32_t i = program_pick(draft->program, kinds);
        size_t most = PROGRAM_TEXT_MAX - sizeof(draft->step->text);

        return i != NOTHING && draft->program->objects[i].n_text <= most ? i : NOTHING;
}

static bool op_update(Draft *draft) {
        uint32_t sequence = pick_sequence(draft, KINDS_SEQUENCES);

        if (sequence == NOTHING)
                return false;
        draft_object(draft, sequence);
        draft_authorize(draft, &draft->program->objects[sequence]);
        write_text(draft);
        return true;
}

static bool op_complete(Draft *draft) {
        uint32_t sequence = pick_sequence(draft, KIND(THING_HASH_SEQUENCE) | KIND(THING_HMAC_SEQUENCE));

        if (sequence == NOTHING)
                return false;
        draft_object(draft, sequence);
        draft_authorize(draft, &draft->program->objects[sequence]);
        write_text(draft);
        /* No such hierarchy: it fails, and the sequence stays. */
        draft_u32(draft, random_below(&draft->program->random, 6) ? TPM2_RH_NULL : 5);
        draft->step->steady = !draft->program->objects[sequence].random;
        return true;
}

static bool op_event_complete(Draft *draft) {
        uint32_t sequence = pick_sequence(draft, KIND(THING_EVENT_SEQUENCE));

        if (sequence == NOTHING)
                return false;
        draft_value(draft, 16);
        draft_object(draft, sequence);
        draft_password(draft, 0);
        draft_authorize(draft, &draft->program->objects[sequence]);
        write_text(draft);
        draft->step->steady = true;
        return true;
}

/* Sessions */

static bool op_start_session(Draft *draft) {
        static const TPM2_SE types[] = { TPM2_SE_HMAC, TPM2_SE_HMAC, TPM2_SE_POLICY, TPM2_SE_TRIAL };
        Program *program = draft->program;
        ProgramSession *started = &draft->step->started;
        unsigned n = program_n_sessions(program);
        uint32_t bind = NOTHING;

        if (n >= program->limits.sessions && n < program->limits.quota)
                return false;
        *started = (ProgramSession){ .used = true, .type = types[random_below(&program->random, 4)] };
        if (random_below(&program->random, 4) == 0)
                bind = program_pick(program, KINDS_LOADED);
        draft_value(draft, TPM2_RH_NULL);
        if (bind == NOTHING) {
                draft_value(draft, TPM2_RH_NULL);
        } else {
                draft_object(draft, bind);
                memcpy(started->bound_name, program->objects[bind].name, NAME_SIZE);
        }
        for (unsigned i = 0; i < sizeof(started->nonce); i++)
                draft->step->text[i] = random_below(&program->random, 256);
        draft_2b(draft, draft->step->text, sizeof(started->nonce));
        draft_u16(draft, 0);
        draft_u8(draft, started->type);
        draft_u16(draft, TPM2_ALG_NULL);
        draft_u16(draft, TPM2_ALG_SHA256);
        draft->step->returns_handle = true;
        return true;
}

static uint32_t pick_policy(Program *program) {
        return program_pick_session(program, 1u << TPM2_SE_POLICY | 1u << TPM2_SE_TRIAL);
}

static bool op_policy(Draft *draft) {
        static const TPM2_CC codes[] = { TPM2_CC_PolicyAuthValue, TPM2_CC_PolicyAuthValue, TPM2_CC_PolicyPassword,
                                         TPM2_CC_PolicyRestart, TPM2_CC_PolicyCommandCode };
        uint32_t session = pick_policy(draft->program);

        if (session == NOTHING)
                return false;
        draft->step->code = codes[random_below(&draft->program->random, 5)];
        draft_session(draft, session);
        if (draft->step->code == TPM2_CC_PolicyCommandCode)
                draft_u32(draft, TPM2_CC_HMAC);
        return true;
}

static bool op_policy_digest(Draft *draft) {
        uint32_t session = pick_policy(draft->program);

        if (session == NOTHING)
                return false;
        draft_session(draft, session);
        draft->step->steady = true;
        return true;
}

static bool op_policy_secret(Draft *draft) {
        uint32_t session = pick_policy(draft->program);

        if (session == NOTHING)
                return false;
        draft_value(draft, TPM2_RH_ENDORSEMENT);
        draft_session(draft, session);
        draft_authorize(draft, NULL);
        draft_2b(draft, "", 0);
        draft_2b(draft, "", 0);
        draft_2b(draft, "", 0);
        draft_u32(draft, 0);
        return true;
}

/* Contexts */

static bool op_save_object(Draft *draft) {
        draft_object(draft, program_pick(draft->program, KINDS_ALL));
        return true;
}

static bool op_save_session(Draft *draft) {
        uint32_t session = program_pick_session(draft->program, ~0u);
        bool room = false;

        /* A session whose context is lost would stay for ever. */
        for (unsigned i = 0; i < PROGRAM_CONTEXTS; i++)
                room |= !draft->program->contexts[i].used || !draft->program->contexts[i].session ||
                        draft->program->contexts[i].spent;
        if (session == NOTHING || !room)
                return false;
        draft_session(draft, session);
        return true;
}

static bool op_load_context(Draft *draft) {
        uint32_t i = random_below(&draft->program->random, PROGRAM_CONTEXTS);
        const ProgramContext *context = &draft->program->contexts[i];

        if (!context->used)
                return false;
        draft->step->context = i;
        tpm_write_bytes(&draft->parameters, context->bytes, context->n_bytes);
        if (random_below(&draft->program->random, 12) == 0) {
                draft->step->damaged = true;
                draft->bytes[18 + random_below(&draft->program->random, context->n_bytes - 18)] ^= 1;
        }
        draft->step->returns_handle = true;
        return true;
}

static bool op_flush_object(Draft *draft) {
        uint32_t object = program_pick(draft->program, KINDS_ALL);

        draft_object(draft, object);
        return true;
}

static bool op_flush_session(Draft *draft) {
        uint32_t session = program_pick_session(draft->program, ~0u);
        uint32_t i = random_below(&draft->program->random, PROGRAM_CONTEXTS);
        const ProgramContext *context = &draft->program->contexts[i];

        /* Not a spent one: its handle may be another session's by now, which is up to the TPM. */
        if (context->used && context->session && !context->spent && random_below(&draft->program->random, 2)) {
                draft->step->context = i;
                draft_value(draft, context->of_session.handle);
                return true;
        }
        if (session == NOTHING)
                return false;
        draft_session(draft, session);
        return true;
}

/* What is everybody's, or somebody else's */

static bool op_capability(Draft *draft) {
        static const uint32_t asked[][2] = {
                { TPM2_CAP_HANDLES, 0x80000000 },
                { TPM2_CAP_HANDLES, 0x80000000 },
                { TPM2_CAP_HANDLES, 0x02000000 },
                { TPM2_CAP_HANDLES, 0x03000000 },
                { TPM2_CAP_ALGS, 0 },
                { TPM2_CAP_COMMANDS, 0x11F },
                { TPM2_CAP_TPM_PROPERTIES, 0x100 },
                { TPM2_CAP_PCRS, 0 },
                { TPM2_CAP_ECC_CURVES, 0 },
        };
        unsigned i = random_below(&draft->program->random, 9);
        uint32_t session = program_pick_session(draft->program, 1u << TPM2_SE_HMAC);

        /* A list of one's own handles is no plain answer of the TPM's, and refused under a session. */
        if (i >= 4 && session != NOTHING && random_below(&draft->program->random, 3) == 0)
                draft_audit(draft, session);
        draft_u32(draft, asked[i][0]);
        draft_u32(draft, asked[i][1] + (i < 2 ? random_below(&draft->program->random, 3) : 0));
        draft_u32(draft, random_below(&draft->program->random, 2) ? 127 : random_below(&draft->program->random, 4));
        draft->step->steady = i < 2;
        return true;
}

static bool op_unknown(Draft *draft) {
        draft->step->code += random_below(&draft->program->random, 4);
        draft_u32(draft, TPM_TRANSIENT_FIRST);
        return true;
}

static bool op_pcr(Draft *draft) {
        unsigned how = random_below(&draft->program->random, 3);

        if (how == 0) {
                draft->step->code = TPM2_CC_PCR_Read;
                draft_u32(draft, 1);
                draft_u16(draft, TPM2_ALG_SHA256);
                draft_u8(draft, 3);
                draft_u8(draft, 0);
                draft_u8(draft, 0);
                draft_u8(draft, 1);
                return true;
        }
        draft->step->code = how == 1 ? TPM2_CC_PCR_Extend : TPM2_CC_PCR_Reset;
        draft_value(draft, random_below(&draft->program->random, 2) ? 16 : 23);
        draft_authorize(draft, NULL);
        if (how == 1) {
                draft_u32(draft, 1);
                draft_u16(draft, TPM2_ALG_SHA256);
                for (unsigned i = 0; i < DIGEST_SIZE; i++)
                        draft_u8(draft, i);
        }
        return true;
}

#define NV_INDEX(program) (0x01500000 + (program)->number)

static bool op_nv(Draft *draft) {
        Program *program = draft->program;
        unsigned how = random_below(&program->random, 6);
        size_t at;

        if (!program->limits.nv)
                return false;
        draft_value(draft, TPM2_RH_OWNER);
        draft_password(draft, 0);
        if (!program->nv_defined) {
                draft->step->code = TPM2_CC_NV_DefineSpace;
                draft_2b(draft, "", 0);
                at = draft_open(draft);
                draft_u32(draft, NV_INDEX(program));
                draft_u16(draft, TPM2_ALG_SHA256);
                draft_u32(draft, TPMA_NV_OWNERREAD | TPMA_NV_OWNERWRITE | TPMA_NV_NO_DA);
                draft_u16(draft, 0);
                draft_u16(draft, 8);
                draft_close(draft, at);
                return true;
        }
        draft_value(draft, NV_INDEX(program));
        if (how == 0) {
                draft->step->code = TPM2_CC_NV_UndefineSpace;
        } else if (how < 3) {
                draft->step->code = TPM2_CC_NV_Write;
                draft_2b(draft, PROGRAM_TEXT, 1 + random_below(&program->random, 9));
                draft_u16(draft, 0);
        } else {
                draft->step->code = TPM2_CC_NV_Read;
                draft_u16(draft, 8);
                draft_u16(draft, 0);
                draft->step->steady = true;
        }
        return true;
}

static bool op_foreign(Draft *draft) {
        static const TPM2_CC codes[] = { TPM2_CC_FlushContext, TPM2_CC_ContextSave, TPM2_CC_PolicyGetDigest,
                                         TPM2_CC_PolicyRestart, TPM2_CC_GetRandom };
        TPM2_HANDLE handle = draft->handles[0];

        draft->step->code = codes[random_below(&draft->program->random, 5)];
        if (draft->step->code == TPM2_CC_GetRandom) {
                /* An authorization area by hand: session, empty nonce, attributes, empty HMAC. */
                draft_u32(draft, 9);
                draft_u32(draft, handle);
                draft_u16(draft, 0);
                draft_u8(draft, TPMA_SESSION_CONTINUESESSION);
                draft_u16(draft, 0);
                draft_u16(draft, 8);
        } else {
                if (draft->step->code == TPM2_CC_FlushContext && random_below(&draft->program->random, 3) == 0)
                        handle ^= 0x01000000;
                draft_value(draft, handle);
        }
        return true;
}

/* Audited commands, sequences and policies are what a manager of handles gets wrong; keys only feed them. */
const ProgramOp program_ops[] = {
        { "GetRandom", 5, TPM2_CC_GetRandom, op_get_random },
        { "Hash", 1, TPM2_CC_Hash, op_hash },
        { "CreatePrimary", 9, TPM2_CC_CreatePrimary, op_create_primary },
        { "CreatePrimary (parent)", 4, TPM2_CC_CreatePrimary, op_create_parent },
        { "Create", 4, TPM2_CC_Create, op_create },
        { "Load", 5, TPM2_CC_Load, op_load },
        { "CreateLoaded", 2, TPM2_CC_CreateLoaded, op_create_loaded },
        { "LoadExternal", 3, TPM2_CC_LoadExternal, op_load_external },
        { "ReadPublic", 8, TPM2_CC_ReadPublic, op_read_public },
        { "HMAC", 12, TPM2_CC_HMAC, op_hmac },
        { "Unseal", 3, TPM2_CC_Unseal, op_unseal },
        { "Certify", 4, TPM2_CC_Certify, op_certify },
        { "EvictControl", 2, TPM2_CC_EvictControl, op_persist },
        { "ReadPublic (persistent)", 2, TPM2_CC_ReadPublic, op_use_persistent },
        { "SequenceStart", 5, TPM2_CC_HashSequenceStart, op_hash_start },
        { "HMAC_Start", 3, TPM2_CC_HMAC_Start, op_hmac_start },
        { "SequenceUpdate", 11, TPM2_CC_SequenceUpdate, op_update },
        { "SequenceComplete", 4, TPM2_CC_SequenceComplete, op_complete },
        { "EventSequenceComplete", 2, TPM2_CC_EventSequenceComplete, op_event_complete },
        { "StartAuthSession", 10, TPM2_CC_StartAuthSession, op_start_session },
        { "Policy", 8, TPM2_CC_PolicyAuthValue, op_policy },
        { "PolicyGetDigest", 4, TPM2_CC_PolicyGetDigest, op_policy_digest },
        { "PolicySecret", 3, TPM2_CC_PolicySecret, op_policy_secret },
        { "ContextSave (object)", 6, TPM2_CC_ContextSave, op_save_object },
        { "ContextSave (session)", 6, TPM2_CC_ContextSave, op_save_session },
        { "ContextLoad", 12, TPM2_CC_ContextLoad, op_load_context },
        { "FlushContext (object)", 6, TPM2_CC_FlushContext, op_flush_object },
        { "FlushContext (session)", 3, TPM2_CC_FlushContext, op_flush_session },
        { "GetCapability", 5, TPM2_CC_GetCapability, op_capability },
        { "PCR", 2, TPM2_CC_PCR_Extend, op_pcr },
        { "NV", 3, TPM2_CC_NV_Read, op_nv },
        { "no command", 1, 0x1FC, op_unknown },
        { "another's session", 5, TPM2_CC_PolicyGetDigest, op_foreign },
};
const unsigned program_n_ops = sizeof(program_ops) / sizeof(program_ops[0]);
