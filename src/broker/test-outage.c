/* SPDX-License-Identifier: BSD-2-Clause */
#include "backend/backend-internal.h"
#include "broker/test-clients.h"
#include "tpm/header.h"
#include "util/log.h"

static void test_lost(void **state) {
        bench.broker->supervisor.times.reopen_min = 10;
        bench.fake.refuse_open = true;
        client_submit(0, FAKE_SLOW);
        client_submit(1, FAKE_SLOW);
        bench_until(fake_waits(&bench.fake));
        fake_lose(&bench.fake);
        for (unsigned i = 0; i < 2; i++) {
                assert_int_equal(clients[i].n_replies, 1);
                /* The other one's was never sent. */
                assert_int_equal(clients[i].rc, i == 0 ? RM_RC(TPM2_RC_FAILURE) : RM_RC(TPM2_RC_INITIALIZE));
        }
        client_submit(2, FAKE_SLOW);
        assert_int_equal(clients[2].rc, RM_RC(TPM2_RC_INITIALIZE));

        bench_until(bench.fake.n_opens >= 3);
        assert_int_equal(bench.fake.backend.state, BACKEND_CLOSED);
        bench.fake.refuse_open = false;
        bench.fake.n_log = 0;
        bench_until(bench.fake.backend.state != BACKEND_CLOSED);
        client_submit(2, FAKE_SLOW);
        bench_until(fake_waits(&bench.fake));
        /* Started, for it may have been reset, and reconciled first. */
        assert_true(fake_count(&bench.fake, TPM2_CC_GetCapability) > 0);
        fake_answer(&bench.fake, TSS2_RC_SUCCESS);
        assert_int_equal(clients[2].n_replies, 2);
        assert_int_equal(clients[2].rc, TSS2_RC_SUCCESS);
}

/* Lost while everything that can be there is there: one running, one paused, one closed, one waiting. */
static void test_lost_all(void **state) {
        client_submit(0, FAKE_SLOW);
        client_submit(3, FAKE_SLOW);
        bench_until(fake_waits(&bench.fake));
        fake_answer(&bench.fake, TPM2_RC_RETRY);
        bench_until(fake_waits(&bench.fake));
        fake_answer(&bench.fake, TPM2_RC_RETRY);
        client_close(3);
        client_submit(1, FAKE_SLOW);
        bench_until(fake_waits(&bench.fake));
        client_submit(2, FAKE_SLOW);
        fake_lose(&bench.fake);
        for (unsigned i = 0; i < 3; i++) {
                assert_int_equal(clients[i].n_replies, 1);
                assert_int_equal(clients[i].rc, i == 1 ? RM_RC(TPM2_RC_FAILURE) : RM_RC(TPM2_RC_INITIALIZE));
        }
        assert_int_equal(bench.broker->connections.quota.n_connections, CLIENTS - 1);
}

static void test_transmit_fails(void **state) {
        bench.broker->supervisor.times.reopen_min = 10;
        bench.fake.refuse_transmit = true;
        client_submit(0, FAKE_SLOW);
        bench_until(clients[0].n_replies == 1);
        assert_int_equal(clients[0].rc, RM_RC(TPM2_RC_FAILURE));
        assert_int_equal(bench.fake.backend.state, BACKEND_CLOSED);
        bench_run_ms(300);
        assert_in_range(bench.fake.n_opens, 2, 12); /* with back-off, though opening itself succeeds */
        bench.fake.refuse_transmit = false;
        bench_until(bench.fake.backend.state == BACKEND_READY && !bench.broker->runner.current);
}

static void test_time_limit(void **state) {
        bench.broker->supervisor.times.tick = 10;
        bench.broker->supervisor.times.limit = 30;
        client_submit(0, FAKE_SLOW);
        bench_until(clients[0].n_replies == 1);
        assert_int_equal(clients[0].rc, RM_RC(TPM2_RC_FAILURE));
        bench_until(bench.fake.n_opens == 2 && !bench.broker->runner.current);

        client_submit(1, FAKE_LONG);
        bench_run_ms(200);
        assert_int_equal(clients[1].n_replies, 0);
        fake_answer(&bench.fake, TSS2_RC_SUCCESS);
        assert_int_equal(clients[1].n_replies, 1);
        bench_until(!bench.broker->supervisor.tick_timer);
}

