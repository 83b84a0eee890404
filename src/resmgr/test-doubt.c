/* SPDX-License-Identifier: BSD-2-Clause */

/*
 * Answers that leave a doubt: ones that make no sense, refusals of what renews a session, a reset in between, and jobs
 * that are cancelled; see test-edges.h.
 */
#include "resmgr/test-edges.h"
#include "test/lib/invariants.h"

/* Executes the next command of that code, and answers it by a failure that is two bytes too long. */
static TPM2_CC garbled;

static bool answer_garbled(const Message *command, Message *ret_response) {
        if (message_rc(command) != garbled)
                return false;
        garbled = 0;
        direct(*command);
        *ret_response = cmd_simple(TPM2_RC_FAILURE);
        ret_response->n += 2;
        tpm_put_u32(ret_response->bytes + 2, (uint32_t)ret_response->n);
        return true;
}

static void garble(TPM2_CC code) {
        garbled = code;
        intercept = answer_garbled;
        check_claims = false;
}

static TPM2_HANDLE new_sequence(const char *data) {
        TPM2_HANDLE sequence = handle_of(0, cmd_hash_start());

        succeed(0, cmd_sequence_update(sequence, data));
        chores(RM_CHORE_EVICT);
        return sequence;
}

/* What the sequence of client 0 comes to is what it came to in the TPM, which was given all of the data. */
static void assert_digest(TPM2_HANDLE sequence, const char *data) {
        TPM2_HANDLE other = handle_of(1, cmd_hash_start());
        Message is, should;

        succeed(1, cmd_sequence_update(other, data));
        should = succeed(1, cmd_sequence_complete(other, TPM2_RH_NULL));
        chores(RM_CHORE_EVICT);
        is = succeed(0, cmd_sequence_complete(sequence, TPM2_RH_NULL));
        assert_memory_equal(is.bytes + 16, should.bytes + 16, 32);
}

static void test_failure_with_a_body_is_no_failure(void **state) {
        TPM2_HANDLE sequence = new_sequence("abc");

        garble(TPM2_CC_SequenceUpdate);
        assert_int_equal(rc_of(0, cmd_sequence_update(sequence, "def")), RM_RC(TPM2_RC_FAILURE));
        assert_true(is_due());
        assert_digest(sequence, "abcdef");
}

static void test_what_was_completed_is_not_completed_again(void **state) {
        TPM2_HANDLE sequence = new_sequence("abc");

        garble(TPM2_CC_SequenceComplete);
        assert_int_equal(rc_of(0, cmd_sequence_complete(sequence, TPM2_RH_NULL)), RM_RC(TPM2_RC_FAILURE));
        assert_int_equal(rc_of(0, cmd_sequence_complete(sequence, TPM2_RH_NULL)), RM_RC(RC_REFERENCE_H0));
}

/* Lets a client's command run until one of that code is out, which the TPM executes; its answer is lost. */
static void lose(Message command, TPM2_CC code) {
        RmJob *job = rm_job_begin(rm, spaces[0], command.bytes, command.n);
        RmOutput output;
        RmStep step = rm_job_step(rm, job, NULL, 0, &output);

        while (step == RM_STEP_TRANSMIT) {
                Message sent = { .n = output.n_bytes }, answer;

                memcpy(sent.bytes, output.bytes, output.n_bytes);
                answer = direct(sent);
                if (output.code == code)
                        break;
                step = rm_job_step(rm, job, answer.bytes, answer.n, &output);
        }
        rm_job_lost(rm, job, &output);
        check_claims = false;
}

/* A command that never was sent whole changes nothing about what it names. */
static void test_malformed_command_restores_nothing(void **state) {
        TPM2_HANDLE sequence = new_sequence("abc");

        lose(cmd_sequence_update(sequence, "def"), TPM2_CC_SequenceUpdate);
        chores(RM_CHORE_DUE);
        rc_of(0, cmd_with_handle(TPM2_CC_Certify, sequence));
        assert_digest(sequence, "abcdef");
}

