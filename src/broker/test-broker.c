/* SPDX-License-Identifier: BSD-2-Clause */
#include "broker/test-clients.h"
#include "tpm/header.h"
#include "util/log.h"

/* One in flight each: what a flooder sends at once again stands behind everybody else's. */
static void test_order(void **state) {
        clients[0].again = true;
        for (unsigned i = 0; i < 3; i++)
                client_submit(i, FAKE_SLOW);
        assert_false(connection_submit(clients[1].connection, clients[1].command, clients[1].n_command));

        for (unsigned i = 0; i < 3; i++) {
                bench_until(fake_waits(&bench.fake));
                assert_int_equal(bench.fake.tag, i);
                fake_answer(&bench.fake, TSS2_RC_SUCCESS);
                assert_int_equal(clients[i].n_replies, 1);
                assert_int_equal(clients[i].tag, i);
        }
        bench_until(fake_waits(&bench.fake));
        assert_int_equal(bench.fake.tag, 0);
        fake_answer(&bench.fake, TSS2_RC_SUCCESS);
        assert_int_equal(clients[0].n_replies, 2);
        assert_int_equal(fake_count(&bench.fake, FAKE_SLOW), 4);
}

static void started(void *userdata, TSS2_RC rc, const char *detail) {
        bench.started = rc;
        bench.n_started++;
}

/* A start that fails may be tried again; until one succeeds, there is no TPM for clients. */
static void test_start(void **state) {
        clients_teardown(state);
        bench_begin(&bench, CLIENTS);
        for (unsigned i = 0; i < CLIENTS; i++)
                client_open(i, 0);
        bench.fake.mute = true;

        bench.fake.refuse_open = true;
        broker_start(bench.broker, started, NULL);
        assert_int_equal(bench.started, RM_RC(TPM2_RC_FAILURE));
        client_submit(0, FAKE_SLOW);
        assert_int_equal(clients[0].rc, RM_RC(TPM2_RC_INITIALIZE));

        bench.fake.refuse_open = false;
        broker_start(bench.broker, started, NULL);
        assert_int_equal(bench.n_started, 1);
        fake_answer(&bench.fake, TPM2_RC_FAILURE);
        assert_int_equal(bench.n_started, 2);
        assert_int_equal(bench.started, TPM2_RC_FAILURE);

        broker_start(bench.broker, started, NULL);
        fake_lose(&bench.fake);
        assert_int_equal(bench.n_started, 3);
        assert_int_equal(bench.started, RM_RC(TPM2_RC_FAILURE));
        assert_int_equal(bench.broker->supervisor.reopen_timer, 0);

        bench.fake.mute = false;
        bench.n_started = 0;
        bench_start(&bench);
        client_submit(0, FAKE_SLOW);
        bench_until(fake_waits(&bench.fake));
}

static void test_cancel_waiting(void **state) {
        client_submit(0, FAKE_SLOW);
        client_submit(1, FAKE_SLOW);
        bench_until(fake_waits(&bench.fake));
        assert_int_equal(connection_cancel(clients[1].connection), TSS2_RC_SUCCESS);
        assert_int_equal(clients[1].rc, TPM2_RC_CANCELED);
        assert_int_equal(clients[1].n_replies, 1);
        fake_answer(&bench.fake, TSS2_RC_SUCCESS);
        bench_settle();
        assert_int_equal(clients[0].n_replies, 1);
        assert_int_equal(fake_count(&bench.fake, FAKE_SLOW), 1);
        assert_int_equal(connection_cancel(clients[0].connection), TSS2_RC_SUCCESS);
        assert_int_equal(clients[0].n_replies, 1);
}

