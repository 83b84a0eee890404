/* SPDX-License-Identifier: BSD-2-Clause */

/* GetCapability; see test-rm.h. */
#include "resmgr/test-rm.h"

static void test_c1_c2_f12_lists_are_the_clients_own(void **state) {
        Message list;
        uint8_t more;
        TPM2_HANDLE session;

        for (unsigned i = 0; i < 5; i++)
                handle_of(0, cmd_create_primary(TPM2_RH_OWNER, i));
        session = handle_of(0, cmd_start_session(TPM2_SE_POLICY));
        n_sent = 0;
        list = succeed(0, cmd_get_capability(TPM2_CAP_HANDLES, 0x80000000, 254));
        assert_int_equal(count_handles(&list, &more), 5);
        assert_int_equal(more, 0);
        list = succeed(0, cmd_get_capability(TPM2_CAP_HANDLES, 0x80000001, 3));
        assert_int_equal(count_handles(&list, &more), 3);
        assert_int_equal(more, 1);
        list = succeed(0, cmd_get_capability(TPM2_CAP_HANDLES, 0x80000000, 0));
        assert_int_equal(count_handles(&list, &more), 0);
        assert_int_equal(more, 1);
        list = succeed(1, cmd_get_capability(TPM2_CAP_HANDLES, 0x80000000, 254));
        assert_int_equal(count_handles(&list, &more), 0);
        list = succeed(0, cmd_get_capability(TPM2_CAP_HANDLES, 0x02000000, 254));
        assert_int_equal(count_handles(&list, &more), 1);
        list = succeed(1, cmd_get_capability(TPM2_CAP_HANDLES, 0x02000000, 254));
        assert_int_equal(count_handles(&list, &more), 0);
        assert_int_equal(n_sent, 0);
        succeed(0, cmd_with_handle(TPM2_CC_ContextSave, session));
        list = succeed(0, cmd_get_capability(TPM2_CAP_HANDLES, 0x03000000, 254));
        assert_int_equal(count_handles(&list, &more), 1);
        /* the PCRs are everybody's */
        n_sent = 0;
        list = succeed(0, cmd_get_capability(TPM2_CAP_HANDLES, 0, 4));
        assert_int_equal(count_handles(&list, &more), 4);
        assert_int_equal(n_sent, 1);
}

static void test_c9_f1_refused_capability(void **state) {
        assert_int_equal(rc_of(0, cmd_simple(TPM2_CC_GetCapability)), 0x1DA);
        assert_int_equal(rc_of(0, cmd_get_capability(0x99, 0, 1)), 0x1C4);
}

static void test_s18_context_commands_with_sessions(void **state) {
        TPM2_HANDLE key = handle_of(0, cmd_create_primary(TPM2_RH_OWNER, 1));
        Message flush = cmd_with_handle(TPM2_CC_FlushContext, key);
        Message bare;

        flush.bytes[1] = 0x02;
        bare = direct(flush);
        assert_int_equal(rc_of(0, flush), message_rc(&bare));
        flush = cmd_with_handle(TPM2_CC_FlushContext, key);
        flush.bytes[flush.n++] = 0;
        tpm_put_u32(flush.bytes + 2, flush.n);
        assert_int_equal(rc_of(0, flush), RM_RC(0x95));
        succeed(0, cmd_with_handle(TPM2_CC_ReadPublic, key));
}

static uint32_t property_of(unsigned client, TPM2_PT property) {
        Message list = succeed(client, cmd_get_capability(TPM2_CAP_TPM_PROPERTIES, property, 1));
        TpmReader reader = TPM_READER(list.bytes, list.n);

        tpm_read_bytes(&reader, TPM_HEADER_SIZE + 9);
        assert_int_equal(tpm_read_u32(&reader), property);
        return tpm_read_u32(&reader);
}

static void test_c4_context_gap_is_hidden(void **state) {
        assert_true(property_of(0, TPM2_PT_CONTEXT_GAP_MAX) == UINT32_MAX);
        assert_int_equal(report().gap_max, 0xFFFF);
}

