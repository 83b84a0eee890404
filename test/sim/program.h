/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef SIM_PROGRAM_H
#define SIM_PROGRAM_H

#include "test/lib/tpm-commands.h"
#include "test/sim/random.h"
#include "tpm/command.h"

#include <stdbool.h>

/*
 * A client's program
 *
 * Each step makes a command out of a seed of its own and of what the client knows, which is what it was answered so
 * far. The same seeds and the same answers give the same program, wherever it runs. It remembers what its objects and
 * sessions must be, and finds every answer out that contradicts this: another object's name, a digest over the wrong
 * text, a response HMAC that does not verify.
 */

#define PROGRAM_OBJECTS 16
#define PROGRAM_SESSIONS 8
#define PROGRAM_CONTEXTS 8
#define PROGRAM_CREATED 2
#define PROGRAM_TEXT_MAX 256
#define DIGEST_SIZE 32 /* SHA-256 */
#define NAME_SIZE 34

typedef enum ThingKind {
        THING_NONE,
        THING_HMAC,     /* a keyedhash that signs */
        THING_PARENT,   /* a storage key */
        THING_SEALED,   /* a keyedhash with data */
        THING_EXTERNAL, /* an HMAC key that the client made itself */
        THING_HASH_SEQUENCE,
        THING_HMAC_SEQUENCE,
        THING_EVENT_SEQUENCE,
} ThingKind;

typedef struct ProgramObject {
        ThingKind kind; /* THING_NONE: a free entry */
        TPM2_HANDLE handle;
        bool random;  /* its name depends on the TPM's random numbers */
        bool policy;  /* may be used by PolicyAuthValue, too */
        uint8_t auth; /* 0: empty, else a text made of it */
        uint8_t name[NAME_SIZE];
        size_t n_name;
        uint8_t mac[DIGEST_SIZE]; /* of PROGRAM_TEXT, once it was asked for */
        bool has_mac;
        bool uncertain;                 /* a command that may have changed it was lost */
        uint8_t text[PROGRAM_TEXT_MAX]; /* that a sequence was fed */
        size_t n_text;
} ProgramObject;

typedef struct ProgramSession {
        bool used;
        TPM2_HANDLE handle;
        TPM2_SE type;
        uint8_t nonce[16]; /* the TPM's newest */
        uint8_t key[DIGEST_SIZE];
        size_t n_key;
        uint8_t bound_name[NAME_SIZE]; /* to the object of that name */
        bool bound;
        bool with_auth; /* PolicyAuthValue ran */
        bool with_password;
        uint8_t digest[DIGEST_SIZE]; /* a policy's, as it must be */
        bool uncertain;
} ProgramSession;

#define PROGRAM_CONTEXT_MAX 8192 /* what the largest chip's takes (test/lib/fake-chips.c), and more */

/* What ContextSave gave out, and what it was the context of. */
typedef struct ProgramContext {
        bool used;
        bool session;
        bool spent; /* a session context that was loaded, or whose session was flushed */
        ProgramObject of_object;
        ProgramSession of_session;
        uint8_t bytes[PROGRAM_CONTEXT_MAX];
        size_t n_bytes;
} ProgramContext;

typedef struct ProgramCreated {
        ThingKind kind;
        uint8_t auth;
        uint8_t parent[NAME_SIZE];
        uint8_t bytes[768]; /* outPrivate, outPublic */
        size_t n_bytes;
} ProgramCreated;

/* What may be asked of a client. */
typedef struct ProgramLimits {
        unsigned sessions; /* at a time, saved ones too; a step that would start one more does something else */
        unsigned objects;
        unsigned quota; /* at which a session is refused, so that one more may be tried */
        bool nv;        /* has an NV index and a persistent handle of its own */
        bool fits;      /* what it has at a time fits into a TPM that nobody manages */
} ProgramLimits;

typedef struct ProgramAuth {
        uint32_t session;            /* index; UINT32_MAX: a password */
        const ProgramObject *entity; /* may be NULL */
        uint8_t attributes;
        uint8_t nonce[16];
        uint8_t key[DIGEST_SIZE + 16];
        size_t n_key;
} ProgramAuth;

/* The command that is out. */
typedef struct ProgramStep {
        TPM2_CC code;
        const char *what;
        bool damaged;
        TPM2_HANDLE sent; /* the first handle of the command, as it went out */
        bool returns_handle;
        unsigned n_handles;
        uint32_t objects[4]; /* index of what stands in the handle area, or UINT32_MAX */
        uint32_t sessions[4];
        unsigned n_auths;
        ProgramAuth auths[3];
        ProgramObject made; /* what the command makes, when it succeeds */
        ProgramSession started;
        uint32_t context; /* that is loaded */
        bool steady;      /* the parameters of the answer follow from the program alone */
        uint8_t text[64];
        size_t n_text;
} ProgramStep;

typedef struct Program {
        ProgramLimits limits;
        unsigned number;
        ProgramObject objects[PROGRAM_OBJECTS];
        ProgramSession sessions[PROGRAM_SESSIONS];
        ProgramContext contexts[PROGRAM_CONTEXTS];
        ProgramCreated created[PROGRAM_CREATED];
        bool nv_defined;
        ProgramObject persistent;
        bool haunted;    /* it may have objects that it knows nothing of */
        bool wild;       /* what it has may vanish without a word */
        bool must_start; /* the TPM said that it was not started */
        Random random;   /* of this step */
        ProgramStep step;
        char contradiction[160]; /* "": none */
} Program;

/* One line of a transcript. */
typedef struct ProgramLine {
        const char *what;
        uint32_t rc;    /* its class */
        uint32_t n;     /* size of the answer */
        uint64_t hash;  /* of what follows from the program alone */
        uint64_t whole; /* hash of all of a good answer that no clock and no counter of saved contexts went into */
        uint32_t exact; /* the response code as it was */
} ProgramLine;

void program_init(Program *program, unsigned number, const ProgramLimits *limits);

/* The client is gone; the one that takes its place knows its contexts. */
void program_restart(Program *program);

/* Everything that it has may be gone, or not be what it was. */
void program_doubt(Program *program);

/* @foreign: the handle of somebody else's session. */
Message program_next(Program *program, uint64_t seed, TPM2_HANDLE foreign);
ProgramLine program_answer(Program *program, const uint8_t *bytes, size_t n_bytes);

/* A session that it has, for others to try; 0: none. */
TPM2_HANDLE program_session(const Program *program);
bool program_has_session(const Program *program, TPM2_HANDLE handle);

/* Codes of layer 11 and 0 are one; REFERENCE, HANDLE and VALUE of a handle, a session or a parameter are one. */
uint32_t program_class_of(uint32_t rc);

/* program-crypto.c */

#define HASH_BEGIN 0xCBF29CE484222325
uint64_t hash_bytes(uint64_t hash, const void *bytes, size_t n); /* to tell things apart, no more */

void sha256(uint8_t *ret_digest, const void *a, size_t n_a, const void *b, size_t n_b);
void hmac256(uint8_t *ret_digest, const uint8_t *key, size_t n_key, const void *a, size_t n_a);
size_t program_auth_value(uint8_t number, uint8_t *ret_value); /* at most 16 bytes */
void program_session_key(ProgramSession *session, const uint8_t *auth, size_t n_auth, const uint8_t *caller);

/* The key of a session's HMACs for an entity (Part 1, section 19.6.5). */
void program_key(const ProgramSession *session, ProgramAuth *auth);
void program_hmac(const ProgramSession *session, const ProgramAuth *auth, const uint8_t *hash, bool command,
                  uint8_t *ret_hmac);

#endif
