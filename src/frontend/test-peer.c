/* SPDX-License-Identifier: BSD-2-Clause */
#include "frontend/peer.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static void test_units(void **state) {
        static const struct {
                const char *text;
                const char *unit;
        } rows[] = {
                { "0::/system.slice/ssh.service\n", "ssh.service" },
                { "0::/user.slice/user-1000.slice/user@1000.service/app.slice/app-x.scope\n", "app-x.scope" },
                { "12:pids:/system.slice/cron.service\n1:name=systemd:/x.service\n", "cron.service" },
                { "3:cpu:/\n1:name=systemd:/system.slice/cron.service\n", "cron.service" },
                { "0::/\n", NULL },
                { "0::/.service\n", NULL },
                { "0::/docker/0123456789\n", NULL },
                { "", NULL },
        };

        for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
                char text[256];
                const char *unit;

                strcpy(text, rows[i].text);
                unit = peer_unit(text);
                if (rows[i].unit)
                        assert_string_equal(unit, rows[i].unit);
                else
                        assert_null(unit);
        }
}

static void test_processes(void **state) {
        Peer self = peer_make(4711, getpid());
        Peer child;
        pid_t pid;

        assert_int_equal(self.uid, 4711);
        assert_int_equal(self.pid, getpid());
        assert_int_equal(strncmp(self.name, "test-peer", 9), 0);
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
        /* What comes behind a line feed is not its name, whatever it says. */
        assert_int_equal(strncmp(child.name, "a", 1), 0);
        for (const char *c = child.name; *c; c++)
                assert_in_range(*c, 0x20, 0x7e);
        assert_string_equal(peer_make(0, pid).name, "?");
        assert_string_equal(peer_make(0, 0).name, "?");
        assert_string_equal(peer_make(0, -1).name, "?");
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_units),
                cmocka_unit_test(test_processes),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
