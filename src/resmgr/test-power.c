/* SPDX-License-Identifier: BSD-2-Clause */

/* Start-up, shut-down, resets, hierarchies; see test-rm.h. */
#include "resmgr/test-rm.h"

static Message cmd_shutdown(TPM2_SU type) {
        Message m = cmd_startup(type);

        tpm_put_u32(m.bytes + 6, TPM2_CC_Shutdown);
        return m;
}

static void power_cycle(void) {
        check_claims = false;
        inprocess_reset();
}

static void test_x9_startup_is_done_already(void **state) {
        assert_int_equal(rc_of(0, cmd_startup(TPM2_SU_CLEAR)), TPM2_RC_INITIALIZE);
        assert_int_equal(rc_of(0, cmd_startup(TPM2_SU_STATE)), TPM2_RC_INITIALIZE);
}

/* P4: everything is saved before the Shutdown goes out, and nothing is after it. */
static void test_p4_shutdown_state_then_resume(void **state) {
        TPM2_HANDLE session;

        for (unsigned i = 0; i < 4; i++)
                handle_of(i, cmd_create_primary(TPM2_RH_OWNER, i));
        handle_of(5, cmd_hash_start());
        succeed(5, cmd_sequence_update(0x80000000, "abc"));
        session = handle_of(0, cmd_start_session(TPM2_SE_POLICY));
        succeed(0, cmd_policy_pcr(session));

        succeed(1, cmd_shutdown(TPM2_SU_STATE));
        assert_int_equal(tpm_count(TPM2_HT_LOADED_SESSION), 0);
        n_sent = 0;
        chores(RM_CHORE_SAVE);
        chores(RM_CHORE_RESERVE);
        chores(RM_CHORE_EVICT);
        chores(RM_CHORE_RENEW);
        assert_int_equal(n_sent, 0);

        power_cycle();
        succeed(1, cmd_startup(TPM2_SU_STATE));
        check_claims = true;
        for (unsigned i = 0; i < 4; i++)
                succeed(i, cmd_hmac(0x80000000, "resumed"));
        succeed(5, cmd_sequence_update(0x80000000, "def"));
        succeed(5, cmd_sequence_complete(0x80000000, TPM2_RH_NULL));
        succeed(0, cmd_with_handle(TPM2_CC_PolicyGetDigest, session));
}

/* What was saved for one Shutdown is not saved again for the next, and keys stay where they are. */
static void test_shutdowns_cost_little(void **state) {
        for (unsigned i = 0; i < 3; i++)
                handle_of(i, cmd_create_primary(TPM2_RH_OWNER, i));
        handle_of(0, cmd_start_session(TPM2_SE_POLICY));
        succeed(5, cmd_shutdown(TPM2_SU_STATE));
        n_sent = 0;
        for (unsigned k = 0; k < 10; k++)
                succeed(5, cmd_shutdown(TPM2_SU_STATE));
        assert_int_equal(n_sent, 10);
        for (unsigned i = 0; i < 3; i++)
                succeed(i, cmd_hmac(0x80000000, "used"));
        succeed(5, cmd_shutdown(TPM2_SU_STATE));
        assert_int_equal(n_sent, 14);
}

/* Renewing a session would save it, which undoes the Shutdown: it waits until a client's command has done so. */
static void test_p4_renewal_waits_after_a_shutdown(void **state) {
        TPM2_HANDLE oldest = handle_of(0, cmd_start_session(TPM2_SE_POLICY));

        handle_of(0, cmd_start_session(TPM2_SE_POLICY));
        succeed(1, cmd_shutdown(TPM2_SU_STATE));
        pretend_saves(0xC000 + 9);
        n_sent = 0;
        chores(RM_CHORE_RENEW);
        assert_int_equal(n_sent, 0);
        succeed(1, cmd_get_random(4));
        chores(RM_CHORE_RENEW);
        assert_true(n_sent > 1);
        succeed(0, cmd_policy_pcr(oldest));
}

static void test_p3_restart_keeps_what_was_saved(void **state) {
        TPM2_HANDLE session = handle_of(0, cmd_start_session(TPM2_SE_POLICY));

        handle_of(0, cmd_create_primary(TPM2_RH_OWNER, 1));
        succeed(1, cmd_shutdown(TPM2_SU_STATE));
        power_cycle();
        succeed(1, cmd_startup(TPM2_SU_CLEAR)); /* TPM Restart */
        check_claims = true;
        succeed(0, cmd_hmac(0x80000000, "restarted"));
        succeed(0, cmd_with_handle(TPM2_CC_PolicyGetDigest, session));
}

