/* SPDX-License-Identifier: BSD-2-Clause */

/* What is counted, and told of the broker. */
#include "broker/report.h"
#include "broker/test-clients.h"
#include "resmgr/block.h"
#include "tpm/header.h"

static ConnectionReport reports[CLIENTS];
static unsigned n_reports;

static void note(void *userdata, const ConnectionReport *report) {
        assert_true(n_reports < CLIENTS);
        reports[n_reports++] = *report;
}

static void look(BrokerReport *ret_report) {
        n_reports = 0;
        broker_report_connections(bench.broker, note, NULL);
        broker_report(bench.broker, ret_report);
}

static void test_at_work(void **state) {
        BrokerReport report;

        client_submit(0, FAKE_SLOW);
        client_submit(1, FAKE_LONG);
        bench_until(fake_waits(&bench.fake));
        bench_run_ms(5);
        look(&report);
        assert_int_equal(report.state, BROKER_STATE_READY);
        assert_string_equal(report.reason, "");
        assert_int_equal(report.n_connections, CLIENTS);
        assert_int_equal(report.code, FAKE_SLOW);
        assert_int_equal(report.client, reports[0].id);
        assert_int_equal(report.limit_us, 60 * G_USEC_PER_SEC);
        assert_true(report.elapsed_us >= 5000);
        assert_int_equal(report.n_waiting, 1);
        assert_true(report.longest_wait_us >= 5000);
        assert_int_equal(n_reports, CLIENTS);
        assert_string_equal(reports[0].state, "running");
        assert_int_equal(reports[0].code, FAKE_SLOW);
        assert_string_equal(reports[1].state, "waiting");
        assert_true(reports[1].elapsed_us >= 5000);
        assert_string_equal(reports[2].state, "idle");
        assert_int_equal(reports[2].code, 0);
        assert_true(reports[0].id < reports[1].id && reports[1].id < reports[2].id);

        fake_answer(&bench.fake, TSS2_RC_SUCCESS);
        bench_until(fake_waits(&bench.fake));
        fake_answer(&bench.fake, TPM2_RC_FAILURE);
        look(&report);
        assert_int_equal(report.code, 0);
        assert_int_equal(report.n_waiting, 0);
        assert_int_equal(reports[0].usage->n_commands, 1);
        assert_int_equal(reports[0].usage->n_failed, 0);
        assert_int_equal(reports[0].usage->n_transmits, 1);
        assert_true(reports[0].usage->busy_us >= 5000);
        assert_int_equal(reports[1].usage->n_failed, 1);
        assert_true(reports[1].usage->wait_us >= 5000);
        assert_int_equal(reports[1].usage->wait_us, reports[1].usage->longest_wait_us);
        assert_int_equal(reports[2].usage->n_commands, 0);
}

static const Account *noted;

static void note_account(void *userdata, const Account *account) {
        assert_int_equal(account->uid, 1000);
        noted = account;
}

/* What clients did is told of their program, as long as they are there, and afterwards. */
static void test_accounts(void **state) {
        client_submit(0, FAKE_SLOW);
        bench_until(fake_waits(&bench.fake));
        fake_answer(&bench.fake, TSS2_RC_SUCCESS);
        client_submit(1, FAKE_SLOW);
        bench_until(fake_waits(&bench.fake));
        client_close(1);
        broker_report_accounts(bench.broker, note_account, NULL);
        assert_int_equal(noted->usage.n_commands, 1);
        assert_int_equal(noted->n_open, CLIENTS - 1);
        fake_answer(&bench.fake, TPM2_RC_FAILURE);
        client_close(0);
        broker_report_accounts(bench.broker, note_account, NULL);
        assert_int_equal(noted->usage.n_commands, 2);
        assert_int_equal(noted->usage.n_failed, 1);
        assert_int_equal(noted->usage.n_transmits, 2);
        assert_int_equal(noted->n_open, CLIENTS - 2);
        assert_int_equal(noted->n_connections, CLIENTS);
        client_open(0, 1000);
        client_open(1, 1000);
        assert_int_equal(noted->n_connections, CLIENTS + 2);
        assert_int_equal(noted->usage.n_commands, 2);
}

/* However often its client asks. */
static void test_cancel_counts_once(void **state) {
        client_submit(0, FAKE_SLOW);
        client_submit(1, FAKE_SLOW);
        bench_until(fake_waits(&bench.fake));
        bench.fake.can_cancel = true;
        connection_cancel(clients[0].connection);
        connection_cancel(clients[0].connection);
        connection_cancel(clients[1].connection);
        connection_cancel(clients[1].connection);
        connection_cancel(clients[2].connection);
        assert_int_equal(broker_stats(bench.broker)->n_cancelled, 1);
        fake_answer(&bench.fake, TPM2_RC_CANCELED);
        assert_int_equal(broker_stats(bench.broker)->n_cancelled, 2);
        assert_int_equal(broker_stats(bench.broker)->n_failed, 2);
}

