/* SPDX-License-Identifier: BSD-2-Clause */

/* Warnings, stale tables, resets, lost and malformed answers; see test-rm.h. */
#include "resmgr/test-rm.h"
#include "test/lib/invariants.h"

/* Resends */

static unsigned n_retries;
static uint32_t retry_rc;
static TPM2_CC retry_code;
static Message retried;

static bool answer_retry(const Message *command, Message *ret_response) {
        TpmReader reader = TPM_READER(command->bytes, command->n);
        TpmWriter writer = TPM_WRITER(ret_response->bytes, sizeof(ret_response->bytes));

        if (tpm_read_header(&reader).code != retry_code)
                return false;
        if (retried.n > 0) {
                assert_int_equal(retried.n, command->n);
                assert_memory_equal(retried.bytes, command->bytes, command->n);
        }
        retried = *command;
        if (n_retries == 0)
                return false;
        n_retries--;
        tpm_write_begin(&writer, TPM2_ST_NO_SESSIONS, retry_rc);
        ret_response->n = tpm_write_end(&writer);
        return true;
}

static void test_x4_x5_retry_sends_the_original_bytes_again(void **state) {
        TPM2_HANDLE key = handle_of(0, cmd_create_primary(TPM2_RH_OWNER, 1));
        const uint32_t RCS[] = { TPM2_RC_RETRY, TPM2_RC_TESTING, TPM2_RC_YIELDED };

        intercept = answer_retry;
        for (unsigned i = 0; i < 3; i++) {
                retried.n = 0;
                n_retries = 3;
                n_pauses = 0;
                retry_rc = RCS[i];
                retry_code = TPM2_CC_HMAC;
                succeed(0, cmd_hmac(key, "again"));
                assert_int_equal(n_pauses, 3);
        }
        retried.n = 0;
        n_retries = 1000;
        assert_int_equal(rc_of(0, cmd_hmac(key, "again")), TPM2_RC_YIELDED);
        n_retries = 0;
}

static void test_retry_on_our_own_commands(void **state) {
        intercept = answer_retry;
        retry_rc = TPM2_RC_RETRY;
        for (unsigned i = 0; i < 3; i++) {
                retry_code = (TPM2_CC[]){ TPM2_CC_ContextLoad, TPM2_CC_ContextSave, TPM2_CC_FlushContext }[i];
                for (unsigned k = 0; k < 8; k++) {
                        retried.n = 0;
                        n_retries = 2;
                        if (i == 0 && n_objects_of(k) == 0)
                                handle_of(k, cmd_create_primary(TPM2_RH_OWNER, k));
                        retried.n = 0;
                        if (i > 0)
                                succeed(k, cmd_sequence_update(handle_of(k, cmd_hash_start()), "x"));
                        retried.n = 0;
                        succeed(k, cmd_hmac(0x80000000, "x"));
                }
        }
        n_retries = 0;
        retried.n = 0;
        intercept = NULL;
}

/* A warning in the middle of a chain of repairs: the resent command is the original, with new handles. */
static bool answer_memory_once(const Message *command, Message *ret_response) {
        TpmReader reader = TPM_READER(command->bytes, command->n);
        TpmWriter writer = TPM_WRITER(ret_response->bytes, sizeof(ret_response->bytes));

        if (tpm_read_header(&reader).code != TPM2_CC_HMAC || n_retries == 0)
                return false;
        n_retries--;
        tpm_write_begin(&writer, TPM2_ST_NO_SESSIONS, retry_rc);
        ret_response->n = tpm_write_end(&writer);
        return true;
}

