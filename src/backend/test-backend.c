/* SPDX-License-Identifier: BSD-2-Clause */
#include "backend/backend-conf.h"
#include "backend/channel.h"
#include "backend/test-subject.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

static void test_names_refused(void **state) {
        static const char *const names[] = {
                "",
                "tabrmd",
                "tabrmd:bus_type=session",
                "libtss2-tcti-tabrmd.so",
                ":",
                "pcap:tabrmd",
                "pcap:",
                "/usr/lib/libtss2-tcti-tabrmd.so.0:bus_type=session",
                "pcap",
                "swtpm:port=",
                "swtpm:port=0",
                "swtpm:port=65535",
                "swtpm:port=2321x",
                "swtpm:host=",
                "swtpm:host",
                "swtpm:hots=localhost",
                "swtpm:host=localhost, port=2321",
                "swtpm:nosuchkey=1",
                "swtpm: path=/run/x",
                "swtpm:path=",
                "swtpm:path=/run/x,port=2321",
                "swtpm:path=/run/"
                "0123456789012345678901234567890123456789012345678901234567890123456789"
                "0123456789012345678901234567890",
        };

        for (size_t i = 0; i < G_N_ELEMENTS(names); i++) {
                g_autoptr(GError) error = NULL;

                if (backend_new(NULL, names[i], &error))
                        fail_msg("taken: \"%s\"", names[i]);
                assert_true(g_error_matches(error, BACKEND_ERROR, BACKEND_ERROR_CONF));
                assert_null(strchr(error->message, '\n'));
        }
}

static void test_names_taken(void **state) {
        static const struct {
                const char *conf;
                bool native;
                bool shared;
        } names[] = {
                { "swtpm", true, false },
                { "swtpm:", true, false },
                { "swtpm:port=1", true, false },
                { "swtpm:host=::1,port=65534", true, false },
                { "swtpm:path=/run/device/s", true, false },
                { "swtpm:,host=a,,host=b,port=1,", true, false },
                { "libtpms", false, false },
                { "libtpms:tabrmd", false, false },
                { "libtpms:/dev/shm/tpm", false, false },
                { "mssim:host=localhost,port=2321", false, false },
                { "device", true, true },
                { "device:/dev/nothing", true, true },
                { "/dev/nothing", true, true },
                { "pcap:device:/dev/nothing", false, true },
                { "libtss2-tcti-device.so.0:/nowhere", false, true },
        };

        for (size_t i = 0; i < G_N_ELEMENTS(names); i++) {
                Backend *backend = backend_new(NULL, names[i].conf, NULL);

                assert_non_null(backend);
                if ((backend->ops->cancel == NULL) != names[i].native)
                        fail_msg("native: \"%s\"", names[i].conf);
                if (backend->shared != names[i].shared)
                        fail_msg("shared: \"%s\"", names[i].conf);
                assert_int_equal(backend->state, BACKEND_CLOSED);
                backend_free(backend);
        }
        assert_null(backend_free(NULL));
}

static void test_closed_refuses(void **state) {
        static const uint8_t command[TPM_HEADER_SIZE];
        Subject subject;
        g_autoptr(GError) error = NULL;

        subject_init(&subject, "swtpm");
        assert_false(backend_transmit(subject.backend, command, sizeof(command), 0, &error));
        assert_true(g_error_matches(error, BACKEND_ERROR, BACKEND_ERROR_LOST));
        assert_false(backend_cancel(subject.backend));
        backend_close(subject.backend);
        assert_int_equal(subject.n_lost, 0);
        subject_fini(&subject);
}

static Channel *ready_channel;
static ssize_t ready_result;

static void on_ready(LoopFd *source, uint32_t events) {
        ready_result = channel_ready(ready_channel, events, true);
}

/* It names what it does not know. */
static void test_mistake_named(void **state) {
        g_autoptr(GError) error = NULL;

        assert_null(backend_new(NULL, "swtpm:host=localhost, port=2321", &error));
        assert_non_null(strstr(error->message, "\" port=2321\""));
}

/* A kernel buffer smaller than the command: the rest follows, whole and in order. */
static void test_channel_partial_send(void **state) {
        g_autofree Channel *channel = g_new0(Channel, 1);
        uint8_t sent[TPM_MESSAGE_MAX], received[TPM_MESSAGE_MAX];
        Loop *loop = loop_new(NULL);
        size_t n = 0;
        int fds[2];

        for (size_t i = 0; i < sizeof(sent); i++)
                sent[i] = (uint8_t)(i * 7 + i / 256);
        assert_return_code(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), errno);
        assert_return_code(setsockopt(fds[0], SOL_SOCKET, SO_SNDBUF, &(int){ 1 }, sizeof(int)), errno);
        ready_channel = channel;
        channel_init(channel);
        assert_int_equal(channel_open(channel, loop, fds[0], on_ready), 0);

        assert_int_equal(channel_send(channel, sent, sizeof(sent)), 0);
        assert_true(channel->n_out > 0);
        assert_true(channel->source.events & EPOLLOUT);
        /* what is sent meanwhile queues behind it, as far as there is room */
        assert_int_equal(channel_send(channel, sent, sizeof(sent)), -ENOBUFS);
        for (int i = 0; n < sizeof(sent) && i < 100000; i++) {
                ssize_t r = recv(fds[1], received + n, 100, MSG_DONTWAIT);

                if (r > 0)
                        n += (size_t)r;
                (void)g_main_context_iteration(NULL, FALSE);
        }
        assert_int_equal(n, sizeof(sent));
        assert_memory_equal(sent, received, n);
        assert_int_equal(ready_result, 0);
        assert_int_equal(channel->n_out, 0);
        assert_false(channel->source.events & EPOLLOUT);

        channel_close(channel);
        assert_int_equal(channel_send(channel, sent, 1), -ESHUTDOWN);
        close(fds[1]);
        loop_free(loop);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_names_refused),        cmocka_unit_test(test_names_taken),
                cmocka_unit_test(test_mistake_named),        cmocka_unit_test(test_closed_refuses),
                cmocka_unit_test(test_channel_partial_send),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