/* What was late changes nothing about what clients have: nobody else could use the TPM meanwhile. */
static void test_late_answer(void **state) {
        Supervisor *supervisor = &bench.broker->supervisor;
        unsigned n_queries = fake_count(&bench.fake, TPM2_CC_GetCapability);

        supervisor->times.tick = 10;
        supervisor->times.limit = 30;
        client_submit(0, FAKE_SLOW);
        client_submit(1, FAKE_SLOW);
        bench_until(clients[0].n_replies == 1);
        assert_int_equal(supervisor->state, SUPERVISOR_LATE);
        supervisor->outgoing.limit_ms = 60 * 1000; /* however slow this machine is */
        assert_int_equal(clients[0].rc, RM_RC(TPM2_RC_FAILURE));
        assert_int_equal(clients[1].rc, RM_RC(TPM2_RC_INITIALIZE));
        assert_non_null(strstr(supervisor->reason, "within 0.03 s"));
        client_submit(2, FAKE_SLOW);
        assert_int_equal(clients[2].rc, RM_RC(TPM2_RC_INITIALIZE));

        fake_answer(&bench.fake, TSS2_RC_SUCCESS);
        assert_int_equal(supervisor->state, SUPERVISOR_UP);
        assert_int_equal(clients[0].n_replies, 1);
        client_submit(2, FAKE_SLOW);
        bench_until(fake_waits(&bench.fake));
        assert_int_equal(bench.fake.n_opens, 1);
        /* The tables are compared with the TPM, since an answer was lost; it is not started again. */
        assert_int_equal(fake_count(&bench.fake, TPM2_CC_GetCapability), n_queries + 3);
}

/* Not a second time as long: then it is let go of, and opened again. */
static void test_late_for_good(void **state) {
        Supervisor *supervisor = &bench.broker->supervisor;

        supervisor->times.tick = 10;
        supervisor->times.limit = 30;
        bench.fake.can_cancel = true;
        client_submit(0, FAKE_SLOW);
        bench_until(supervisor->state == SUPERVISOR_LATE);
        assert_int_equal(bench.fake.n_cancels, 1);
        bench_until(bench.fake.n_opens == 2);
        assert_int_equal(clients[0].n_replies, 1);
        assert_int_equal(supervisor->stats->n_lost, 1);
}

/* The end does not wait for what is late. */
static void test_end_while_it_is_late(void **state) {
        Supervisor *supervisor = &bench.broker->supervisor;

        supervisor->times.tick = 10;
        supervisor->times.limit = 30;
        client_submit(0, FAKE_SLOW);
        bench_until(supervisor->state == SUPERVISOR_LATE);
        supervisor_stop(supervisor);
        assert_int_equal(supervisor->state, SUPERVISOR_CLOSED);
        assert_int_equal(bench.fake.backend.state, BACKEND_CLOSED);
        bench_until(!supervisor->tick_timer);
        assert_int_equal(supervisor->state, SUPERVISOR_CLOSED);
        assert_int_equal(bench.fake.n_opens, 1);
}

/* To FieldUpgradeData a TPM says TPM_RC_UPGRADE when it is in no such mode: nobody loses anything by it. */
static void test_upgrade_that_was_not_begun(void **state) {
        Message start = cmd_start_session(TPM2_SE_POLICY), use;

        client_send(0, &start);
        bench_until(clients[0].n_replies == 1);
        assert_int_equal(clients[0].rc, TSS2_RC_SUCCESS);
        use = cmd_with_handle(TPM2_CC_PolicyGetDigest, clients[0].handle);
        bench.fake.mute = true;
        client_submit(1, TPM2_CC_FieldUpgradeData);
        bench_until(fake_waits(&bench.fake));
        bench.fake.mute = false;
        fake_answer(&bench.fake, TPM2_RC_UPGRADE);
        bench_settle();
        client_send(0, &use);
        bench_until(clients[0].n_replies == 2);
        assert_int_equal(clients[0].rc, TSS2_RC_SUCCESS);
        assert_int_equal(bench.fake.n_opens, 1);
}

