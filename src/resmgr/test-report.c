/* SPDX-License-Identifier: BSD-2-Clause */

/* What the resource manager tells of itself, and what is flushed on request; see test-rm.h. */
#include "resmgr/test-rm.h"

static void test_what_the_tpm_is(void **state) {
        Message answer = direct(cmd_get_capability(TPM2_CAP_TPM_PROPERTIES, TPM2_PT_MANUFACTURER, 7));
        TpmReader reader = TPM_READER(answer.bytes, answer.n);
        RmReport told = report();
        uint32_t values[7];

        tpm_read_bytes(&reader, TPM_HEADER_SIZE + 1 + 4 + 4);
        for (unsigned i = 0; i < 7; i++) {
                tpm_read_u32(&reader);
                values[i] = tpm_read_u32(&reader);
        }
        assert_false(reader.bad);
        assert_int_equal(told.manufacturer, values[0]);
        assert_memory_equal(told.vendor, values + 1, sizeof(told.vendor));
        assert_int_equal(told.firmware[0], values[6]);
        assert_true(told.manufacturer != 0 && told.firmware[0] != 0 && told.revision > 100);
        assert_int_equal(told.sessions_max, 64);
        assert_int_equal(told.gap_max, 0xFFFF);
}

static void test_objects(void **state) {
        uint32_t n_objects, n_sessions;
        TPM2_HANDLE first;

        for (unsigned i = 0; i < 5; i++) {
                TPM2_HANDLE handle = handle_of(i % 2, cmd_create_primary(TPM2_RH_OWNER, (uint8_t)i));

                first = i == 0 ? handle : first;
        }
        assert_int_equal(report().n_objects, 5);
        assert_int_equal(report().n_objects_loaded, 3);
        assert_int_equal(report().object_slots, 3);
        rm_report_space(rm, spaces[0], &n_objects, &n_sessions);
        assert_int_equal(n_objects, 3);
        assert_int_equal(n_sessions, 0);
        succeed(0, cmd_with_handle(TPM2_CC_FlushContext, first));
        assert_int_equal(report().n_objects, 4);
}

/* Counted for what a command names, once, however often it is sent. */
static void test_hits_and_misses(void **state) {
        const RmCounters *counters = rm_counters(rm);
        TPM2_HANDLE objects[4], session = handle_of(0, cmd_start_session(TPM2_SE_HMAC));
        TestAuth auth = { session, TPMA_SESSION_CONTINUESESSION | TPMA_SESSION_AUDIT };
        RmCounters before;

        for (unsigned i = 0; i < 4; i++)
                objects[i] = handle_of(0, cmd_create_primary(TPM2_RH_OWNER, (uint8_t)i));
        before = *counters;
        succeed(0, cmd_with_handle(TPM2_CC_ReadPublic, objects[3]));
        succeed(0, cmd_get_random_auth(4, &auth, 1));
        assert_int_equal(counters->hits - before.hits, 2);
        assert_int_equal(counters->misses - before.misses, 0);
        succeed(0, cmd_with_handle(TPM2_CC_ReadPublic, objects[0]));
        assert_int_equal(counters->hits - before.hits, 2);
        assert_int_equal(counters->misses - before.misses, 1);
        assert_int_equal(counters->loads - before.loads, 1);
        assert_int_equal(counters->evictions - before.evictions, 1);
        assert_true(counters->saves >= before.saves);
        assert_true(counters->evictions <= counters->saves);
}

static unsigned n_retries;

static bool retry_twice(const Message *command, Message *ret_response) {
        TpmReader reader = TPM_READER(command->bytes, command->n);

        if (tpm_read_header(&reader).code != TPM2_CC_ReadPublic || n_retries == 2)
                return false;
        n_retries++;
        *ret_response = cmd_simple(TPM2_RC_RETRY);
        return true;
}

static void test_a_command_that_is_sent_again_counts_once(void **state) {
        TPM2_HANDLE object = handle_of(0, cmd_create_primary(TPM2_RH_OWNER, 1));
        uint64_t before = rm_counters(rm)->hits;

        n_retries = 0;
        intercept = retry_twice;
        succeed(0, cmd_with_handle(TPM2_CC_ReadPublic, object));
        intercept = NULL;
        assert_int_equal(n_retries, 2);
        assert_int_equal(rm_counters(rm)->hits - before, 1);
}

