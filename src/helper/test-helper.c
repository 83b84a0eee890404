/* SPDX-License-Identifier: BSD-2-Clause */
#include "backend/test-subject.h"

#include "tpm/reader.h"

#include <errno.h>
#include <glib/gstdio.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <tss2/tss2_tpm2_types.h>
#include <unistd.h>

#include <cmocka.h>

static char *scratch; /* a directory of ours */

/* The child that this process has, or 0: the helper, since nothing else is started while one is asked for. */
static pid_t only_child(pid_t other) {
        g_autofree char *path = g_strdup_printf("/proc/self/task/%d/children", getpid());
        g_autofree char *text = NULL;
        g_auto(GStrv) pids = NULL;

        assert_true(g_file_get_contents(path, &text, NULL, NULL));
        pids = g_strsplit(text, " ", -1);
        for (size_t i = 0; pids[i]; i++) {
                pid_t pid = (pid_t)g_ascii_strtoll(pids[i], NULL, 10);

                if (pid > 0 && pid != other)
                        return pid;
        }
        return 0;
}

/* Helpers that were let go end soon, and are reaped. */
static void wait_no_child(pid_t other) {
        gint64 deadline = g_get_monotonic_time() + 20 * G_USEC_PER_SEC;

        while (only_child(other)) {
                assert_true(g_get_monotonic_time() < deadline);
                if (!g_main_context_iteration(NULL, FALSE))
                        g_usleep(1000);
        }
}

static int teardown(void **state) {
        wait_no_child(0);
        return 0;
}

/* A program that plays the helper; undone by real_helper(). */
static char *real_path;

static void fake_helper(const char *script) {
        g_autofree char *path = g_build_filename(scratch, "fake", NULL);
        g_autofree char *text = g_strconcat("#!/bin/sh\n", script, "\n", NULL);

        assert_true(g_file_set_contents_full(path, text, -1, G_FILE_SET_CONTENTS_CONSISTENT, 0700, NULL));
        g_setenv("TABRMD_HELPER", path, TRUE);
}

static int real_helper(void **state) {
        g_setenv("TABRMD_HELPER", real_path, TRUE);
        return teardown(state);
}

#if HAVE_LIBTPMS
static void test_libtpms(void **state) {
        Subject subject;

        subject_open(&subject, "libtpms");
        assert_true(subject.backend->localities);
        assert_false(subject.backend->shared);
        /* nobody sends Startup behind our back */
        assert_int_equal(subject_run(&subject, CMD_GET_RANDOM, 0), TPM2_RC_INITIALIZE);
        assert_int_equal(subject_run(&subject, CMD_STARTUP, 0), TPM2_RC_SUCCESS);
        for (int i = 0; i < 100; i++)
                assert_int_equal(subject_run(&subject, CMD_GET_RANDOM, 0), TPM2_RC_SUCCESS);

        assert_int_equal(subject_run(&subject, CMD_PCR_RESET_20, 0), TPM2_RC_LOCALITY);
        assert_int_equal(subject_run(&subject, CMD_PCR_RESET_20, 2), TPM2_RC_SUCCESS);
        assert_int_equal(subject_run(&subject, CMD_PCR_RESET_20, 5), RM_RC(TPM2_RC_LOCALITY));
        assert_int_equal(subject_run(&subject, CMD_PCR_RESET_20, 0), TPM2_RC_LOCALITY);

        /* what a client sends is never an order to the helper */
        assert_int_equal(subject_run(&subject, CMD_STREAM_SET_LOCALITY_2, 0), RM_RC(TPM2_RC_COMMAND_CODE));
        assert_int_equal(subject_run(&subject, CMD_STREAM_CANCEL, 0), RM_RC(TPM2_RC_COMMAND_CODE));
        assert_int_equal(subject_run(&subject, CMD_PCR_RESET_20, 0), TPM2_RC_LOCALITY);
        subject_fini(&subject);
}

