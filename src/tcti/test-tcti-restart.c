/* SPDX-License-Identifier: BSD-2-Clause */

/* A daemon that ends, and another that comes; see test-tcti-daemon.h. */
#include "tcti/test-tcti-daemon.h"

#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* So that each is known again at the daemon's end. */
static const uint8_t OTHER[12] = { 0x80, 1, 0, 0, 0, 12, 0, 0, 1, 0x7B, 0, 9 };
static const uint8_t SET_LOCALITY[11] = { 0x80, 1, 0, 0, 0, 11, 0x20, 0, 0x10, 0, 3 };
static const uint8_t DONE[10] = { 0x80, 1, 0, 0, 0, 10 };

static void transmit_other(void) {
        assert_int_equal(Tss2_Tcti_Transmit(tcti, sizeof(OTHER), OTHER), TSS2_RC_SUCCESS);
}

static void end_daemon(void) {
        close(daemon_fd);
        daemon_fd = -1;
}

static void stop_listening(void) {
        close(listener);
        listener = -1;
        assert_int_equal(unlink(address.sun_path), 0);
}

/* The next command, on the next connection: hello is said again, and nothing of before is. */
static void assert_connects_anew(void) {
        uint8_t c;

        transmit_other();
        take_client();
        expect_from_client(HELLO, sizeof(HELLO));
        expect_from_client(OTHER, sizeof(OTHER));
        assert_int_equal(recv(daemon_fd, &c, 1, MSG_DONTWAIT), -1);
        say(GREETING, sizeof(GREETING));
        say(RESPONSE, sizeof(RESPONSE));
        assert_whole_receive();
}

static void test_gone_before_transmit(void **state) {
        end_daemon();
        /* and no SIGPIPE */
        transmit();
        assert_int_equal(receive_code(0), NOT_EXECUTED);
        assert_connects_anew();
}

/* It has read the command, and may have executed it. */
static void test_gone_after_transmit(void **state) {
        transmit();
        expect_from_client(COMMAND, sizeof(COMMAND));
        end_daemon();
        assert_int_equal(receive_code(TSS2_TCTI_TIMEOUT_BLOCK), NOBODY_KNOWS);
        assert_connects_anew();
}

/* Wherever in the response it ends, and whether or not its size was asked for. */
static void test_gone_within_the_response(void **state) {
        for (size_t n = 0; n < sizeof(RESPONSE); n++) {
                size_t size = 0;

                transmit();
                expect_from_client(COMMAND, sizeof(COMMAND));
                say(RESPONSE, n);
                if (n % 2)
                        assert_int_equal(receive(&size, NULL, 0), n < 6 ? TSS2_TCTI_RC_TRY_AGAIN : TSS2_RC_SUCCESS);
                end_daemon();
                assert_int_equal(receive_code(TSS2_TCTI_TIMEOUT_BLOCK), NOBODY_KNOWS);
                assert_connects_anew();
        }
}

/* A limit of connections is a connection that is closed before anything was answered. */
static void test_refused(void **state) {
        transmit();
        end_daemon();
        assert_int_equal(receive_code(TSS2_TCTI_TIMEOUT_BLOCK), NOBODY_KNOWS);
        assert_connects_anew();
}

static void test_no_daemon_for_a_time(void **state) {
        unsigned before;

        end_daemon();
        stop_listening();
        transmit();
        assert_int_equal(receive_code(0), NOT_EXECUTED);
        before = count_fds();
        for (unsigned i = 0; i < 10; i++) {
                transmit();
                assert_int_equal(receive_code(0), NOT_EXECUTED);
        }
        assert_int_equal(count_fds(), before);
        assert_int_equal(listen_up(NULL), 0);
        assert_connects_anew();
}