static uint64_t sum(const Histogram *histogram) {
        uint64_t n = 0;

        for (unsigned i = 0; i <= STATS_BOUNDS; i++)
                n += histogram->n[i];
        return n;
}

/* Codes that the TPM does not list share one entry: they could be any. */
static void test_commands(void **state) {
        const Stats *stats = broker_stats(bench.broker);
        uint64_t n_tpm = sum(&stats->tpm);
        unsigned n = 0;

        for (unsigned i = 0; i < 3; i++) {
                client_submit(0, FAKE_SLOW);
                bench_until(fake_waits(&bench.fake));
                fake_answer(&bench.fake, TSS2_RC_SUCCESS);
        }
        for (unsigned i = 0; i < 300; i++) {
                client_submit(0, 0x20000000 + i);
                bench_until(clients[0].n_replies == 4 + i);
        }
        assert_int_equal(stats_command((Stats *)stats, broker_rm(bench.broker), FAKE_SLOW)->n, 3);
        assert_int_equal(stats->others.n, 300);
        for (unsigned i = 0; i < STATS_COMMANDS; i++)
                n += stats->commands[i].code != 0;
        assert_int_equal(n, 1);
        assert_int_equal(stats->n_commands, 303);
        assert_int_equal(sum(&stats->wait), 303);
        assert_int_equal(sum(&stats->total), 303);
        assert_int_equal(sum(&stats->tpm) - n_tpm, 303);
}

static void test_histogram(void **state) {
        Histogram histogram = { 0 };

        histogram_add(&histogram, 0);
        histogram_add(&histogram, 50);
        histogram_add(&histogram, 51);
        histogram_add(&histogram, 300000000);
        histogram_add(&histogram, 300000001);
        assert_int_equal(histogram.n[0], 2);
        assert_int_equal(histogram.n[1], 1);
        assert_int_equal(histogram.n[STATS_BOUNDS - 1], 1);
        assert_int_equal(histogram.n[STATS_BOUNDS], 1);
        assert_int_equal(histogram.sum_us, 600000102);
}

static void test_without_a_tpm(void **state) {
        BrokerReport report;

        fake_lose(&bench.fake);
        look(&report);
        assert_int_equal(report.state, BROKER_STATE_ABSENT);
        assert_string_equal(report.reason, "test");
        assert_int_equal(broker_stats(bench.broker)->n_lost, 1);
        client_submit(0, FAKE_SLOW);
        assert_int_equal(clients[0].rc, RM_RC(TPM2_RC_INITIALIZE));
        assert_int_equal(broker_stats(bench.broker)->n_failed, 1);
        assert_int_equal(broker_stats(bench.broker)->n_local, 1);
        bench_until(bench.fake.n_opens == 2);
        look(&report);
        assert_int_equal(report.state, BROKER_STATE_READY);
}

static unsigned n_changes;

static void on_changed(void *userdata) {
        n_changes++;
}

static void test_changes_are_told(void **state) {
        broker_watch_state(bench.broker, on_changed, NULL);
        n_changes = 0;
        client_close(0);
        assert_int_equal(n_changes, 1);
        client_open(0, 1000);
        assert_int_equal(n_changes, 2);
        fake_lose(&bench.fake);
        assert_int_equal(n_changes, 3);
        broker_watch_state(bench.broker, NULL, NULL);
        client_close(0);
        assert_int_equal(n_changes, 3);
        client_open(0, 1000);
}

typedef struct Records {
        unsigned n[2]; /* clients', the TPM's */
        BrokerRecord last[2];
        uint8_t last_byte[2];
} Records;

static void on_record(void *userdata, const BrokerRecord *record) {
        Records *records = userdata;

        records->n[record->tpm]++;
        records->last[record->tpm] = *record;
        records->last_byte[record->tpm] = record->command[record->n_command - 1];
        assert_true(record->n_response == 0 || record->n_response >= TPM_HEADER_SIZE);
}