/* It has been opened again before the client who had chosen a locality comes back. */
static void test_locality_gone(void **state) {
        assert_int_equal(connection_set_locality(clients[0].connection, 3), TSS2_RC_SUCCESS);
        bench.fake.backend.localities = false;
        client_submit(0, FAKE_SLOW);
        bench_until(clients[0].n_replies == 1);
        assert_int_equal(clients[0].rc, RM_RC(TPM2_RC_LOCALITY));
        assert_int_equal(bench.fake.backend.state, BACKEND_READY);
        assert_int_equal(bench.fake.n_opens, 1);
        client_submit(1, FAKE_SLOW);
        bench_until(fake_waits(&bench.fake));
}

/* Opening takes its time, and nobody waits for it. */
static void test_slow_open(void **state) {
        bench.broker->supervisor.times.reopen_min = 10;
        bench.fake.slow_open = true;
        fake_lose(&bench.fake);
        bench_until(bench.fake.n_opens == 2);
        assert_int_equal(bench.fake.backend.state, BACKEND_OPENING);
        assert_int_equal(connection_set_locality(clients[1].connection, 3), TSS2_RC_SUCCESS);
        client_submit(0, FAKE_SLOW);
        assert_int_equal(clients[0].rc, RM_RC(TPM2_RC_INITIALIZE));
        fake_lose(&bench.fake);
        bench_until(bench.fake.n_opens == 3);
        backend_opened(&bench.fake.backend);
        client_submit(0, FAKE_SLOW);
        bench_until(fake_waits(&bench.fake));
}

static void begin_waiting(void) {
        clients_teardown(NULL);
        bench_begin(&bench, CLIENTS * 2);
        bench.broker->supervisor.wait = true;
        bench.broker->supervisor.times.reopen_min = bench.broker->supervisor.times.reopen_max =
                bench.broker->supervisor.reopen_ms = 10;
        for (unsigned i = 0; i < CLIENTS; i++)
                client_open(i, 1000);
}

/* No TPM, then one that cannot be used, then one that goes away at once, then a good one. */
static void test_wait(void **state) {
        begin_waiting();
        bench.fake.refuse_open = bench.fake.mute = true;
        broker_start(bench.broker, bench_started, &bench);
        assert_false(broker_has_started(bench.broker));
        client_submit(0, FAKE_SLOW);
        assert_int_equal(clients[0].rc, RM_RC(TPM2_RC_INITIALIZE));
        bench_until(bench.fake.n_opens == 3);
        assert_int_equal(bench.n_started, 3);
        assert_int_equal(bench.started, RM_RC(TPM2_RC_FAILURE));

        bench.fake.refuse_open = false;
        bench_until(fake_waits(&bench.fake));
        fake_answer(&bench.fake, TPM2_RC_DISABLED);
        bench_until(fake_waits(&bench.fake));
        fake_lose(&bench.fake);
        assert_int_not_equal(bench.started, TSS2_RC_SUCCESS);
        client_submit(0, FAKE_SLOW);
        assert_int_equal(clients[0].rc, RM_RC(TPM2_RC_INITIALIZE));

        bench.fake.mute = false;
        bench_until(bench.started == TSS2_RC_SUCCESS);
        assert_int_equal(bench.started, TSS2_RC_SUCCESS);
        assert_true(broker_has_started(bench.broker));
        client_submit(0, FAKE_SLOW);
        bench_until(fake_waits(&bench.fake));
        fake_answer(&bench.fake, TSS2_RC_SUCCESS);
        assert_int_equal(clients[0].rc, TSS2_RC_SUCCESS);
}

/* Answers what is out, and what follows, until a command of that code is. */
static void answer_until(TPM2_CC code, TPM2_RC rc) {
        bench_until(fake_waits(&bench.fake));
        while (bench.fake.log[bench.fake.n_log - 1] != code) {
                fake_answer(&bench.fake, rc);
                bench_until(fake_waits(&bench.fake));
        }
}

