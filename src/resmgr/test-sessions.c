/* SPDX-License-Identifier: BSD-2-Clause */

/* Sessions; see test-rm.h. */
#include "resmgr/test-rm.h"

static void test_s2_s3_f10_sessions_are_their_owners(void **state) {
        TPM2_HANDLE session = handle_of(0, cmd_start_session(TPM2_SE_POLICY));
        TestAuth auth = { session, TPMA_SESSION_CONTINUESESSION | TPMA_SESSION_AUDIT };

        n_sent = 0;
        assert_int_equal(rc_of(1, cmd_with_handle(TPM2_CC_PolicyGetDigest, session)), 0xB0910);
        assert_int_equal(rc_of(1, cmd_with_handle(TPM2_CC_ContextSave, session)), 0xB0910);
        assert_int_equal(rc_of(1, cmd_with_handle(TPM2_CC_FlushContext, session)), RM_RC(RC_HANDLE_P1));
        /* F10: the upper byte does not tell sessions apart */
        assert_int_equal(rc_of(1, cmd_with_handle(TPM2_CC_FlushContext, session ^ 0x01000000)), RM_RC(RC_HANDLE_P1));
        assert_int_equal(rc_of(1, cmd_get_random_auth(4, &auth, 1)), 0xB0918);
        assert_int_equal(n_sent, 3); /* which name a session that there never is */
        succeed(0, cmd_with_handle(TPM2_CC_PolicyGetDigest, session));
        succeed(0, cmd_with_handle(TPM2_CC_FlushContext, session));
        assert_int_equal(rc_of(0, cmd_with_handle(TPM2_CC_FlushContext, session)), RM_RC(RC_HANDLE_P1));
}

static void test_s14_more_sessions_than_slots(void **state) {
        TPM2_HANDLE sessions[12];

        for (unsigned i = 0; i < 12; i++)
                sessions[i] = handle_of(i % 3, cmd_start_session(TPM2_SE_POLICY));
        for (unsigned round = 0; round < 3; round++)
                for (unsigned i = 0; i < 12; i++)
                        succeed(i % 3, cmd_policy_pcr(sessions[i]));
        for (unsigned i = 0; i < 12; i++)
                succeed(i % 3, cmd_with_handle(TPM2_CC_FlushContext, sessions[i]));
        assert_int_equal(tpm_count(TPM2_HT_SAVED_SESSION), 0);
}

static void test_policy_run_costs_four(void **state) {
        for (unsigned i = 0; i < 50; i++) {
                TPM2_HANDLE session = handle_of(0, cmd_start_session(TPM2_SE_POLICY));

                succeed(0, cmd_policy_pcr(session));
                succeed(0, cmd_with_handle(TPM2_CC_PolicyGetDigest, session));
                succeed(0, cmd_with_handle(TPM2_CC_FlushContext, session));
        }
        assert_int_equal(n_sent, 200);
}

static void test_s6_f8_continue_session_of_a_failed_command(void **state) {
        for (unsigned i = 0; i < 5; i++) {
                TPM2_HANDLE session = handle_of(0, cmd_start_session(TPM2_SE_HMAC));
                TestAuth auth = { session, TPMA_SESSION_AUDIT };
                Message truncated = cmd_get_random_auth(4, &auth, 1);

                truncated.n--;
                tpm_put_u32(truncated.bytes + 2, truncated.n);
                assert_int_equal(rc_of(0, truncated), 0x1DA);
                succeed(0, cmd_with_handle(TPM2_CC_ContextSave, session));
                succeed(0, cmd_with_handle(TPM2_CC_FlushContext, session));
        }
}

