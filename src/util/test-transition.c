/* SPDX-License-Identifier: BSD-2-Clause */
#include "util/log.h"
#include "util/transition.h"

#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static const uint8_t lamp_transitions[][2] = { { 0, 1 }, { 1, 0 }, { 1, 2 } };

static void lamp_check(unsigned from, unsigned to) {
        transition_check("the lamp", lamp_transitions, sizeof(lamp_transitions) / sizeof(lamp_transitions[0]), from,
                         to);
}

static void test_allowed(void **state) {
        lamp_check(0, 1);
        lamp_check(1, 0);
        lamp_check(1, 2);
        assert_int_equal(transition_n_forbidden(), 0);
}

static void run_forbidden(int log) {
        const struct rlimit none = { 0 };

        setrlimit(RLIMIT_CORE, &none);
        signal(SIGABRT, SIG_DFL);
        dup2(log, STDOUT_FILENO);
        log_open(LOG_TARGET_STDOUT, "test", LOG_INFO);
        lamp_check(2, 1);
        lamp_check(0, 0);
        _exit(transition_n_forbidden() == 2 ? EXIT_SUCCESS : EXIT_FAILURE);
}

/* In a process of its own, since a strict build ends there. */
static void test_forbidden(void **state) {
        int log = memfd_create("log", MFD_CLOEXEC), status = 0;
        char text[1024] = "", *line;
        pid_t pid;

        assert_true(log >= 0);
        pid = fork();
        assert_true(pid >= 0);
        if (pid == 0)
                run_forbidden(log);
        assert_int_equal(waitpid(pid, &status, 0), pid);
#ifdef TABRMD_STRICT
        assert_true(WIFSIGNALED(status));
        assert_int_equal(WTERMSIG(status), SIGABRT);
#else
        assert_int_equal(status, 0);
#endif
        assert_true(pread(log, text, sizeof(text) - 1, 0) > 0);
        line = strstr(text, "fault in the daemon: the lamp goes from state 2 to state 1");
        assert_non_null(line);
        assert_null(strstr(line + 1, "fault"));
        close(log);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_allowed),
                cmocka_unit_test(test_forbidden),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
