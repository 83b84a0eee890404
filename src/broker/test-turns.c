/* SPDX-License-Identifier: BSD-2-Clause */

/* Whose turn it is after a command whose audit session is exclusive. */
#include "broker/test-clients.h"

static TPM2_HANDLE audit, policies[2];

static Scheduler *scheduler(void) {
        return &bench.broker->runner.scheduler;
}

static TPM2_HANDLE start_session(unsigned i, TPM2_SE kind) {
        Message command = cmd_start_session(kind);
        unsigned n = clients[i].n_replies;

        client_send(i, &command);
        bench_until(clients[i].n_replies == n + 1);
        assert_int_equal(clients[i].rc, TSS2_RC_SUCCESS);
        return clients[i].handle;
}

static void send_audited(void) {
        const TestAuth auth = { audit, TPMA_SESSION_CONTINUESESSION | TPMA_SESSION_AUDIT };
        Message command = cmd_policy_secret(policies[0], &auth);

        client_send(0, &command);
}

/* Client 0's command with its audit session is answered while client 1 waits. */
static int setup(void **state) {
        Message other;

        clients_setup(state);
        audit = start_session(0, TPM2_SE_HMAC);
        policies[0] = start_session(0, TPM2_SE_POLICY);
        policies[1] = start_session(1, TPM2_SE_POLICY);
        other = cmd_with_handle(TPM2_CC_PolicyGetDigest, policies[1]);
        clients[0].n_replies = clients[1].n_replies = 0;
        bench.fake.mute = true;
        send_audited();
        bench_until(fake_waits(&bench.fake));
        client_send(1, &other);
        bench.fake.mute = false;
        bench.fake.n_log = 0;
        return 0;
}

/* The TPM is kept for it for a moment, and when it asks it goes first. */
static void test_audit_goes_on(void **state) {
        fake_answer(&bench.fake, TSS2_RC_SUCCESS);
        assert_int_equal(clients[0].n_replies, 1);
        assert_int_equal(clients[0].rc, TSS2_RC_SUCCESS);
        assert_null(bench.broker->runner.current);
        assert_true(scheduler_deadline(scheduler()) < G_MAXINT64);
        send_audited();
        bench_until(clients[0].n_replies == 2 && clients[1].n_replies == 1);
        assert_int_equal(bench.fake.log[0], TPM2_CC_PolicySecret);
        assert_int_equal(bench.fake.log[1], TPM2_CC_PolicyGetDigest);
}

/* It asks for nothing more: the others go on after that moment. */
static void test_audit_is_over(void **state) {
        fake_answer(&bench.fake, TSS2_RC_SUCCESS);
        assert_int_equal(clients[1].n_replies, 0);
        bench_until(clients[1].n_replies == 1);
        assert_int_equal(clients[1].rc, TSS2_RC_SUCCESS);
        assert_int_equal(scheduler_deadline(scheduler()), G_MAXINT64);
}

/* It goes: nobody is waited for. */
static void test_audit_is_gone(void **state) {
        fake_answer(&bench.fake, TSS2_RC_SUCCESS);
        client_close(0);
        bench_until(clients[1].n_replies == 1);
        client_open(0, 1000);
        assert_int_equal(start_session(0, TPM2_SE_POLICY) >> TPM2_HR_SHIFT, TPM2_HT_POLICY_SESSION);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_audit_goes_on, setup, clients_teardown),
                cmocka_unit_test_setup_teardown(test_audit_is_over, setup, clients_teardown),
                cmocka_unit_test_setup_teardown(test_audit_is_gone, setup, clients_teardown),
        };

        return cmocka_run_group_tests_name("turns", tests, NULL, NULL);
}