static void test_cancel_running(void **state) {
        client_submit(0, FAKE_SLOW);
        bench_until(fake_waits(&bench.fake));
        assert_int_equal(connection_cancel(clients[0].connection), RM_RC_NOT_IMPLEMENTED);
        bench.fake.can_cancel = true;
        assert_int_equal(connection_cancel(clients[0].connection), TSS2_RC_SUCCESS);
        assert_int_equal(bench.fake.n_cancels, 2);
        /* once is enough */
        assert_int_equal(connection_cancel(clients[0].connection), TSS2_RC_SUCCESS);
        assert_int_equal(bench.fake.n_cancels, 2);
        assert_int_equal(clients[0].n_replies, 0);
        fake_answer(&bench.fake, TPM2_RC_CANCELED);
        assert_int_equal(clients[0].rc, TPM2_RC_CANCELED);
}

/* It was faster than the cancel: the result is the answer, and the next command is nobody's to cancel. */
static void test_cancel_too_late(void **state) {
        bench.fake.can_cancel = true;
        client_submit(0, FAKE_SLOW);
        bench_until(fake_waits(&bench.fake));
        assert_int_equal(connection_cancel(clients[0].connection), TSS2_RC_SUCCESS);
        fake_answer(&bench.fake, TSS2_RC_SUCCESS);
        assert_int_equal(clients[0].rc, TSS2_RC_SUCCESS);
        client_submit(0, FAKE_SLOW);
        bench_until(fake_waits(&bench.fake));
        assert_int_equal(bench.fake.n_cancels, 1);
        fake_answer(&bench.fake, TSS2_RC_SUCCESS);
        assert_int_equal(clients[0].n_replies, 2);
        assert_int_equal(clients[0].rc, TSS2_RC_SUCCESS);
}

/* While a repair runs, nothing of the client's own goes out any more. */
static void test_cancel_repair(void **state) {
        bench.fake.mute = true;
        client_submit(0, TPM2_CC_CreatePrimary);
        fake_answer(&bench.fake, TSS2_RC_SUCCESS);
        client_submit(1, TPM2_CC_CreatePrimary);
        fake_answer(&bench.fake, TPM2_RC_OBJECT_MEMORY); /* the first one's object is to be evicted */
        bench_until(fake_waits(&bench.fake));
        assert_int_equal(bench.fake.log[bench.fake.n_log - 1], TPM2_CC_ContextSave);
        assert_int_equal(connection_cancel(clients[1].connection), TSS2_RC_SUCCESS);
        assert_int_equal(clients[1].n_replies, 0);
        bench.fake.mute = false;
        fake_answer(&bench.fake, TSS2_RC_SUCCESS);
        assert_int_equal(clients[1].n_replies, 1);
        assert_int_equal(clients[1].rc, TPM2_RC_CANCELED);
        assert_int_equal(fake_count(&bench.fake, TPM2_CC_CreatePrimary), 2);
}

/* A command that pauses lends the TPM to others, and is sent again after them. */
static void test_pause(void **state) {
        client_submit(0, FAKE_SLOW);
        client_submit(1, FAKE_SLOW);
        bench_until(fake_waits(&bench.fake));
        fake_answer(&bench.fake, TPM2_RC_RETRY);
        bench_until(fake_waits(&bench.fake));
        assert_int_equal(bench.fake.tag, 1);
        bench_run_ms(20);
        fake_answer(&bench.fake, TSS2_RC_SUCCESS);
        assert_int_equal(clients[1].n_replies, 1);
        bench_until(fake_waits(&bench.fake));
        assert_int_equal(bench.fake.tag, 0);

        fake_answer(&bench.fake, TPM2_RC_RETRY);
        assert_int_equal(connection_cancel(clients[0].connection), TSS2_RC_SUCCESS);
        assert_int_equal(clients[0].rc, TPM2_RC_CANCELED);
        bench_run_ms(50);
        assert_int_equal(clients[0].n_replies, 1);
        assert_int_equal(fake_count(&bench.fake, FAKE_SLOW), 3);
}

