/* SPDX-License-Identifier: BSD-2-Clause */

/* Neighbours that meddle, refusals in the middle of repairs, and who makes room; see test-rm.h. */
#include "resmgr/test-edges.h"

#define RC_GONE RM_RC(RC_REFERENCE_H0)

/* Neighbours */

static void test_neighbour_flushes_a_session_in_use(void **state) {
        TPM2_HANDLE session = new_session(0);
        TestAuth auth = { handle_of(0, cmd_start_session(TPM2_SE_HMAC)), TPMA_SESSION_AUDIT };

        neighbour_flushes(session);
        assert_int_equal(rc_of_use(0, session), RC_REFERENCE_H0);
        assert_int_equal(rc_of_use(0, session), RC_GONE);
        neighbour_flushes(auth.session);
        assert_int_equal(rc_of(0, cmd_get_random_auth(4, &auth, 1)), RC_REFERENCE_S0);
        assert_int_equal(rc_of(0, cmd_get_random_auth(4, &auth, 1)), RM_RC(RC_REFERENCE_S0));
        chores(RM_CHORE_CLEANUP);
        assert_int_equal(n_sessions(), 0);

        session = new_session(0);
        neighbour_flushes(session);
        assert_int_equal(rc_of_flush(0, session), RC_HANDLE_P1);
        assert_int_equal(rc_of_flush(0, session), RM_RC(RC_HANDLE_P1));
        assert_int_equal(n_sessions(), 0);
}

/* F10: under the upper byte of the other kind a TPM finds no session; it is there all the same. */
static void test_f10_upper_byte_of_the_other_kind(void **state) {
        TPM2_HANDLE session = handle_of(0, cmd_start_session(TPM2_SE_HMAC));
        const TestAuth right = { session, TPMA_SESSION_CONTINUESESSION | TPMA_SESSION_AUDIT };
        const TestAuth wrong = { session ^ 0x01000000, TPMA_SESSION_CONTINUESESSION | TPMA_SESSION_AUDIT };

        /* libtpms has other codes for it. */
        arm(TPM2_CC_PolicyGetDigest, RC_REFERENCE_H0, 1);
        assert_int_equal(rc_of_use(0, wrong.session), RC_REFERENCE_H0);
        succeed(0, cmd_get_random_auth(4, &right, 1));
        arm(TPM2_CC_GetRandom, RC_REFERENCE_S0, 1);
        assert_int_equal(rc_of(0, cmd_get_random_auth(4, &wrong, 1)), RC_REFERENCE_S0);
        succeed(0, cmd_get_random_auth(4, &right, 1));
}

static void test_neighbour_flushes_a_session_that_is_saved(void **state) {
        TPM2_HANDLE session = new_session(0);
        Message saved;

        chores(RM_CHORE_EVICT);
        neighbour_flushes(session);
        assert_int_equal(rc_of_use(0, session), RC_GONE);
        chores(RM_CHORE_CLEANUP);
        session = new_session(0);
        neighbour_flushes(session); /* before it is saved */
        chores(RM_CHORE_EVICT);
        assert_int_equal(rc_of_use(0, session), RC_GONE);

        chores(RM_CHORE_CLEANUP);
        session = new_session(0);
        saved = save(0, session);
        neighbour_flushes(session);
        assert_int_equal(rc_of(0, load_context(&saved)), RC_HANDLE_P1);
        assert_int_equal(rc_of(0, load_context(&saved)), RC_HANDLE_P1);
        chores(RM_CHORE_CLEANUP);
        assert_int_equal(n_sessions(), 0);
}

/* The handle of a session that is gone is given to another client: it is that client's alone. */
static void test_session_handle_that_is_given_again(void **state) {
        TPM2_HANDLE session = new_session(0);

        neighbour_flushes(session);
        assert_int_equal(new_session(1), session);
        assert_true(is_due());
        assert_int_equal(rc_of_use(0, session), RC_GONE);
        use(1, session);
}