/* Whether the TPM did it or not: nobody knows what became of the session, so nobody has it any more. */
static void test_s5_lost_answer_ends_a_session_that_was_to_end(void **state) {
        TPM2_HANDLE sessions[2];

        for (unsigned i = 0; i < 2; i++)
                sessions[i] = handle_of(i, cmd_start_session(TPM2_SE_HMAC));
        for (unsigned done = 0; done < 2; done++) {
                const TestAuth auth = { sessions[done], TPMA_SESSION_AUDIT };
                const Message command = cmd_get_random_auth(4, &auth, 1);
                RmJob *job = rm_job_begin(rm, spaces[done], command.bytes, command.n);
                RmOutput output;

                assert_int_equal(rm_job_step(rm, job, NULL, 0, &output), RM_STEP_TRANSMIT);
                if (done)
                        direct(command);
                rm_job_lost(rm, job, &output);
                chores(RM_CHORE_DUE);
                assert_int_equal(report().n_sessions[RM_LIVE], 1 - done);
                assert_int_equal(rc_of(done, command), 0xB0918);
        }
        chores(RM_CHORE_CLEANUP);
        assert_int_equal(n_sessions(), 0);
        assert_int_equal(tpm_count(TPM2_HT_LOADED_SESSION), 0);
}

static void test_s5_continue_session_clear_ends_it(void **state) {
        TPM2_HANDLE session = handle_of(0, cmd_start_session(TPM2_SE_HMAC));
        TestAuth auth = { session, TPMA_SESSION_AUDIT };

        succeed(0, cmd_get_random_auth(4, &auth, 1));
        assert_int_equal(n_sessions(), 0);
        assert_int_equal(rc_of(0, cmd_get_random_auth(4, &auth, 1)), 0xB0918);
}

static void test_s7_s8_s9_s12_f11_f19_tokens(void **state) {
        TPM2_HANDLE session = handle_of(0, cmd_start_session(TPM2_SE_POLICY));
        Message first = succeed(0, cmd_with_handle(TPM2_CC_ContextSave, session));
        Message prefix = load_context(&first);
        Message second;

        assert_int_equal(rc_of(0, cmd_with_handle(TPM2_CC_ContextSave, session)), 0xB0910);
        assert_int_equal(rc_of(0, cmd_policy_pcr(session)), 0xB0910);
        assert_int_equal(handle_of(0, load_context(&first)), session);
        assert_int_equal(rc_of(0, load_context(&first)), RC_HANDLE_P1);
        assert_int_equal(rc_of(1, load_context(&first)), RC_HANDLE_P1);
        succeed(0, cmd_policy_pcr(session));

        second = succeed(0, cmd_with_handle(TPM2_CC_ContextSave, session));
        assert_memory_not_equal(first.bytes, second.bytes, second.n);
        assert_int_equal(rc_of(1, load_context(&first)), RC_HANDLE_P1);
        /* F11: a guess that is well formed but has other contents is the TPM's to refuse, by its own code */
        prefix = load_context(&second);
        prefix.bytes[prefix.n - 1] ^= 1;
        assert_int_equal(rc_of(1, prefix), 0x1DF);
        /* whoever holds the whole of it has the session; F2: bytes behind it are refused by the TPM */
        prefix = load_context(&second);
        prefix.bytes[prefix.n++] = 0;
        tpm_put_u32(prefix.bytes + 2, prefix.n);
        assert_int_equal(rc_of(1, prefix), 0x95);
        assert_int_equal(handle_of(1, load_context(&second)), session);
        assert_int_equal(rc_of(0, cmd_policy_pcr(session)), 0xB0910);
        succeed(1, cmd_policy_pcr(session));
}

static void test_s11_f13_abandoned_sessions_load_once_each(void **state) {
        Message saved[20];

        for (unsigned i = 0; i < 20; i++) {
                TPM2_HANDLE session = handle_of(0, cmd_start_session(TPM2_SE_POLICY));

                saved[i] = succeed(0, cmd_with_handle(TPM2_CC_ContextSave, session));
                rm_space_close(rm, spaces[0]);
                chores(RM_CHORE_CLEANUP);
                rm_space_open(rm, 1000, &spaces[0]);
        }
        for (unsigned i = 0; i < 20; i++) {
                succeed(1, load_context(&saved[i]));
                assert_int_equal(rc_of(1, load_context(&saved[i])), RC_HANDLE_P1);
        }
}

/* Seventy session files, one after the other, each so many us after the one before. */
static void leave_70_files(uint64_t us) {
        for (unsigned i = 0; i < 70; i++) {
                TPM2_HANDLE session;

                rm_set_time(rm, i * us);
                session = handle_of(0, cmd_start_session(TPM2_SE_POLICY));
                succeed(0, cmd_with_handle(TPM2_CC_ContextSave, session));
                rm_space_close(rm, spaces[0]);
                chores(RM_CHORE_CLEANUP);
                rm_space_open(rm, 1000, &spaces[0]);
        }
}

