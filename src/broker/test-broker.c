/* SPDX-License-Identifier: BSD-2-Clause */
#include "broker/broker-private.h"
#include "broker/test-fake.h"
#include "tpm/header.h"
#include "tpm/protocol.h"
#include "util/log.h"

#define CLIENTS 4

typedef struct Client {
        Connection *connection;
        uint8_t command[64];
        unsigned n_replies;
        TSS2_RC rc;
        uint8_t tag; /* last byte of the reply */
        bool again;  /* submit the same once more from within the reply */
        size_t n_command;
} Client;

static Bench bench;
static Client clients[CLIENTS];

static void client_reply(void *userdata, const uint8_t *bytes, size_t n_bytes) {
        Client *client = userdata;
        TpmReader reader = TPM_READER(bytes, n_bytes);

        client->rc = tpm_read_header(&reader).code;
        client->tag = bytes[n_bytes - 1];
        client->n_replies++;
        if (client->again) {
                client->again = false;
                assert_true(connection_submit(client->connection, client->command, client->n_command));
        }
}

static const ConnectionOps client_ops = { .reply = client_reply };

static void client_open(unsigned i, uid_t uid) {
        const Peer peer = { .uid = uid };

        clients[i] = (Client){ 0 };
        clients[i].connection = connection_new(bench.broker, &peer, 1u << 3, &client_ops, &clients[i], NULL);
        assert_non_null(clients[i].connection);
}

static void client_submit(unsigned i, TPM2_CC code) {
        clients[i].n_command = fake_command(clients[i].command, code, (uint8_t)i);
        assert_true(connection_submit(clients[i].connection, clients[i].command, clients[i].n_command));
}

static void client_close(unsigned i) {
        clients[i].connection = connection_close(clients[i].connection);
}

static int setup(void **state) {
        bench_begin(&bench, CLIENTS * 2);
        bench_start(&bench);
        for (unsigned i = 0; i < CLIENTS; i++)
                client_open(i, 1000);
        return 0;
}

static int teardown(void **state) {
        for (unsigned i = 0; i < CLIENTS; i++)
                client_close(i);
        bench_end(&bench);
        return 0;
}

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
        teardown(state);
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
        assert_int_equal(bench.broker->reopen_timer, 0);

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
        assert_int_equal(clients[0].n_replies, 0);
        fake_answer(&bench.fake, TPM2_RC_CANCELED);
        assert_int_equal(clients[0].rc, TPM2_RC_CANCELED);
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

        teardown(state);
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
        assert_int_equal(bench.broker->quota.n_connections, CLIENTS - 2);
}

static void test_close_paused(void **state) {
        client_submit(0, FAKE_SLOW);
        bench_until(fake_waits(&bench.fake));
        fake_answer(&bench.fake, TPM2_RC_RETRY);
        client_close(0);
        bench_until(fake_waits(&bench.fake));
        assert_int_equal(bench.broker->quota.n_connections, CLIENTS);
        fake_answer(&bench.fake, TSS2_RC_SUCCESS);
        assert_int_equal(bench.broker->quota.n_connections, CLIENTS - 1);
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
        assert_int_equal(bench.fake.tag, 2);
}

/* Idle, the broker saves what has no copy; then nothing wakes it any more. */
static void test_idle(void **state) {
        unsigned n_log;

        client_submit(0, TPM2_CC_CreatePrimary);
        bench_until(clients[0].n_replies == 1);
        assert_int_equal(fake_count(&bench.fake, TPM2_CC_ContextSave), 0);
        bench_until(fake_count(&bench.fake, TPM2_CC_ContextSave) == 1);
        bench_until(!bench.broker->current && !bench.broker->chores.timer);
        n_log = bench.fake.n_log;
        bench_run_ms(200);
        assert_int_equal(bench.fake.n_log, n_log);
        assert_int_equal(bench.broker->chores.timer, 0);
        assert_int_equal(fake_count(&bench.fake, TPM2_CC_FlushContext), 0);
}

static void test_idle_evict(void **state) {
        bench.broker->chores.evict_ms = 100;
        client_submit(0, TPM2_CC_CreatePrimary);
        bench_until(fake_count(&bench.fake, TPM2_CC_FlushContext) == 1);
        assert_int_equal(fake_count(&bench.fake, TPM2_CC_ContextSave), 1);
        bench_until(!bench.broker->current && !bench.broker->chores.timer);
}