static void test_startup_ends_a_doubt(void **state) {
        const Message command = cmd_startup(TPM2_SU_CLEAR);
        Message response;

        doubt_tables();
        inprocess_reset();
        response = run(rm_job_begin(rm, spaces[0], command.bytes, command.n));
        assert_int_equal(message_rc(&response), TPM2_RC_SUCCESS);
        succeed(0, cmd_get_random(4));
}

/* Nothing of an object whose load was lost stays in the tables, though what would have found it was cancelled. */
static void test_cancelled_reconciliation_settles_nothing(void **state) {
        TPM2_HANDLE key = new_key(0, 1);
        RmOutput output;
        RmJob *job;

        chores(RM_CHORE_EVICT);
        lose(cmd_hmac(key, "x"), TPM2_CC_ContextLoad);
        rm_space_close(rm, spaces[0]);
        job = rm_job_begin_chore(rm, RM_CHORE_DUE);
        assert_int_equal(rm_job_step(rm, job, NULL, 0, &output), RM_STEP_TRANSMIT);
        rm_job_cancel(rm, job, TPM2_RC_CANCELED, &output);
        assert_null(rm_invariant_broken(rm));
        chores(RM_CHORE_DUE);
        chores(RM_CHORE_CLEANUP);
        assert_int_equal(report().n_objects, 0);
        assert_int_equal(tpm_count(TPM2_HT_TRANSIENT), 0);
        rm_space_open(rm, 1000, &spaces[0]);
}

/* Renewals */

/* Two sessions that their clients have saved; the first one is so old that it is to be renewed. */
static void make_old(TPM2_HANDLE sessions[2]) {
        new_session(0);
        for (unsigned i = 0; i < 2; i++) {
                sessions[i] = new_session(i);
                save(i, sessions[i]);
        }
        chores(RM_CHORE_EVICT);
        pretend_saves(0xC000 + 100);
}

/* Room for a renewal is never made at the cost of a session. */
static void test_renewal_costs_no_session(void **state) {
        TPM2_HANDLE sessions[2];

        make_old(sessions);
        arm(TPM2_CC_ContextLoad, TPM2_RC_SESSION_HANDLES, 1);
        chores(RM_CHORE_RENEW);
        for (unsigned i = 0; i < 2; i++)
                assert_int_equal(session_report(sessions[i]).state, RM_CLIENT_SAVED);
}

/* What the TPM does not know, or cannot save at all, is flushed: as long as it is there, no other can be saved. */
static void test_renewal_that_never_succeeds(void **state) {
        const uint32_t codes[] = { RC_REFERENCE_H0, TPM2_RC_FAILURE };
        TPM2_HANDLE sessions[2];

        for (unsigned i = 0; i < 2; i++) {
                make_old(sessions);
                arm(TPM2_CC_ContextSave, codes[i], 1);
                chores(RM_CHORE_RENEW);
                assert_int_equal(n_sessions(), 2 + 2 * i);
                assert_int_equal(tpm_count(TPM2_HT_LOADED_SESSION) + tpm_count(TPM2_HT_SAVED_SESSION), 2 + 2 * i);
                succeed(0, cmd_get_random(4));
        }
}

/* Others use up gap after gap while no client asks for anything: each sample finds all that has become old. */
static void test_renewals_go_on_without_clients(void **state) {
        TPM2_HANDLE sessions[2];

        make_old(sessions);
        for (unsigned i = 0; i < 4; i++) {
                assert_true(rm_gap_sample(rm));
                n_saves = 0;
                chores(RM_CHORE_RENEW);
                assert_int_equal(n_saves, 3);
                pretend_saves(0xC000 + 100);
        }
}