static void test_cancel(void **state) {
        unsigned n_cancelled = 0;
        Subject subject;

        subject_open(&subject, "libtpms");
        assert_int_equal(subject_run(&subject, CMD_STARTUP, 0), TPM2_RC_SUCCESS);
        assert_false(backend_cancel(subject.backend)); /* nothing runs */

        /* Whenever it comes, one answer comes and the next command is not harmed. */
        for (unsigned i = 0; i < 300 && n_cancelled < 3; i++) {
                uint32_t rc;

                subject_send(&subject, CMD_CREATE_PRIMARY_RSA_NULL, 0);
                g_usleep((i % 30) * 1000);
                assert_true(backend_cancel(subject.backend));
                assert_true(backend_cancel(subject.backend));
                rc = subject_answer(&subject);
                if (rc == TPM2_RC_CANCELED)
                        n_cancelled++;
                else
                        assert_int_equal(rc, TPM2_RC_SUCCESS);
                if (rc == TPM2_RC_SUCCESS)
                        assert_int_equal(subject_run(&subject, CMD_FLUSH_80000000, 0), TPM2_RC_SUCCESS);
                assert_int_equal(subject_run(&subject, CMD_GET_RANDOM, 0), TPM2_RC_SUCCESS);
        }
        assert_int_equal(n_cancelled, 3);
        assert_int_equal(subject_run(&subject, CMD_CREATE_PRIMARY_RSA_NULL, 0), TPM2_RC_SUCCESS);
        subject_fini(&subject);
}

/* Its public area tells a primary seed. */
static GBytes *primary_of(const char *conf, uint32_t startup) {
        TpmReader reader;
        Subject subject;
        GBytes *public;
        uint16_t n;

        subject_open(&subject, conf);
        assert_int_equal(subject_run(&subject, CMD_STARTUP, 0), startup);
        assert_int_equal(subject_run(&subject, CMD_CREATE_PRIMARY_ECC_OWNER, 0), TPM2_RC_SUCCESS);
        reader = TPM_READER(subject.answer, subject.n_answer);
        (void)tpm_read_bytes(&reader, TPM_HEADER_SIZE + 4 + 4);
        n = tpm_read_u16(&reader);
        public = g_bytes_new(tpm_read_bytes(&reader, n), n);
        assert_false(reader.bad);
        subject_fini(&subject);
        return public;
}

static void test_state_dir(void **state) {
        g_autofree char *dir = g_build_filename(scratch, "state", NULL);
        g_autofree char *file = g_build_filename(dir, "permall", NULL);
        g_autofree char *conf = g_strconcat("libtpms:", dir, NULL);
        g_autofree char *reason = NULL;
        g_autoptr(GBytes) first = primary_of(conf, TPM2_RC_SUCCESS);
        g_autoptr(GBytes) again = primary_of(conf, TPM2_RC_INITIALIZE); /* it goes on where it was */
        g_autoptr(GBytes) other = primary_of("libtpms", TPM2_RC_SUCCESS);
        struct stat status;
        Subject subject;

        assert_true(g_bytes_equal(first, again));
        assert_false(g_bytes_equal(first, other));
        assert_return_code(stat(file, &status), errno);
        assert_int_equal(status.st_mode & 07777, 0600);
        assert_return_code(stat(dir, &status), errno);
        assert_int_equal(status.st_mode & 07777, 0700);

        /* a state that is no state is not written over */
        assert_true(g_file_set_contents(file, "rubbish", -1, NULL));
        subject_init(&subject, conf);
        reason = subject_refusal(&subject);
        assert_non_null(strstr(reason, dir));
        assert_return_code(stat(file, &status), errno);
        assert_int_equal(status.st_size, strlen("rubbish"));
        subject_fini(&subject);
        test_remove_dir(dir);
}

static void test_state_in_use(void **state) {
        g_autofree char *dir = g_build_filename(scratch, "used", NULL);
        g_autofree char *conf = g_strconcat("libtpms:", dir, NULL);
        g_autofree char *reason = NULL;
        Subject one, two;

        subject_open(&one, conf);
        subject_init(&two, conf);
        reason = subject_refusal(&two);
        assert_non_null(strstr(reason, "lock"));
        assert_int_equal(subject_run(&one, CMD_STARTUP, 0), TPM2_RC_SUCCESS);
        subject_fini(&two);
        subject_fini(&one);
        test_remove_dir(dir);
}