static void test_h14_memory_warnings_evict(void **state) {
        const uint32_t RCS[] = { TPM2_RC_OBJECT_MEMORY, TPM2_RC_OBJECT_HANDLES, TPM2_RC_MEMORY,
                                 TPM2_RC_SESSION_MEMORY };

        intercept = answer_memory_once;
        for (unsigned i = 0; i < 3; i++)
                handle_of(i, cmd_create_primary(TPM2_RH_OWNER, i));
        for (unsigned i = 0; i < 2; i++)
                handle_of(i, cmd_start_session(TPM2_SE_HMAC));
        for (unsigned i = 0; i < 4; i++) {
                n_retries = 1;
                retry_rc = RCS[i];
                succeed(i % 3, cmd_hmac(0x80000000, "memory"));
                for (unsigned k = 0; k < 3; k++)
                        succeed(k, cmd_hmac(0x80000000, "memory"));
        }
        /* hopeless: its code is passed on, the second time at once */
        n_retries = 100;
        retry_rc = TPM2_RC_OBJECT_MEMORY;
        assert_int_equal(rc_of(0, cmd_hmac(0x80000000, "memory")), TPM2_RC_OBJECT_MEMORY);
        n_sent = 0;
        assert_int_equal(rc_of(0, cmd_hmac(0x80000000, "memory")), TPM2_RC_OBJECT_MEMORY);
        assert_in_range(n_sent, 1, 2);
        n_retries = 0;
        succeed(0, cmd_hmac(0x80000000, "memory"));
}

static void test_h14_neighbour_fills_the_slots(void **state) {
        TPM2_HANDLE foreign[3];
        Message response;

        for (unsigned i = 0; i < 3; i++) {
                response = direct(cmd_hash_start());
                foreign[i] = message_handle(&response);
        }
        assert_int_equal(rc_of(0, cmd_create_primary(TPM2_RH_OWNER, 1)), TPM2_RC_OBJECT_MEMORY);
        direct(cmd_with_handle(TPM2_CC_FlushContext, foreign[0]));
        handle_of(0, cmd_create_primary(TPM2_RH_OWNER, 1));
        handle_of(1, cmd_create_primary(TPM2_RH_OWNER, 2));
        succeed(0, cmd_hmac(0x80000000, "x"));
        succeed(1, cmd_hmac(0x80000000, "x"));
        direct(cmd_with_handle(TPM2_CC_FlushContext, foreign[1]));
        direct(cmd_with_handle(TPM2_CC_FlushContext, foreign[2]));
        /* All three slots are used again: nothing was learned from the neighbour. */
        for (unsigned i = 0; i < 2; i++)
                for (unsigned k = 0; k < 3; k++) {
                        if (i == 0 && k == 2)
                                handle_of(k, cmd_create_primary(TPM2_RH_OWNER, k));
                        succeed(k, cmd_hmac(0x80000000, "x"));
                }
        assert_int_equal(report().n_objects_loaded, 3);
}

/* Stale tables and the alias rule */

static void test_x6_neighbour_flushes_what_is_saved(void **state) {
        TPM2_HANDLE a = handle_of(0, cmd_create_primary(TPM2_RH_OWNER, 1));

        succeed(0, cmd_with_handle(TPM2_CC_ContextSave, a));
        check_claims = false;
        direct(cmd_with_handle(TPM2_CC_FlushContext, 0x80000000));
        succeed(0, cmd_hmac(a, "back from the copy"));
        direct(cmd_with_handle(TPM2_CC_FlushContext, 0x80000000));
        check_claims = true;
        handle_of(1, cmd_create_primary(TPM2_RH_OWNER, 2));
        succeed(0, cmd_hmac(a, "and again"));
}

static void test_x6_neighbour_flushes_what_was_never_saved(void **state) {
        TPM2_HANDLE a = handle_of(0, cmd_create_primary(TPM2_RH_OWNER, 1));

        check_claims = false;
        direct(cmd_with_handle(TPM2_CC_FlushContext, 0x80000000));
        assert_int_equal(rc_of(0, cmd_hmac(a, "gone")), 0x910);
        assert_int_equal(rc_of(0, cmd_hmac(a, "gone")), 0xB0910);
}