/* A reset in the middle of it: the session is gone with all others. */
static void test_renewal_ends_in_a_reset(void **state) {
        TPM2_HANDLE sessions[2];

        make_old(sessions);
        check_claims = false;
        arm(TPM2_CC_ContextSave, TPM2_RC_INITIALIZE, 1);
        chores(RM_CHORE_RENEW);
        assert_int_equal(rm_counters(rm)->forbidden, 0);
        doubt_tables();
        chores(RM_CHORE_DUE);
}

/* One that is to be flushed, and could not be, does not keep others from being renewed. */
static void test_renewal_flushes_what_is_doomed(void **state) {
        TPM2_HANDLE gone = new_session(0);

        for (unsigned i = 0; i < 2; i++)
                new_session(1);
        chores(RM_CHORE_EVICT);
        pretend_saves(0xC000 + 100);
        rm_space_close(rm, spaces[0]);
        arm(TPM2_CC_FlushContext, TPM2_RC_NV_RATE, 1);
        chores(RM_CHORE_CLEANUP);
        assert_int_equal(session_report(gone).state, RM_DOOMED);
        succeed(2, cmd_get_random(4));
        chores(RM_CHORE_RENEW);
        assert_int_equal(n_sessions(), 2);
        rm_space_open(rm, 1000, &spaces[0]);
}

/* Only sessions have a gap: for an object, nobody's session is flushed. */
static void test_gap_of_an_object(void **state) {
        Message started = direct(cmd_start_session(TPM2_SE_HMAC));

        direct(cmd_with_handle(TPM2_CC_ContextSave, message_handle(&started)));
        reconcile();
        new_key(0, 1);
        arm(TPM2_CC_ContextSave, TPM2_RC_CONTEXT_GAP, 1);
        chores(RM_CHORE_SAVE);
        assert_int_equal(armed.n, 0);
        assert_int_equal(session_report(message_handle(&started)).state, RM_LEFT_OVER);
}

/* Refusals */

/* A TPM that refused to save what is loaded, three times, and is well again, has room for another client at once. */
static void test_refusals_count_for_their_moment(void **state) {
        for (unsigned i = 0; i < 3; i++)
                new_key(0, i);
        arm(TPM2_CC_ContextSave, TPM2_RC_NV_RATE, 3);
        assert_int_equal(rc_of(1, cmd_create_primary(TPM2_RH_OWNER, 9)), TPM2_RC_OBJECT_MEMORY);
        assert_int_equal(armed.n, 0);
        succeed(2, cmd_get_random(4));
        new_key(1, 9);
}

/* What a client left and the TPM did not flush is flushed the next time that chores try again, and not before. */
static void test_what_was_left_is_flushed_later(void **state) {
        new_key(0, 1);
        new_session(0);
        rm_space_close(rm, spaces[0]);
        arm(TPM2_CC_FlushContext, TPM2_RC_NV_RATE, 2);
        chores(RM_CHORE_CLEANUP);
        assert_int_equal(rm_counters(rm)->refusals, 2);
        chores(RM_CHORE_CLEANUP);
        assert_int_equal(tpm_count(TPM2_HT_TRANSIENT) + tpm_count(TPM2_HT_LOADED_SESSION), 2);
        rm_retry(rm);
        chores(RM_CHORE_CLEANUP);
        assert_int_equal(tpm_count(TPM2_HT_TRANSIENT) + tpm_count(TPM2_HT_LOADED_SESSION), 0);
        rm_space_open(rm, 1000, &spaces[0]);
}

/* What was refused before is the last choice, and what was not refused goes first. */
static void test_refused_is_the_last_choice(void **state) {
        for (unsigned i = 0; i < 3; i++)
                new_key(i, i);
        arm(TPM2_CC_ContextSave, TPM2_RC_NV_RATE, 1);
        new_key(3, 3); /* the first victim stays, the second goes */
        n_saves = 0;
        new_key(4, 4);
        assert_int_equal(n_saves, 1);
        n_sent = 0;
        use_key(0, TRANSIENT(0));
        assert_int_equal(n_sent, 1); /* it is still there */
}