static void test_neighbour_flushes_an_object(void **state) {
        TPM2_HANDLE key = new_key(0, 1);

        chores(RM_CHORE_SAVE);
        neighbour_flushes(TRANSIENT(0));
        assert_int_equal(rc_of_flush(0, key), TPM2_RC_SUCCESS);
        assert_int_equal(n_objects_of(0), 0);
}

/* What the TPM does not know though it was loaded again just now, it will not know the next time either. */
static void test_reference_that_is_wrong_twice(void **state) {
        TPM2_HANDLE key = new_key(0, 1);

        chores(RM_CHORE_SAVE);
        arm(TPM2_CC_HMAC, RC_REFERENCE_H0, 1);
        use_key(0, key);
        arm(TPM2_CC_HMAC, RC_REFERENCE_H0, 3);
        assert_int_equal(rc_of(0, cmd_hmac(key, "x")), RC_REFERENCE_H0);
        assert_int_equal(armed.n, 1);
        arm(TPM2_CC_CreatePrimary, RC_REFERENCE_H0, 1); /* it knows no owner */
        assert_int_equal(rc_of(0, cmd_create_primary(TPM2_RH_OWNER, 2)), RC_REFERENCE_H0);
        reconcile();
        use_key(0, key);
}

static void test_alias_of_what_is_loaded(void **state) {
        const Message ask = cmd_with_handle(TPM2_CC_ReadPublic, TRANSIENT(0));
        Message before, after;

        for (unsigned i = 0; i < 3; i++)
                new_key(i, i);
        before = succeed(0, ask);
        chores(RM_CHORE_EVICT);
        use_key(0, TRANSIENT(0));
        use_key(2, TRANSIENT(0));
        neighbour_flushes(TRANSIENT(0));
        use_key(1, TRANSIENT(0));
        assert_int_equal(tpm_count(TPM2_HT_TRANSIENT), report().n_objects_loaded);
        after = succeed(0, ask);
        assert_int_equal(after.n, before.n);
        assert_memory_equal(after.bytes, before.bytes, before.n);
}

/* Learned while a neighbour held slots: fewer than there are. */
static void test_slots_are_more_than_learned(void **state) {
        rm->slots_min[RM_OBJECT] = 1;
        direct(cmd_hash_start());
        direct(cmd_hash_start());
        new_key(0, 0);
        new_key(1, 1);
        assert_int_equal(report().object_slots, 1);
        neighbour_flushes(TRANSIENT(0));
        neighbour_flushes(TRANSIENT(1));
        arm(TPM2_CC_ContextSave, TPM2_RC_NV_RATE, 1000);
        new_key(2, 2);
        assert_int_equal(report().object_slots, 2);
        intercept = NULL;
        for (unsigned i = 0; i < 3; i++)
                use_key(i, TRANSIENT(0));
}

static void test_session_slots_are_fewer_than_learned(void **state) {
        TPM2_HANDLE sessions[4], foreign;
        Message started;

        for (unsigned i = 0; i < 4; i++)
                sessions[i] = new_session(0);
        assert_int_equal(report().session_slots, 3);
        chores(RM_CHORE_EVICT);
        started = direct(cmd_start_session(TPM2_SE_HMAC));
        foreign = message_handle(&started);
        for (unsigned i = 0; i < 3; i++)
                use(0, sessions[i]);
        assert_int_equal(report().session_slots, 0); /* not known */
        neighbour_flushes(foreign);
        for (unsigned i = 0; i < 4; i++)
                use(0, sessions[i]);
}

/* Refusals */