static void test_x6_p1_alias_after_reset_never_reaches_another_key(void **state) {
        TPM2_HANDLE a = handle_of(0, cmd_create_primary(TPM2_RH_OWNER, 1));
        TPM2_HANDLE b;
        Message mine, theirs;

        check_claims = false;
        inprocess_reset();
        direct(cmd_startup(TPM2_SU_CLEAR));
        b = handle_of(1, cmd_create_primary(TPM2_RH_OWNER, 2));
        check_claims = true;
        assert_int_equal(rc_of(0, cmd_with_handle(TPM2_CC_ReadPublic, a)), 0xB0910);
        mine = succeed(1, cmd_with_handle(TPM2_CC_ReadPublic, b));
        a = handle_of(0, cmd_create_primary(TPM2_RH_OWNER, 1));
        theirs = succeed(0, cmd_with_handle(TPM2_CC_ReadPublic, a));
        assert_memory_not_equal(mine.bytes, theirs.bytes, mine.n);
        succeed(1, cmd_with_handle(TPM2_CC_ReadPublic, b));
}

static void test_h10_f15_clear(void **state) {
        TPM2_HANDLE a = handle_of(0, cmd_create_primary(TPM2_RH_OWNER, 1));
        TPM2_HANDLE b = handle_of(1, cmd_create_primary(TPM2_RH_NULL, 2));
        TPM2_HANDLE c = handle_of(2, cmd_create_primary(TPM2_RH_OWNER, 3));
        Message list, saved;
        uint8_t more;

        saved = succeed(2, cmd_with_handle(TPM2_CC_ContextSave, c));
        succeed(3, cmd_clear());
        list = succeed(2, cmd_get_capability(TPM2_CAP_HANDLES, 0x80000000, 254));
        assert_int_equal(count_handles(&list, &more), 0);
        list = succeed(0, cmd_get_capability(TPM2_CAP_HANDLES, 0x80000000, 254));
        assert_int_equal(count_handles(&list, &more), 0);
        succeed(1, cmd_hmac(b, "still there"));
        handle_of(1, cmd_create_primary(TPM2_RH_OWNER, 4));
        assert_int_equal(rc_of(0, cmd_hmac(a, "gone")), 0xB0910);
        assert_int_equal(rc_of(2, cmd_hmac(c, "gone")), 0xB0910);
        assert_int_equal(rc_of(2, load_context(&saved)), 0x1DF);
}

static void test_p6_hierarchy_off_and_on(void **state) {
        TPM2_HANDLE a = handle_of(0, cmd_create_primary(TPM2_RH_OWNER, 1));
        Message saved = succeed(0, cmd_with_handle(TPM2_CC_ContextSave, a));

        succeed(1, cmd_hierarchy_control(TPM2_RH_OWNER, TPM2_NO));
        assert_int_equal(rc_of(0, cmd_hmac(a, "off")), 0xB0910);
        assert_int_equal(rc_of(0, load_context(&saved)), 0x1C5);
        inprocess_reset();
        direct(cmd_startup(TPM2_SU_CLEAR));
        rm_forget_residents(rm);
        chores(RM_CHORE_DUE);
}

static void test_reset_that_was_noticed(void **state) {
        TPM2_HANDLE key = handle_of(0, cmd_create_primary(TPM2_RH_OWNER, 1));
        TPM2_HANDLE session = handle_of(0, cmd_start_session(TPM2_SE_HMAC));

        for (unsigned i = 0; i < 4; i++)
                handle_of(1, cmd_start_session(TPM2_SE_HMAC));
        inprocess_reset();
        rm_forget_residents(rm);
        assert_int_equal(rc_of(0, cmd_hmac(key, "gone")), 0xB0910);
        assert_int_equal(rc_of(0, cmd_with_handle(TPM2_CC_FlushContext, session)), RM_RC(RC_HANDLE_P1));
        assert_int_equal(n_sessions(), 0);
        handle_of(0, cmd_create_primary(TPM2_RH_OWNER, 1));
}

/* Lost answers */

