/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef TEST_FAKE_TPM_H
#define TEST_FAKE_TPM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <tss2/tss2_tpm2_types.h>

/*
 * A fake TPM
 *
 * The handles, slots, sessions and contexts of a TPM without its cryptography, for what a simulator cannot do: other
 * sizes, a narrow context gap, vendor commands, and answers that are wrong, late or lost. Objects have an identity, a
 * number that no other object ever has; ReadPublic, HMAC, Sign and the vendor commands answer with it. Nothing is
 * authorized: HMACs are neither checked nor made.
 */
typedef struct FakeTpm FakeTpm;

#define FAKE_CC_VENDOR_USE 0x20000001  /* an object's handle; identity, u64, and a number that follows from it, u64 */
#define FAKE_CC_VENDOR_MAKE 0x20000002 /* returns the handle of a new object; identity, u64 */
#define FAKE_CC_VENDOR_MORE 0x20000100 /* the first of those that do nothing */

/* What a command costs is told apart so far. */
typedef enum FakePace {
        FAKE_PACE_CHEAP, /* all that follow not */
        FAKE_PACE_MOVE_OBJECT,
        FAKE_PACE_MOVE_SESSION,
        FAKE_PACE_START, /* of a session */
        FAKE_PACE_LOAD,
        FAKE_PACE_USE,
        FAKE_PACE_CREATE,
        FAKE_PACES,
} FakePace;

FakePace fake_pace_of(TPM2_CC code, const uint8_t *command, size_t n_command);

typedef struct FakeTpmConfig {
        unsigned object_slots;
        unsigned session_slots;
        unsigned active_sessions;
        unsigned gap;             /* TPM_PT_CONTEXT_GAP_MAX: 2^n - 1 */
        unsigned memory;          /* TPMA_MEMORY; objectCopiedToRam makes persistent objects need a slot */
        unsigned page;            /* entries in one answer of GetCapability */
        unsigned vendor_commands; /* 0: none; 2: those above; what is more does nothing */
        unsigned max_command_size;
        unsigned max_response_size;
        unsigned max_object_context; /* as the property says */
        unsigned object_context;     /* as contexts are */
        unsigned session_context;
        unsigned pace;                /* ms for each command; see fake_tpm_delay() */
        unsigned pace_us[FAKE_PACES]; /* and so many microseconds for one of its kind */
} FakeTpmConfig;

/* As libtpms is. */
#define FAKE_TPM_CONFIG                                                                                                \
        ((FakeTpmConfig){                                                                                              \
                .object_slots = 3,                                                                                     \
                .session_slots = 3,                                                                                    \
                .active_sessions = 64,                                                                                 \
                .gap = 0xFFFF,                                                                                         \
                .memory = TPMA_MEMORY_SHAREDNV | TPMA_MEMORY_OBJECTCOPIEDTORAM,                                        \
                .page = 254,                                                                                           \
                .vendor_commands = 2,                                                                                  \
                .max_command_size = 4096,                                                                              \
                .max_response_size = 4096,                                                                             \
                .max_object_context = 2692,                                                                            \
                .object_context = 416,                                                                                 \
                .session_context = 404,                                                                                \
        })

/* Powered on; no Startup. NULL: FAKE_TPM_CONFIG. Return: NULL when there is no memory, or the sizes are impossible. */
FakeTpm *fake_tpm_new(const FakeTpmConfig *config);
FakeTpm *fake_tpm_free(FakeTpm *tpm);

/* Return: the size of the response; 0: it is lost. */
size_t fake_tpm_run(FakeTpm *tpm, const uint8_t *command, size_t n_command, uint8_t *response, size_t size);

/*
 * All that a TPM is, as plain bytes, so that a test can go back to it. A snapshot fits any TPM of the same
 * configuration.
 */
size_t fake_tpm_snapshot_size(const FakeTpm *tpm);
void fake_tpm_snapshot(const FakeTpm *tpm, void *ret_snapshot);
void fake_tpm_restore(FakeTpm *tpm, const void *snapshot);

/* How long the TPM took for the last command, in microseconds; it is for the caller to wait. */
unsigned fake_tpm_delay(const FakeTpm *tpm);

/* Power off and on again. What the Startup that follows is depends on the Shutdown before. */
void fake_tpm_reset(FakeTpm *tpm);

/* Failure mode, until the next reset. */
void fake_tpm_fail(FakeTpm *tpm);

/* Commands of a code run, or begun, since the start; 0: all of them. */
unsigned fake_tpm_count(const FakeTpm *tpm, TPM2_CC code);

typedef enum FakeFaultKind {
        FAKE_RC,          /* answers @rc and does nothing */
        FAKE_LOSE_BEFORE, /* does nothing, not even answer */
        FAKE_LOSE_AFTER,  /* does it, and does not answer */
        FAKE_BAD_SIZE,    /* does it; the answer says that it is longer than it is */
        FAKE_TRUNCATED,   /* does it; the answer's last byte is missing, and its size fits */
        FAKE_TRAILING,    /* does it; the answer is a byte longer, and its size fits */
        FAKE_LATE,        /* does it; the answer takes @ms more */
} FakeFaultKind;

#define FAKE_ALWAYS UINT32_MAX

typedef struct FakeFault {
        TPM2_CC code; /* 0: any */
        FakeFaultKind kind;
        TPM2_RC rc;
        unsigned after; /* so many of them are left alone first */
        unsigned count; /* how often; 0: once */
        unsigned ms;
} FakeFault;

/* Of several faults that fit, the first one happens. Return: false when there are too many. */
bool fake_tpm_inject(FakeTpm *tpm, const FakeFault *fault);

/* No fault is left, and no failure mode either. */
void fake_tpm_heal(FakeTpm *tpm);

#endif
