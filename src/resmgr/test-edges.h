/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RESMGR_TEST_EDGES_H
#define RESMGR_TEST_EDGES_H

#include "resmgr/test-rm.h"

/* A TPM, see test-rm.h, that refuses what it is told to, and neighbours that meddle. */

#define RC_REFERENCE_H0 0x910
#define RC_REFERENCE_S0 0x918
#define TRANSIENT(n) (0x80000000u + (n))

/* Answers the next @n commands of @code with @rc, and notes the first handle of each. */
static struct {
        TPM2_CC code;
        uint32_t rc;
        unsigned n;
        TPM2_HANDLE handle;
} armed;

static inline bool answer_armed(const Message *command, Message *ret_response) {
        if (message_rc(command) != armed.code)
                return false;
        armed.handle = message_handle(command);
        if (armed.n == 0)
                return false;
        armed.n--;
        *ret_response = cmd_simple(armed.rc);
        return true;
}

static inline void arm(TPM2_CC code, uint32_t rc, unsigned n) {
        armed.code = code;
        armed.rc = rc;
        armed.n = n;
        intercept = answer_armed;
}

static inline TPM2_HANDLE new_key(unsigned client, uint8_t unique) {
        return handle_of(client, cmd_create_primary(TPM2_RH_OWNER, unique));
}

static inline TPM2_HANDLE new_session(unsigned client) {
        return handle_of(client, cmd_start_session(TPM2_SE_POLICY));
}

static inline Message save(unsigned client, TPM2_HANDLE handle) {
        return succeed(client, cmd_with_handle(TPM2_CC_ContextSave, handle));
}

static inline uint32_t rc_of_use(unsigned client, TPM2_HANDLE session) {
        return rc_of(client, cmd_with_handle(TPM2_CC_PolicyGetDigest, session));
}

static inline void use(unsigned client, TPM2_HANDLE session) {
        assert_int_equal(rc_of_use(client, session), TPM2_RC_SUCCESS);
}

static inline void use_key(unsigned client, TPM2_HANDLE key) {
        succeed(client, cmd_hmac(key, "x"));
}

static inline uint32_t rc_of_flush(unsigned client, TPM2_HANDLE handle) {
        return rc_of(client, cmd_with_handle(TPM2_CC_FlushContext, handle));
}

static inline void neighbour_flushes(TPM2_HANDLE handle) {
        Message response = direct(cmd_with_handle(TPM2_CC_FlushContext, handle));

        check_claims = false; /* the tables are wrong until somebody notices */
        assert_int_equal(message_rc(&response), TPM2_RC_SUCCESS);
}

static inline void reconcile(void) {
        doubt_tables();
        chores(RM_CHORE_DUE);
}

#endif