/* A memory of a lack of room holds only while nobody's command came between. */
static void test_others_end_what_is_hopeless(void **state) {
        Message create = cmd_create_primary(TPM2_RH_OWNER, 1);

        arm(TPM2_CC_CreatePrimary, TPM2_RC_OBJECT_MEMORY, 1);
        assert_int_equal(rc_of(0, create), TPM2_RC_OBJECT_MEMORY);
        for (unsigned i = 0; i < 3; i++)
                new_key(1, 1 + i);
        succeed(0, create);
}

/* A session whose ContextLoad was lost is doomed, and in a slot until it is flushed, whatever a client hears first. */
static void test_lost_load_keeps_no_slot(void **state) {
        Message context = save(0, new_session(0));

        new_session(0);
        new_session(0);
        lose(load_context(&context), TPM2_CC_ContextLoad);
        arm(TPM2_CC_StartAuthSession, TPM2_RC_SESSION_MEMORY, 1);
        n_saves = 0;
        new_session(1);
        assert_int_equal(n_saves, 0);
}

/* Reopened: others may have used the TPM, or reset it */

static void reopen(void) {
        rm_reopened(rm);
        assert_true(is_due());
        n_sent = 0;
}

/* What was never saved is proved by its Name; what has no Name, and what a context cannot bring back, is given up. */
static void test_reopened_keeps_what_is_proved(void **state) {
        TPM2_HANDLE sequence = handle_of(0, cmd_hash_start()), key = new_key(0, 1), other = new_key(1, 2);
        TPM2_HANDLE session = new_session(0);

        save(1, other);
        reopen();
        chores(RM_CHORE_DUE);
        n_sent = 0;
        succeed(0, cmd_hmac(key, "x"));
        assert_int_equal(n_sent, 1); /* it was in the TPM all the time */
        succeed(1, cmd_hmac(other, "x"));
        assert_int_equal(rc_of(0, cmd_sequence_update(sequence, "x")), RM_RC(RC_REFERENCE_H0));
        assert_int_equal(rc_of_use(0, session), RM_RC(RC_REFERENCE_H0));
}

/* Somebody else's key is there now, under the very handle. */
static void test_reopened_takes_nobodys_key(void **state) {
        TPM2_HANDLE key = new_key(0, 1);
        Message created;

        direct(cmd_with_handle(TPM2_CC_FlushContext, TRANSIENT(0)));
        created = direct(cmd_create_primary(TPM2_RH_OWNER, 2));
        assert_int_equal(message_handle(&created), TRANSIENT(0));
        reopen();
        assert_int_equal(rc_of(0, cmd_hmac(key, "x")), RM_RC(RC_REFERENCE_H0));
        chores(RM_CHORE_CLEANUP);
        assert_int_equal(tpm_count(TPM2_HT_TRANSIENT), 0);
}

/* A refusal to tell its Name counts for its moment; one that lasts is no proof. */
static void test_proof_is_asked_for_again(void **state) {
        TPM2_HANDLE keys[2] = { new_key(0, 1), new_key(1, 2) };

        reopen();
        arm(TPM2_CC_ReadPublic, TPM2_RC_NV_RATE, 1);
        assert_int_equal(rc_of(2, cmd_get_random(4)), 0);
        succeed(0, cmd_hmac(keys[0], "x"));
        succeed(1, cmd_hmac(keys[1], "x"));
        reopen();
        arm(TPM2_CC_ReadPublic, TPM2_RC_NV_RATE, 100);
        for (unsigned i = 0; i < 4; i++)
                rc_of(2, cmd_get_random(4));
        armed.n = 0;
        succeed(2, cmd_get_random(4));
        assert_int_equal(rc_of(0, cmd_hmac(keys[0], "x")), RM_RC(RC_REFERENCE_H0));
}