static void lose_answer(unsigned client, Message command, bool executed) {
        RmOutput output;
        RmJob *job;

        chores(RM_CHORE_DUE);
        job = rm_job_begin(rm, spaces[client], command.bytes, command.n);
        while (rm_job_step(rm, job, NULL, 0, &output) == RM_STEP_TRANSMIT && !output.own_command) {
                Message inner, response;

                memcpy(inner.bytes, output.bytes, output.n_bytes);
                inner.n = output.n_bytes;
                response = direct(inner);
                rm_job_step(rm, job, response.bytes, response.n, &output);
                if (output.own_command)
                        break;
        }
        assert_true(output.own_command);
        if (executed) {
                Message own;

                memcpy(own.bytes, output.bytes, output.n_bytes);
                own.n = output.n_bytes;
                direct(own);
        }
        assert_no_false_claim();
        rm_job_lost(rm, job, &output);
        assert_int_equal(output.rc, RM_RC(TPM2_RC_FAILURE));
        assert_int_equal(output.n_bytes, TPM_HEADER_SIZE);
}

static void test_lost_answers_are_reconciled(void **state) {
        TPM2_HANDLE key = handle_of(0, cmd_create_primary(TPM2_RH_OWNER, 1));
        TPM2_HANDLE session = handle_of(0, cmd_start_session(TPM2_SE_HMAC));
        TestAuth auth = { session, TPMA_SESSION_AUDIT };

        for (unsigned executed = 0; executed < 2; executed++) {
                lose_answer(0, cmd_create_primary(TPM2_RH_OWNER, 2), executed);
                lose_answer(1, cmd_start_session(TPM2_SE_HMAC), executed);
                succeed(0, cmd_hmac(key, "still there"));
                assert_int_equal(tpm_count(TPM2_HT_TRANSIENT), 1);
                lose_answer(0, cmd_with_handle(TPM2_CC_ContextSave, key), executed);
                succeed(0, cmd_hmac(key, "still there"));
        }
        lose_answer(0, cmd_get_random_auth(4, &auth, 1), true);
        assert_int_equal(rc_of(0, cmd_get_random_auth(4, &auth, 1)), 0xB0918);
        lose_answer(0, cmd_with_handle(TPM2_CC_FlushContext, key), false);
        succeed(1, cmd_get_random(1));
        chores(RM_CHORE_CLEANUP);
        assert_int_equal(tpm_count(TPM2_HT_TRANSIENT), 0);
        assert_int_equal(tpm_count(TPM2_HT_LOADED_SESSION), 0);
}

static bool answer_nonsense(const Message *command, Message *ret_response) {
        TpmReader reader = TPM_READER(command->bytes, command->n);

        if (tpm_read_header(&reader).code != retry_code || n_retries == 0)
                return false;
        n_retries--;
        *ret_response = direct(*command);
        ret_response->n -= 1;
        tpm_put_u32(ret_response->bytes + 2, ret_response->n);
        return true;
}

static void test_malformed_answers(void **state) {
        intercept = answer_nonsense;
        n_retries = 1;
        retry_code = TPM2_CC_CreatePrimary;
        assert_int_equal(rc_of(0, cmd_create_primary(TPM2_RH_OWNER, 2)), RM_RC(TPM2_RC_FAILURE));
        succeed(0, cmd_get_random(1));
        assert_int_equal(tpm_count(TPM2_HT_TRANSIENT), 0);
        for (unsigned i = 0; i < 5; i++)
                handle_of(0, cmd_create_primary(TPM2_RH_OWNER, i));
        n_retries = 1;
        retry_code = TPM2_CC_ContextLoad;
        for (unsigned i = 0; i < 5; i++)
                call(0, cmd_hmac(0x80000000 + i, "x"));
        for (unsigned i = 0; i < 5; i++)
                call(0, cmd_hmac(0x80000000 + i, "x"));
}

static void test_paused_job_lets_others_pass(void **state) {
        TPM2_HANDLE key = handle_of(0, cmd_create_primary(TPM2_RH_OWNER, 1));
        Message command = cmd_hmac(key, "paused");
        Message response;
        RmOutput output;
        RmJob *job = rm_job_begin(rm, spaces[0], command.bytes, command.n);
        TpmWriter writer = TPM_WRITER(response.bytes, sizeof(response.bytes));

        assert_int_equal(rm_job_step(rm, job, NULL, 0, &output), RM_STEP_TRANSMIT);
        tpm_write_begin(&writer, TPM2_ST_NO_SESSIONS, TPM2_RC_RETRY);
        response.n = tpm_write_end(&writer);
        assert_int_equal(rm_job_step(rm, job, response.bytes, response.n, &output), RM_STEP_PAUSE);
        assert_true(output.yielding);
        for (unsigned i = 1; i < 6; i++)
                handle_of(i, cmd_create_primary(TPM2_RH_OWNER, i));
        response = run(job);
        assert_int_equal(message_rc(&response), TPM2_RC_SUCCESS);
}