static void test_retries_of_what_is_done_for_sessions(void **state) {
        TPM2_HANDLE sessions[4];

        for (unsigned i = 0; i < 3; i++)
                sessions[i] = new_session(0);
        arm(TPM2_CC_ContextSave, TPM2_RC_RETRY, 2);
        sessions[3] = new_session(0);
        arm(TPM2_CC_ContextLoad, TPM2_RC_YIELDED, 2);
        use(0, sessions[0]);
        assert_int_equal(n_pauses, 4);
        for (unsigned i = 0; i < 4; i++)
                use(0, sessions[i]);
        direct(cmd_with_handle(TPM2_CC_FlushContext, sessions[0]));
        direct(cmd_hash_start());
        arm(TPM2_CC_FlushContext, TPM2_RC_TESTING, 2); /* of a handle in no table */
        check_claims = false;
        reconcile();
        assert_int_equal(tpm_count(TPM2_HT_TRANSIENT), 0);
        rm_space_close(rm, spaces[0]);
        arm(TPM2_CC_FlushContext, TPM2_RC_TESTING, 2);
        chores(RM_CHORE_CLEANUP);
        assert_int_equal(n_pauses, 8);
        assert_int_equal(tpm_count(TPM2_HT_LOADED_SESSION) + tpm_count(TPM2_HT_SAVED_SESSION), 0);
        rm_space_open(rm, 1000, &spaces[0]);
}

/* A load that fails for a reason of the TPM's own is no proof against the context. */
static void test_load_of_a_session_is_refused(void **state) {
        TPM2_HANDLE session = new_session(0);

        chores(RM_CHORE_EVICT);
        arm(TPM2_CC_ContextLoad, TPM2_RC_NV_RATE, 1);
        assert_int_equal(rc_of_use(0, session), RM_RC(TPM2_RC_NV_RATE));
        use(0, session);
}

/* Not tried again at once; but when something else could be saved. */
static void test_flush_of_a_session_is_refused(void **state) {
        new_session(0);
        rm_space_close(rm, spaces[0]);
        arm(TPM2_CC_FlushContext, TPM2_RC_NV_RATE, 1);
        chores(RM_CHORE_CLEANUP);
        assert_int_equal(tpm_count(TPM2_HT_LOADED_SESSION), 1);
        new_session(1);
        chores(RM_CHORE_EVICT);
        chores(RM_CHORE_CLEANUP);
        assert_int_equal(tpm_count(TPM2_HT_LOADED_SESSION), 0);
        assert_int_equal(tpm_count(TPM2_HT_SAVED_SESSION), 1);
        rm_space_open(rm, 1000, &spaces[0]);
}

static bool keep_the_first(const Message *command, Message *ret_response) {
        if (message_rc(command) != TPM2_CC_FlushContext || message_handle(command) != TRANSIENT(0))
                return false;
        *ret_response = cmd_simple(TPM2_RC_NV_RATE);
        return true;
}

static void test_flush_of_an_object_is_refused(void **state) {
        for (unsigned i = 0; i < 3; i++)
                new_key(i, i);
        intercept = keep_the_first;
        new_key(3, 3);
        for (unsigned i = 0; i < 4; i++)
                use_key(i, TRANSIENT(0));
        intercept = NULL;
}

/* A probe that is refused is no answer: what it was for is not believed to be there, and does not stay there. */
static void test_flush_as_a_probe_is_refused(void **state) {
        const Message ask = cmd_with_handle(TPM2_CC_ReadPublic, TRANSIENT(0));
        Message before, after;

        handle_of(0, cmd_create_primary(TPM2_RH_NULL, 1));
        before = succeed(0, ask);
        chores(RM_CHORE_SAVE);
        succeed(1, cmd_clear());
        arm(TPM2_CC_FlushContext, TPM2_RC_NV_RATE, 1);
        run(rm_job_begin_chore(rm, RM_CHORE_DUE));
        assert_int_equal(armed.n, 0);
        neighbour_flushes(TRANSIENT(0));
        direct(cmd_create_primary(TPM2_RH_NULL, 77)); /* another under that handle */
        after = succeed(0, ask);
        assert_int_equal(after.n, before.n);
        assert_memory_equal(after.bytes, before.bytes, before.n);
        assert_int_equal(tpm_count(TPM2_HT_TRANSIENT), report().n_objects_loaded);
}

