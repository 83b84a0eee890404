/* SPDX-License-Identifier: BSD-2-Clause */
#include "backend/test-subject.h"

#include "tpm/header.h"
#include "tpm/writer.h"

#include <arpa/inet.h>
#include <glib/gstdio.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define HANG_US (60 * G_USEC_PER_SEC)

static void on_response(void *userdata, const uint8_t *response, size_t n_response) {
        Subject *subject = userdata;

        assert_int_equal(subject->backend->state, BACKEND_READY);
        assert_in_range(n_response, TPM_HEADER_SIZE, TPM_MESSAGE_MAX);
        memcpy(subject->answer, response, n_response);
        subject->n_answer = n_response;
        subject->n_answers++;
}

static void on_lost(void *userdata, const char *reason) {
        Subject *subject = userdata;

        assert_int_equal(subject->backend->state, BACKEND_CLOSED);
        assert_null(strchr(reason, '\n'));
        g_free(subject->lost);
        subject->lost = g_strdup(reason);
        subject->n_lost++;
}

static const BackendEvents events = { .response = on_response, .lost = on_lost };

void subject_init(Subject *subject, const char *conf) {
        g_autoptr(GError) error = NULL;

        *subject = (Subject){ .loop = loop_new(NULL) };
        assert_non_null(subject->loop);
        subject->backend = backend_new(subject->loop, conf, &error);
        if (!subject->backend)
                fail_msg("%s: %s", conf, error->message);
        backend_listen(subject->backend, &events, subject);
}

void subject_open(Subject *subject, const char *conf) {
        g_autoptr(GError) error = NULL;

        subject_init(subject, conf);
        if (!backend_open(subject->backend, &error))
                fail_msg("%s: %s", conf, error->message);
        assert_int_equal(subject->backend->state, BACKEND_READY);
}

void subject_fini(Subject *subject) {
        subject->backend = backend_free(subject->backend);
        subject->loop = loop_free(subject->loop);
        g_free(subject->lost);
}

char *subject_refusal(Subject *subject, int code) {
        g_autoptr(GError) error = NULL;

        assert_false(backend_open(subject->backend, &error));
        assert_int_equal(subject->backend->state, BACKEND_CLOSED);
        assert_true(g_error_matches(error, BACKEND_ERROR, code));
        assert_null(strchr(error->message, '\n'));
        return g_strdup(error->message);
}

static size_t bytes_of(const char *hex, uint8_t *bytes) {
        size_t n = strlen(hex) / 2;

        for (size_t i = 0; i < n; i++)
                bytes[i] = (uint8_t)(g_ascii_xdigit_value(hex[2 * i]) << 4 | g_ascii_xdigit_value(hex[2 * i + 1]));
        tpm_put_u32(bytes + 2, (uint32_t)n);
        return n;
}

void subject_send(Subject *subject, const char *hex, uint8_t locality) {
        g_autoptr(GError) error = NULL;
        uint8_t bytes[TPM_MESSAGE_MAX], before[TPM_MESSAGE_MAX];
        size_t n = bytes_of(hex, bytes);

        memcpy(before, bytes, n);
        if (!backend_transmit(subject->backend, bytes, n, locality, &error))
                fail_msg("transmit: %s", error->message);
        assert_int_equal(subject->backend->state, BACKEND_BUSY);
        assert_memory_equal(bytes, before, n);
        /* the back end has taken what it needs */
        memset(bytes, 0xa5, sizeof(bytes));
}

static void wait_for(unsigned *counter, unsigned value, const Subject *subject) {
        gint64 deadline = g_get_monotonic_time() + HANG_US;

        while (*counter < value) {
                if (counter != &subject->n_lost && subject->n_lost)
                        fail_msg("lost: %s", subject->lost);
                if (g_get_monotonic_time() > deadline)
                        fail_msg("nothing happens");
                if (!g_main_context_iteration(NULL, FALSE))
                        g_usleep(200);
        }
}

