/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef TEST_FAKE_TPM_PRIVATE_H
#define TEST_FAKE_TPM_PRIVATE_H

#include "test/lib/fake-tpm.h"
#include "tpm/command.h"
#include "tpm/reader.h"
#include "tpm/writer.h"

#define FAKE_PERSISTENT_MAX 16
#define FAKE_FAULTS_MAX 16
#define FAKE_PCRS 24
#define FAKE_DIGEST_SIZE 32

/* Parameter, handle and session numbers are one-based in codes of format one. */
#define FAKE_P(rc, n) ((rc) | TPM2_RC_P | (uint32_t)(n) << 8)
#define FAKE_H(rc, n) ((rc) | (uint32_t)(n) << 8)
#define FAKE_S(rc, n) ((rc) | TPM2_RC_S | (uint32_t)(n) << 8)

typedef enum FakeObjectState {
        FAKE_OBJECT_NONE,
        FAKE_OBJECT_KEY,
        FAKE_OBJECT_SEQUENCE,
        FAKE_OBJECT_EVENT_SEQUENCE,
} FakeObjectState;

typedef struct FakeObject {
        FakeObjectState state;
        bool temporary; /* for this command alone */
        bool stclear;
        TPM2_HANDLE handle; /* of a persistent one */
        TPM2_HANDLE hierarchy;
        uint64_t identity;
        uint64_t value; /* of sequences: a checksum of what was hashed */
} FakeObject;

typedef enum FakeSessionState {
        FAKE_SESSION_NONE,
        FAKE_SESSION_LOADED,
        FAKE_SESSION_SAVED,
} FakeSessionState;

typedef struct FakeSession {
        FakeSessionState state;
        bool policy;
        uint64_t sequence; /* of its context, when saved */
        uint64_t digest;
        uint64_t uses;
} FakeSession;

typedef enum FakeHierarchyIndex {
        FAKE_OWNER,
        FAKE_ENDORSEMENT,
        FAKE_PLATFORM,
        FAKE_NULL,
        FAKE_HIERARCHIES,
} FakeHierarchyIndex;

typedef struct FakeHierarchy {
        bool enabled;
        uint64_t proof;
} FakeHierarchy;

struct FakeTpm {
        FakeTpmConfig config;
        TpmCommandTable table;
        unsigned counts[TPM_COMMANDS_MAX]; /* in the order of the table */
        unsigned count;
        unsigned delay;
        FakeFault faults[FAKE_FAULTS_MAX];
        unsigned n_faults;

        bool started;
        bool failed;
        bool shut_down;  /* by Shutdown(STATE), and nothing has undone it */
        uint64_t secret; /* the last one given out */
        uint64_t reset_key;
        uint64_t clear_count;                /* Resets and Restarts */
        uint32_t reset_count, restart_count; /* as TPMS_CLOCK_INFO has them */
        uint64_t identity;                   /* the last one given out */
        uint64_t object_sequence;
        uint64_t session_sequence;
        uint8_t random;

        FakeHierarchy hierarchies[FAKE_HIERARCHIES];
        FakeObject *objects;                        /* by slot */
        FakeObject persistent[FAKE_PERSISTENT_MAX]; /* ascending by handle */
        unsigned n_persistent;
        FakeSession *sessions; /* by the low bits of the handle */
        unsigned n_loaded;
};

/* A command on its way. */
typedef struct FakeCall {
        TpmCommand command;
        FakeObject *objects[TPM_HANDLES_MAX]; /* NULL: that handle is none of an object */
        TpmReader in;
        unsigned n_read; /* parameters */
        TpmWriter out;
        TPM2_HANDLE handle; /* to return */
} FakeCall;

/*
 * What the table of commands says of one. Handles, a letter each: o object, k object or TPM_RH_NULL, h hierarchy,
 * P parent: object or hierarchy, p PCR, s policy session, c what has a context.
 */
typedef struct FakeCommand {
        uint32_t attributes; /* TPMA_CC */
        const char *handles;
        unsigned n_auths; /* handles that need an authorization; FAKE_NO_SESSIONS: none may be there */
        TPM2_RC (*run)(FakeTpm *tpm, FakeCall *call);
} FakeCommand;

#define FAKE_NO_SESSIONS UINT32_MAX

/* Parameters: each is counted, so that the code for a missing one can tell its number. */
uint8_t fake_read_u8(FakeCall *call);
uint16_t fake_read_u16(FakeCall *call);
uint32_t fake_read_u32(FakeCall *call);
const uint8_t *fake_read_2b(FakeCall *call, size_t *ret_n);
TPM2_RC fake_read_end(const FakeCall *call); /* INSUFFICIENT of the missing one, SIZE for trailing bytes */