static void test_sessions(void **state) {
        TPM2_HANDLE owned, saved, abandoned;
        uint32_t n_objects, n_sessions;
        Message context;

        rm_set_time(rm, 1000);
        owned = handle_of(0, cmd_start_session(TPM2_SE_POLICY));
        rm_set_time(rm, 2000);
        saved = handle_of(0, cmd_start_session(TPM2_SE_POLICY));
        abandoned = handle_of(1, cmd_start_session(TPM2_SE_HMAC));
        succeed(1, cmd_with_handle(TPM2_CC_ContextSave, abandoned));
        succeed(0, cmd_with_handle(TPM2_CC_ContextSave, saved));
        rm_report_space(rm, spaces[0], &n_objects, &n_sessions);
        assert_int_equal(n_sessions, 2);
        rm_space_close(rm, spaces[1]);

        assert_int_equal(report().n_sessions[RM_LIVE], 1);
        assert_int_equal(report().n_sessions[RM_CLIENT_SAVED], 1);
        assert_int_equal(report().n_sessions[RM_ABANDONED], 1);
        assert_int_equal(report().n_sessions_loaded, 1);
        assert_int_equal(session_report(owned).state, RM_LIVE);
        assert_true(session_report(owned).loaded);
        assert_int_equal(session_report(owned).since, 1000);
        assert_int_equal(session_report(owned).space, spaces[0]);
        assert_int_equal(session_report(saved).state, RM_CLIENT_SAVED);
        assert_false(session_report(saved).loaded);
        assert_int_equal(session_report(saved).since, 2000);
        assert_int_equal(session_report(saved).gap, 0);
        assert_int_equal(session_report(abandoned).state, RM_ABANDONED);
        assert_int_equal(session_report(abandoned).uid, 1001);
        assert_int_equal(session_report(abandoned).space, RM_NONE);
        assert_int_equal(session_report(abandoned).gap, 1);
        assert_int_equal(report().gap, 1);

        /* Somebody else's, saved before we came. */
        context = direct(cmd_start_session(TPM2_SE_HMAC));
        direct(cmd_with_handle(TPM2_CC_ContextSave, message_handle(&context)));
        doubt_tables();
        chores(RM_CHORE_DUE);
        assert_int_equal(report().n_sessions[RM_LEFT_OVER], 1);
        assert_int_equal(session_report(message_handle(&context) & ~0x01000000u).state, RM_LEFT_OVER);
}

static void test_flush_a_client(void **state) {
        TPM2_HANDLE objects[5], session = handle_of(0, cmd_start_session(TPM2_SE_POLICY));
        TPM2_HANDLE saved = handle_of(0, cmd_start_session(TPM2_SE_POLICY));
        TPM2_HANDLE others = handle_of(1, cmd_create_primary(TPM2_RH_OWNER, 9));
        TPM2_HANDLE others_session = handle_of(1, cmd_start_session(TPM2_SE_POLICY));
        Message context = succeed(0, cmd_with_handle(TPM2_CC_ContextSave, saved));
        uint32_t n_objects, n_sessions;

        for (unsigned i = 0; i < 5; i++)
                objects[i] = handle_of(0, cmd_create_primary(TPM2_RH_OWNER, (uint8_t)i));
        rm_flush_space(rm, spaces[0], &n_objects, &n_sessions);
        assert_int_equal(n_objects, 5);
        assert_int_equal(n_sessions, 2);
        chores(RM_CHORE_CLEANUP);
        assert_int_equal(tpm_count(TPM2_HT_TRANSIENT) + tpm_count(TPM2_HT_SAVED_SESSION), report().n_objects_loaded);
        assert_int_equal(report().n_objects, 1);
        for (unsigned i = 0; i < 5; i++)
                assert_int_equal(rc_of(0, cmd_with_handle(TPM2_CC_ReadPublic, objects[i])), 0xB0910);
        assert_int_equal(rc_of(0, cmd_policy_pcr(session)), 0xB0910);
        assert_int_not_equal(rc_of(0, load_context(&context)), 0);
        /* It may go on, and the other one never noticed. */
        assert_int_equal(handle_of(0, cmd_create_primary(TPM2_RH_OWNER, 1)), 0x80000000);
        succeed(1, cmd_with_handle(TPM2_CC_ReadPublic, others));
        succeed(1, cmd_policy_pcr(others_session));
}

static void test_flush_what_is_nobodys(void **state) {
        TPM2_HANDLE abandoned = handle_of(0, cmd_start_session(TPM2_SE_POLICY));
        TPM2_HANDLE saved = handle_of(1, cmd_start_session(TPM2_SE_POLICY));
        Message left_over = direct(cmd_start_session(TPM2_SE_HMAC));
        Message context;

        succeed(0, cmd_with_handle(TPM2_CC_ContextSave, abandoned));
        context = succeed(1, cmd_with_handle(TPM2_CC_ContextSave, saved));
        direct(cmd_with_handle(TPM2_CC_ContextSave, message_handle(&left_over)));
        doubt_tables();
        chores(RM_CHORE_DUE);
        rm_space_close(rm, spaces[0]);
        assert_int_equal(tpm_count(TPM2_HT_SAVED_SESSION), 3);

        assert_int_equal(rm_flush_sessions(rm, RM_ABANDONED), 1);
        chores(RM_CHORE_CLEANUP);
        assert_int_equal(tpm_count(TPM2_HT_SAVED_SESSION), 2);
        assert_int_equal(rm_flush_sessions(rm, RM_ABANDONED), 0);
        assert_int_equal(rm_flush_sessions(rm, RM_LEFT_OVER), 1);
        chores(RM_CHORE_CLEANUP);
        assert_int_equal(tpm_count(TPM2_HT_SAVED_SESSION), 1);
        assert_int_equal(handle_of(1, load_context(&context)), saved);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                RM_TEST(test_what_the_tpm_is),
                RM_TEST(test_objects),
                RM_TEST(test_hits_and_misses),
                RM_TEST(test_a_command_that_is_sent_again_counts_once),
                RM_TEST(test_sessions),
                RM_TEST(test_flush_a_client),
                RM_TEST(test_flush_what_is_nobodys),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