/* Files of this moment are in use: one goes only when there is no other handle left. */
static void test_young_files_are_kept(void **state) {
        leave_70_files(1000);
        assert_int_equal(tpm_count(TPM2_HT_SAVED_SESSION), 64);
        assert_int_equal(rm_counters(rm)->abandoned_flushed, 6);
}

static void test_s15_abandoned_make_room(void **state) {
        leave_70_files(1000 * 1000);
        assert_int_equal(tpm_count(TPM2_HT_SAVED_SESSION), 56); /* 64 less 8 */
        for (unsigned i = 0; i < 40; i++)
                handle_of(1, cmd_start_session(TPM2_SE_HMAC));
        for (unsigned i = 0; i < 20; i++)
                handle_of(2, cmd_start_session(TPM2_SE_HMAC));
        assert_int_equal(tpm_count(TPM2_HT_SAVED_SESSION) + tpm_count(TPM2_HT_LOADED_SESSION), 64);
}

/* However many users take as much as they get, root gets some, and so does who comes after them. */
static void test_s13_shares_of_sessions(void **state) {
        unsigned n[4] = { 0 };

        rm->limits.sessions_per_space = 64;
        for (unsigned i = 0; i < 3; i++)
                while (rc_of(i, cmd_start_session(TPM2_SE_HMAC)) == TPM2_RC_SUCCESS)
                        n[i]++;
        assert_int_equal(n[0], 56);
        assert_int_equal(n[0] + n[1] + n[2], 62);
        assert_in_range(n[1], 1, 6);
        rm_space_close(rm, spaces[3]);
        rm_space_open(rm, 0, &spaces[3]);
        while (rc_of(3, cmd_start_session(TPM2_SE_HMAC)) == TPM2_RC_SUCCESS)
                n[3]++;
        assert_int_equal(n[3], 2);
}

/* Users who take turns in taking get about the same. */
static void test_s13_shares_are_even(void **state) {
        unsigned n[4] = { 0 };

        rm->limits.sessions_per_space = 64;
        for (unsigned round = 0; round < 64; round++)
                for (unsigned i = 0; i < 4; i++)
                        n[i] += rc_of(i, cmd_start_session(TPM2_SE_HMAC)) == TPM2_RC_SUCCESS;
        for (unsigned i = 0; i < 4; i++)
                assert_in_range(n[i], 15, 16);
}

static void test_s13_session_quotas(void **state) {
        unsigned n = 0;
        uint32_t rc;

        for (unsigned i = 0; i < LIMITS.sessions_per_space; i++)
                handle_of(0, cmd_start_session(TPM2_SE_HMAC));
        assert_int_equal(rc_of(0, cmd_start_session(TPM2_SE_HMAC)), 0xB0903);
        rm_space_close(rm, spaces[1]);
        rm_space_open(rm, 1000, &spaces[1]); /* the same uid */
        do {
                rc = rc_of(1, cmd_start_session(TPM2_SE_HMAC));
                n += rc == TPM2_RC_SUCCESS;
        } while (rc == TPM2_RC_SUCCESS);
        assert_int_equal(rc, 0xB0905);
        assert_int_equal(LIMITS.sessions_per_space + n, 64 - 8);
        handle_of(2, cmd_start_session(TPM2_SE_HMAC));
}

static void test_leftover_sessions(void **state) {
        Message started = direct(cmd_start_session(TPM2_SE_POLICY));
        TPM2_HANDLE session = message_handle(&started);
        Message saved = direct(cmd_with_handle(TPM2_CC_ContextSave, session));

        rm_space_close(rm, spaces[0]);
        rm_test_restart();
        assert_int_equal(report().n_sessions[RM_LEFT_OVER], 1);
        assert_int_equal(handle_of(0, load_context(&saved)), session);
        succeed(0, cmd_policy_pcr(session));
}

static void test_leftover_sessions_go_first(void **state) {
        for (unsigned i = 0; i < 60; i++) {
                Message started = direct(cmd_start_session(TPM2_SE_POLICY));

                direct(cmd_with_handle(TPM2_CC_ContextSave, message_handle(&started)));
        }
        doubt_tables();
        for (unsigned i = 0; i < 40; i++)
                handle_of(0, cmd_start_session(TPM2_SE_POLICY));
        for (unsigned i = 0; i < 16; i++)
                handle_of(1, cmd_start_session(TPM2_SE_POLICY));
}