/* Clients ask what is wrong with it, and hear of all else that it fails. */
static void test_failure_mode_at_the_start(void **state) {
        begin_waiting();
        bench.fake.mute = true;
        broker_start(bench.broker, bench_started, &bench);
        bench_until(fake_waits(&bench.fake));
        fake_answer(&bench.fake, TPM2_RC_FAILURE);
        assert_int_equal(bench.started, TSS2_RC_SUCCESS);
        client_submit(0, TPM2_CC_GetTestResult);
        answer_until(TPM2_CC_GetTestResult, TPM2_RC_FAILURE);
        fake_answer(&bench.fake, TPM2_RC_DISABLED); /* whatever it says to that */
        assert_int_equal(clients[0].n_replies, 1);
        assert_int_equal(clients[0].rc, TPM2_RC_DISABLED);
        client_submit(1, FAKE_SLOW);
        while (clients[1].n_replies == 0) {
                bench_until(fake_waits(&bench.fake));
                assert_int_equal(bench.fake.log[bench.fake.n_log - 1], TPM2_CC_Startup);
                fake_answer(&bench.fake, TPM2_RC_FAILURE);
        }
        assert_int_equal(clients[1].rc, TPM2_RC_FAILURE);
        assert_int_equal(bench.fake.n_opens, 1);

        /* It is whole again. */
        bench_settle();
        if (fake_waits(&bench.fake))
                fake_answer(&bench.fake, TPM2_RC_FAILURE);
        bench.fake.mute = false;
        client_submit(1, TPM2_CC_HashSequenceStart);
        bench_until(clients[1].n_replies == 2);
        assert_int_equal(bench.broker->supervisor.mode, 0);
}

/* Its vendor's program can have it between our tries; or sends its commands through us. */
static void test_field_upgrade(void **state) {
        begin_waiting();
        bench.broker->supervisor.times.reopen_max = 60 * 1000;
        bench.fake.mute = true;
        broker_start(bench.broker, bench_started, &bench);
        for (unsigned i = 0; i < 2; i++) {
                bench_until(fake_waits(&bench.fake));
                fake_answer(&bench.fake, TPM2_RC_UPGRADE);
        }
        assert_int_equal(bench.started, TSS2_RC_SUCCESS);
        bench_until(bench.fake.backend.state == BACKEND_CLOSED);
        assert_int_equal(bench.fake.n_opens, 1);

        client_submit(0, TPM2_CC_FieldUpgradeData);
        answer_until(TPM2_CC_FieldUpgradeData, TPM2_RC_UPGRADE);
        assert_int_equal(bench.fake.n_opens, 2);
        fake_answer(&bench.fake, TPM2_RC_DISABLED);
        assert_int_equal(clients[0].rc, TPM2_RC_DISABLED);
        while (bench.fake.backend.state != BACKEND_CLOSED) {
                bench_settle();
                if (fake_waits(&bench.fake))
                        fake_answer(&bench.fake, TPM2_RC_UPGRADE);
        }

        /* The vendor's program has it. */
        bench.fake.refuse_open = true;
        client_submit(1, TPM2_CC_FieldUpgradeData);
        assert_int_equal(clients[1].rc, RM_RC(TPM2_RC_INITIALIZE));

        /* It has ended. */
        bench.fake.refuse_open = bench.fake.mute = false;
        bench_until(bench.broker->supervisor.state != SUPERVISOR_OPENING);
        client_submit(0, TPM2_CC_HashSequenceStart);
        bench_until(bench.broker->supervisor.mode == 0);
        assert_int_not_equal(bench.fake.backend.state, BACKEND_CLOSED);
}

static void stopped(void *userdata);

static void test_stop_while_opening(void **state) {
        begin_waiting();
        bench.fake.slow_open = true;
        broker_start(bench.broker, bench_started, &bench);
        broker_stop(bench.broker, stopped, NULL);
        assert_int_equal(bench.n_stopped, 1);
        assert_int_equal(bench.fake.backend.state, BACKEND_CLOSED);
        assert_int_equal(bench.n_started, 0);
}