static void test_c5_limits_of_the_tpm_stand(void **state) {
        assert_int_equal(property_of(0, TPM2_PT_HR_TRANSIENT_MIN), 3);
        assert_int_equal(property_of(0, TPM2_PT_HR_LOADED_MIN), 3);
        assert_int_equal(property_of(0, TPM2_PT_ACTIVE_SESSIONS_MAX), 64);
}

static void test_c6_memory_is_the_clients_own(void **state) {
        TPM2_HANDLE session;

        for (unsigned i = 0; i < 5; i++)
                handle_of(0, cmd_create_primary(TPM2_RH_OWNER, i));
        for (unsigned i = 0; i < 4; i++)
                handle_of(0, cmd_start_session(TPM2_SE_HMAC));
        session = handle_of(0, cmd_start_session(TPM2_SE_POLICY));
        succeed(0, cmd_with_handle(TPM2_CC_ContextSave, session));
        assert_int_equal(property_of(0, TPM2_PT_HR_LOADED), 4);
        assert_int_equal(property_of(0, TPM2_PT_HR_ACTIVE), 5);
        assert_int_equal(property_of(0, TPM2_PT_HR_LOADED_AVAIL), LIMITS.sessions_per_space - 5);
        assert_int_equal(property_of(0, TPM2_PT_HR_ACTIVE_AVAIL), LIMITS.sessions_per_space - 5);
        assert_int_equal(property_of(0, TPM2_PT_HR_TRANSIENT_AVAIL), LIMITS.objects_per_space - 5);
        assert_int_equal(property_of(1, TPM2_PT_HR_LOADED), 0);
        assert_int_equal(property_of(1, TPM2_PT_HR_ACTIVE), 0);
        assert_int_equal(property_of(1, TPM2_PT_HR_TRANSIENT_AVAIL), LIMITS.objects_per_space);
        for (unsigned i = 0; i < 34; i++)
                handle_of(2, cmd_start_session(TPM2_SE_HMAC));
        /* what the TPM has left is less than the quota, and is one's own to take */
        assert_int_equal(property_of(1, TPM2_PT_HR_ACTIVE_AVAIL), 64 - 5 - 34);
}

static void test_c7_lists_keep_their_length(void **state) {
        Message bare, list;

        for (uint32_t from = 0x100; from <= 0x220; from += 0x20)
                for (uint32_t n = 0; n < 130; n += 43) {
                        bare = direct(cmd_get_capability(TPM2_CAP_TPM_PROPERTIES, from, n));
                        list = call(0, cmd_get_capability(TPM2_CAP_TPM_PROPERTIES, from, n));
                        assert_int_equal(list.n, bare.n);
                        assert_memory_equal(list.bytes, bare.bytes, TPM_HEADER_SIZE + 9);
                }
}

static void test_c3_other_lists_are_the_tpms(void **state) {
        const uint32_t starts[] = {
                0x00000000, 0x01000000, 0x40000000, 0x81000000, 0x90000000, 0x05000000, 0xFF000000
        };

        for (unsigned i = 0; i < sizeof(starts) / sizeof(starts[0]); i++) {
                Message bare = direct(cmd_get_capability(TPM2_CAP_HANDLES, starts[i], 20));
                Message list = call(0, cmd_get_capability(TPM2_CAP_HANDLES, starts[i], 20));

                assert_int_equal(list.n, bare.n);
                assert_memory_equal(list.bytes, bare.bytes, bare.n);
        }
}

static Message under_session(Message command, TPM2_HANDLE session, uint8_t attributes) {
        TpmReader reader = TPM_READER(command.bytes, command.n);
        TpmHeader header = tpm_read_header(&reader);
        Message m;
        TpmWriter w = TPM_WRITER(m.bytes, sizeof(m.bytes));

        tpm_write_begin(&w, TPM2_ST_SESSIONS, header.code);
        tpm_write_u32(&w, 9);
        tpm_write_u32(&w, session);
        tpm_write_u16(&w, 0);
        tpm_write_u8(&w, attributes);
        tpm_write_u16(&w, 0);
        tpm_write_bytes(&w, command.bytes + TPM_HEADER_SIZE, command.n - TPM_HEADER_SIZE);
        m.n = tpm_write_end(&w);
        return m;
}

