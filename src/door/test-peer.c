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

/* A child that calls itself that, while it is there. */
static Peer peer_of_child(const char *name, pid_t *ret_pid) {
        pid_t pid = fork();
        Peer peer;

        if (pid == 0) {
                prctl(PR_SET_NAME, name);
                raise(SIGSTOP);
                _exit(0);
        }
        assert_int_equal(waitpid(pid, NULL, WUNTRACED), pid);
        peer = peer_make(0, pid);
        kill(pid, SIGKILL);
        assert_int_equal(waitpid(pid, NULL, 0), pid);
        *ret_pid = pid;
        return peer;
}

static void test_processes(void **state) {
        Peer self = peer_make(4711, getpid());
        pid_t pid;

        assert_int_equal(self.uid, 4711);
        assert_int_equal(self.pid, getpid());
        assert_string_equal(self.name, "test-peer");
        assert_string_equal(peer_of_child("a\n\x1b[\xff)", &pid).name, "a??[?)");
        assert_string_equal(peer_of_child("", &pid).name, "?"); /* no name is that of all who have no account */
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
