/* SPDX-License-Identifier: BSD-2-Clause */
#include "door/peer.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static void test_processes(void **state) {
        Peer self = peer_make(4711, getpid());
        Peer child;
        pid_t pid;

        assert_int_equal(self.uid, 4711);
        assert_int_equal(self.pid, getpid());
        assert_string_equal(self.name, "test-peer");
        pid = fork();
        if (pid == 0) {
                prctl(PR_SET_NAME, "a\n\x1b[\xff)");
                raise(SIGSTOP);
                _exit(0);
        }
        assert_int_equal(waitpid(pid, NULL, WUNTRACED), pid);
        child = peer_make(0, pid);
        kill(pid, SIGKILL);
        assert_int_equal(waitpid(pid, NULL, 0), pid);
        assert_string_equal(child.name, "a??[?)");
        assert_string_equal(peer_make(0, pid).name, "?");
        assert_string_equal(peer_make(0, 0).name, "?");
        assert_string_equal(peer_make(0, -1).name, "?");
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_processes),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
