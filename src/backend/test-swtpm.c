/* SPDX-License-Identifier: BSD-2-Clause */
#include "backend/test-subject.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <sys/socket.h>
#include <tss2/tss2_tpm2_types.h>
#include <unistd.h>

#include <cmocka.h>

static int swtpm_setup(void **state) {
        *state = g_new0(TestSwtpm, 1);
        test_swtpm_start(*state, true);
        return 0;
}

static int swtpm_setup_unix(void **state) {
        *state = g_new0(TestSwtpm, 1);
        test_swtpm_start(*state, false);
        return 0;
}

static int swtpm_teardown(void **state) {
        test_swtpm_stop(*state);
        g_free(*state);
        return 0;
}

static void test_get_random(void **state) {
        TestSwtpm *swtpm = *state;
        g_autofree char *conf = test_swtpm_conf(swtpm);
        Subject subject;

        subject_open(&subject, conf);
        assert_true(subject.backend->localities);
        assert_false(subject.backend->shared);
        assert_int_equal(subject_run(&subject, CMD_STARTUP, 0), TPM2_RC_INITIALIZE);
        for (int i = 0; i < 100; i++) {
                assert_int_equal(subject_run(&subject, CMD_GET_RANDOM, 0), TPM2_RC_SUCCESS);
                assert_int_equal(subject.n_answer, TPM_HEADER_SIZE + 2 + 8);
        }
        subject_send(&subject, CMD_GET_RANDOM, 0);
        assert_false(backend_cancel(subject.backend));
        assert_int_equal(subject_answer(&subject), TPM2_RC_SUCCESS);
        subject_fini(&subject);
}

static void test_locality(void **state) {
        static const uint8_t request[] = { 0, 0, 0, 5, 0 };
        TestSwtpm *swtpm = *state;
        g_autofree char *conf = test_swtpm_conf(swtpm);
        g_autoptr(GSocketConnection) ctrl = NULL;
        uint8_t result[4];
        Subject subject;

        subject_open(&subject, conf);
        for (int i = 0; i < 3; i++) {
                assert_int_equal(subject_run(&subject, CMD_PCR_RESET_20, 0), TPM2_RC_LOCALITY);
                assert_int_equal(subject_run(&subject, CMD_PCR_RESET_20, 2), TPM2_RC_SUCCESS);
                assert_int_equal(subject_run(&subject, CMD_PCR_RESET_20, 2), TPM2_RC_SUCCESS);
        }
        /* swtpm knows 0 to 4; a refusal is an answer, and the next command is not run at a locality that is not its own
         */
        assert_int_equal(subject_run(&subject, CMD_PCR_RESET_20, 5), RM_RC(TPM2_RC_LOCALITY));
        assert_int_equal(subject_run(&subject, CMD_PCR_RESET_20, 0), TPM2_RC_LOCALITY);
        assert_int_equal(subject_run(&subject, CMD_PCR_RESET_20, 2), TPM2_RC_SUCCESS);
        assert_int_equal(subject.backend->state, BACKEND_READY);

        /* others may use the control channel while we are there */
        ctrl = test_swtpm_ctrl(swtpm);
        assert_non_null(ctrl);
        assert_true(g_output_stream_write_all(g_io_stream_get_output_stream(G_IO_STREAM(ctrl)), request,
                                              sizeof(request), NULL, NULL, NULL));
        assert_true(g_input_stream_read_all(g_io_stream_get_input_stream(G_IO_STREAM(ctrl)), result, sizeof(result),
                                            NULL, NULL, NULL));
        g_clear_object(&ctrl);
        subject_fini(&subject);

        /* what a client before us left behind does not count: 2 -> closed -> opened again at 0 */
        subject_open(&subject, conf);
        assert_int_equal(subject_run(&subject, CMD_PCR_RESET_20, 2), TPM2_RC_SUCCESS);
        backend_close(subject.backend);
        subject_reopen(&subject);
        assert_int_equal(subject_run(&subject, CMD_PCR_RESET_20, 0), TPM2_RC_LOCALITY);
        subject_fini(&subject);
}