static void test_c8_nothing_is_edited_under_a_session(void **state) {
        TPM2_HANDLE session = handle_of(0, cmd_start_session(TPM2_SE_HMAC));
        Message list;
        TpmReader reader;

        assert_int_equal(rc_of(0, under_session(cmd_get_capability(TPM2_CAP_HANDLES, 0x80000000, 9), session, 0x81)),
                         0xB0145);
        list = succeed(0, under_session(cmd_get_capability(TPM2_CAP_TPM_PROPERTIES, TPM2_PT_CONTEXT_GAP_MAX, 1),
                                        session, 0x81));
        reader = TPM_READER(list.bytes, list.n);
        tpm_read_bytes(&reader, TPM_HEADER_SIZE + 4 + 13);
        assert_int_equal(tpm_read_u32(&reader), 0xFFFF);
}

static void test_fixed_capabilities_cost_nothing(void **state) {
        Message first[4], again;
        const uint32_t queries[][3] = { { TPM2_CAP_ALGS, 0, 127 },
                                        { TPM2_CAP_COMMANDS, 0x11F, 254 },
                                        { TPM2_CAP_TPM_PROPERTIES, 0x100, 127 },
                                        { TPM2_CAP_ECC_CURVES, 0, 20 } };

        for (unsigned i = 0; i < 4; i++)
                first[i] = succeed(0, cmd_get_capability(queries[i][0], queries[i][1], queries[i][2]));
        n_sent = 0;
        for (unsigned k = 0; k < 500; k++) {
                const uint32_t *query = queries[k % 4];

                again = succeed(k % 3, cmd_get_capability(query[0], query[1], query[2]));
                assert_int_equal(again.n, first[k % 4].n);
                assert_memory_equal(again.bytes, first[k % 4].bytes, again.n);
        }
        assert_int_equal(n_sent, 0);
        /* more queries than there is room for */
        for (unsigned k = 0; k < 3 * RM_FIXED_MAX; k++)
                succeed(0, cmd_get_capability(TPM2_CAP_TPM_PROPERTIES, 0x100 + k % 40, 1));
        /* what varies is asked for */
        n_sent = 0;
        succeed(0, cmd_get_capability(TPM2_CAP_TPM_PROPERTIES, 0x200, 10));
        succeed(0, cmd_get_capability(TPM2_CAP_TPM_PROPERTIES, 0x200, 10));
        succeed(0, cmd_get_capability(TPM2_CAP_PCRS, 0, 10));
        succeed(0, cmd_get_capability(TPM2_CAP_PCRS, 0, 10));
        assert_int_equal(n_sent, 4);
}

static void test_fixed_capabilities_are_dropped(void **state) {
        const Message query = cmd_get_capability(TPM2_CAP_ALGS, 0, 127);

        succeed(0, query);
        succeed(1, cmd_clear());
        n_sent = 0;
        succeed(0, query);
        assert_in_range(n_sent, 1, 2);
        rm_forget_residents(rm);
        chores(RM_CHORE_DUE);
        n_sent = 0;
        succeed(0, query);
        assert_int_equal(n_sent, 1);
}

/* A bare TPM ends an exclusive audit session at any command without it: an answer from a copy must not spare it that.
 */
static void test_exclusive_audit_ends_as_on_a_bare_tpm(void **state) {
        const Message query = cmd_get_capability(TPM2_CAP_ALGS, 0, 127);
        const Message list = cmd_get_capability(TPM2_CAP_HANDLES, 0x80000000, 5);
        TPM2_HANDLE session = handle_of(0, cmd_start_session(TPM2_SE_HMAC));
        const TestAuth audit = { session, 0x81 }, exclusive = { session, 0x83 };

        check_claims = false; /* its questions would end it */
        succeed(0, query);
        for (unsigned i = 0; i < 2; i++) {
                const TestAuth reset = { session, 0x85 };

                succeed(0, cmd_get_random_auth(4, &reset, 1));
                succeed(0, cmd_get_random_auth(4, &exclusive, 1));
                n_sent = 0;
                succeed(0, i == 0 ? query : list);
                assert_int_equal(n_sent, 1);
                assert_int_equal(rc_of(0, cmd_get_random_auth(4, &exclusive, 1)), TPM2_RC_EXCLUSIVE);
        }
        succeed(0, cmd_get_random_auth(4, &audit, 1));
}