static void test_cancelled_before_it_was_sent(void **state) {
        TPM2_HANDLE sequence = handle_of(0, cmd_hash_start());
        Message command = cmd_sequence_complete(sequence, TPM2_RH_NULL);
        RmOutput output;
        RmJob *job;

        for (unsigned i = 1; i < 5; i++) /* so that it must be loaded again */
                handle_of(i, cmd_create_primary(TPM2_RH_OWNER, i));
        for (unsigned n_steps = 0; n_steps < 3; n_steps++) {
                job = rm_job_begin(rm, spaces[0], command.bytes, command.n);
                assert_int_equal(rm_job_step(rm, job, NULL, 0, &output), RM_STEP_TRANSMIT);
                for (unsigned i = 0; i < n_steps && !output.own_command; i++) {
                        Message inner, response;

                        memcpy(inner.bytes, output.bytes, output.n_bytes);
                        inner.n = output.n_bytes;
                        response = direct(inner);
                        rm_job_step(rm, job, response.bytes, response.n, &output);
                }
                rm_job_cancel(rm, job, TPM2_RC_CANCELED, &output);
                assert_int_equal(output.rc, TPM2_RC_CANCELED);
                assert_false(is_due());
                assert_no_false_claim();
                assert_null(rm_rest_broken(rm));
        }
        succeed(0, command);
}

/* C10, F23: what the TPM says in failure mode is passed on, in its own layer. */
static bool answer_failure(const Message *command, Message *ret_response) {
        TpmWriter writer = TPM_WRITER(ret_response->bytes, sizeof(ret_response->bytes));

        tpm_write_begin(&writer, TPM2_ST_NO_SESSIONS, TPM2_RC_FAILURE);
        ret_response->n = tpm_write_end(&writer);
        return true;
}

static void test_c10_f23_failure_mode(void **state) {
        const Message query = cmd_get_capability(TPM2_CAP_ALGS, 0, 127);
        TPM2_HANDLE key = handle_of(0, cmd_create_primary(TPM2_RH_OWNER, 1));

        succeed(0, query);
        intercept = answer_failure;
        assert_int_equal(rc_of(0, cmd_hmac(key, "x")), TPM2_RC_FAILURE);
        assert_int_equal(rc_of(0, query), TPM2_RC_FAILURE); /* no answer from a copy any more */
        assert_int_equal(rc_of(1, cmd_create_primary(TPM2_RH_OWNER, 1)), TPM2_RC_FAILURE);
        intercept = NULL;
        succeed(0, cmd_hmac(key, "x"));
}

int main(void) {
        const struct CMUnitTest tests[] = {
                RM_TEST(test_x4_x5_retry_sends_the_original_bytes_again),
                RM_TEST(test_retry_on_our_own_commands),
                RM_TEST(test_h14_memory_warnings_evict),
                RM_TEST(test_h14_neighbour_fills_the_slots),
                RM_TEST(test_x6_neighbour_flushes_what_is_saved),
                RM_TEST(test_x6_neighbour_flushes_what_was_never_saved),
                RM_TEST(test_x6_p1_alias_after_reset_never_reaches_another_key),
                RM_TEST(test_h10_f15_clear),
                RM_TEST(test_p6_hierarchy_off_and_on),
                RM_TEST(test_reset_that_was_noticed),
                RM_TEST(test_lost_answers_are_reconciled),
                RM_TEST(test_malformed_answers),
                RM_TEST(test_paused_job_lets_others_pass),
                RM_TEST(test_cancelled_before_it_was_sent),
                RM_TEST(test_c10_f23_failure_mode),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