static void test_x10_f20_start_clears_what_was_left_loaded(void **state) {
        direct(cmd_hash_start());
        direct(cmd_hash_start());
        direct(cmd_start_session(TPM2_SE_HMAC));
        run(rm_job_begin_chore(rm, RM_CHORE_START));
        assert_int_equal(tpm_count(TPM2_HT_TRANSIENT), 0);
        assert_int_equal(tpm_count(TPM2_HT_LOADED_SESSION), 0);
}

static void test_s17_context_gap(void **state) {
        TPM2_HANDLE idle[4], busy[4];

        check_claims = false; /* half a million commands */
        for (unsigned i = 0; i < 4; i++) {
                idle[i] = handle_of(0, cmd_start_session(TPM2_SE_POLICY));
                busy[i] = handle_of(1, cmd_start_session(TPM2_SE_POLICY));
        }
        for (unsigned i = 0; i < 4; i++)
                succeed(0, cmd_policy_pcr(idle[i]));
        /* Twice around the gap of 65,535. */
        for (unsigned i = 0; n_saves < 140000; i++)
                if (rc_of(1, cmd_with_handle(TPM2_CC_PolicyGetDigest, busy[i % 4])) != TPM2_RC_SUCCESS)
                        fail_msg("after %u", i);
        for (unsigned i = 0; i < 4; i++)
                succeed(0, cmd_policy_pcr(idle[i]));
        check_claims = true;
}

/* S1, S16: the handle is part of the HMAC, so it is never changed; three of them are loaded together. */
static void test_s1_s16_session_handles_are_the_tpms(void **state) {
        TPM2_HANDLE policy = handle_of(0, cmd_start_session(TPM2_SE_POLICY));
        TPM2_HANDLE hmac = handle_of(0, cmd_start_session(TPM2_SE_HMAC));
        const TestAuth auths[] = { { hmac, 0x01 } };
        TPM2_HANDLE others[3];

        for (unsigned i = 0; i < 3; i++)
                others[i] = handle_of(1, cmd_start_session(TPM2_SE_HMAC));
        for (unsigned i = 0; i < 3; i++) {
                succeed(0, cmd_policy_secret(policy, auths));
                assert_true(tpm_lists(policy));
                assert_true(tpm_lists(hmac));
                for (unsigned k = 0; k < 3; k++)
                        succeed(1, cmd_get_random_auth(4, &(TestAuth){ others[k], 0x81 }, 1));
        }
}

static void test_s4_flush_of_loaded_saved_and_unknown(void **state) {
        TPM2_HANDLE loaded = handle_of(0, cmd_start_session(TPM2_SE_POLICY));
        TPM2_HANDLE saved = handle_of(0, cmd_start_session(TPM2_SE_POLICY));

        succeed(0, cmd_with_handle(TPM2_CC_ContextSave, saved));
        succeed(0, cmd_with_handle(TPM2_CC_FlushContext, loaded));
        succeed(0, cmd_with_handle(TPM2_CC_FlushContext, saved));
        assert_int_equal(rc_of(0, cmd_with_handle(TPM2_CC_FlushContext, saved)), RM_RC(RC_HANDLE_P1));
        assert_int_equal(rc_of(0, cmd_with_handle(TPM2_CC_FlushContext, TPM2_RH_OWNER)), 0x1C4);
        assert_int_equal(n_sessions(), 0);
}

/* S10, F9, F17: everything owned goes with its client, under whichever upper byte the TPM lists it. */
static void test_s10_f17_close_flushes_sessions_of_both_kinds(void **state) {
        for (unsigned i = 0; i < 8; i++)
                handle_of(0, cmd_start_session(i % 2 ? TPM2_SE_POLICY : TPM2_SE_HMAC));
        /* as tpm2_flushcontext -s does: saved sessions are listed as 0x02... whatever they are */
        succeed(0, cmd_with_handle(TPM2_CC_FlushContext, 0x02000001));
        succeed(0, cmd_with_handle(TPM2_CC_FlushContext, 0x02000003));
        rm_space_close(rm, spaces[0]);
        chores(RM_CHORE_CLEANUP);
        assert_int_equal(tpm_count(TPM2_HT_LOADED_SESSION), 0);
        assert_int_equal(tpm_count(TPM2_HT_SAVED_SESSION), 0);
        assert_int_equal(n_sessions(), 0);
        rm_space_open(rm, 1000, &spaces[0]);
}