static void test_killed(void **state) {
        Subject subject;

        for (int busy = 0; busy < 2; busy++) {
                subject_open(&subject, "libtpms");
                assert_int_equal(subject_run(&subject, CMD_STARTUP, 0), TPM2_RC_SUCCESS);
                if (busy) {
                        kill(only_child(0), SIGSTOP);
                        subject_send(&subject, CMD_GET_RANDOM, 0);
                }
                kill(only_child(0), SIGKILL);
                subject_wait_lost(&subject, "ended: signal 9");
                assert_int_equal(subject.n_answers, 0);
                assert_int_equal(only_child(0), 0);

                subject_reopen(&subject);
                assert_int_equal(subject_run(&subject, CMD_STARTUP, 0), TPM2_RC_SUCCESS);
                subject_fini(&subject);
                wait_no_child(0);
        }
}

/* What a terminal or a service manager sends to everybody does not end it; the end of the socket does. */
static void test_ends_with_socket(void **state) {
        static const int signals[] = { SIGINT, SIGTERM, SIGHUP };
        Subject subject;

        subject_open(&subject, "libtpms");
        for (size_t i = 0; i < G_N_ELEMENTS(signals); i++)
                kill(only_child(0), signals[i]);
        assert_int_equal(subject_run(&subject, CMD_STARTUP, 0), TPM2_RC_SUCCESS);
        backend_close(subject.backend);
        wait_no_child(0);
        assert_int_equal(subject.n_lost, 0);
        subject_fini(&subject);
}
#else
static void test_without_libtpms(void **state) {
        g_autofree char *reason = NULL;
        Subject subject;

        subject_init(&subject, "libtpms");
        reason = subject_refusal(&subject);
        assert_non_null(strstr(reason, "without libtpms"));
        subject_fini(&subject);
}
#endif

static void test_tcti(void **state) {
        g_autofree char *name = NULL, *conf = NULL;
        TestSwtpm swtpm;
        Subject subject;

        if (!test_swtpm_found())
                skip();
        test_swtpm_start(&swtpm, true);
        name = test_swtpm_conf(&swtpm);
        conf = g_strconcat("pcap:", name, NULL);
        subject_open(&subject, conf);
        for (int i = 0; i < 20; i++)
                assert_int_equal(subject_run(&subject, CMD_GET_RANDOM, 0), TPM2_RC_SUCCESS);
        assert_true(subject.backend->localities);
        assert_int_equal(subject_run(&subject, CMD_PCR_RESET_20, 0), TPM2_RC_LOCALITY);
        assert_int_equal(subject_run(&subject, CMD_PCR_RESET_20, 2), TPM2_RC_SUCCESS);
        assert_int_equal(subject_run(&subject, CMD_PCR_RESET_20, 0), TPM2_RC_LOCALITY);
        subject_send(&subject, CMD_GET_RANDOM, 0);
        assert_false(backend_cancel(subject.backend));
        assert_int_equal(subject_answer(&subject), TPM2_RC_SUCCESS);

        /* what the library says is for the log, not for clients */
        test_swtpm_kill(&swtpm);
        subject_send(&subject, CMD_GET_RANDOM, 0);
        subject_wait_lost(&subject, "the TCTI");
        assert_int_equal(subject.n_answers, 0);
        subject_fini(&subject);
        test_swtpm_stop(&swtpm);
}

static void test_bad_conf(void **state) {
        static const struct {
                const char *conf;
                bool misconfigured; /* rather than not there */
        } rows[] = {
                { "nosuchtcti:really", false },
                { "pcap:device:/nonexistent/device", false },
                { "libtpms:/nonexistent/state/dir", false },
                { "mssim:port=1", false },
                { "mssim:hots=localhost", true },
                { "pcap:swtpm:host=localhost, port=2321", true },
        };

        for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
                g_autofree char *reason = NULL;
                Subject subject;

                subject_init(&subject, rows[i].conf);
                reason = subject_refusal(&subject);
                if (!g_str_has_prefix(reason, "cannot open ") || !strstr(reason, rows[i].conf) ||
                    subject.backend->misconfigured != rows[i].misconfigured)
                        fail_msg("%s: %s", rows[i].conf, reason);
                assert_null(strstr(reason, "without a word"));
                assert_int_equal(subject.n_lost, 0);
                subject_fini(&subject);
        }
}

#define READY "printf '\\200\\001\\000\\000\\000\\013\\000\\000\\000\\000\\000' >&3\n"