/* The counts of resets and restarts have changed, and what was there is gone. */
static void test_reopened_after_a_reset(void **state) {
        TPM2_HANDLE key = new_key(0, 1);

        inprocess_reset();
        direct(cmd_startup(TPM2_SU_CLEAR));
        direct(cmd_create_primary(TPM2_RH_OWNER, 1)); /* even if it has the same Name */
        reopen();
        assert_int_equal(rc_of(0, cmd_hmac(key, "x")), RM_RC(RC_REFERENCE_H0));
        assert_int_equal(tpm_count(TPM2_HT_TRANSIENT), 0);
}

/* A number that was there before: all that came after it is in doubt, and may be others' now. */
static void test_state_that_was_put_back(void **state) {
        TPM2_HANDLE saved = new_session(1), old = new_session(1), session, key;

        chores(RM_CHORE_EVICT);
        succeed(1, cmd_policy_pcr(old));
        pretend_saves(100);
        chores(RM_CHORE_EVICT);
        session = new_session(0);
        key = new_key(0, 1);
        pretend_no_saves();
        assert_int_equal(rc_of(0, cmd_with_handle(TPM2_CC_ContextSave, session)), RM_RC(TPM2_RC_FAILURE));
        assert_true(is_due());
        succeed(0, cmd_hmac(key, "x"));
        assert_int_equal(rc_of_use(0, session), RM_RC(RC_REFERENCE_H0));
        assert_int_equal(rc_of_use(1, old), RM_RC(RC_REFERENCE_H0)); /* its number is of what never was */
        use(1, saved);
        assert_int_equal(rm_flush_sessions(rm, RM_LEFT_OVER), 2);
}

/* All slots are full of sessions that nobody owns. */
static void test_sessions_of_nobody_make_room(void **state) {
        new_session(0);
        for (unsigned i = 0; i < 2; i++)
                direct(cmd_start_session(TPM2_SE_HMAC));
        chores(RM_CHORE_EVICT);
        direct(cmd_start_session(TPM2_SE_HMAC));
        new_session(1);
        assert_int_equal(tpm_count(TPM2_HT_LOADED_SESSION), 1);
}

/* An administrator flushes what was left over, whether we knew of it or not. */
static void test_flush_of_what_is_left_over(void **state) {
        Message response = direct(cmd_start_session(TPM2_SE_HMAC));

        direct(cmd_with_handle(TPM2_CC_ContextSave, message_handle(&response)));
        direct(cmd_start_session(TPM2_SE_HMAC));
        assert_int_equal(rm_flush_sessions(rm, RM_LEFT_OVER), 0);
        chores(RM_CHORE_DUE);
        assert_int_equal(tpm_count(TPM2_HT_LOADED_SESSION) + tpm_count(TPM2_HT_SAVED_SESSION), 0);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                RM_TEST(test_failure_with_a_body_is_no_failure),
                RM_TEST(test_what_was_completed_is_not_completed_again),
                RM_TEST(test_malformed_command_restores_nothing),
                RM_TEST(test_startup_ends_a_doubt),
                RM_TEST(test_cancelled_reconciliation_settles_nothing),
                RM_TEST(test_renewal_costs_no_session),
                RM_TEST(test_renewal_that_never_succeeds),
                RM_TEST(test_renewals_go_on_without_clients),
                RM_TEST(test_renewal_ends_in_a_reset),
                RM_TEST(test_renewal_flushes_what_is_doomed),
                RM_TEST(test_gap_of_an_object),
                RM_TEST(test_refusals_count_for_their_moment),
                RM_TEST(test_what_was_left_is_flushed_later),
                RM_TEST(test_refused_is_the_last_choice),
                RM_TEST(test_others_end_what_is_hopeless),
                RM_TEST(test_lost_load_keeps_no_slot),
                RM_TEST(test_reopened_keeps_what_is_proved),
                RM_TEST(test_reopened_takes_nobodys_key),
                RM_TEST(test_proof_is_asked_for_again),
                RM_TEST(test_reopened_after_a_reset),
                RM_TEST(test_state_that_was_put_back),
                RM_TEST(test_sessions_of_nobody_make_room),
                RM_TEST(test_flush_of_what_is_left_over),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