static void stopped(void *userdata) {
        bench.n_stopped++;
}

static void test_stop(void **state) {
        client_submit(0, TPM2_CC_CreatePrimary);
        bench_until(clients[0].n_replies == 1);
        client_submit(1, FAKE_SLOW);
        bench_until(fake_waits(&bench.fake));
        client_submit(2, FAKE_SLOW);
        broker_stop(bench.broker, stopped, NULL);
        assert_int_equal(bench.n_stopped, 0);
        client_submit(3, FAKE_SLOW);
        fake_answer(&bench.fake, TSS2_RC_SUCCESS);
        assert_int_equal(clients[1].n_replies, 1);
        bench_until(bench.n_stopped == 1);
        assert_int_equal(fake_count(&bench.fake, FAKE_SLOW), 1);
        assert_int_equal(fake_count(&bench.fake, TPM2_CC_FlushContext), 1);
        assert_int_equal(clients[2].n_replies, 0);
        assert_int_equal(clients[3].n_replies, 0);
}

/* What the command that runs leaves in the TPM is flushed, too, though its client is still connected. */
static void test_stop_running(void **state) {
        bench.fake.mute = true;
        client_submit(0, TPM2_CC_CreatePrimary);
        bench_until(fake_waits(&bench.fake));
        broker_stop(bench.broker, stopped, NULL);
        bench.fake.mute = false;
        fake_answer(&bench.fake, TSS2_RC_SUCCESS);
        assert_int_equal(clients[0].n_replies, 1);
        bench_until(bench.n_stopped == 1);
        assert_int_equal(fake_count(&bench.fake, TPM2_CC_FlushContext), 1);
}

static void test_stop_paused(void **state) {
        client_submit(0, FAKE_SLOW);
        client_submit(1, FAKE_SLOW);
        bench_until(fake_waits(&bench.fake));
        fake_answer(&bench.fake, TPM2_RC_RETRY);
        bench_until(fake_waits(&bench.fake));
        fake_answer(&bench.fake, TPM2_RC_RETRY);
        client_close(1);
        broker_stop(bench.broker, stopped, NULL);
        bench_until(bench.n_stopped == 1);
        assert_int_equal(clients[0].n_replies, 0);
}

static void test_stop_hanging(void **state) {
        bench.broker->stop_ms = 50;
        client_submit(0, FAKE_SLOW);
        bench_until(fake_waits(&bench.fake));
        client_close(0);
        broker_stop(bench.broker, stopped, NULL);
        bench_until(bench.n_stopped == 1);
}

static void test_stop_closed(void **state) {
        bench.fake.refuse_open = true;
        fake_lose(&bench.fake);
        broker_stop(bench.broker, stopped, NULL);
        assert_int_equal(bench.n_stopped, 1);
}

/* One step of a client or the TPM, chosen by the number. */
static void random_step(guint32 number, unsigned *n_submitted) {
        unsigned i = number / 16 % CLIENTS;

        switch (number % 16) {
        case 0:
                client_close(i);
                client_open(i, 1000 + i);
                n_submitted[i] = 0;
                break;
        case 1:
        case 2:
                connection_cancel(clients[i].connection);
                break;
        case 3:
                if (bench.fake.backend.state != BACKEND_CLOSED && number / 256 % 8 == 0)
                        fake_lose(&bench.fake);
                break;
        case 4:
                bench.fake.can_cancel = number / 16 % 2;
                bench.fake.refuse_open = number / 32 % 2;
                bench.fake.refuse_transmit = number / 64 % 16 == 0;
                break;
        case 5:
        case 6:
        case 7:
        case 8:
                if (fake_waits(&bench.fake))
                        fake_answer(&bench.fake, number / 16 % 4 == 0 ? TPM2_RC_RETRY : TSS2_RC_SUCCESS);
                break;
        case 9:
        case 10:
                g_main_context_iteration(NULL, FALSE);
                break;
        default:
                if (clients[i].n_replies < n_submitted[i])
                        break;
                n_submitted[i]++;
                client_submit(i, number / 256 % 3 == 0 ? TPM2_CC_CreatePrimary : FAKE_SLOW);
                break;
        }
}

