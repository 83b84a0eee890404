/* SPDX-License-Identifier: BSD-2-Clause */
#include "backend/backend-internal.h"
#include "broker/test-clients.h"
#include "tpm/header.h"
#include "tpm/writer.h"
#include "util/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

/* Beginning */

static const BrokerConfig LARGE = {
        .limits = { .spaces = 1024, .objects = 65536, .objects_per_space = 16, .sessions_per_space = 4 },
        .max_connections = 1024,
};

static int lowest_free_descriptor(void) {
        int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);

        assert_true(fd >= 0);
        close(fd);
        return fd;
}

static void expect_no_broker(const BrokerConfig *config, int code, const char *why) {
        g_autoptr(GError) error = NULL;

        assert_null(broker_new(bench.loop, &bench.fake.backend, config, &error));
        assert_non_null(error);
        assert_int_equal(error->code, code);
        assert_non_null(strstr(error->message, why));
}

static void test_limits_out_of_range(void **state) {
        BrokerConfig config = LARGE;

        config.limits.objects++;
        expect_no_broker(&config, EINVAL, "limits");
        assert_null(broker_free(NULL));
        assert_null(quota_release(NULL));
}

static rlim_t address_space(void) {
        FILE *file = fopen("/proc/self/statm", "re");
        unsigned long n_pages = 0;

        assert_non_null(file);
        assert_int_equal(fscanf(file, "%lu", &n_pages), 1);
        fclose(file);
        return (rlim_t)n_pages * (rlim_t)sysconf(_SC_PAGESIZE);
}

/* A daemon that has not the memory says so, and leaves nothing open. */
static void test_no_memory_for_the_state(void **state) {
        const struct {
                int resource;
                rlim_t value;
                int code;
        } LACKS[] = { { RLIMIT_NOFILE, 0, EMFILE }, { RLIMIT_AS, address_space() + (32 << 20), ENOMEM } };
        int fd = lowest_free_descriptor();
        struct rlimit before;

        assert_true(rm_size(&LARGE.limits) > (size_t)128 << 20);
        for (unsigned i = 0; i < 2; i++) {
                struct rlimit lack;

                assert_int_equal(getrlimit(LACKS[i].resource, &before), 0);
                lack = (struct rlimit){ .rlim_cur = LACKS[i].value, .rlim_max = before.rlim_max };
                assert_int_equal(setrlimit(LACKS[i].resource, &lack), 0);
                expect_no_broker(&LARGE, LACKS[i].code, "bytes of memory");
                assert_int_equal(setrlimit(LACKS[i].resource, &before), 0);
        }
        assert_int_equal(lowest_free_descriptor(), fd);
}

/* Pauses in the middle of a repair, in which the TPM is lent to nobody */

static void pause_repair(void) {
        bench.fake.mute = true;
        client_submit(0, TPM2_CC_CreatePrimary);
        fake_answer(&bench.fake, TSS2_RC_SUCCESS);
        client_submit(1, TPM2_CC_CreatePrimary);
        fake_answer(&bench.fake, TPM2_RC_OBJECT_MEMORY); /* the first one's object is to be evicted */
        bench_until(fake_waits(&bench.fake));
        assert_int_equal(bench.fake.log[bench.fake.n_log - 1], TPM2_CC_ContextSave);
        fake_answer(&bench.fake, TPM2_RC_RETRY);
        assert_true(bench.broker->runner.current->timer != 0);
        bench.fake.n_log = 0;
}

