/* SPDX-License-Identifier: BSD-2-Clause */

/* What the library does to a process, and what a fork() does to it; see test-tcti-daemon.h. */
#include "tcti/test-tcti-daemon.h"
#include "util/platform.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/*
 * Either the process number does not tell a child from its parent, as in PID namespaces where both are process 1, or
 * the system has no page that does. The library calls these instead of libc's.
 */
static bool without_pages;

#define INSTEAD_OF_LIBC __attribute__((visibility("default")))

INSTEAD_OF_LIBC pid_t getpid(void) {
        return without_pages ? (pid_t)syscall(SYS_getpid) : 1;
}

INSTEAD_OF_LIBC int madvise(void *pages, size_t size, int advice) {
        if (!without_pages)
                return (int)syscall(SYS_madvise, pages, size, advice);
        errno = EINVAL;
        return -1;
}

static int setup_by_page(void **state) {
        size_t n = (size_t)sysconf(_SC_PAGESIZE);
        void *page = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

        without_pages = false;
        if (!platform_wipe_on_fork(page, n)) { /* an emulator */
                print_message("the system has no pages that it wipes in a child\n");
                without_pages = true;
        }
        munmap(page, n);
        return setup(state);
}

static int setup_by_number(void **state) {
        without_pages = true;
        return setup(state);
}

/* What a child finds, as exit status 0: an assertion would have it go on with the next test. */
static int ask(void) {
        uint8_t response[64];
        size_t size = sizeof(response);

        if (Tss2_Tcti_Transmit(tcti, sizeof(COMMAND), COMMAND) != TSS2_RC_SUCCESS)
                return 10;
        if (receive(&size, response, -1) != TSS2_RC_SUCCESS)
                return 11;
        return size == sizeof(RESPONSE) && response[13] == 0xBB ? 0 : 12;
}

static int child(bool receiving) {
        int r;

        alarm(20);
        if (receiving && receive_code(TSS2_TCTI_TIMEOUT_BLOCK) != NOBODY_KNOWS)
                return 1;
        r = ask();
        Tss2_Tcti_Finalize(tcti);
        return r;
}

static void assert_ends_well(pid_t pid) {
        int status;

        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_int_equal(status, 0);
}

/* A connection of a child's own. */
static void serve_child(void) {
        int parent_fd = daemon_fd;

        take_client();
        answer_first();
        close(daemon_fd);
        daemon_fd = parent_fd;
}

