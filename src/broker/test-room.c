/* SPDX-License-Identifier: BSD-2-Clause */
#include "broker/test-clients.h"

#include <string.h>

/* A TPM with eight session handles, of which one user may have four. */
enum { HANDLES = 8 };

static TPM2_HANDLE sessions[CLIENTS];

static Scheduler *scheduler(void) {
        return &bench.broker->runner.scheduler;
}

static bool waits(unsigned i) {
        return clients[i].connection && scheduler()->n_aside > 0 &&
               ((Connection *)clients[i].connection)->request.aside;
}

static void ask(unsigned i, const Message *command) {
        client_send(i, command);
        bench_until(!bench.broker->runner.current && (clients[i].n_replies > 0 || waits(i)));
}

static void ask_for_session(unsigned i) {
        Message command = cmd_start_session(TPM2_SE_POLICY);

        clients[i].n_replies = 0;
        ask(i, &command);
}

static void run(unsigned i, const Message *command) {
        clients[i].n_replies = 0;
        ask(i, command);
        assert_int_equal(clients[i].n_replies, 1);
        assert_int_equal(clients[i].rc, TSS2_RC_SUCCESS);
}

static void run_with_handle(unsigned i, TPM2_CC code, TPM2_HANDLE handle) {
        Message command = cmd_with_handle(code, handle);

        run(i, &command);
}

/* Each of four clients has a session, which is their user's share. */
static int setup(void **state) {
        FakeTpmConfig config = FAKE_TPM_CONFIG;

        config.active_sessions = HANDLES;
        bench_begin_on(&bench, CLIENTS * 2, &config);
        bench_start(&bench);
        for (unsigned i = 0; i < CLIENTS; i++) {
                client_open(i, 1000);
                ask_for_session(i);
                assert_int_equal(clients[i].rc, TSS2_RC_SUCCESS);
                sessions[i] = clients[i].handle;
        }
        return 0;
}

/* It waits until another ends what it has; meanwhile others are served. */
static void test_let_in_when_one_ends(void **state) {
        ask_for_session(0);
        assert_true(waits(0));
        run_with_handle(1, TPM2_CC_PolicyGetDigest, sessions[1]);
        run_with_handle(2, TPM2_CC_FlushContext, sessions[2]);
        bench_until(clients[0].n_replies == 1);
        assert_int_equal(clients[0].rc, TSS2_RC_SUCCESS);
        assert_int_equal(scheduler()->n_aside, 0);
}

static void test_let_in_when_one_goes(void **state) {
        ask_for_session(0);
        client_close(3);
        bench_until(clients[0].n_replies == 1);
        assert_int_equal(clients[0].rc, TSS2_RC_SUCCESS);
}

/* In turn, and no more of them than there is room for. */
static void test_in_turn(void **state) {
        ask_for_session(0);
        ask_for_session(1);
        ask_for_session(2);
        run_with_handle(3, TPM2_CC_FlushContext, sessions[3]);
        bench_until(clients[0].n_replies == 1);
        bench_settle();
        assert_true(!waits(0) && waits(1) && waits(2));
        client_close(3);
        run_with_handle(0, TPM2_CC_FlushContext, sessions[0]);
        bench_until(clients[1].n_replies == 1);
        assert_true(waits(2));
}

/* Where all who could end something wait themselves, the last of them hears so at once. */
static void test_nobody_is_left_to_wait_for(void **state) {
        for (unsigned i = 0; i < CLIENTS - 1; i++) {
                ask_for_session(i);
                assert_true(waits(i));
        }
        ask_for_session(CLIENTS - 1);
        assert_int_equal(clients[CLIENTS - 1].n_replies, 1);
        assert_int_equal(clients[CLIENTS - 1].rc, RM_RC(TPM2_RC_SESSION_HANDLES));
        assert_int_equal(scheduler()->n_aside, CLIENTS - 1);
        run_with_handle(CLIENTS - 1, TPM2_CC_FlushContext, sessions[CLIENTS - 1]);
        bench_until(clients[0].n_replies == 1);
        assert_int_equal(clients[0].rc, TSS2_RC_SUCCESS);
}