static void test_repair_pauses(void **state) {
        const uint8_t STRAY[TPM_HEADER_SIZE] = { 0x80, 0x01, 0, 0, 0, TPM_HEADER_SIZE };

        pause_repair();
        client_submit(2, FAKE_SLOW);
        backend_answered(&bench.fake.backend, STRAY, sizeof(STRAY)); /* to a question that nobody asked */
        assert_int_equal(bench.fake.n_log, 0);
        assert_int_equal(clients[1].n_replies, 0);
        bench_until(fake_waits(&bench.fake));
        assert_int_equal(bench.fake.log[0], TPM2_CC_ContextSave);
        bench.fake.mute = false;
        fake_answer(&bench.fake, TSS2_RC_SUCCESS);
        bench_until(clients[1].n_replies == 1);
        assert_int_equal(clients[1].rc, TSS2_RC_SUCCESS);
        bench_until(fake_waits(&bench.fake));
        assert_int_equal(bench.fake.tag, 2);
}

/* A locality is lent to its client's command, not to what is done to make room for it. */
static void test_repair_has_no_locality(void **state) {
        assert_int_equal(connection_set_locality(clients[1].connection, 3), TSS2_RC_SUCCESS);
        pause_repair();
        assert_int_equal(bench.fake.locality, 0);
        bench.fake.mute = false;
        bench_until(clients[1].n_replies == 1);
        assert_int_equal(clients[1].rc, TSS2_RC_SUCCESS);
        assert_int_equal(bench.fake.log[bench.fake.n_log - 1], TPM2_CC_CreatePrimary);
        assert_int_equal(bench.fake.locality, 3);
}

static void test_lost_while_a_repair_pauses(void **state) {
        bench.broker->supervisor.times.reopen_min = 10;
        pause_repair();
        fake_lose(&bench.fake);
        assert_int_equal(clients[1].n_replies, 1);
        assert_int_equal(clients[1].rc, RM_RC(TPM2_RC_INITIALIZE));
        assert_null(bench.broker->runner.current);
        bench.fake.mute = false;
        bench_until(bench.fake.backend.state == BACKEND_READY);
        client_submit(2, FAKE_SLOW);
        bench_until(fake_waits(&bench.fake));
        assert_int_equal(bench.fake.tag, 2);
        assert_int_equal(clients[1].n_replies, 1);
}

/* The end */

static void stopped(void *userdata) {
        (*(unsigned *)userdata)++;
}

static void test_stop_twice(void **state) {
        const Peer peer = { .uid = 1000 };
        g_autoptr(GError) error = NULL;
        unsigned n_first = 0, n_second = 0;

        client_submit(0, FAKE_SLOW);
        bench_until(fake_waits(&bench.fake));
        broker_stop(bench.broker, stopped, &n_first);
        broker_stop(bench.broker, stopped, &n_second);
        assert_null(connection_new(bench.broker, &peer, 1, &client_ops, NULL, &error));
        assert_non_null(error);
        assert_int_equal(bench.broker->connections.quota.n_connections, CLIENTS);
        fake_answer(&bench.fake, TSS2_RC_SUCCESS);
        bench_until(n_first + n_second > 0);
        assert_int_equal(n_first, 1);
        assert_int_equal(n_second, 0);
}

/* What needs no TPM */

#define QUERIES 1000

typedef struct Asker {
        Connection *connection;
        uint8_t query[TPM_HEADER_SIZE + 12];
        unsigned n_replies;
        unsigned n_when_others_ran;
} Asker;

static gboolean others_run(gpointer userdata) {
        Asker *asker = userdata;

        asker->n_when_others_ran = asker->n_replies;
        return G_SOURCE_REMOVE;
}

static void asker_reply(void *userdata, const uint8_t *bytes, size_t n_bytes) {
        Asker *asker = userdata;

        if (++asker->n_replies == 1)
                g_idle_add_full(G_PRIORITY_DEFAULT, others_run, asker, NULL);
        if (asker->n_replies < QUERIES)
                assert_true(connection_submit(asker->connection, asker->query, sizeof(asker->query)));
}