/* More pause than there are job slots: those without one wait, and everybody is answered in the end. */
static void test_pause_slots(void **state) {
        enum { MANY = 24 };
        Client many[MANY] = { 0 };
        const Peer peer = { 0 };
        unsigned n_replies = 0;

        clients_teardown(state);
        bench_begin(&bench, MANY + CLIENTS);
        bench_start(&bench);
        for (unsigned i = 0; i < CLIENTS; i++)
                client_open(i, 1000);
        for (unsigned i = 0; i < MANY; i++) {
                many[i].connection = connection_new(bench.broker, &peer, 1, &client_ops, &many[i], NULL);
                many[i].n_command = fake_command(many[i].command, FAKE_SLOW, (uint8_t)i);
                assert_true(connection_submit(many[i].connection, many[i].command, many[i].n_command));
        }
        for (unsigned k = 0; k < 64 && n_replies < MANY; k++) {
                bench_until(fake_waits(&bench.fake));
                fake_answer(&bench.fake, k < 12 ? TPM2_RC_RETRY : TSS2_RC_SUCCESS);
                n_replies = 0;
                for (unsigned i = 0; i < MANY; i++)
                        n_replies += many[i].n_replies;
        }
        assert_int_equal(n_replies, MANY);
        for (unsigned i = 0; i < MANY; i++) {
                assert_int_equal(many[i].rc, TSS2_RC_SUCCESS);
                connection_close(many[i].connection);
        }
}

static void test_close_running(void **state) {
        client_submit(0, FAKE_SLOW);
        client_submit(1, FAKE_SLOW);
        client_submit(2, FAKE_SLOW);
        bench_until(fake_waits(&bench.fake));
        client_close(0);
        client_close(1);
        fake_answer(&bench.fake, TSS2_RC_SUCCESS);
        bench_until(fake_waits(&bench.fake));
        assert_int_equal(bench.fake.tag, 2);
        assert_int_equal(clients[0].n_replies, 0);
        assert_int_equal(clients[1].n_replies, 0);
        assert_int_equal(bench.broker->connections.quota.n_connections, CLIENTS - 2);
}

static void client_given_up(void *userdata) {
        Client *client = userdata;

        client->connection = NULL;
}

/* Who is away gives its place to its own user, and where all are taken to anybody; the one that left first goes. */
static void test_who_is_away_gives_way(void **state) {
        const Peer same = { .uid = 1000 }, other = { .uid = 1001 };
        Connection *more[3];

        bench.broker->connections.quota.max_connections = CLIENTS;
        client_submit(1, FAKE_SLOW);
        bench_until(fake_waits(&bench.fake));
        for (unsigned i = 1; i < 4; i++) {
                bench_run_ms(1);
                connection_leave(clients[i].connection, client_given_up, &clients[i]);
        }
        more[0] = connection_new(bench.broker, &other, 1, &client_ops, &clients[0], NULL);
        assert_non_null(more[0]);
        assert_non_null(clients[1].connection); /* its command runs */
        assert_null(clients[2].connection);
        more[1] = connection_new(bench.broker, &same, 1, &client_ops, &clients[0], NULL);
        assert_non_null(more[1]);
        assert_null(clients[3].connection);
        assert_null(connection_new(bench.broker, &same, 1, &client_ops, &clients[0], NULL));
        assert_int_equal(bench.broker->stats.n_refused, 1);
        assert_non_null(clients[0].connection);
        fake_answer(&bench.fake, TSS2_RC_SUCCESS);
        bench_settle();
        more[2] = connection_new(bench.broker, &same, 1, &client_ops, &clients[0], NULL);
        assert_non_null(more[2]);
        assert_null(clients[1].connection);
        for (unsigned i = 0; i < 3; i++)
                connection_close(more[i]);
}