uint32_t subject_answer(Subject *subject) {
        TpmReader reader;

        wait_for(&subject->n_answers, 1, subject);
        assert_int_equal(subject->n_answers, 1);
        subject->n_answers = 0;
        reader = TPM_READER(subject->answer, subject->n_answer);
        return tpm_read_header(&reader).code;
}

uint32_t subject_run(Subject *subject, const char *hex, uint8_t locality) {
        subject_send(subject, hex, locality);
        return subject_answer(subject);
}

void subject_wait_lost(Subject *subject, const char *reason) {
        wait_for(&subject->n_lost, 1, subject);
        assert_int_equal(subject->n_lost, 1);
        subject->n_lost = 0;
        if (!strstr(subject->lost, reason))
                fail_msg("\"%s\" has no \"%s\"", subject->lost, reason);
}

int test_listen(unsigned *ret_port) {
        for (;;) {
                struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
                int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), next, r;

                assert_return_code(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
                assert_return_code(getsockname(fd, (struct sockaddr *)&address, &(socklen_t){ sizeof(address) }), 0);
                assert_return_code(listen(fd, 4), 0);
                *ret_port = ntohs(address.sin_port);

                address.sin_port = htons((uint16_t)(*ret_port + 1));
                next = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
                r = bind(next, (struct sockaddr *)&address, sizeof(address));
                close(next);
                if (r == 0 && *ret_port < UINT16_MAX - 1)
                        return fd;
                close(fd);
        }
}

bool test_swtpm_found(void) {
        g_autofree char *path = g_find_program_in_path("swtpm");

        return path;
}

static bool answers(unsigned port) {
        struct sockaddr_in address = { .sin_family = AF_INET,
                                       .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                                       .sin_port = htons((uint16_t)port) };
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        bool connected = connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0;

        close(fd);
        return connected;
}

void test_swtpm_again(TestSwtpm *swtpm) {
        g_autofree char *state = g_strdup_printf("dir=%s", swtpm->dir);
        g_autofree char *server = g_strdup_printf("type=tcp,port=%u,bindaddr=127.0.0.1", swtpm->port);
        g_autofree char *ctrl = g_strdup_printf("type=tcp,port=%u,bindaddr=127.0.0.1", swtpm->port + 1);
        const char *argv[] = { "swtpm",
                               "socket",
                               "--tpm2",
                               "--tpmstate",
                               state,
                               "--server",
                               server,
                               "--ctrl",
                               ctrl,
                               "--flags",
                               "not-need-init,startup-clear",
                               NULL };

        assert_true(g_spawn_async(NULL, (char **)argv, NULL, G_SPAWN_SEARCH_PATH | G_SPAWN_DO_NOT_REAP_CHILD, NULL,
                                  NULL, &swtpm->pid, NULL));
        for (int i = 0; !answers(swtpm->port + 1); i++) {
                assert_int_equal(waitpid(swtpm->pid, NULL, WNOHANG), 0);
                assert_in_range(i, 0, 3000);
                g_usleep(10000);
        }
}

void test_swtpm_start(TestSwtpm *swtpm) {
        swtpm->dir = g_dir_make_tmp("test-swtpm-XXXXXX", NULL);
        assert_non_null(swtpm->dir);
        close(test_listen(&swtpm->port));
        test_swtpm_again(swtpm);
}

void test_swtpm_kill(TestSwtpm *swtpm) {
        if (swtpm->pid) {
                kill(swtpm->pid, SIGKILL);
                waitpid(swtpm->pid, NULL, 0);
        }
        swtpm->pid = 0;
}

void test_swtpm_stop(TestSwtpm *swtpm) {
        test_swtpm_kill(swtpm);
        test_remove_dir(swtpm->dir);
        g_free(swtpm->dir);
}

void test_remove_dir(const char *path) {
        g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
        const char *name;

        while (dir && (name = g_dir_read_name(dir))) {
                g_autofree char *file = g_build_filename(path, name, NULL);

                g_unlink(file);
        }
        g_rmdir(path);
}