static void test_killed_and_back(void **state) {
        TestSwtpm *swtpm = *state;
        g_autofree char *conf = test_swtpm_conf(swtpm), *reason = NULL, *port = g_strdup_printf("%u", swtpm->port);
        Subject subject;

        subject_open(&subject, conf);
        assert_int_equal(subject_run(&subject, CMD_GET_RANDOM, 0), TPM2_RC_SUCCESS);
        test_swtpm_kill(swtpm);
        subject_wait_lost(&subject, "swtpm");

        reason = subject_refusal(&subject);
        assert_non_null(strstr(reason, swtpm->path ? swtpm->path : port));
        assert_non_null(strstr(reason, g_strerror(ECONNREFUSED)));

        test_swtpm_again(swtpm);
        subject_reopen(&subject);
        assert_int_equal(subject_run(&subject, CMD_GET_RANDOM, 0), TPM2_RC_SUCCESS);
        assert_int_equal(subject_run(&subject, CMD_PCR_RESET_20, 2), TPM2_RC_SUCCESS);
        assert_int_equal(subject.n_lost, 0);
        subject_fini(&subject);
}

static void test_killed_busy(void **state) {
        TestSwtpm *swtpm = *state;
        g_autofree char *conf = test_swtpm_conf(swtpm);
        Subject subject;

        /* on the data connection, and on the control channel */
        for (uint8_t locality = 0; locality <= 2; locality += 2) {
                subject_open(&subject, conf);
                kill(swtpm->pid, SIGSTOP);
                subject_send(&subject, CMD_GET_RANDOM, locality);
                test_swtpm_kill(swtpm);
                subject_wait_lost(&subject, "swtpm");
                assert_int_equal(subject.n_answers, 0);
                subject_fini(&subject);
                test_swtpm_again(swtpm);
        }
}

/* A server that we are: it has no control channel. */
typedef struct Fake {
        int listener;
        int fd;
        Subject subject;
} Fake;

static void fake_open(Fake *fake) {
        TestSwtpm address = { 0 };
        g_autofree char *conf = NULL;

        fake->listener = test_listen(&address);
        conf = test_swtpm_conf(&address);
        subject_open(&fake->subject, conf);
        fake->fd = accept(fake->listener, NULL, NULL);
        assert_return_code(fake->fd, errno);
}

static void fake_close(Fake *fake) {
        subject_fini(&fake->subject);
        close(fake->fd);
        close(fake->listener);
}

static void fake_expect_command(Fake *fake) {
        uint8_t bytes[64];

        subject_send(&fake->subject, CMD_GET_RANDOM, 0);
        assert_int_equal(recv(fake->fd, bytes, sizeof(bytes), 0), 12);
}

static void test_no_control_channel(void **state) {
        static const uint8_t command[TPM_HEADER_SIZE];
        Fake fake;

        fake_open(&fake);
        assert_false(fake.subject.backend->localities);
        /* It had them when a client chose one, and was opened again since: that client's command is refused, no more.
         */
        assert_true(backend_transmit(fake.subject.backend, command, sizeof(command), 1, NULL));
        assert_int_equal(subject_answer(&fake.subject), RM_RC(TPM2_RC_LOCALITY));
        assert_int_equal(fake.subject.backend->state, BACKEND_READY);
        assert_int_equal(fake.subject.n_lost, 0);
        fake_close(&fake);
}