/* The context gap, as if it were full, while room is made */

static unsigned n_gaps, n_rates;

static bool answer_gap(const Message *command, Message *ret_response) {
        unsigned *n = message_rc(command) == TPM2_CC_ContextSave   ? &n_gaps
                      : message_rc(command) == TPM2_CC_ContextLoad ? &n_rates
                                                                   : NULL;

        if (!n || *n == 0)
                return false;
        --*n;
        *ret_response = cmd_simple(n == &n_gaps ? TPM2_RC_CONTEXT_GAP : TPM2_RC_NV_RATE);
        return true;
}

/* Three of client 1's fill the slots, and client 0's is saved. */
static TPM2_HANDLE fill_session_slots(TPM2_HANDLE sessions[3]) {
        TPM2_HANDLE oldest = new_session(0);

        for (unsigned i = 0; i < 3; i++)
                sessions[i] = new_session(1);
        assert_int_equal(report().session_slots, 3);
        intercept = answer_gap;
        n_rates = 0;
        return oldest;
}

static void test_gap_while_room_is_made(void **state) {
        TPM2_HANDLE sessions[3];
        TPM2_HANDLE oldest = fill_session_slots(sessions);

        for (unsigned n = 1; n <= 2; n++) {
                n_gaps = n;
                use(0, oldest);
                assert_int_equal(n_gaps, 0);
                for (unsigned i = 0; i < 3; i++)
                        use(1, sessions[i]);
        }
}

/* While the gap stays full, each session is tried once more, and none of them is lost. */
static void test_gap_that_stays(void **state) {
        TPM2_HANDLE sessions[3];
        TPM2_HANDLE oldest = fill_session_slots(sessions);

        n_gaps = 1000;
        assert_int_equal(rc_of_use(0, oldest), RM_RC(TPM2_RC_SESSION_MEMORY));
        assert_int_equal(1000 - n_gaps, 4);
        n_gaps = 0;
        for (unsigned i = 0; i < 3; i++)
                use(1, sessions[i]);
        use(0, oldest);
}

/* The renewal itself is refused: for now, and for no reason that lies in the session. */
static void test_gap_that_cannot_be_closed_now(void **state) {
        TPM2_HANDLE sessions[3];
        TPM2_HANDLE oldest = fill_session_slots(sessions);

        n_gaps = n_rates = 1;
        assert_int_equal(rc_of_use(0, oldest), RM_RC(TPM2_RC_NV_RATE));
        assert_int_equal(n_gaps + n_rates, 0);
        use(0, oldest);
}

/* The oldest is the very one that is needed, and it cannot be loaded any more. */
static void test_gap_that_a_neighbour_made(void **state) {
        TPM2_HANDLE sessions[3];
        TPM2_HANDLE oldest = fill_session_slots(sessions);

        neighbour_flushes(oldest);
        n_gaps = 1;
        n_sent = 0;
        assert_int_equal(rc_of_use(0, oldest), RC_GONE);
        assert_int_equal(n_gaps, 0);
        assert_int_equal(n_sent, 5); /* no room yet, its load, its flush, room, and a handle of nothing */
        for (unsigned i = 0; i < 3; i++)
                use(1, sessions[i]);
        assert_int_equal(n_sessions(), 3);
}

/* Who makes room */

static void test_what_is_nobodys_leaves_first(void **state) {
        TPM2_HANDLE sessions[2];

        for (unsigned i = 0; i < 2; i++) {
                new_key(1, i);
                sessions[i] = new_session(1);
        }
        new_key(0, 2);
        new_session(0);
        rm_space_close(rm, spaces[0]);
        n_saves = 0;
        new_key(2, 3);
        new_session(2);
        assert_int_equal(n_saves, 0);
        for (unsigned i = 0; i < 2; i++) {
                use_key(1, TRANSIENT(i));
                use(1, sessions[i]);
        }
        rm_space_open(rm, 1000, &spaces[0]);
}