/* A client that left while its command ran is back: what it asks now waits for that, and hears nothing of it. */
static void test_leave_running(void **state) {
        client_submit(0, FAKE_SLOW);
        bench_until(fake_waits(&bench.fake));
        connection_leave(clients[0].connection, client_given_up, &clients[0]);
        connection_return(clients[0].connection, &client_ops, &clients[0]);
        client_submit(0, FAKE_LONG);
        assert_false(connection_submit(clients[0].connection, clients[0].command, clients[0].n_command));
        fake_answer(&bench.fake, TPM2_RC_FAILURE);
        bench_until(fake_waits(&bench.fake));
        assert_int_equal(clients[0].n_replies, 0);
        fake_answer(&bench.fake, TSS2_RC_SUCCESS);
        assert_int_equal(clients[0].n_replies, 1);
        assert_int_equal(clients[0].rc, TSS2_RC_SUCCESS);
        assert_int_equal(fake_count(&bench.fake, FAKE_LONG), 1);
}

/* It left once more before that could begin. */
static void test_leave_twice(void **state) {
        client_submit(0, FAKE_SLOW);
        bench_until(fake_waits(&bench.fake));
        connection_leave(clients[0].connection, client_given_up, &clients[0]);
        connection_return(clients[0].connection, &client_ops, &clients[0]);
        client_submit(0, FAKE_LONG);
        connection_leave(clients[0].connection, client_given_up, &clients[0]);
        fake_answer(&bench.fake, TSS2_RC_SUCCESS);
        bench_settle();
        assert_int_equal(clients[0].n_replies, 0);
        assert_int_equal(fake_count(&bench.fake, FAKE_LONG), 0);
        connection_return(clients[0].connection, &client_ops, &clients[0]);
        client_submit(0, FAKE_SLOW);
        bench_until(fake_waits(&bench.fake));
        fake_answer(&bench.fake, TSS2_RC_SUCCESS);
        assert_int_equal(clients[0].n_replies, 1);
}

/* A cancel means what the client asked since it is back, and not what ran before. */
static void test_leave_and_cancel(void **state) {
        bench.fake.can_cancel = true;
        client_submit(0, FAKE_SLOW);
        bench_until(fake_waits(&bench.fake));
        connection_leave(clients[0].connection, client_given_up, &clients[0]);
        connection_return(clients[0].connection, &client_ops, &clients[0]);
        assert_int_equal(connection_cancel(clients[0].connection), TSS2_RC_SUCCESS);
        client_submit(0, FAKE_LONG);
        assert_int_equal(connection_cancel(clients[0].connection), TSS2_RC_SUCCESS);
        assert_int_equal(clients[0].n_replies, 1);
        assert_int_equal(clients[0].rc, TPM2_RC_CANCELED);
        assert_int_equal(bench.fake.n_cancels, 0);
        fake_answer(&bench.fake, TSS2_RC_SUCCESS);
        bench_settle();
        assert_int_equal(clients[0].n_replies, 1);
        assert_int_equal(fake_count(&bench.fake, FAKE_LONG), 0);
}

/* A command that had not begun is dropped; the locality is 0 again. */
static void test_leave_waiting(void **state) {
        assert_int_equal(connection_set_locality(clients[1].connection, 3), TSS2_RC_SUCCESS);
        client_submit(0, FAKE_SLOW);
        client_submit(1, FAKE_LONG);
        bench_until(fake_waits(&bench.fake));
        connection_leave(clients[1].connection, client_given_up, &clients[1]);
        fake_answer(&bench.fake, TSS2_RC_SUCCESS);
        bench_settle();
        assert_int_equal(fake_count(&bench.fake, FAKE_LONG), 0);
        connection_return(clients[1].connection, &client_ops, &clients[1]);
        client_submit(1, FAKE_SLOW);
        bench_until(fake_waits(&bench.fake));
        assert_int_equal(bench.fake.locality, 0);
        fake_answer(&bench.fake, TSS2_RC_SUCCESS);
        assert_int_equal(clients[1].n_replies, 1);
}

