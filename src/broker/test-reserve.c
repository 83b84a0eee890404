/* SPDX-License-Identifier: BSD-2-Clause */
#include "broker/report.h"
#include "broker/test-clients.h"
#include "resmgr/report.h"

#include <string.h>

#define ROUNDS 100

static const Reserve NOBODY = { 0, 0, "nobody" }, KERNEL = { 2, 0, "kernel" }, OPEN = { 2, 2, "open" };

/* What whoever watches the neighbours says. */
static Reserve told;

static Reserve ask(void *userdata, gint64 now) {
        return told;
}

static void run(unsigned i, Message command) {
        clients[i].n_replies = 0;
        client_send(i, &command);
        bench_until(clients[i].n_replies == 1);
        assert_int_equal(clients[i].rc, TSS2_RC_SUCCESS);
}

static void begin(Reserve reserve) {
        told = reserve;
        bench_begin_on(&bench, CLIENTS * 2, &FAKE_TPM_CONFIG);
        bench.broker->runner.reserver.config.ask = ask;
        bench.broker->runner.reserver.kept = (Reserve){ 0 };
        bench_start(&bench);
        for (unsigned i = 0; i < CLIENTS; i++)
                client_open(i, 1000);
}

static RmReport report(void) {
        RmReport report;

        rm_report(broker_rm(bench.broker), &report);
        return report;
}

static Reserve reserve_now(void) {
        BrokerReport report;

        broker_report(bench.broker, &report);
        return report.reserve;
}

static uint64_t count_transmits(void) {
        return rm_counters(broker_rm(bench.broker))->transmits;
}

/* TPM commands, in hundredths, for each of the clients' in turn, with a key each. */
static unsigned cost_of_turns(unsigned n_keys, Reserve reserve) {
        TPM2_HANDLE keys[CLIENTS];
        unsigned cost;
        uint64_t before;

        begin(reserve);
        for (unsigned i = 0; i < n_keys; i++) {
                run(i, cmd_create_primary(TPM2_RH_OWNER, (uint8_t)i));
                keys[i] = clients[i].handle;
        }
        before = count_transmits();
        for (unsigned k = 0; k < ROUNDS; k++)
                for (unsigned i = 0; i < n_keys; i++)
                        run(i, cmd_hmac(keys[i], "turn"));
        cost = (unsigned)((count_transmits() - before) * 100 / (ROUNDS * n_keys));
        clients_teardown(NULL);
        return cost;
}

/* Nobody pays for a neighbour who is not there. */
static void test_keys_in_turn(void **state) {
        assert_in_range(cost_of_turns(2, NOBODY), 100, 105);
        assert_in_range(cost_of_turns(3, NOBODY), 100, 110);
        assert_in_range(cost_of_turns(2, OPEN), 200, 300);
        assert_in_range(cost_of_turns(3, KERNEL), 200, 300);
}

/* Three keys and three sessions are loaded, and the third client's command is at the TPM. */
static void fill(void) {
        for (unsigned i = 0; i < 3; i++) {
                run(i, cmd_create_primary(TPM2_RH_OWNER, (uint8_t)i));
                run(i, cmd_start_session(TPM2_SE_POLICY));
        }
        assert_int_equal(report().n_objects_loaded, 3);
        assert_int_equal(report().n_sessions_loaded, 3);
        client_submit(3, FAKE_SLOW);
        assert_true(fake_waits(&bench.fake));
}

/* How many commands went to the TPM before the next one of a client, who waits. */
static unsigned commands_between(void) {
        unsigned n = 0;

        bench.fake.n_log = 0;
        fake_answer(&bench.fake, TSS2_RC_SUCCESS);
        client_submit(3, FAKE_SLOW);
        bench_until(fake_waits(&bench.fake));
        for (unsigned i = 0; i < bench.fake.n_log && bench.fake.log[i] != FAKE_SLOW; i++)
                n++;
        return n;
}

/* At once: behind the command that is at the TPM, and before any other. */
static void test_a_neighbour_comes(void **state) {
        unsigned n;

        begin(NOBODY);
        fill();
        assert_int_equal(commands_between(), 0);
        told = OPEN;
        broker_look(bench.broker);
        n = commands_between();
        assert_in_range(n, 2 + 2, 4 + 2); /* two keys, which may have to be saved first, and two sessions */
        assert_int_equal(report().n_objects_loaded, 1);
        assert_int_equal(report().n_sessions_loaded, 1);
        assert_int_equal(commands_between(), 0);
        fake_answer(&bench.fake, TSS2_RC_SUCCESS);
}

static void test_a_neighbour_comes_while_nobody_asks(void **state) {
        begin(NOBODY);
        fill();
        fake_answer(&bench.fake, TSS2_RC_SUCCESS);
        bench_settle();
        assert_int_equal(report().n_objects_loaded, 3);
        told = OPEN;
        broker_look(bench.broker);
        bench_until(report().n_objects_loaded == 1 && report().n_sessions_loaded == 1);
}

/* The kernel's keys need no sessions. */
static void test_kinds_are_kept_apart(void **state) {
        begin(KERNEL);
        for (unsigned i = 0; i < 3; i++) {
                run(i, cmd_create_primary(TPM2_RH_OWNER, (uint8_t)i));
                run(i, cmd_start_session(TPM2_SE_POLICY));
        }
        bench_settle();
        assert_int_equal(report().n_objects_loaded, 1);
        assert_int_equal(report().n_sessions_loaded, 3);
        told = NOBODY;
        run(3, cmd_create_primary(TPM2_RH_OWNER, 3));
        bench_settle();
        assert_int_equal(report().n_objects_loaded, 2);
}