static void test_malformed(void **state) {
        static const struct {
                uint8_t bytes[12];
                size_t n;
                const char *reason;
        } answers[] = {
                { { 0x80, 1, 0, 0, 0, 9, 0, 0, 0, 0 }, 10, "size" },
                { { 0x80, 1, 0, 0, 0, 0, 0, 0, 0, 0 }, 10, "size" },
                { { 0x80, 1, 0, 0, 0x40, 1, 0, 0, 0, 0 }, 10, "size" },
                { { 0x80, 1, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0 }, 10, "size" },
                { { 0x80, 1, 0, 0, 0, 10, 0, 0, 0, 0, 0 }, 11, "size" },
                { { 0x80, 1, 0, 0, 0, 10, 0, 0, 0 }, 9, "closed" },
                { { 0 }, 0, "closed" },
        };

        for (size_t i = 0; i < G_N_ELEMENTS(answers); i++) {
                Fake fake;

                fake_open(&fake);
                fake_expect_command(&fake);
                assert_int_equal(send(fake.fd, answers[i].bytes, answers[i].n, 0), answers[i].n);
                shutdown(fake.fd, SHUT_WR);
                subject_wait_lost(&fake.subject, answers[i].reason);
                assert_int_equal(fake.subject.n_answers, 0);
                fake_close(&fake);
        }
}

static void test_unasked(void **state) {
        Fake fake;

        fake_open(&fake);
        assert_int_equal(send(fake.fd, "\x80\1\0\0\0\n\0\0\0\0", 10, 0), 10);
        subject_wait_lost(&fake.subject, "nobody asked");
        assert_int_equal(fake.subject.n_answers, 0);
        fake_close(&fake);
}

/* The largest answer there is, first a byte at a time. */
static void test_dribble(void **state) {
        uint8_t answer[TPM_MESSAGE_MAX] = { 0x80, 1, 0, 0, TPM_MESSAGE_MAX >> 8 };
        Fake fake;

        for (size_t i = TPM_HEADER_SIZE; i < sizeof(answer); i++)
                answer[i] = (uint8_t)i;
        fake_open(&fake);
        assert_return_code(setsockopt(fake.fd, IPPROTO_TCP, TCP_NODELAY, &(int){ 1 }, sizeof(int)), errno);
        for (int turn = 0; turn < 2; turn++) {
                fake_expect_command(&fake);
                for (size_t i = 0; i < 64; i++) {
                        assert_int_equal(send(fake.fd, answer + i, 1, 0), 1);
                        (void)g_main_context_iteration(NULL, FALSE);
                        assert_int_equal(fake.subject.backend->state, BACKEND_BUSY);
                }
                assert_int_equal(send(fake.fd, answer + 64, sizeof(answer) - 64, 0), sizeof(answer) - 64);
                assert_int_equal(subject_answer(&fake.subject), TPM2_RC_SUCCESS);
                assert_int_equal(fake.subject.n_answer, sizeof(answer));
                assert_memory_equal(fake.subject.answer, answer, sizeof(answer));
        }
        fake_close(&fake);
}

/* Its header promises more than comes: that is not a command that takes long. */
static void test_answer_that_stops(void **state) {
        Fake fake;

        fake_open(&fake);
        fake.subject.backend->rest_ms = 50;
        fake_expect_command(&fake);
        assert_int_equal(send(fake.fd, "\x80\1\0\0\0\x0C\0\0\0\0\0", 11, 0), 11);
        subject_wait_lost(&fake.subject, "11 bytes of an answer, and for 0.05 s no more");
        assert_int_equal(fake.subject.n_answers, 0);
        fake_close(&fake);
}

int main(void) {
        const struct CMUnitTest fakes[] = {
                cmocka_unit_test(test_no_control_channel),
                cmocka_unit_test(test_malformed),
                cmocka_unit_test(test_unasked),
                cmocka_unit_test(test_dribble),
                cmocka_unit_test(test_answer_that_stops),
        };
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_get_random),
                cmocka_unit_test(test_locality),
                cmocka_unit_test(test_killed_and_back),
                cmocka_unit_test(test_killed_busy),
        };
        int failed;

        failed = cmocka_run_group_tests(fakes, NULL, NULL);
        if (!test_swtpm_found())
                return failed ? failed : 77; /* meson: skipped */
        failed += cmocka_run_group_tests_name("TCP", tests, swtpm_setup, swtpm_teardown);
        return failed + cmocka_run_group_tests_name("Unix sockets", tests, swtpm_setup_unix, swtpm_teardown);
}
