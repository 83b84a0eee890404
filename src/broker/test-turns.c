/* SPDX-License-Identifier: BSD-2-Clause */

/* Whose turn it is in a whole broker: after a command whose audit session is exclusive, and after what went wrong. */
#include "broker/order.h"
#include "broker/scheduler-internal.h"
#include "broker/test-clients.h"

static TPM2_HANDLE audit, policies[2];
static Message other;

static Scheduler *scheduler(void) {
        return &bench.broker->runner.scheduler;
}

static SchedulerUser *user(void) {
        return scheduler_user(scheduler(), 1000);
}

static Standing *standing(unsigned i) {
        return &clients[i].connection->owner.standing;
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

/* Client 0's command with its audit session is at the TPM while client 1 waits. */
static void meet(void) {
        bench.fake.mute = true;
        send_audited();
        bench_until(fake_waits(&bench.fake));
        client_send(1, &other);
        bench.fake.mute = false;
}

static int setup(void **state) {
        clients_setup(state);
        audit = start_session(0, TPM2_SE_HMAC);
        policies[0] = start_session(0, TPM2_SE_POLICY);
        policies[1] = start_session(1, TPM2_SE_POLICY);
        other = cmd_with_handle(TPM2_CC_PolicyGetDigest, policies[1]);
        clients[0].n_replies = clients[1].n_replies = 0;
        meet();
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

/* What is answered without the TPM lets no client keep others waiting for longer. */
static void test_audit_is_bounded(void **state) {
        Message local = cmd_with_handle(TPM2_CC_FlushContext, TPM2_TRANSIENT_FIRST + 99);
        const Request *head = &clients[1].connection->request;

        fake_answer(&bench.fake, TSS2_RC_SUCCESS);
        g_usleep(5000);
        client_send(0, &local);
        assert_int_equal(clients[0].n_replies, 2);
        assert_int_equal(clients[1].n_replies, 0);
        assert_in_range(scheduler()->idle_until - scheduler()->idle_since, 1,
                        ORDER_AUDIT_US - (scheduler()->served_us - head->headed_us));
        bench_until(clients[1].n_replies == 1);
}

/* It never asks soon, and the TPM is not kept for it any more; it does once, and it is. */
static void test_audit_in_vain(void **state) {
        for (unsigned n = 1; n <= 2; n++) {
                fake_answer(&bench.fake, TSS2_RC_SUCCESS);
                assert_int_not_equal(scheduler()->idle_since, 0);
                bench_until(clients[1].n_replies == n);
                /* so that the share of client 0 is not what forbids it */
                scheduler_charge(scheduler(), &clients[1].connection->request, G_USEC_PER_SEC / 10, 0);
                meet();
        }
        fake_answer(&bench.fake, TSS2_RC_SUCCESS);
        assert_int_equal(scheduler()->idle_since, 0);
        meet();
        fake_answer(&bench.fake, TSS2_RC_SUCCESS);
        assert_int_not_equal(scheduler()->idle_since, 0);
        bench_until(clients[1].n_replies == 4);
}

/* The TPM is lost while it is kept for that client, who does not pay for the time that it is away. */
static void test_audit_is_lost(void **state) {
        gint64 begun = g_get_monotonic_time();
        uint64_t used_us;

        bench.broker->supervisor.times.reopen_min = 200;
        fake_answer(&bench.fake, TSS2_RC_SUCCESS);
        assert_int_not_equal(scheduler()->idle_since, 0);
        used_us = standing(0)->used_us;
        fake_lose(&bench.fake);
        assert_int_equal(clients[1].n_replies, 1);
        bench_until(bench.fake.n_opens == 2);
        client_submit(2, TPM2_CC_ReadClock);
        bench_until(clients[2].n_replies > 0);
        assert_int_equal(scheduler()->idle_since, 0);
        assert_in_range(standing(0)->used_us - used_us, 0, (uint64_t)(g_get_monotonic_time() - begun) / 2);
}

/* What the TPM was kept for it counts when it is placed among the others. */
static void test_audit_is_placed(void **state) {
        uint64_t before_us = 0;

        fake_answer(&bench.fake, TSS2_RC_SUCCESS);
        g_usleep(5000);
        scheduler_charge(scheduler(), &clients[1].connection->request, 1000, g_get_monotonic_time());
        assert_int_not_equal(scheduler()->idle_since, 0);
        turn_enter(&bench.broker->turn);
        send_audited();
        scheduler_next(scheduler(), bench.broker->turn.now);
        assert_int_equal(user()->n_waiting, 2);
        list_for_each(link, &user()->waiting) {
                const Request *request = list_entry(link, Request, link);

                assert_in_range(request->owner->standing.used_us, before_us, UINT64_MAX);
                before_us = request->owner->standing.used_us;
        }
        turn_leave(&bench.broker->turn);
        bench_until(clients[0].n_replies == 2 && clients[1].n_replies == 1);
}

/* A user is forgotten: a connection that has had much waits no longer for that than others. */
static void test_user_is_forgotten(void **state) {
        unsigned n = 0;

        scheduler_charge(scheduler(), &clients[2].connection->request, 500 * G_USEC_PER_SEC, g_get_monotonic_time());
        for (uid_t uid = 5000; g_hash_table_contains(scheduler()->known, GUINT_TO_POINTER(1000)); uid++)
                scheduler_charge_user(scheduler(), uid, 0, 0);
        for (unsigned i = 0; i < 3; i++)
                client_submit(i == 0 ? 3 : i - 1, FAKE_SLOW);
        client_submit(2, FAKE_SLOW);
        for (; clients[2].n_replies == 0 && n < 1000; n++) {
                for (unsigned i = 0; i < CLIENTS; i++)
                        clients[i].again = i != 2;
                fake_answer(&bench.fake, TSS2_RC_SUCCESS);
        }
        assert_in_range(n, 0, 2 * CLIENTS);
        for (unsigned i = 0; i < CLIENTS; i++)
                clients[i].again = false;
        while (fake_waits(&bench.fake))
                fake_answer(&bench.fake, TSS2_RC_SUCCESS);
}

/* A command that fails, or during which somebody else had the TPM, tells little of what the next ones take. */
static void test_costs_are_not_made_up(void **state) {
        Stats *stats = &bench.broker->stats;

        client_submit(1, FAKE_SLOW);
        fake_answer(&bench.fake, TPM2_RC_VALUE);
        assert_int_equal(stats_cost(stats, FAKE_SLOW, 12345), 12345);
        client_submit(1, FAKE_SLOW);
        fake_answer(&bench.fake, TSS2_RC_SUCCESS);
        assert_int_not_equal(stats_cost(stats, FAKE_SLOW, 12345), 12345);
        for (unsigned i = 0; i < 100; i++)
                stats_note_cost(stats, TPM2_CC_ContextLoad, 5000);
        stats_note_cost(stats, TPM2_CC_ContextLoad, 300 * G_USEC_PER_SEC);
        assert_in_range(stats_cost(stats, TPM2_CC_ContextLoad, 0), 5000, 20000);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_audit_goes_on, setup, clients_teardown),
                cmocka_unit_test_setup_teardown(test_audit_is_over, setup, clients_teardown),
                cmocka_unit_test_setup_teardown(test_audit_is_gone, setup, clients_teardown),
                cmocka_unit_test_setup_teardown(test_audit_is_bounded, setup, clients_teardown),
                cmocka_unit_test_setup_teardown(test_audit_in_vain, setup, clients_teardown),
                cmocka_unit_test_setup_teardown(test_audit_is_lost, setup, clients_teardown),
                cmocka_unit_test_setup_teardown(test_audit_is_placed, setup, clients_teardown),
                cmocka_unit_test_setup_teardown(test_user_is_forgotten, clients_setup, clients_teardown),
                cmocka_unit_test_setup_teardown(test_costs_are_not_made_up, clients_setup, clients_teardown),
        };

        return cmocka_run_group_tests_name("turns", tests, NULL, NULL);
}