/* Whatever happens in whatever order, a command gets exactly one reply. */
static void test_random(void **state) {
        for (guint32 seed = 1; seed <= 40; seed++) {
                g_autoptr(GRand) rand = g_rand_new_with_seed(seed);
                unsigned n_submitted[CLIENTS] = { 0 };

                clients_teardown(state);
                clients_setup(state);
                bench.broker->connections.quota.max_connections = CLIENTS * 3; /* those that close count, too */
                bench.broker->supervisor.times.reopen_min = bench.broker->supervisor.times.reopen_max = 1;
                for (unsigned k = 0; k < 500; k++) {
                        random_step(g_rand_int(rand), n_submitted);
                        for (unsigned i = 0; i < CLIENTS; i++)
                                assert_in_range(clients[i].n_replies, n_submitted[i] - (n_submitted[i] > 0),
                                                n_submitted[i]);
                }
                bench.fake.refuse_open = bench.fake.refuse_transmit = false;
                for (unsigned i = 0; i < CLIENTS; i++) {
                        while (clients[i].n_replies < n_submitted[i]) {
                                bench_until(fake_waits(&bench.fake) || clients[i].n_replies == n_submitted[i]);
                                if (fake_waits(&bench.fake))
                                        fake_answer(&bench.fake, TSS2_RC_SUCCESS);
                        }
                }
                bench_until(!bench.broker->runner.current && bench.fake.backend.state == BACKEND_READY);
                assert_int_equal(bench.broker->connections.quota.n_connections, CLIENTS);
                assert_true(list_is_empty(&bench.broker->runner.paused));
                assert_null(scheduler_peek(&bench.broker->runner.scheduler));
        }
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_lost, clients_setup, clients_teardown),
                cmocka_unit_test_setup_teardown(test_lost_all, clients_setup, clients_teardown),
                cmocka_unit_test_setup_teardown(test_transmit_fails, clients_setup, clients_teardown),
                cmocka_unit_test_setup_teardown(test_time_limit, clients_setup, clients_teardown),
                cmocka_unit_test_setup_teardown(test_end_while_it_is_late, clients_setup, clients_teardown),
                cmocka_unit_test_setup_teardown(test_late_for_good, clients_setup, clients_teardown),
                cmocka_unit_test_setup_teardown(test_upgrade_that_was_not_begun, clients_setup, clients_teardown),
                cmocka_unit_test_setup_teardown(test_late_answer, clients_setup, clients_teardown),
                cmocka_unit_test_setup_teardown(test_locality_gone, clients_setup, clients_teardown),
                cmocka_unit_test_setup_teardown(test_slow_open, clients_setup, clients_teardown),
                cmocka_unit_test_setup_teardown(test_wait, clients_setup, clients_teardown),
                cmocka_unit_test_setup_teardown(test_field_upgrade, clients_setup, clients_teardown),
                cmocka_unit_test_setup_teardown(test_failure_mode_at_the_start, clients_setup, clients_teardown),
                cmocka_unit_test_setup_teardown(test_stop_while_opening, clients_setup, clients_teardown),
                cmocka_unit_test_setup_teardown(test_stop, clients_setup, clients_teardown),
                cmocka_unit_test_setup_teardown(test_stop_running, clients_setup, clients_teardown),
                cmocka_unit_test_setup_teardown(test_stop_paused, clients_setup, clients_teardown),
                cmocka_unit_test_setup_teardown(test_stop_hanging, clients_setup, clients_teardown),
                cmocka_unit_test_setup_teardown(test_stop_closed, clients_setup, clients_teardown),
                cmocka_unit_test_setup_teardown(test_random, clients_setup, clients_teardown),
        };

        log_open(LOG_TARGET_STDOUT, "outage", LOG_CRIT);
        return cmocka_run_group_tests_name("outage", tests, NULL, NULL);
}