static Message neighbour(Message command) {
        Message response;

        response.n = fake_tpm_run(bench.fake.tpm, command.bytes, command.n, response.bytes, sizeof(response.bytes));
        return response;
}

/* He saves a session after each of his commands, as the kernel's manager does for him, and is seen by nothing else. */
static void test_traces(void **state) {
        Message started, saved;

        begin(NOBODY);
        run(0, cmd_start_session(TPM2_SE_POLICY));
        run(0, cmd_with_handle(TPM2_CC_ContextSave, clients[0].handle));
        run(1, cmd_start_session(TPM2_SE_POLICY));
        assert_string_equal(reserve_now().reason, "nobody");
        started = neighbour(cmd_start_session(TPM2_SE_POLICY));
        for (unsigned i = 0; i < 20; i++) {
                saved = neighbour(cmd_with_handle(TPM2_CC_ContextSave, message_handle(&started)));
                assert_int_equal(message_rc(&saved), TSS2_RC_SUCCESS);
                neighbour(cmd_context_load(saved.bytes + TPM_HEADER_SIZE, saved.n - TPM_HEADER_SIZE));
        }
        run(1, cmd_with_handle(TPM2_CC_ContextSave, clients[1].handle));
        bench_settle();
        assert_string_equal(reserve_now().reason, "traces");
        assert_int_equal(reserve_now().n_objects, 2);
        assert_int_equal(reserve_now().n_sessions, 2);
        assert_string_equal(
                reserver_ask(&bench.broker->runner.reserver, g_get_monotonic_time() + RESERVE_GRACE_US).reason,
                "nobody");
}

/* What was there before us tells of nobody who is there now. */
static void test_left_over(void **state) {
        told = NOBODY;
        bench_begin_on(&bench, CLIENTS * 2, &FAKE_TPM_CONFIG);
        bench.broker->runner.reserver.config.ask = ask;
        bench.broker->runner.reserver.kept = (Reserve){ 0 };
        neighbour(cmd_startup(TPM2_SU_CLEAR));
        neighbour(cmd_create_primary(TPM2_RH_OWNER, 1));
        neighbour(cmd_start_session(TPM2_SE_POLICY));
        bench_start(&bench);
        bench_until(!bench.broker->runner.current);
        assert_int_equal(rm_counters(broker_rm(bench.broker))->foreign_flushed, 2);
        for (unsigned i = 0; i < CLIENTS; i++)
                client_open(i, 1000);
        run(0, cmd_create_primary(TPM2_RH_OWNER, 0));
        assert_string_equal(reserve_now().reason, "nobody");
}

/* The TPM has made it, and its answer is lost: it is in no table, and ours all the same. */
static void test_lost_answer(void **state) {
        Message command = cmd_create_primary(TPM2_RH_OWNER, 0);

        begin(NOBODY);
        bench.fake.mute = true;
        client_send(0, &command);
        bench_until(bench.fake.n_command > 0);
        neighbour(command);
        fake_lose(&bench.fake);
        bench.fake.mute = false;
        bench_until(bench.fake.backend.state == BACKEND_READY && !bench.broker->runner.current);
        assert_int_equal(rm_counters(broker_rm(bench.broker))->foreign_flushed, 1);
        run(1, cmd_create_primary(TPM2_RH_OWNER, 1));
        assert_string_equal(reserve_now().reason, "nobody");
}

/* All slots are taken, and not by us. */
static void test_strangers(void **state) {
        begin(NOBODY);
        for (unsigned i = 0; i < 3; i++)
                neighbour(cmd_start_session(TPM2_SE_POLICY));
        run(0, cmd_start_session(TPM2_SE_POLICY));
        assert_true(rm_counters(broker_rm(bench.broker))->foreign_flushed > 0);
        assert_string_equal(reserve_now().reason, "traces");
}

/* Our own saves are no traces, of whatever kind, and however many. */
static void test_no_traces_of_ours(void **state) {
        TPM2_HANDLE sessions[CLIENTS];

        begin(OPEN);
        for (unsigned i = 0; i < CLIENTS; i++) {
                run(i, cmd_create_primary(TPM2_RH_OWNER, (uint8_t)i));
                run(i, cmd_start_session(TPM2_SE_POLICY));
                sessions[i] = clients[i].handle;
        }
        for (unsigned k = 0; k < ROUNDS; k++)
                run(k % CLIENTS, cmd_with_handle(TPM2_CC_PolicyGetDigest, sessions[k % CLIENTS]));
        assert_true(rm_counters(broker_rm(bench.broker))->saves >= ROUNDS);
        told = NOBODY;
        assert_string_equal(reserve_now().reason, "nobody");
        assert_int_equal(rm_counters(broker_rm(bench.broker))->foreign_saves, 0);
}

static void test_fixed(void **state) {
        bench_begin_on(&bench, CLIENTS * 2, &FAKE_TPM_CONFIG);
        bench_start(&bench);
        broker_look(bench.broker);
        assert_string_equal(reserve_now().reason, "fixed");
        assert_int_equal(reserve_now().n_objects, 0);
        for (unsigned i = 0; i < CLIENTS; i++)
                client_open(i, 1000);
}

#define TEST(function) cmocka_unit_test_teardown(function, clients_teardown)

int main(void) {
        const struct CMUnitTest tests[] = {
                TEST(test_a_neighbour_comes),
                TEST(test_a_neighbour_comes_while_nobody_asks),
                TEST(test_kinds_are_kept_apart),
                TEST(test_traces),
                TEST(test_no_traces_of_ours),
                TEST(test_fixed),
                TEST(test_left_over),
                TEST(test_lost_answer),
                TEST(test_strangers),
                cmocka_unit_test(test_keys_in_turn),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