static void test_p2_reset_kills_all_contexts(void **state) {
        TPM2_HANDLE sessions[6];
        Message saved;

        for (unsigned i = 0; i < 6; i++) {
                handle_of(0, cmd_create_primary(TPM2_RH_OWNER, i));
                sessions[i] = handle_of(0, cmd_start_session(TPM2_SE_POLICY));
        }
        saved = succeed(0, cmd_with_handle(TPM2_CC_ContextSave, 0x80000000));
        power_cycle();
        succeed(1, cmd_startup(TPM2_SU_CLEAR));
        check_claims = true;
        for (unsigned i = 0; i < 6; i++) {
                assert_int_equal(rc_of(0, cmd_hmac(0x80000000 + i, "dead")), 0xB0910);
                assert_int_equal(rc_of(0, cmd_policy_pcr(sessions[i])), 0xB0910);
        }
        assert_int_equal(rc_of(0, load_context(&saved)), 0x1DF);
        assert_int_equal(handle_of(0, cmd_create_primary(TPM2_RH_OWNER, 1)), 0x80000000);
        handle_of(0, cmd_start_session(TPM2_SE_POLICY));
}

static void test_not_started_is_passed_on(void **state) {
        handle_of(0, cmd_create_primary(TPM2_RH_OWNER, 1));
        power_cycle();
        assert_int_equal(rc_of(0, cmd_get_random(4)), TPM2_RC_INITIALIZE);
        assert_int_equal(rc_of(1, cmd_create_primary(TPM2_RH_OWNER, 2)), TPM2_RC_INITIALIZE);
        succeed(1, cmd_startup(TPM2_SU_CLEAR));
        check_claims = true;
        handle_of(1, cmd_create_primary(TPM2_RH_OWNER, 2));
        assert_int_equal(rc_of(0, cmd_hmac(0x80000000, "dead")), 0xB0910);
}

static void hierarchies(Message command, bool owner, bool endorsement, bool platform) {
        const TPM2_HANDLE roots[] = { TPM2_RH_OWNER, TPM2_RH_ENDORSEMENT, TPM2_RH_PLATFORM, TPM2_RH_NULL };
        const bool dead[] = { owner, endorsement, platform, false };
        Message saved[4];

        for (unsigned i = 0; i < 4; i++) {
                handle_of(i, cmd_create_primary(roots[i], i)); /* ends up absent, with a copy */
                saved[i] = succeed(i, cmd_with_handle(TPM2_CC_ContextSave, 0x80000000));
                handle_of(i + 4, cmd_create_primary(roots[i], i)); /* some resident, without a copy */
        }
        succeed(0, command);
        for (unsigned i = 0; i < 4; i++) {
                assert_int_equal(rc_of(i, cmd_hmac(0x80000000, "x")), dead[i] ? 0xB0910 : 0);
                assert_int_equal(rc_of(i + 4, cmd_hmac(0x80000000, "x")), dead[i] ? 0xB0910 : 0);
                assert_int_equal(rc_of(i, load_context(&saved[i])) != 0, dead[i]);
        }
}

static Message cmd_change(TPM2_CC code) {
        Message m = cmd_clear();

        tpm_put_u32(m.bytes + 6, code);
        tpm_put_u32(m.bytes + 10, TPM2_RH_PLATFORM);
        return m;
}

static void test_p7_clear(void **state) {
        hierarchies(cmd_clear(), true, true, false);
}

static void test_p8_change_eps(void **state) {
        hierarchies(cmd_change(TPM2_CC_ChangeEPS), false, true, false);
}

static void test_p8_change_pps(void **state) {
        hierarchies(cmd_change(TPM2_CC_ChangePPS), false, false, true);
}

/* One that was enabled all the time: nothing of it was flushed. */
static void test_p6_enabling_takes_nothing_away(void **state) {
        hierarchies(cmd_hierarchy_control(TPM2_RH_OWNER, TPM2_YES), false, false, false);
        hierarchies(cmd_hierarchy_control(TPM2_RH_ENDORSEMENT, TPM2_YES), false, false, false);
}