static void fork_and_serve(bool receiving) {
        pid_t pid = fork();

        if (pid == 0)
                _exit(child(receiving));
        serve_child();
        assert_ends_well(pid);
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

/* A child that ends its context without a command of its own does not end its parent's connection. */
static void test_fork_and_finalize(void **state) {
        pid_t pid = fork();

        if (pid == 0) {
                Tss2_Tcti_Finalize(tcti);
                _exit(0);
        }
        assert_ends_well(pid);
        transmit();
        expect_from_client(COMMAND, sizeof(COMMAND));
        say(RESPONSE, sizeof(RESPONSE));
        assert_whole_receive();
}

static int child_that_forks(void) {
        int r = ask(), status = -1;
        pid_t pid = fork();

        if (pid == 0)
                _exit(child(false));
        (void)waitpid(pid, &status, 0);
        return r ? r : status ? 1 : 0;
}

/* A child of a child, which has a connection of its own, too. */
static void test_fork_of_a_fork(void **state) {
        pid_t pid = fork();

        if (pid == 0)
                _exit(child_that_forks());
        serve_child();
        serve_child();
        assert_ends_well(pid);
        transmit();
        expect_from_client(COMMAND, sizeof(COMMAND));
        say(RESPONSE, sizeof(RESPONSE));
        assert_whole_receive();
}

static int child_before_the_daemon(void) {
        int fd;

        alarm(20);
        for (unsigned i = 0; i < 3; i++)
                if (Tss2_Tcti_Transmit(tcti, sizeof(COMMAND), COMMAND) != TSS2_RC_SUCCESS ||
                    receive_code(0) != NOT_EXECUTED)
                        return 1;
        if (listen_up(NULL) || Tss2_Tcti_Transmit(tcti, sizeof(COMMAND), COMMAND) != TSS2_RC_SUCCESS)
                return 2;
        fd = accept(listener, NULL, NULL);
        if (write(fd, GREETING, sizeof(GREETING)) < 0 || write(fd, RESPONSE, sizeof(RESPONSE)) < 0)
                return 3;
        return receive_code(TSS2_TCTI_TIMEOUT_BLOCK) == UINT32_MAX ? 0 : 4; /* it is more than a header */
}

/* A child that cannot connect hears so, and gets its connection once there is a daemon. */
static void test_fork_before_the_daemon_is_back(void **state) {
        pid_t pid;

        close(listener);
        listener = -1;
        assert_int_equal(unlink(address.sun_path), 0);
        pid = fork();
        if (pid == 0)
                _exit(child_before_the_daemon());
        assert_ends_well(pid);
        transmit();
        say(RESPONSE, sizeof(RESPONSE));
        assert_whole_receive();
}

/* A child asks for its handle, or cancels, while the parent's command is under way. */
static int child_meanwhile(bool cancels) {
        struct pollfd pollfd = { .fd = -1, .events = POLLIN };
        TSS2_TCTI_POLL_HANDLE handle;
        size_t n = 1;

        alarm(20);
        if (cancels && Tss2_Tcti_Cancel(tcti) != TSS2_RC_SUCCESS)
                return 1;
        if (Tss2_Tcti_GetPollHandles(tcti, &handle, &n) != TSS2_RC_SUCCESS)
                return 2;
        pollfd.fd = handle.fd;
        if (poll(&pollfd, 1, -1) != 1)
                return 3;
        return receive_code(TSS2_TCTI_TIMEOUT_NONE) == NOBODY_KNOWS ? 0 : 4;
}

static void test_fork_and_poll(void **state) {
        uint8_t c;

        transmit();
        expect_from_client(COMMAND, sizeof(COMMAND));
        for (unsigned i = 0; i < 2; i++) {
                pid_t pid = fork();

                if (pid == 0)
                        _exit(child_meanwhile(i == 1));
                assert_ends_well(pid);
        }
        assert_int_equal(recv(daemon_fd, &c, 1, MSG_DONTWAIT), -1); /* nothing was cancelled, nothing has ended */
        say(RESPONSE, sizeof(RESPONSE));
        assert_whole_receive();
}

/* A program without standard input, output and error prints into what gets their numbers. */
static int child_without_stdio(void) {
        void *room = calloc(1, context_size);
        size_t size = context_size;

        for (int fd = 0; fd < 3; fd++)
                close(fd);
        if (Tss2_Tcti_Tabrmd_Init(room, &size, conf) != TSS2_RC_SUCCESS)
                return 1;
        /* and on the context that came from the parent, and so on a new connection */
        if (Tss2_Tcti_Transmit(tcti, sizeof(COMMAND), COMMAND) != TSS2_RC_SUCCESS)
                return 2;
        for (int fd = 0; fd < 3; fd++)
                if (fcntl(fd, F_GETFD) >= 0)
                        return 3;
        return 0;
}

static void test_without_stdio(void **state) {
        pid_t pid = fork();

        if (pid == 0)
                _exit(child_without_stdio());
        assert_ends_well(pid);
}

static void test_descriptors_close_on_exec(void **state) {
        TSS2_TCTI_POLL_HANDLE handle;
        size_t n = 1;

        assert_int_equal(Tss2_Tcti_GetPollHandles(tcti, &handle, &n), TSS2_RC_SUCCESS);
        assert_int_equal(fcntl(handle.fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
}

/* In a name space of its own, where it is unloaded for good. The sanitizers end a process that makes one. */
static void *open_library(const char *path) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
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

/*
 * A daemon closes all descriptors, those of its libraries too, and what it opens then gets their numbers. Return: its
 * own one, which is not the library's.
 */
static int take_number(int *ret_peer) {
        TSS2_TCTI_POLL_HANDLE handle = { .fd = -1 };
        size_t n = 1;
        int pair[2];

        if (Tss2_Tcti_GetPollHandles(tcti, &handle, &n) != TSS2_RC_SUCCESS || socketpair(AF_UNIX, SOCK_STREAM, 0, pair))
                return -1;
        (void)dup2(pair[0], handle.fd);
        close(pair[0]);
        *ret_peer = pair[1];
        return handle.fd;
}

/* It is open, and nothing came by it but what the program writes. */
static bool is_untouched(int own, int peer) {
        uint8_t got[2];

        return write(own, "x", 1) == 1 && recv(peer, got, sizeof(got), MSG_DONTWAIT) == 1 && got[0] == 'x';
}

static void test_number_of_another(void **state) {
        int own, peer;

        transmit();
        expect_from_client(COMMAND, sizeof(COMMAND));
        own = take_number(&peer);
        assert_int_equal(receive_code(TSS2_TCTI_TIMEOUT_NONE), NOBODY_KNOWS);
        assert_true(is_untouched(own, peer));
        close(daemon_fd);
        transmit();
        take_client();
        answer_first();
        assert_whole_receive();
        assert_true(is_untouched(own, peer));
        close(own);
        close(peer);

        own = take_number(&peer);
        Tss2_Tcti_Finalize(tcti);
        assert_true(is_untouched(own, peer));
        close(own);
        close(peer);
}

static int child_with_its_own(bool asks) {
        int peer, own = take_number(&peer);

        alarm(20);
        if (asks && Tss2_Tcti_Transmit(tcti, sizeof(COMMAND), COMMAND) != TSS2_RC_SUCCESS)
                return 1;
        if (!is_untouched(own, peer))
                return 2;
        Tss2_Tcti_Finalize(tcti);
        return is_untouched(own, peer) ? 0 : 3;
}

static void test_number_of_another_in_a_child(void **state) {
        for (unsigned i = 0; i < 2; i++) {
                pid_t pid = fork();

                if (pid == 0)
                        _exit(child_with_its_own(i == 1));
                assert_ends_well(pid);
        }
        transmit();
        expect_from_client(COMMAND, sizeof(COMMAND));
        say(RESPONSE, sizeof(RESPONSE));
        assert_whole_receive();
}

#define BOTH(f)                                                                                                        \
        cmocka_unit_test_setup_teardown(f, setup_by_page, teardown),                                                   \
                cmocka_unit_test_setup_teardown(f, setup_by_number, teardown)

int main(void) {
        const struct CMUnitTest tests[] = {
                BOTH(test_fork),
                BOTH(test_fork_and_finalize),
                BOTH(test_fork_of_a_fork),
                BOTH(test_fork_before_the_daemon_is_back),
                BOTH(test_fork_and_poll),
                TEST(test_without_stdio),
                TEST(test_descriptors_close_on_exec),
                TEST(test_number_of_another),
                BOTH(test_number_of_another_in_a_child),
                cmocka_unit_test_setup_teardown(test_load_and_unload, listen_up, teardown),
        };

        return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
