/* SPDX-License-Identifier: BSD-2-Clause */

/* What the library does to a process, and what a fork() does to it; see test-tcti-daemon.h. */
#include "tcti/test-tcti-daemon.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* What the child finds, as exit status 0. */
static int child(bool receiving) {
        uint8_t response[64];
        size_t size = sizeof(response);

        if (receiving && receive(&size, response, -1) != TSS2_TCTI_RC_NO_CONNECTION)
                return 1;
        if (Tss2_Tcti_Transmit(tcti, sizeof(COMMAND), COMMAND) != TSS2_RC_SUCCESS)
                return 2;
        if (receive(&size, response, -1) != TSS2_RC_SUCCESS || size != sizeof(RESPONSE) || response[13] != 0xBB)
                return 3;
        Tss2_Tcti_Finalize(tcti);
        return 0;
}

static void fork_and_serve(bool receiving) {
        int parent_fd = daemon_fd;
        pid_t pid = fork();
        int status;

        if (pid == 0)
                _exit(child(receiving));
        take_client(); /* a connection of the child's own */
        answer_first();
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_int_equal(status, 0);
        close(daemon_fd);
        daemon_fd = parent_fd;
}

static void test_fork(void **state) {
        fork_and_serve(false);
        transmit();
        fork_and_serve(true);
        /* the parent's command is still its own */
        expect_from_client(COMMAND, sizeof(COMMAND));
        say(RESPONSE, sizeof(RESPONSE));
        assert_whole_receive();
}

static void test_fork_without_a_daemon(void **state) {
        pid_t pid;
        int status;

        close(listener);
        listener = -1;
        pid = fork();
        if (pid == 0)
                _exit(Tss2_Tcti_Transmit(tcti, sizeof(COMMAND), COMMAND) == TSS2_TCTI_RC_NO_CONNECTION ? 0 : 1);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_int_equal(status, 0);
        transmit();
        say(RESPONSE, sizeof(RESPONSE));
        assert_whole_receive();
}

/* A child asks for its handles while the parent's command is under way. */
static int polling_child(void) {
        TSS2_TCTI_POLL_HANDLE handle;
        uint8_t response[64];
        size_t size = sizeof(response), n = 1;

        alarm(20);
        if (Tss2_Tcti_GetPollHandles(tcti, &handle, &n) != TSS2_TCTI_RC_NO_CONNECTION)
                return 1;
        return receive(&size, response, TSS2_TCTI_TIMEOUT_BLOCK) == TSS2_TCTI_RC_BAD_SEQUENCE ? 0 : 2;
}

static void test_fork_and_poll(void **state) {
        pid_t pid;
        int status;

        transmit();
        pid = fork();
        if (pid == 0)
                _exit(polling_child());
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_int_equal(status, 0);
}

/* A child whose first attempt finds no daemon gets its connection at the second. */
static void test_fork_before_the_daemon_is_back(void **state) {
        pid_t pid;
        int status;

        close(listener);
        assert_int_equal(unlink(address.sun_path), 0);
        pid = fork();
        if (pid == 0) {
                if (Tss2_Tcti_Transmit(tcti, sizeof(COMMAND), COMMAND) != TSS2_TCTI_RC_NO_CONNECTION)
                        _exit(1);
                if (listen_up(NULL))
                        _exit(2);
                _exit(Tss2_Tcti_Transmit(tcti, sizeof(COMMAND), COMMAND) == TSS2_RC_SUCCESS ? 0 : 3);
        }
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_int_equal(status, 0);
}

static void test_descriptors_close_on_exec(void **state) {
        TSS2_TCTI_POLL_HANDLE handle;
        size_t n = 1;

        assert_int_equal(Tss2_Tcti_GetPollHandles(tcti, &handle, &n), TSS2_RC_SUCCESS);
        assert_int_equal(fcntl(handle.fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
}

/* In a name space of its own, where it is unloaded for good. The sanitizers end a process that makes one. */
static void *open_library(const char *path) {
#ifdef __SANITIZE_ADDRESS__
        return dlopen(path, RTLD_NOW | RTLD_LOCAL);
#else
        return dlmopen(LM_ID_NEWLM, path, RTLD_NOW | RTLD_LOCAL);
#endif
}

static void test_load_and_unload(void **state) {
        const char *path = getenv("TCTI_LIBRARY");
        unsigned before = count_fds();

        assert_non_null(path);
        for (unsigned i = 0; i < 100; i++) {
                void *library = open_library(path);
                TSS2_TCTI_INFO_FUNC info;
                TSS2_TCTI_CONTEXT *context = calloc(1, context_size);
                size_t size = context_size;

                assert_non_null(library);
                info = (TSS2_TCTI_INFO_FUNC)dlsym(library, TSS2_TCTI_INFO_SYMBOL);
                assert_non_null(info);
                assert_string_equal(info()->name, "tcti-abrmd");
                assert_int_equal(info()->init(context, &size, conf), TSS2_RC_SUCCESS);
                take_client();
                close(daemon_fd);
                Tss2_Tcti_Finalize(context);
                free(context);
                assert_int_equal(dlclose(library), 0);
        }
        daemon_fd = -1;
        assert_int_equal(count_fds(), before);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                TEST(test_fork),
                TEST(test_fork_without_a_daemon),
                TEST(test_fork_and_poll),
                TEST(test_fork_before_the_daemon_is_back),
                TEST(test_descriptors_close_on_exec),
                cmocka_unit_test_setup_teardown(test_load_and_unload, listen_up, teardown),
        };

        return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