/* The answer of the library's own is like any other. */
static void test_contract_without_a_daemon(void **state) {
        uint8_t response[10];
        size_t size = 0;

        end_daemon();
        stop_listening();
        transmit();
        assert_int_equal(Tss2_Tcti_Transmit(tcti, sizeof(COMMAND), COMMAND), TSS2_TCTI_RC_BAD_SEQUENCE);
        assert_int_equal(receive(&size, NULL, 0), TSS2_RC_SUCCESS);
        assert_int_equal(size, sizeof(response));
        size = 9;
        assert_int_equal(receive(&size, response, 0), TSS2_TCTI_RC_INSUFFICIENT_BUFFER);
        assert_int_equal(size, sizeof(response));
        assert_int_equal(receive_code(TSS2_TCTI_TIMEOUT_BLOCK), NOT_EXECUTED);
        assert_int_equal(receive(&size, response, 0), TSS2_TCTI_RC_BAD_SEQUENCE);
        assert_int_equal(Tss2_Tcti_SetLocality(tcti, 1), TSS2_TCTI_RC_NO_CONNECTION);
        assert_int_equal(listen_up(NULL), 0);
}

static int poll_handle(void) {
        TSS2_TCTI_POLL_HANDLE handle = { .fd = -1 };
        size_t n = 1;

        assert_int_equal(Tss2_Tcti_GetPollHandles(tcti, &handle, &n), TSS2_RC_SUCCESS);
        assert_int_equal(handle.events, POLLIN);
        return handle.fd;
}