static void test_commands_are_told(void **state) {
        Records records = { 0 };

        client_submit(1, FAKE_SLOW);
        bench_until(fake_waits(&bench.fake));
        fake_answer(&bench.fake, TSS2_RC_SUCCESS);
        broker_watch_commands(bench.broker, on_record, &records);
        client_submit(2, FAKE_SLOW);
        bench_until(fake_waits(&bench.fake));
        fake_answer(&bench.fake, TSS2_RC_SUCCESS);
        assert_int_equal(records.n[0], 1);
        assert_int_equal(records.n[1], 1);
        assert_int_equal(records.last[0].client, records.last[1].client);
        assert_int_equal(records.last[0].n_transmits, 1);
        assert_int_equal(records.last_byte[0], 2);
        assert_int_equal(records.last_byte[1], 2);

        /* The answer that never comes */
        client_submit(3, FAKE_SLOW);
        bench_until(fake_waits(&bench.fake));
        fake_lose(&bench.fake);
        assert_int_equal(records.n[0], 2);
        assert_int_equal(records.n[1], 2);
        assert_null(records.last[1].response);
        assert_int_equal(records.last[0].n_response, TPM_HEADER_SIZE);
        broker_watch_commands(bench.broker, NULL, NULL);
        client_submit(3, FAKE_SLOW);
        assert_int_equal(records.n[0], 2);
}

typedef struct Flushed {
        BrokerFlush flush;
        unsigned n;
        bool found;
        uint32_t n_objects;
} Flushed;

static void on_flushed(BrokerFlush *flush, bool found, uint32_t n_objects, uint32_t n_sessions) {
        Flushed *flushed = list_entry(flush, Flushed, flush);

        flushed->n++;
        flushed->found = found;
        flushed->n_objects = n_objects;
}

static void flush_client(Flushed *flushed, uint64_t id) {
        *flushed = (Flushed){ .flush = { .what = BROKER_FLUSH_CLIENT, .client = id, .done = on_flushed } };
        broker_flush(bench.broker, &flushed->flush);
}

/* Not while the TPM works on something, which may be what is to be flushed. */
static void test_flush(void **state) {
        BrokerReport report;
        Flushed flushed;

        client_submit(0, TPM2_CC_CreatePrimary);
        bench_until(clients[0].n_replies == 1);
        assert_int_equal(clients[0].rc, TSS2_RC_SUCCESS);
        look(&report);
        flush_client(&flushed, 12345);
        assert_int_equal(flushed.n, 1);
        assert_false(flushed.found);

        client_submit(1, FAKE_SLOW);
        bench_until(fake_waits(&bench.fake));
        flush_client(&flushed, reports[0].id);
        assert_int_equal(flushed.n, 0);
        fake_answer(&bench.fake, TSS2_RC_SUCCESS);
        assert_int_equal(flushed.n, 1);
        assert_true(flushed.found);
        assert_int_equal(flushed.n_objects, 1);
        bench_until(fake_count(&bench.fake, TPM2_CC_FlushContext) == 1);
        flush_client(&flushed, reports[0].id);
        assert_int_equal(flushed.n_objects, 0);

        /* Taken back */
        client_submit(1, FAKE_SLOW);
        bench_until(fake_waits(&bench.fake));
        flush_client(&flushed, reports[0].id);
        list_unlink(&flushed.flush.link);
        fake_answer(&bench.fake, TSS2_RC_SUCCESS);
        assert_int_equal(flushed.n, 0);
}

/* What moves take is told the resource manager, which decides by it what to move. */
static void test_prices_are_told(void **state) {
        const RmPrices *prices = &broker_rm(bench.broker)->prices;

        for (unsigned i = 0; i < CLIENTS; i++) {
                client_submit(i, TPM2_CC_CreatePrimary);
                bench_until(clients[i].n_replies == 1);
        }
        for (unsigned i = 0; i < 10 * CLIENTS; i++) {
                const Message command = cmd_with_handle(TPM2_CC_ReadPublic, 0x80000000);

                client_send(i % CLIENTS, &command);
                bench_until(clients[i % CLIENTS].n_replies == 2 + i / CLIENTS);
        }
        for (RmMove move = 0; move < RM_MOVES; move++)
                assert_in_range(prices->us[move], 1, FAKE_HANG_SECONDS * G_USEC_PER_SEC);
        assert_int_equal(prices->bytes[RM_MOVE_LOAD], prices->bytes[RM_MOVE_SAVE]);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_at_work, clients_setup, clients_teardown),
                cmocka_unit_test_setup_teardown(test_accounts, clients_setup, clients_teardown),
                cmocka_unit_test_setup_teardown(test_cancel_counts_once, clients_setup, clients_teardown),
                cmocka_unit_test_setup_teardown(test_commands, clients_setup, clients_teardown),
                cmocka_unit_test(test_histogram),
                cmocka_unit_test_setup_teardown(test_without_a_tpm, clients_setup, clients_teardown),
                cmocka_unit_test_setup_teardown(test_changes_are_told, clients_setup, clients_teardown),
                cmocka_unit_test_setup_teardown(test_commands_are_told, clients_setup, clients_teardown),
                cmocka_unit_test_setup_teardown(test_flush, clients_setup, clients_teardown),
                cmocka_unit_test_setup_teardown(test_prices_are_told, clients_setup, clients_teardown),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
