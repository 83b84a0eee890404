/* SPDX-License-Identifier: BSD-2-Clause */
#include "backend/backend-device.h"
#include "backend/test-subject.h"
#include "util/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <tss2/tss2_tpm2_types.h>
#include <unistd.h>

#include <cmocka.h>

/*
 * A character device that can be had everywhere: the back end has a raw terminal, and we are the TPM at its other end.
 * The real one is test/vm's.
 */
typedef struct Device {
        int fd;
        Subject subject;
} Device;

static const uint8_t ANSWER[20] = { 0x80, 1, 0, 0, 0, 20, 0, 0, 0, 0, 0, 8 };

static void device_make(Device *device) {
        g_autofree char *conf = NULL;
        struct termios raw;

        device->fd = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
        assert_return_code(device->fd, errno);
        assert_return_code(grantpt(device->fd), errno);
        assert_return_code(unlockpt(device->fd), errno);
        assert_return_code(tcgetattr(device->fd, &raw), errno);
        cfmakeraw(&raw);
        assert_return_code(tcsetattr(device->fd, TCSANOW, &raw), errno);
        conf = g_strdup_printf("device:%s", ptsname(device->fd));
        subject_open(&device->subject, conf);
}

static void device_free(Device *device) {
        subject_fini(&device->subject);
        fd_close(device->fd);
}

static void device_expect_command(Device *device) {
        uint8_t bytes[64];

        subject_send(&device->subject, CMD_GET_RANDOM, 0);
        assert_int_equal(read(device->fd, bytes, sizeof(bytes)), 12);
}

static void test_commands(void **state) {
        Device device;

        device_make(&device);
        assert_true(device.subject.backend->shared);
        assert_false(device.subject.backend->localities);
        for (int i = 0; i < 3; i++) {
                device_expect_command(&device);
                assert_false(backend_cancel(device.subject.backend));
                assert_int_equal(write(device.fd, ANSWER, sizeof(ANSWER)), sizeof(ANSWER));
                assert_int_equal(subject_answer(&device.subject), TPM2_RC_SUCCESS);
                assert_int_equal(device.subject.n_answer, sizeof(ANSWER));
        }
        device_free(&device);
}

/* What the driver would not take is no reason to give it up. */
static void test_too_large(void **state) {
        static uint8_t command[4097];
        Device device;

        device_make(&device);
        assert_true(backend_transmit(device.subject.backend, command, sizeof(command), 0, NULL));
        assert_int_equal(subject_answer(&device.subject), RM_RC(TPM2_RC_COMMAND_SIZE));
        assert_int_equal(device.subject.backend->state, BACKEND_READY);
        device_free(&device);
}

static void test_malformed(void **state) {
        static const struct {
                uint8_t bytes[12];
                size_t n;
        } answers[] = {
                { { 0x80, 1, 0, 0, 0, 9, 0, 0, 0, 0 }, 10 },
                { { 0x80, 1, 0, 0, 0, 11, 0, 0, 0, 0 }, 10 },
                { { 0x80, 1, 0, 0, 0, 10, 0, 0, 0, 0, 0 }, 11 },
                { { 0x80, 1, 0, 0, 0, 10, 0, 0, 0 }, 9 },
        };

        for (size_t i = 0; i < G_N_ELEMENTS(answers); i++) {
                Device device;

                device_make(&device);
                device_expect_command(&device);
                assert_int_equal(write(device.fd, answers[i].bytes, answers[i].n), answers[i].n);
                subject_wait_lost(&device.subject, "impossible size");
                assert_int_equal(device.subject.n_answers, 0);
                device_free(&device);
        }
}

static void test_unasked(void **state) {
        Device device;

        device_make(&device);
        assert_int_equal(write(device.fd, ANSWER, sizeof(ANSWER)), sizeof(ANSWER));
        subject_wait_lost(&device.subject, "nobody asked");
        device_free(&device);
}

static void test_vanishes(void **state) {
        for (int busy = 0; busy < 2; busy++) {
                g_autofree char *reason = NULL;
                Device device;

                device_make(&device);
                if (busy)
                        device_expect_command(&device);
                device.fd = fd_close(device.fd);
                subject_wait_lost(&device.subject, "/dev/pts/");
                reason = subject_refusal(&device.subject);
                assert_non_null(strstr(reason, "/dev/pts/"));
                device_free(&device);
        }
}

static void test_holder(void **state) {
        g_autofree char *self = g_strdup_printf("test-device (pid %d)", (int)getpid());
        g_autofree char *path = NULL, *holder = NULL;
        Device device;

        device_make(&device);
        path = g_strdup(ptsname(device.fd));
        holder = backend_device_holder(path);
        assert_string_equal(holder, self);
        backend_close(device.subject.backend);
        assert_null(backend_device_holder(path));
        assert_null(backend_device_holder("/nonexistent"));
        device_free(&device);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_commands), cmocka_unit_test(test_too_large), cmocka_unit_test(test_malformed),
                cmocka_unit_test(test_unasked),  cmocka_unit_test(test_vanishes),  cmocka_unit_test(test_holder),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