void fake_write_2b(FakeCall *call, const void *bytes, size_t n);
void fake_write_digest(TpmWriter *writer, uint64_t value, uint64_t other); /* FAKE_DIGEST_SIZE bytes */
uint64_t fake_mix(uint64_t value, const void *bytes, size_t n);

FakeHierarchy *fake_hierarchy(FakeTpm *tpm, TPM2_HANDLE handle); /* NULL: it is none */
uint64_t fake_secret(FakeTpm *tpm);

/* Objects */
FakeObject *fake_object_new(FakeTpm *tpm); /* the lowest free slot; NULL: OBJECT_MEMORY */
TPM2_HANDLE fake_object_handle(const FakeTpm *tpm, const FakeObject *object);
FakeObject *fake_object_find(FakeTpm *tpm, TPM2_HANDLE handle); /* transient */
FakeObject *fake_persistent_find(FakeTpm *tpm, TPM2_HANDLE handle);
void fake_objects_flush(FakeTpm *tpm, TPM2_HANDLE hierarchy); /* 0: all */
TPM2_RC fake_create_primary(FakeTpm *tpm, FakeCall *call);
TPM2_RC fake_create_loaded(FakeTpm *tpm, FakeCall *call);
TPM2_RC fake_create(FakeTpm *tpm, FakeCall *call);
TPM2_RC fake_load(FakeTpm *tpm, FakeCall *call);
TPM2_RC fake_load_external(FakeTpm *tpm, FakeCall *call);
TPM2_RC fake_read_public(FakeTpm *tpm, FakeCall *call);
TPM2_RC fake_sign(FakeTpm *tpm, FakeCall *call);
TPM2_RC fake_hmac(FakeTpm *tpm, FakeCall *call);
TPM2_RC fake_evict_control(FakeTpm *tpm, FakeCall *call);
TPM2_RC fake_hash_start(FakeTpm *tpm, FakeCall *call);
TPM2_RC fake_hmac_start(FakeTpm *tpm, FakeCall *call);
TPM2_RC fake_sequence_update(FakeTpm *tpm, FakeCall *call);
TPM2_RC fake_sequence_complete(FakeTpm *tpm, FakeCall *call);
TPM2_RC fake_event_complete(FakeTpm *tpm, FakeCall *call);
TPM2_RC fake_vendor_use(FakeTpm *tpm, FakeCall *call);
TPM2_RC fake_vendor_make(FakeTpm *tpm, FakeCall *call);

/* Sessions and contexts */
FakeSession *fake_session_find(FakeTpm *tpm, TPM2_HANDLE handle); /* loaded, and of the handle's type */
bool fake_session_in_range(const FakeTpm *tpm, TPM2_HANDLE handle);
void fake_session_flush(FakeTpm *tpm, FakeSession *session);
void fake_sessions_start(FakeTpm *tpm, bool reset);
TPM2_RC fake_start_session(FakeTpm *tpm, FakeCall *call);
TPM2_RC fake_policy_pcr(FakeTpm *tpm, FakeCall *call);
TPM2_RC fake_policy_secret(FakeTpm *tpm, FakeCall *call);
TPM2_RC fake_policy_digest(FakeTpm *tpm, FakeCall *call);
TPM2_RC fake_policy_restart(FakeTpm *tpm, FakeCall *call);
TPM2_RC fake_context_save(FakeTpm *tpm, FakeCall *call);
TPM2_RC fake_context_load(FakeTpm *tpm, FakeCall *call);
TPM2_RC fake_flush_context(FakeTpm *tpm, FakeCall *call);

/* The TPM as a whole */
TPM2_RC fake_startup(FakeTpm *tpm, FakeCall *call);
TPM2_RC fake_read_clock(FakeTpm *tpm, FakeCall *call);
TPM2_RC fake_shutdown(FakeTpm *tpm, FakeCall *call);
TPM2_RC fake_clear(FakeTpm *tpm, FakeCall *call);
TPM2_RC fake_hierarchy_control(FakeTpm *tpm, FakeCall *call);
TPM2_RC fake_change_seed(FakeTpm *tpm, FakeCall *call);
TPM2_RC fake_get_random(FakeTpm *tpm, FakeCall *call);
TPM2_RC fake_get_test_result(FakeTpm *tpm, FakeCall *call);
TPM2_RC fake_self_test(FakeTpm *tpm, FakeCall *call);
TPM2_RC fake_get_capability(FakeTpm *tpm, FakeCall *call);

#endif