/* A program may ask for the handle once, and wait at it for ever. */
static void test_poll_handle(void **state) {
        int fd = poll_handle();
        struct pollfd handle = { .fd = fd, .events = POLLIN };

        end_daemon();
        transmit();
        assert_int_equal(poll(&handle, 1, 0), 1);
        assert_true(handle.revents & POLLIN);
        assert_int_equal(receive_code(0), NOT_EXECUTED);
        assert_int_equal(poll_handle(), fd);

        transmit();
        take_client();
        assert_int_equal(poll_handle(), fd);
        assert_int_equal(poll(&handle, 1, 0), 0);
        answer_first();
        assert_int_equal(poll(&handle, 1, 0), 1);
        assert_whole_receive();
        assert_int_equal(fcntl(fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);

        transmit();
        expect_from_client(COMMAND, sizeof(COMMAND));
        end_daemon();
        assert_int_equal(poll(&handle, 1, 0), 1);
        assert_int_equal(receive_code(0), NOBODY_KNOWS);
        stop_listening();
        transmit();
        assert_int_equal(poll_handle(), fd);
        assert_int_equal(poll(&handle, 1, 0), 1);
        assert_int_equal(receive_code(0), NOT_EXECUTED);
        assert_int_equal(listen_up(NULL), 0);
}

static void test_cancel(void **state) {
        /* without a connection */
        end_daemon();
        transmit();
        assert_int_equal(Tss2_Tcti_Cancel(tcti), TSS2_RC_SUCCESS);
        assert_int_equal(receive_code(0), NOT_EXECUTED);
        assert_connects_anew();
        /* of a connection that has ended meanwhile, after the answer and before it */
        transmit();
        expect_from_client(COMMAND, sizeof(COMMAND));
        say(RESPONSE, sizeof(RESPONSE));
        end_daemon();
        assert_int_equal(Tss2_Tcti_Cancel(tcti), TSS2_RC_SUCCESS);
        assert_whole_receive();
        transmit();
        assert_int_equal(receive_code(0), NOT_EXECUTED);
        assert_connects_anew();
        transmit();
        expect_from_client(COMMAND, sizeof(COMMAND));
        end_daemon();
        assert_int_equal(Tss2_Tcti_Cancel(tcti), TSS2_RC_SUCCESS);
        assert_int_equal(receive_code(0), NOBODY_KNOWS);
}

static void set_locality_3(void) {
        say(DONE, sizeof(DONE));
        assert_int_equal(Tss2_Tcti_SetLocality(tcti, 3), TSS2_RC_SUCCESS);
        expect_from_client(SET_LOCALITY, sizeof(SET_LOCALITY));
}

/* The other end of the next connection, in a process of its own: the library waits for it. */
static pid_t serve_locality(const uint8_t answer[10]) {
        pid_t pid = fork();

        if (pid == 0) {
                uint8_t got[11];
                int fd = accept(listener, NULL, NULL);

                if (recv(fd, got, sizeof(got), MSG_WAITALL) != sizeof(got) || memcmp(got, SET_LOCALITY, sizeof(got)))
                        _exit(1);
                if (write(fd, answer, 10) != 10)
                        _exit(2);
                /* and then what is said with any first command */
                for (size_t n = 0; n < sizeof(HELLO) + sizeof(OTHER); n++)
                        if (recv(fd, got, 1, 0) != 1)
                                _exit(3);
                if (write(fd, GREETING, sizeof(GREETING)) < 0 || write(fd, RESPONSE, sizeof(RESPONSE)) < 0)
                        _exit(4);
                _exit(0);
        }
        return pid;
}

/* A command is not executed at another locality than the program has set, only because the daemon was restarted. */
static void test_locality(void **state) {
        const uint8_t refusal[10] = { 0x80, 1, 0, 0, 0, 10, 0, 0, 9, 7 };
        int status;
        pid_t pid;

        set_locality_3();
        end_daemon();
        transmit();
        assert_int_equal(receive_code(0), NOT_EXECUTED);
        pid = serve_locality(refusal);
        transmit_other();
        assert_int_equal(receive_code(0), NOT_EXECUTED);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_int_equal(WEXITSTATUS(status), 3);
        pid = serve_locality(DONE);
        transmit_other();
        assert_whole_receive();
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_int_equal(status, 0);
}

static void test_set_locality_on_a_new_connection(void **state) {
        pid_t pid;
        int status;

        end_daemon();
        assert_int_equal(Tss2_Tcti_SetLocality(tcti, 3), TSS2_TCTI_RC_NO_CONNECTION);
        pid = serve_locality(DONE);
        assert_int_equal(Tss2_Tcti_SetLocality(tcti, 3), TSS2_RC_SUCCESS);
        transmit_other();
        assert_whole_receive();
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_int_equal(status, 0);
}

/* What is no response of a TPM is a failure of the TCTI, and no reason to give up either. */
static void test_after_garbage(void **state) {
        const uint8_t garbage[] = { 0x80, 1, 0, 0, 0, 9, 0, 0, 0, 0 };
        uint8_t response[64];
        size_t size = sizeof(response);

        transmit();
        say(garbage, sizeof(garbage));
        assert_int_equal(receive(&size, response, -1), TSS2_TCTI_RC_MALFORMED_RESPONSE);
        close(daemon_fd);
        assert_connects_anew();
}

static off_t size_of_log;

static bool has_been_told(void) {
        const char *path = getenv("TSS2_LOGFILE");
        off_t before = size_of_log;
        struct stat st;

        size_of_log = stat(path, &st) == 0 ? st.st_size : 0;
        return size_of_log > before;
}

/* Once for each time that the daemon is away. */
static void test_told_once(void **state) {
        char path[] = "/tmp/test-restart-XXXXXX";

        close(mkstemp(path));
        setenv("TSS2_LOGFILE", path, 1);
        unsetenv("TSS2_LOG");
        for (unsigned i = 0; i < 3; i++) {
                end_daemon();
                transmit();
                assert_true(has_been_told());
                assert_int_equal(receive_code(0), NOT_EXECUTED);
                stop_listening();
                for (unsigned k = 0; k < 5; k++) {
                        transmit();
                        assert_int_equal(receive_code(0), NOT_EXECUTED);
                }
                assert_false(has_been_told());
                assert_int_equal(listen_up(NULL), 0);
                assert_connects_anew();
        }
        end_daemon();
        assert_int_equal(Tss2_Tcti_SetLocality(tcti, 1), TSS2_TCTI_RC_NO_CONNECTION);
        assert_true(has_been_told());
        unlink(path);
        unsetenv("TSS2_LOGFILE");
}

int main(void) {
        const struct CMUnitTest tests[] = {
                TEST(test_gone_before_transmit),
                TEST(test_gone_after_transmit),
                TEST(test_gone_within_the_response),
                cmocka_unit_test_setup_teardown(test_refused, setup_new, teardown),
                TEST(test_no_daemon_for_a_time),
                TEST(test_contract_without_a_daemon),
                TEST(test_poll_handle),
                TEST(test_cancel),
                TEST(test_locality),
                TEST(test_set_locality_on_a_new_connection),
                TEST(test_after_garbage),
                TEST(test_told_once),
        };

        return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