/* X11: evictions, loads and saves of other clients' contexts leave the exclusive session exclusive. */
static void test_x11_exclusive_audit_survives_evictions(void **state) {
        TPM2_HANDLE session = handle_of(0, cmd_start_session(TPM2_SE_HMAC));
        const TestAuth reset = { session, 0x85 }, exclusive = { session, 0x83 };

        check_claims = false; /* its questions would end it */
        for (unsigned i = 0; i < 5; i++) {
                handle_of(1, cmd_create_primary(TPM2_RH_OWNER, i));
                handle_of(1, cmd_start_session(TPM2_SE_HMAC));
        }
        succeed(0, cmd_get_random_auth(4, &reset, 1));
        for (unsigned i = 0; i < 5; i++) {
                chores(RM_CHORE_EVICT);
                succeed(0, cmd_get_random_auth(4, &exclusive, 1));
                succeed(1, cmd_with_handle(TPM2_CC_ContextSave, 0x80000000 + i));
                succeed(1, cmd_with_handle(TPM2_CC_FlushContext, 0x80000000 + i));
                chores(RM_CHORE_SAVE);
                chores(RM_CHORE_CLEANUP);
        }
}

static Message set_audit(TPM2_CC set, TPM2_CC clear) {
        Message m;
        TpmWriter w = TPM_WRITER(m.bytes, sizeof(m.bytes));

        tpm_write_begin(&w, TPM2_ST_SESSIONS, TPM2_CC_SetCommandCodeAuditStatus);
        tpm_write_u32(&w, TPM2_RH_OWNER);
        tpm_write_u32(&w, 9);
        tpm_write_u32(&w, TPM2_RH_PW);
        tpm_write_u16(&w, 0);
        tpm_write_u8(&w, 0);
        tpm_write_u16(&w, 0);
        tpm_write_u16(&w, TPM2_ALG_NULL);
        tpm_write_u32(&w, set != 0);
        if (set)
                tpm_write_u32(&w, set);
        tpm_write_u32(&w, clear != 0);
        if (clear)
                tpm_write_u32(&w, clear);
        m.n = tpm_write_end(&w);
        return m;
}

static void test_audited_capabilities_reach_the_tpm(void **state) {
        const Message query = cmd_get_capability(TPM2_CAP_ALGS, 0, 127);

        succeed(0, query);
        succeed(1, set_audit(TPM2_CC_GetCapability, 0));
        n_sent = 0;
        succeed(0, query);
        assert_int_equal(n_sent, 1);
        /* known also to one that starts afterwards */
        rm_test_restart();
        succeed(0, query);
        n_sent = 0;
        succeed(0, query);
        assert_int_equal(n_sent, 1);
        succeed(1, set_audit(0, TPM2_CC_GetCapability));
        succeed(0, query);
        n_sent = 0;
        succeed(0, query);
        assert_int_equal(n_sent, 0);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                RM_TEST(test_c1_c2_f12_lists_are_the_clients_own),
                RM_TEST(test_c9_f1_refused_capability),
                RM_TEST(test_s18_context_commands_with_sessions),
                RM_TEST(test_c4_context_gap_is_hidden),
                RM_TEST(test_c5_limits_of_the_tpm_stand),
                RM_TEST(test_c6_memory_is_the_clients_own),
                RM_TEST(test_c7_lists_keep_their_length),
                RM_TEST(test_c3_other_lists_are_the_tpms),
                RM_TEST(test_c8_nothing_is_edited_under_a_session),
                RM_TEST(test_fixed_capabilities_cost_nothing),
                RM_TEST(test_fixed_capabilities_are_dropped),
                RM_TEST(test_exclusive_audit_ends_as_on_a_bare_tpm),
                RM_TEST(test_x11_exclusive_audit_survives_evictions),
                RM_TEST(test_audited_capabilities_reach_the_tpm),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
