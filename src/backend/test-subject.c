/* SPDX-License-Identifier: BSD-2-Clause */
#include "backend/test-subject.h"
#include "backend/backend-conf.h"

#include "tpm/header.h"
#include "tpm/writer.h"

#include <arpa/inet.h>
#include <gio/gunixsocketaddress.h>
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

static void on_opened(void *userdata) {
        Subject *subject = userdata;

        assert_int_equal(subject->backend->state, BACKEND_READY);
        subject->n_opened++;
}

static const BackendEvents events = { .opened = on_opened, .response = on_response, .lost = on_lost };

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
        subject_init(subject, conf);
        subject_reopen(subject);
}

void subject_fini(Subject *subject) {
        subject->backend = backend_free(subject->backend);
        subject->loop = loop_free(subject->loop);
        g_free(subject->lost);
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

void subject_reopen(Subject *subject) {
        unsigned n = subject->n_opened;

        backend_open(subject->backend);
        wait_for(&subject->n_opened, n + 1, subject);
}

char *subject_refusal(Subject *subject) {
        unsigned n = subject->n_opened;
        char *reason;

        backend_open(subject->backend);
        wait_for(&subject->n_lost, 1, subject);
        assert_int_equal(subject->n_lost, 1);
        assert_int_equal(subject->n_opened, n);
        assert_int_equal(subject->backend->state, BACKEND_CLOSED);
        subject->n_lost = 0;
        reason = subject->lost;
        subject->lost = NULL;
        return reason;
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

int test_listen(TestSwtpm *ret_at) {
        /* Any of 127.0.0.0/8: on 127.0.0.1 the ports can run out, where connections have ended a short while ago. */
        for (unsigned attempt = 0; attempt < 1000; attempt++) {
                struct sockaddr_in address = {
                        .sin_family = AF_INET,
                        .sin_addr.s_addr = htonl(0x7f000000 | (uint32_t)g_random_int_range(1, 0xffffff)),
                };
                int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), next, r;

                assert_return_code(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
                assert_return_code(getsockname(fd, (struct sockaddr *)&address, &(socklen_t){ sizeof(address) }), 0);
                assert_return_code(listen(fd, 4), 0);
                ret_at->port = ntohs(address.sin_port);
                assert_non_null(inet_ntop(AF_INET, &address.sin_addr, ret_at->host, sizeof(ret_at->host)));

                address.sin_port = htons((uint16_t)(ret_at->port + 1));
                next = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
                r = bind(next, (struct sockaddr *)&address, sizeof(address));
                close(next);
                if (r == 0 && ret_at->port < UINT16_MAX - 1)
                        return fd;
                close(fd);
        }
        fail_msg("no two free ports side by side");
        return -1;
}

bool test_swtpm_found(void) {
        g_autofree char *path = g_find_program_in_path("swtpm");

        if (path || g_getenv("TABRMD_ALL_TOOLS"))
                return true;
        print_message("there is no swtpm\n");
        return false;
}

GSocketConnection *test_swtpm_ctrl(const TestSwtpm *swtpm) {
        g_autoptr(GSocketConnectable) address = NULL;
        g_autoptr(GSocketClient) client = g_socket_client_new();
        g_autofree char *path = swtpm->path ? g_strconcat(swtpm->path, ".ctrl", NULL) : NULL;

        address = path ? G_SOCKET_CONNECTABLE(g_unix_socket_address_new(path))
                       : g_network_address_new(swtpm->host, (guint16)(swtpm->port + 1));
        g_socket_client_set_timeout(client, 10);
        return g_socket_client_connect(client, address, NULL, NULL);
}

static bool answers(const TestSwtpm *swtpm) {
        g_autoptr(GSocketConnection) connection = test_swtpm_ctrl(swtpm);
        g_autofree char *sockets = NULL, *listening = NULL;

        if (!connection || !swtpm->path)
                return connection;
        /* The control channel is there first, and a connection on the data channel would be its only one. */
        assert_true(g_file_get_contents("/proc/net/unix", &sockets, NULL, NULL));
        listening = g_strdup_printf(" 00010000 \\d+ \\d+ +\\d+ %s$", swtpm->path);
        return g_regex_match_simple(listening, sockets, G_REGEX_MULTILINE, 0);
}

void test_swtpm_again(TestSwtpm *swtpm) {
        g_autofree char *state = g_strdup_printf("dir=%s", swtpm->dir);
        g_autofree char *server = NULL, *ctrl = NULL;
        const char *argv[] = { "swtpm",
                               "socket",
                               "--tpm2",
                               "--tpmstate",
                               state,
                               "--server",
                               NULL,
                               "--ctrl",
                               NULL,
                               "--flags",
                               "not-need-init,startup-clear",
                               NULL };

        if (swtpm->path) {
                g_autofree char *ctrl_path = g_strconcat(swtpm->path, ".ctrl", NULL);

                g_unlink(swtpm->path);
                g_unlink(ctrl_path);
                server = g_strdup_printf("type=unixio,path=%s", swtpm->path);
                ctrl = g_strdup_printf("type=unixio,path=%s", ctrl_path);
        } else {
                server = g_strdup_printf("type=tcp,port=%u,bindaddr=%s", swtpm->port, swtpm->host);
                ctrl = g_strdup_printf("type=tcp,port=%u,bindaddr=%s", swtpm->port + 1, swtpm->host);
        }
        argv[6] = server;
        argv[8] = ctrl;
        assert_true(g_spawn_async(NULL, (char **)argv, NULL, G_SPAWN_SEARCH_PATH | G_SPAWN_DO_NOT_REAP_CHILD, NULL,
                                  NULL, &swtpm->pid, NULL));
        for (int i = 0; !answers(swtpm); i++) {
                assert_int_equal(waitpid(swtpm->pid, NULL, WNOHANG), 0);
                assert_in_range(i, 0, 3000);
                g_usleep(10000);
        }
}

void test_swtpm_start(TestSwtpm *swtpm, bool tcp) {
        *swtpm = (TestSwtpm){ .dir = g_dir_make_tmp("test-swtpm-XXXXXX", NULL) };
        assert_non_null(swtpm->dir);
        if (tcp)
                close(test_listen(swtpm));
        else
                swtpm->path = g_build_filename(swtpm->dir, "socket", NULL);
        test_swtpm_again(swtpm);
}

char *test_swtpm_conf(const TestSwtpm *swtpm) {
        return swtpm->path ? g_strdup_printf("swtpm:path=%s", swtpm->path)
                           : g_strdup_printf("swtpm:host=%s,port=%u", swtpm->host, swtpm->port);
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
        g_free(swtpm->path);
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