static void test_lost(void **state) {
        bench.broker->times.reopen_min = 10;
        bench.fake.refuse_open = true;
        client_submit(0, FAKE_SLOW);
        client_submit(1, FAKE_SLOW);
        bench_until(fake_waits(&bench.fake));
        fake_lose(&bench.fake);
        for (unsigned i = 0; i < 2; i++) {
                assert_int_equal(clients[i].n_replies, 1);
                assert_int_equal(clients[i].rc, RM_RC(TPM2_RC_FAILURE));
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
        assert_true(fake_count(&bench.fake, TPM2_CC_GetCapability) > 0); /* reconciled first */
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
                assert_int_equal(clients[i].rc, RM_RC(TPM2_RC_FAILURE));
        }
        assert_int_equal(bench.broker->quota.n_connections, CLIENTS - 1);
}

static void test_transmit_fails(void **state) {
        bench.broker->times.reopen_min = 10;
        bench.fake.refuse_transmit = true;
        client_submit(0, FAKE_SLOW);
        bench_until(clients[0].n_replies == 1);
        assert_int_equal(clients[0].rc, RM_RC(TPM2_RC_FAILURE));
        assert_int_equal(bench.fake.backend.state, BACKEND_CLOSED);
        bench_run_ms(300);
        assert_in_range(bench.fake.n_opens, 2, 12); /* with back-off, though opening itself succeeds */
        bench.fake.refuse_transmit = false;
        bench_until(bench.fake.backend.state == BACKEND_READY && !bench.broker->current);
}

static void test_time_limit(void **state) {
        bench.broker->times.tick = 10;
        bench.broker->times.limit = 30;
        client_submit(0, FAKE_SLOW);
        bench_until(clients[0].n_replies == 1);
        assert_int_equal(clients[0].rc, RM_RC(TPM2_RC_FAILURE));
        bench_until(bench.fake.n_opens == 2 && !bench.broker->current);

        client_submit(1, FAKE_LONG);
        bench_run_ms(200);
        assert_int_equal(clients[1].n_replies, 0);
        fake_answer(&bench.fake, TSS2_RC_SUCCESS);
        assert_int_equal(clients[1].n_replies, 1);
        bench_until(!bench.broker->tick_timer);
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
        bench.broker->times.stop = 50;
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

                teardown(state);
                setup(state);
                bench.broker->times.reopen_min = bench.broker->times.reopen_max = 1;
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
                bench_until(!bench.broker->current && bench.fake.backend.state == BACKEND_READY);
                assert_int_equal(bench.broker->quota.n_connections, CLIENTS);
                assert_true(list_is_empty(&bench.broker->paused));
                assert_null(scheduler_peek(&bench.broker->scheduler));
        }
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_order, setup, teardown),
                cmocka_unit_test_setup_teardown(test_start, setup, teardown),
                cmocka_unit_test_setup_teardown(test_cancel_waiting, setup, teardown),
                cmocka_unit_test_setup_teardown(test_cancel_running, setup, teardown),
                cmocka_unit_test_setup_teardown(test_cancel_repair, setup, teardown),
                cmocka_unit_test_setup_teardown(test_pause, setup, teardown),
                cmocka_unit_test_setup_teardown(test_pause_slots, setup, teardown),
                cmocka_unit_test_setup_teardown(test_close_running, setup, teardown),
                cmocka_unit_test_setup_teardown(test_close_paused, setup, teardown),
                cmocka_unit_test_setup_teardown(test_cleanup_not_starved, setup, teardown),
                cmocka_unit_test_setup_teardown(test_idle, setup, teardown),
                cmocka_unit_test_setup_teardown(test_idle_evict, setup, teardown),
                cmocka_unit_test_setup_teardown(test_lost, setup, teardown),
                cmocka_unit_test_setup_teardown(test_lost_all, setup, teardown),
                cmocka_unit_test_setup_teardown(test_transmit_fails, setup, teardown),
                cmocka_unit_test_setup_teardown(test_time_limit, setup, teardown),
                cmocka_unit_test_setup_teardown(test_locality, setup, teardown),
                cmocka_unit_test_setup_teardown(test_quota, setup, teardown),
                cmocka_unit_test_setup_teardown(test_random, setup, teardown),
                cmocka_unit_test_setup_teardown(test_stop, setup, teardown),
                cmocka_unit_test_setup_teardown(test_stop_paused, setup, teardown),
                cmocka_unit_test_setup_teardown(test_stop_hanging, setup, teardown),
                cmocka_unit_test_setup_teardown(test_stop_closed, setup, teardown),
        };

        log_open(LOG_TARGET_STDOUT, "test-broker", LOG_CRIT);
        return cmocka_run_group_tests_name("broker", tests, NULL, NULL);
}
