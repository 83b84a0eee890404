/* SPDX-License-Identifier: BSD-2-Clause */
#include "broker/test-clients.h"

#include <string.h>

/* The same chip, used by somebody else past the daemon. */
static Message neighbour(Message command) {
        Message response;

        response.n = fake_tpm_run(bench.fake.tpm, command.bytes, command.n, response.bytes, sizeof(response.bytes));
        return response;
}

/* As the kernel's manager does: a session is saved after each command. Return: the response code. */
static TSS2_RC neighbour_saves_a_session(void) {
        Message started = neighbour(cmd_start_session(TPM2_SE_POLICY));
        Message saved = message_rc(&started) == TSS2_RC_SUCCESS
                                ? neighbour(cmd_with_handle(TPM2_CC_ContextSave, message_handle(&started)))
                                : started;

        if (message_rc(&started) == TSS2_RC_SUCCESS)
                neighbour(cmd_with_handle(TPM2_CC_FlushContext, message_handle(&started)));
        return message_rc(&saved);
}

static void run(unsigned i, Message command) {
        clients[i].n_replies = 0;
        client_send(i, &command);
        bench_until(clients[i].n_replies == 1);
        assert_int_equal(clients[i].rc, TSS2_RC_SUCCESS);
}

static void begin(unsigned gap) {
        FakeTpmConfig config = FAKE_TPM_CONFIG;

        config.gap = gap;
        config.session_slots = 5;
        bench_begin_on(&bench, CLIENTS * 2, &config);
        bench.broker->runner.chores.sampler.on = true;
        bench_start(&bench);
        for (unsigned i = 0; i < CLIENTS; i++)
                client_open(i, 1000);
}

/* One session of ours lies saved; the neighbour uses up the gap three times, and never hears of it. */
static void neighbour_beside(bool busy) {
        const Message clock = cmd_simple(TPM2_CC_ReadClock);

        begin(255);
        run(0, cmd_start_session(TPM2_SE_POLICY));
        run(0, cmd_with_handle(TPM2_CC_ContextSave, clients[0].handle));
        for (unsigned i = 1; i < 3 && busy; i++)
                client_send(i, &clock);
        for (unsigned i = 0; i < 3 * 255; i++) {
                gint64 end = g_get_monotonic_time() + 1000;

                assert_int_equal(neighbour_saves_a_session(), TSS2_RC_SUCCESS);
                while (g_get_monotonic_time() < end) {
                        clients[1].again = clients[2].again = busy;
                        (void)g_main_context_iteration(NULL, FALSE);
                }
        }
        assert_true(!busy || clients[1].n_replies > 765);
        clients[1].again = clients[2].again = false;
        assert_int_equal(rm_counters(bench.broker->runner.rm)->client_saved_flushed, 0);
        bench_settle();
}

static void test_neighbour_never_hears_of_the_gap(void **state) {
        neighbour_beside(false);
}

static void test_neither_while_clients_always_ask(void **state) {
        neighbour_beside(true);
}

/* Where nothing is saved, nothing is done. */
static void test_nothing_is_at_stake(void **state) {
        begin(255);
        run(0, cmd_start_session(TPM2_SE_POLICY));
        bench.fake.n_log = 0;
        bench_run_ms(100);
        assert_int_equal(bench.fake.n_log, 0);
}

static unsigned loads_in_a_quiet_time(unsigned gap) {
        begin(gap);
        run(0, cmd_start_session(TPM2_SE_POLICY));
        run(0, cmd_with_handle(TPM2_CC_ContextSave, clients[0].handle));
        bench.fake.n_log = 0;
        bench_run_ms(400);
        return fake_count(&bench.fake, TPM2_CC_ContextLoad);
}

/* A wide gap is looked at seldom. */
static void test_wide_gap(void **state) {
        unsigned n_narrow = loads_in_a_quiet_time(255), n_wide;

        clients_teardown(NULL);
        n_wide = loads_in_a_quiet_time(65535);
        assert_in_range(n_wide, 1, n_narrow / 2);
}

#define TEST(function) cmocka_unit_test_teardown(function, clients_teardown)

int main(void) {
        const struct CMUnitTest tests[] = {
                TEST(test_neighbour_never_hears_of_the_gap),
                TEST(test_neither_while_clients_always_ask),
                TEST(test_nothing_is_at_stake),
                TEST(test_wide_gap),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