static void test_p7_sessions_survive_clear(void **state) {
        TPM2_HANDLE session = handle_of(0, cmd_start_session(TPM2_SE_POLICY));

        succeed(1, cmd_clear());
        succeed(0, cmd_policy_pcr(session));
}

static void test_p6_saved_context_loads_when_it_is_on_again(void **state) {
        TPM2_HANDLE a = handle_of(0, cmd_create_primary(TPM2_RH_ENDORSEMENT, 1));
        Message saved = succeed(0, cmd_with_handle(TPM2_CC_ContextSave, a));
        Message on = cmd_hierarchy_control(TPM2_RH_ENDORSEMENT, TPM2_YES);

        handle_of(1, cmd_create_primary(TPM2_RH_ENDORSEMENT, 2));
        succeed(2, cmd_hierarchy_control(TPM2_RH_ENDORSEMENT, TPM2_NO));
        assert_int_equal(rc_of(0, cmd_hmac(a, "off")), 0xB0910);
        assert_int_equal(rc_of(1, cmd_hmac(a, "off")), 0xB0910);
        assert_int_equal(rc_of(0, load_context(&saved)), 0x1C5);
        succeed(2, on);
        assert_int_equal(rc_of(0, cmd_hmac(a, "still dead")), 0xB0910);
        succeed(0, cmd_hmac(handle_of(0, load_context(&saved)), "on"));
}

/* Whoever starts it after that, and whatever they load first: it is not what was there before. */
static void test_started_by_somebody_else(void **state) {
        TPM2_HANDLE key = handle_of(0, cmd_create_primary(TPM2_RH_OWNER, 1));
        TPM2_HANDLE phandle = 0x80000000;
        Message theirs;

        assert_true(tpm_lists(phandle));
        power_cycle();
        assert_int_equal(rc_of(1, cmd_get_random(4)), TPM2_RC_INITIALIZE);
        direct(cmd_startup(TPM2_SU_CLEAR));
        check_claims = true;
        theirs = direct(cmd_create_primary(TPM2_RH_OWNER, 2));
        assert_int_equal(message_handle(&theirs), phandle);
        assert_int_equal(rc_of(0, cmd_hmac(key, "mine?")), RM_RC(TPM2_RC_REFERENCE_H0));
        direct(cmd_with_handle(TPM2_CC_FlushContext, phandle));
}

/* The same, by a Startup whose answer is lost: a session of theirs under the same handle is not its client's. */
static void test_started_by_a_startup_that_is_lost(void **state) {
        TPM2_HANDLE session = handle_of(0, cmd_start_session(TPM2_SE_POLICY));
        const Message startup = cmd_startup(TPM2_SU_CLEAR);
        Message theirs;
        RmOutput output;
        RmJob *job;

        power_cycle();
        job = rm_job_begin(rm, spaces[1], startup.bytes, startup.n);
        assert_int_equal(rm_job_step(rm, job, NULL, 0, &output), RM_STEP_TRANSMIT);
        direct(startup);
        rm_job_lost(rm, job, &output);
        theirs = direct(cmd_start_session(TPM2_SE_POLICY));
        assert_int_equal(message_handle(&theirs), session);
        chores(RM_CHORE_DUE);
        check_claims = true;
        assert_int_equal(rc_of(0, cmd_policy_pcr(session)), RM_RC(TPM2_RC_REFERENCE_H0));
}

int main(void) {
        const struct CMUnitTest tests[] = {
                RM_TEST(test_x9_startup_is_done_already),
                RM_TEST(test_p4_shutdown_state_then_resume),
                RM_TEST(test_shutdowns_cost_little),
                RM_TEST(test_p4_renewal_waits_after_a_shutdown),
                RM_TEST(test_p3_restart_keeps_what_was_saved),
                RM_TEST(test_p2_reset_kills_all_contexts),
                RM_TEST(test_not_started_is_passed_on),
                RM_TEST(test_p7_clear),
                RM_TEST(test_p8_change_eps),
                RM_TEST(test_p8_change_pps),
                RM_TEST(test_p6_enabling_takes_nothing_away),
                RM_TEST(test_p7_sessions_survive_clear),
                RM_TEST(test_p6_saved_context_loads_when_it_is_on_again),
                RM_TEST(test_started_by_somebody_else),
                RM_TEST(test_started_by_a_startup_that_is_lost),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