static void test_leave_and_close(void **state) {
        client_submit(0, FAKE_SLOW);
        bench_until(fake_waits(&bench.fake));
        connection_leave(clients[0].connection, client_given_up, &clients[0]);
        client_close(0);
        fake_answer(&bench.fake, TSS2_RC_SUCCESS);
        assert_int_equal(bench.broker->connections.quota.n_connections, CLIENTS - 1);
        assert_int_equal(clients[0].n_replies, 0);
}

static void test_close_paused(void **state) {
        client_submit(0, FAKE_SLOW);
        bench_until(fake_waits(&bench.fake));
        fake_answer(&bench.fake, TPM2_RC_RETRY);
        client_close(0);
        bench_until(fake_waits(&bench.fake));
        assert_int_equal(bench.broker->connections.quota.n_connections, CLIENTS);
        fake_answer(&bench.fake, TSS2_RC_SUCCESS);
        assert_int_equal(bench.broker->connections.quota.n_connections, CLIENTS - 1);
        assert_int_equal(clients[0].n_replies, 0);
}

/* What a client made is flushed when it goes, however busy the others are. */
static void test_cleanup_not_starved(void **state) {
        client_submit(0, TPM2_CC_CreatePrimary);
        bench_until(clients[0].n_replies == 1);
        client_submit(1, FAKE_SLOW);
        bench_until(fake_waits(&bench.fake));
        client_submit(2, FAKE_SLOW);
        client_close(0);
        clients[1].again = clients[2].again = true;
        fake_answer(&bench.fake, TSS2_RC_SUCCESS);
        bench_until(fake_waits(&bench.fake));
        assert_int_equal(fake_count(&bench.fake, TPM2_CC_FlushContext), 1);
}

/* Idle, the broker saves what has no copy; then nothing wakes it any more. */
static void test_idle(void **state) {
        unsigned n_log;

        client_submit(0, TPM2_CC_CreatePrimary);
        bench_until(clients[0].n_replies == 1);
        assert_int_equal(fake_count(&bench.fake, TPM2_CC_ContextSave), 0);
        bench_until(fake_count(&bench.fake, TPM2_CC_ContextSave) == 1);
        bench_until(!bench.broker->runner.current && !bench.broker->runner.chores.timer);
        n_log = bench.fake.n_log;
        bench_run_ms(200);
        assert_int_equal(bench.fake.n_log, n_log);
        assert_int_equal(bench.broker->runner.chores.timer, 0);
        assert_int_equal(fake_count(&bench.fake, TPM2_CC_FlushContext), 0);
}

static void test_idle_evict(void **state) {
        bench.broker->runner.chores.evict_ms = 100;
        client_submit(0, TPM2_CC_CreatePrimary);
        bench_until(fake_count(&bench.fake, TPM2_CC_FlushContext) == 1);
        assert_int_equal(fake_count(&bench.fake, TPM2_CC_ContextSave), 1);
        bench_until(!bench.broker->runner.current && !bench.broker->runner.chores.timer);
}

static void test_locality(void **state) {
        client_submit(1, TPM2_CC_CreatePrimary);
        bench_until(clients[1].n_replies == 1);
        assert_int_equal(connection_set_locality(clients[0].connection, 1), RM_RC(TPM2_RC_LOCALITY));
        assert_int_equal(connection_set_locality(clients[0].connection, 32), RM_RC(TPM2_RC_LOCALITY));
        assert_int_equal(connection_set_locality(clients[0].connection, 255), RM_RC(TPM2_RC_LOCALITY));
        assert_int_equal(connection_set_locality(clients[0].connection, 3), TSS2_RC_SUCCESS);
        client_submit(0, FAKE_SLOW);
        bench_until(fake_waits(&bench.fake));
        assert_int_equal(bench.fake.locality, 3);
        fake_answer(&bench.fake, TSS2_RC_SUCCESS);
        bench_until(fake_count(&bench.fake, TPM2_CC_ContextSave) == 1);
        assert_int_equal(bench.fake.locality, 0); /* housekeeping lends nobody's rights */
        bench_settle();

        bench.fake.backend.localities = false;
        assert_int_equal(connection_set_locality(clients[1].connection, 3), RM_RC_NOT_IMPLEMENTED);
        assert_int_equal(connection_set_locality(clients[1].connection, 0), TSS2_RC_SUCCESS);
}