/* Renewed behind its client's back, a session context stays good, once. */
static void test_s12_client_context_outlives_its_renewal(void **state) {
        TPM2_HANDLE session = handle_of(0, cmd_start_session(TPM2_SE_POLICY));
        Message saved = succeed(0, cmd_with_handle(TPM2_CC_ContextSave, session));
        RmJob *job;

        handle_of(1, cmd_start_session(TPM2_SE_HMAC));
        pretend_saves(0xC000 + 9);
        job = rm_job_begin_chore(rm, RM_CHORE_RENEW);
        assert_non_null(job);
        run(job);
        assert_int_equal(handle_of(0, load_context(&saved)), session);
        assert_int_equal(rc_of(0, load_context(&saved)), RC_HANDLE_P1);
}

static void test_renewal_makes_room_for_itself(void **state) {
        TPM2_HANDLE session = handle_of(0, cmd_start_session(TPM2_SE_POLICY));

        for (unsigned i = 0; i < 3; i++)
                handle_of(1, cmd_start_session(TPM2_SE_HMAC));
        pretend_saves(0xC000 + 9);
        chores(RM_CHORE_RENEW);
        assert_int_equal(report().n_sessions_loaded, 2);
        succeed(0, cmd_policy_pcr(session));
}

/* The oldest saved session is nobody's: it is found and flushed, and nobody hears of the gap. */
static void test_s17_gap_of_a_foreign_session(void **state) {
        Message started = direct(cmd_start_session(TPM2_SE_POLICY));
        TPM2_HANDLE busy[4];

        direct(cmd_with_handle(TPM2_CC_ContextSave, message_handle(&started)));
        check_claims = false; /* half a million commands */
        for (unsigned i = 0; i < 4; i++)
                busy[i] = handle_of(1, cmd_start_session(TPM2_SE_POLICY));
        for (unsigned i = 0; n_saves < 70000; i++)
                if (rc_of(1, cmd_with_handle(TPM2_CC_PolicyGetDigest, busy[i % 4])) != TPM2_RC_SUCCESS)
                        fail_msg("after %u", i);
        assert_int_equal(rm_counters(rm)->foreign_flushed, 1);
        check_claims = true;
}

int main(void) {
        const struct CMUnitTest tests[] = {
                RM_TEST(test_s2_s3_f10_sessions_are_their_owners),
                RM_TEST(test_s14_more_sessions_than_slots),
                RM_TEST(test_policy_run_costs_four),
                RM_TEST(test_s6_f8_continue_session_of_a_failed_command),
                RM_TEST(test_s5_lost_answer_ends_a_session_that_was_to_end),
                RM_TEST(test_s5_continue_session_clear_ends_it),
                RM_TEST(test_s7_s8_s9_s12_f11_f19_tokens),
                RM_TEST(test_s11_f13_abandoned_sessions_load_once_each),
                RM_TEST(test_s15_abandoned_make_room),
                RM_TEST(test_young_files_are_kept),
                RM_TEST(test_s13_session_quotas),
                RM_TEST(test_s13_shares_of_sessions),
                RM_TEST(test_s13_shares_are_even),
                RM_TEST(test_leftover_sessions),
                RM_TEST(test_leftover_sessions_go_first),
                RM_TEST(test_x10_f20_start_clears_what_was_left_loaded),
                RM_TEST(test_s17_context_gap),
                RM_TEST(test_s1_s16_session_handles_are_the_tpms),
                RM_TEST(test_s4_flush_of_loaded_saved_and_unknown),
                RM_TEST(test_s10_f17_close_flushes_sessions_of_both_kinds),
                RM_TEST(test_s12_client_context_outlives_its_renewal),
                RM_TEST(test_renewal_makes_room_for_itself),
                RM_TEST(test_s17_gap_of_a_foreign_session),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