static void test_whose_session_handles_make_room(void **state) {
        Message saved[2];

        rm->limits.sessions_per_space = 60;
        for (unsigned i = 0; i < 56; i++)
                saved[i > 0] = save(0, new_session(0));
        for (unsigned i = 0; i < 9; i++) /* one too many */
                new_session(1);
        assert_int_equal(rm_counters(rm)->client_saved_flushed, 1);
        assert_int_equal(rc_of(0, load_context(&saved[0])), RC_HANDLE_P1); /* its handle is another's now */
        succeed(0, load_context(&saved[1]));

        rm_space_close(rm, spaces[1]); /* nine that are not flushed yet */
        for (unsigned i = 0; i < 9; i++)
                new_session(2);
        assert_int_equal(rm_counters(rm)->client_saved_flushed, 1);
        assert_int_equal(rm_counters(rm)->abandoned_flushed, 0);
        rm_space_open(rm, 1001, &spaces[1]);
}

/* Saved sessions without a client are their user's to flush, and root's. */
static void test_who_may_flush_what_is_left(void **state) {
        Message started = direct(cmd_start_session(TPM2_SE_HMAC));
        TPM2_HANDLE first = new_session(0), second = new_session(0), third = message_handle(&started), fourth;

        direct(cmd_with_handle(TPM2_CC_ContextSave, third));
        reconcile();
        fourth = new_session(2);
        save(0, first);
        save(0, second);
        rm_space_close(rm, spaces[0]);
        rm_space_open(rm, 1000, &spaces[0]);
        rm_space_close(rm, spaces[7]);
        rm_space_open(rm, 0, &spaces[7]);
        n_sent = 0;
        assert_int_equal(rc_of_flush(1, first), RM_RC(RC_HANDLE_P1));
        assert_int_equal(rc_of_flush(1, third), RM_RC(RC_HANDLE_P1));
        assert_int_equal(n_sent, 0);
        assert_int_equal(rc_of_flush(0, first), TPM2_RC_SUCCESS);
        assert_int_equal(rc_of_flush(7, second), TPM2_RC_SUCCESS);
        assert_int_equal(rc_of_flush(7, third), TPM2_RC_SUCCESS);
        assert_int_equal(tpm_count(TPM2_HT_SAVED_SESSION), 0);
        rm_space_close(rm, spaces[2]); /* to be flushed by us */
        assert_int_equal(rc_of_flush(7, fourth), RM_RC(RC_HANDLE_P1));
        rm_space_open(rm, 1002, &spaces[2]);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                RM_TEST(test_neighbour_flushes_a_session_in_use),
                RM_TEST(test_f10_upper_byte_of_the_other_kind),
                RM_TEST(test_neighbour_flushes_a_session_that_is_saved),
                RM_TEST(test_session_handle_that_is_given_again),
                RM_TEST(test_neighbour_flushes_an_object),
                RM_TEST(test_reference_that_is_wrong_twice),
                RM_TEST(test_alias_of_what_is_loaded),
                RM_TEST(test_slots_are_more_than_learned),
                RM_TEST(test_session_slots_are_fewer_than_learned),
                RM_TEST(test_retries_of_what_is_done_for_sessions),
                RM_TEST(test_load_of_a_session_is_refused),
                RM_TEST(test_flush_of_a_session_is_refused),
                RM_TEST(test_flush_of_an_object_is_refused),
                RM_TEST(test_flush_as_a_probe_is_refused),
                RM_TEST(test_gap_while_room_is_made),
                RM_TEST(test_gap_that_stays),
                RM_TEST(test_gap_that_cannot_be_closed_now),
                RM_TEST(test_gap_that_a_neighbour_made),
                RM_TEST(test_what_is_nobodys_leaves_first),
                RM_TEST(test_whose_session_handles_make_room),
                RM_TEST(test_who_may_flush_what_is_left),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