static void test_bad_helpers(void **state) {
        static const struct {
                const char *script;
                const char *reason;
        } helpers[] = {
                { "exit 0", "ended: exit code 0" },
                { "printf '\\200\\001\\000\\000\\000\\013\\000\\000\\000\\000' >&3", "ended: exit code 0" },
                { "printf '\\200\\001\\000\\000\\000\\012\\000\\000\\000\\000' >&3", "impossible size" },
                { "printf '\\200\\001\\377\\000\\000\\012\\000\\000\\000\\000' >&3; head -c 1000 /dev/zero >&3",
                  "impossible size" },
                { "printf '\\200\\001\\000\\000\\000\\017\\000\\012\\000\\001a\\nb\\377c' >&3", "a b\357\277\275c" },
        };
        Subject subject;

        for (size_t i = 0; i < G_N_ELEMENTS(helpers); i++) {
                g_autofree char *reason = NULL;

                fake_helper(helpers[i].script);
                subject_init(&subject, "libtpms");
                reason = subject_refusal(&subject);
                if (!strstr(reason, helpers[i].reason))
                        fail_msg("%zu: %s", i, reason);
                subject_fini(&subject);
                wait_no_child(0);
        }

        g_setenv("TABRMD_HELPER", "/nonexistent/helper", TRUE);
        subject_init(&subject, "libtpms");
        g_free(subject_refusal(&subject));
        subject_fini(&subject);
}

static void test_ending_helpers(void **state) {
        static const struct {
                const char *script;
                const char *reason;
        } helpers[] = {
                { READY "exit 3", "exit code 3" },
                { READY "kill -SEGV $$", "signal 11" },
                { READY "exec 3>&-; exec sleep 60", "signal 9" },
                { READY "printf '\\200\\001\\000\\000\\000\\015\\000\\012\\000\\001why' >&3; exit 3", "failed: why" },
                { READY "printf '\\200\\001\\000\\000\\000\\011\\000\\012\\000\\001' >&3; exec sleep 60",
                  "impossible size" },
        };
        Subject subject;

        for (size_t i = 0; i < G_N_ELEMENTS(helpers); i++) {
                fake_helper(helpers[i].script);
                subject_open(&subject, "libtpms");
                assert_false(subject.backend->localities);
                subject_wait_lost(&subject, helpers[i].reason);
                assert_int_equal(subject.n_answers, 0);
                subject_fini(&subject);
                wait_no_child(0);
        }
}

/* A helper that does not care for the end of its input is killed, and nobody waits for it. */
static void test_stuck_helper(void **state) {
        Subject subject;

        fake_helper(READY "exec sleep 1000");
        subject_open(&subject, "libtpms");
        subject_send(&subject, CMD_GET_RANDOM, 0);
        assert_false(backend_cancel(subject.backend)); /* it did not say that it can */
        subject_fini(&subject);
        assert_int_not_equal(only_child(0), 0);
        wait_no_child(0);
}

int main(void) {
        const struct CMUnitTest tests[] = {
#if HAVE_LIBTPMS
                cmocka_unit_test_teardown(test_libtpms, teardown),
                cmocka_unit_test_teardown(test_cancel, teardown),
                cmocka_unit_test_teardown(test_state_dir, teardown),
                cmocka_unit_test_teardown(test_state_in_use, teardown),
                cmocka_unit_test_teardown(test_killed, teardown),
                cmocka_unit_test_teardown(test_ends_with_socket, teardown),
#else
                cmocka_unit_test_teardown(test_without_libtpms, teardown),
#endif
                cmocka_unit_test_teardown(test_tcti, teardown),
                cmocka_unit_test_teardown(test_bad_conf, teardown),
                cmocka_unit_test_teardown(test_bad_helpers, real_helper),
                cmocka_unit_test_teardown(test_ending_helpers, real_helper),
                cmocka_unit_test_teardown(test_stuck_helper, real_helper),
        };
        g_autofree char *pcap = NULL;
        int failed;

        real_path = g_strdup(g_getenv("TABRMD_HELPER"));
        scratch = g_dir_make_tmp("test-helper-XXXXXX", NULL);
        if (!real_path || !scratch) {
                (void)fprintf(stderr, "TABRMD_HELPER names the helper program that is to be tested\n");
                return 1;
        }
        pcap = g_build_filename(scratch, "pcap", NULL);
        g_setenv("TCTI_PCAP_FILE", pcap, TRUE);

        failed = cmocka_run_group_tests(tests, NULL, NULL);
        test_remove_dir(scratch);
        g_free(scratch);
        g_free(real_path);
        return failed;
}