static void test_quota(void **state) {
        Connection *more[CLIENTS * 2] = { 0 };
        const Peer user = { .uid = 1000 }, other = { .uid = 1001 }, root = { .uid = 0 };
        g_autoptr(GError) error = NULL;

        /* of 8, 6 are a uid's share, and 4 are there */
        for (unsigned i = 0; i < 2; i++)
                assert_non_null(more[i] = connection_new(bench.broker, &user, 1, &client_ops, NULL, NULL));
        assert_null(connection_new(bench.broker, &user, 1, &client_ops, NULL, &error));
        assert_non_null(error);
        assert_non_null(more[2] = connection_new(bench.broker, &other, 1, &client_ops, NULL, NULL));
        assert_non_null(more[3] = connection_new(bench.broker, &root, 1, &client_ops, NULL, NULL));
        assert_null(connection_new(bench.broker, &root, 1, &client_ops, NULL, NULL));
        more[0] = connection_close(more[0]);
        more[1] = connection_close(more[1]);
        assert_non_null(more[0] = connection_new(bench.broker, &root, 1, &client_ops, NULL, NULL));
        for (unsigned i = 0; i < CLIENTS * 2; i++)
                connection_close(more[i]);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_order, clients_setup, clients_teardown),
                cmocka_unit_test_setup_teardown(test_start, clients_setup, clients_teardown),
                cmocka_unit_test_setup_teardown(test_cancel_waiting, clients_setup, clients_teardown),
                cmocka_unit_test_setup_teardown(test_cancel_running, clients_setup, clients_teardown),
                cmocka_unit_test_setup_teardown(test_cancel_too_late, clients_setup, clients_teardown),
                cmocka_unit_test_setup_teardown(test_cancel_repair, clients_setup, clients_teardown),
                cmocka_unit_test_setup_teardown(test_pause, clients_setup, clients_teardown),
                cmocka_unit_test_setup_teardown(test_pause_slots, clients_setup, clients_teardown),
                cmocka_unit_test_setup_teardown(test_close_running, clients_setup, clients_teardown),
                cmocka_unit_test_setup_teardown(test_who_is_away_gives_way, clients_setup, clients_teardown),
                cmocka_unit_test_setup_teardown(test_leave_running, clients_setup, clients_teardown),
                cmocka_unit_test_setup_teardown(test_leave_twice, clients_setup, clients_teardown),
                cmocka_unit_test_setup_teardown(test_leave_and_cancel, clients_setup, clients_teardown),
                cmocka_unit_test_setup_teardown(test_leave_waiting, clients_setup, clients_teardown),
                cmocka_unit_test_setup_teardown(test_leave_and_close, clients_setup, clients_teardown),
                cmocka_unit_test_setup_teardown(test_close_paused, clients_setup, clients_teardown),
                cmocka_unit_test_setup_teardown(test_cleanup_not_starved, clients_setup, clients_teardown),
                cmocka_unit_test_setup_teardown(test_idle, clients_setup, clients_teardown),
                cmocka_unit_test_setup_teardown(test_idle_evict, clients_setup, clients_teardown),
                cmocka_unit_test_setup_teardown(test_locality, clients_setup, clients_teardown),
                cmocka_unit_test_setup_teardown(test_quota, clients_setup, clients_teardown),
        };

        log_open(LOG_TARGET_STDOUT, "broker", LOG_CRIT);
        return cmocka_run_group_tests_name("broker", tests, NULL, NULL);
}