/* What is held and not used for a short time is not waited for in vain for ever; whoever came later waits no longer. */
static void test_held(void **state) {
        scheduler()->held_us = 50 * 1000;
        ask_for_session(0);
        ask_for_session(1);
        bench_until(clients[0].n_replies == 1 && clients[1].n_replies == 1);
        for (unsigned i = 0; i < 2; i++)
                assert_int_equal(clients[i].rc, RM_RC(TPM2_RC_SESSION_HANDLES));
        ask_for_session(0);
        assert_true(waits(0));
}

/* Another user's share is its own. */
static void test_another_user(void **state) {
        client_close(3);
        bench_settle();
        client_open(3, 1001);
        ask_for_session(0);
        assert_int_equal(clients[0].rc, TSS2_RC_SUCCESS);
        ask_for_session(1);
        assert_true(waits(1));
        ask_for_session(3);
        assert_int_equal(clients[3].n_replies, 1);
        assert_int_equal(clients[3].rc, TSS2_RC_SUCCESS);
        assert_true(waits(1));
}

/* One that waits can be cancelled, closed, or lose the TPM. */
static void test_ends_while_it_waits(void **state) {
        for (unsigned i = 0; i < 3; i++)
                ask_for_session(i);
        assert_int_equal(connection_cancel(clients[0].connection), TSS2_RC_SUCCESS);
        assert_int_equal(clients[0].rc, TPM2_RC_CANCELED);
        client_close(1);
        bench_until(clients[2].n_replies == 1);
        assert_int_equal(clients[2].rc, TSS2_RC_SUCCESS);
        ask_for_session(0);
        assert_true(waits(0));
        fake_lose(&bench.fake);
        assert_int_equal(clients[0].n_replies, 1);
        assert_int_equal(clients[0].rc, RM_RC(TPM2_RC_INITIALIZE));
        assert_int_equal(scheduler()->n_aside, 0);
}

/* What a client saved and left not long ago is in a file that somebody is about to load. */
static void test_young_files_are_in_use(void **state) {
        for (unsigned i = 0; i < CLIENTS; i++) {
                run_with_handle(i, TPM2_CC_ContextSave, sessions[i]);
                client_close(i);
                client_open(i, 1000);
        }
        /* Who has waited for long enough goes on all the same. */
        scheduler()->held_us = 50 * 1000;
        ask_for_session(0);
        assert_true(waits(0));
        bench_until(clients[0].n_replies == 1);
        assert_int_equal(clients[0].rc, TSS2_RC_SUCCESS);
        /* What its user ends is room. */
        scheduler()->held_us = SCHEDULER_HELD_US;
        ask_for_session(1);
        assert_true(waits(1));
        run_with_handle(2, TPM2_CC_FlushContext, sessions[0]);
        assert_true(waits(1));
        run_with_handle(2, TPM2_CC_FlushContext, sessions[1]);
        bench_until(clients[1].n_replies == 1);
        assert_int_equal(clients[1].rc, TSS2_RC_SUCCESS);
}

/* While the TPM is busy nobody can be let in, and nothing looks for whom. */
static void test_nothing_runs_while_the_tpm_is_busy(void **state) {
        scheduler()->held_us = 20 * 1000;
        ask_for_session(0);
        assert_true(waits(0));
        client_submit(1, FAKE_LONG);
        bench_until(fake_waits(&bench.fake));
        bench_until(!bench.broker->runner.look_timer);
        bench_run_ms(50);
        assert_int_equal(bench.broker->runner.look_timer, 0);
        assert_int_equal(clients[0].n_replies, 0);
        fake_answer(&bench.fake, TSS2_RC_SUCCESS);
        bench_until(clients[0].n_replies == 1);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, setup, clients_teardown)

int main(void) {
        const struct CMUnitTest tests[] = {
                TEST(test_nothing_runs_while_the_tpm_is_busy),
                TEST(test_let_in_when_one_ends),
                TEST(test_let_in_when_one_goes),
                TEST(test_in_turn),
                TEST(test_nobody_is_left_to_wait_for),
                TEST(test_held),
                TEST(test_another_user),
                TEST(test_ends_while_it_waits),
                TEST(test_young_files_are_in_use),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