/* Who asks for what is answered from a copy, again and again, does not keep the loop from everybody else. */
static void test_answers_from_a_copy_leave_time_for_others(void **state) {
        static const ConnectionOps OPS = { .reply = asker_reply };
        const Peer peer = { .uid = 1000 };
        Asker asker = { 0 };
        TpmWriter writer = TPM_WRITER(asker.query, sizeof(asker.query));

        tpm_write_begin(&writer, TPM2_ST_NO_SESSIONS, TPM2_CC_GetCapability);
        tpm_write_u32(&writer, TPM2_CAP_ALGS);
        tpm_write_u32(&writer, 0);
        tpm_write_u32(&writer, 1);
        assert_int_equal(tpm_write_end(&writer), sizeof(asker.query));
        asker.connection = connection_new(bench.broker, &peer, 1, &OPS, &asker, NULL);
        assert_true(connection_submit(asker.connection, asker.query, sizeof(asker.query)));
        bench_until(asker.n_replies == QUERIES);
        assert_in_range(asker.n_when_others_ran, 1, QUERIES / 2);
        assert_int_equal(fake_count(&bench.fake, TPM2_CC_GetCapability), 1);
        connection_close(asker.connection);
}

/* The log */

static int log_fd, stdout_fd;

static void log_begin(void) {
        fflush(stdout);
        log_fd = memfd_create("log", MFD_CLOEXEC);
        stdout_fd = dup(STDOUT_FILENO);
        assert_true(log_fd >= 0 && stdout_fd >= 0);
        dup2(log_fd, STDOUT_FILENO);
        log_open(LOG_TARGET_STDOUT, "edges", LOG_NOTICE);
}

static void log_end(char *text, size_t size) {
        ssize_t n;

        log_open(LOG_TARGET_STDOUT, "edges", LOG_CRIT);
        dup2(stdout_fd, STDOUT_FILENO);
        close(stdout_fd);
        n = pread(log_fd, text, size - 1, 0);
        assert_true(n >= 0);
        text[n] = 0;
        close(log_fd);
}

static unsigned lines_of(const char *text) {
        unsigned n = 0;

        for (; *text; text++)
                n += *text == '\n';
        return n;
}

/* Somebody may miss what was flushed to make room: each kind has its line, once. */
static void test_losses_are_logged(void **state) {
        RmCounters *counters = (RmCounters *)rm_counters(bench.broker->runner.rm);
        uint64_t *const COUNTS[] = { &counters->abandoned_flushed, &counters->left_over_flushed,
                                     &counters->client_saved_flushed, &counters->foreign_flushed };
        const char *const WORDS[] = { "of a client that is gone was flushed: 41 ", "before the start was flushed: 42 ",
                                      "of a client was flushed: 43 ",
                                      "belongs to no client was flushed from the TPM: 44 " };
        char text[4096];

        for (unsigned i = 0; i < 4; i++) {
                *COUNTS[i] = 41 + i;
                log_begin();
                client_submit(0, TPM2_CC_CreatePrimary);
                bench_until(clients[0].n_replies == i + 1);
                log_end(text, sizeof(text));
                assert_non_null(strstr(text, WORDS[i]));
                assert_int_equal(lines_of(text), 1);
        }
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_limits_out_of_range, clients_setup, clients_teardown),
                cmocka_unit_test_setup_teardown(test_no_memory_for_the_state, clients_setup, clients_teardown),
                cmocka_unit_test_setup_teardown(test_repair_pauses, clients_setup, clients_teardown),
                cmocka_unit_test_setup_teardown(test_repair_has_no_locality, clients_setup, clients_teardown),
                cmocka_unit_test_setup_teardown(test_lost_while_a_repair_pauses, clients_setup, clients_teardown),
                cmocka_unit_test_setup_teardown(test_stop_twice, clients_setup, clients_teardown),
                cmocka_unit_test_setup_teardown(test_answers_from_a_copy_leave_time_for_others, clients_setup,
                                                clients_teardown),
                cmocka_unit_test_setup_teardown(test_losses_are_logged, clients_setup, clients_teardown),
        };

        log_open(LOG_TARGET_STDOUT, "edges", LOG_CRIT);
        return cmocka_run_group_tests_name("edges", tests, NULL, NULL);
}
