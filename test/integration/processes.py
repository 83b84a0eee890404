# SPDX-License-Identifier: BSD-2-Clause
"""The client library in programs that fork, have threads, load it again and again, or are servers with workers."""

import subprocess

import harness
from process import PID_NAMESPACE, needs

PROGRAM = harness.BUILD / "test/lib/tcti-processes"


class Processes(harness.TestCase):
    def setUp(self):
        super().setUp()
        self.start_subject(bus=self.start_bus())
        self.addCleanup(self.assertTpmEmpty)

    def run_program(self, mode, wrap=()):
        """By both doors. Nothing may be printed by the library, and nothing be wrong."""
        for conf in ("socket=" + self.daemon.socket, "bus_type=session"):
            with self.subTest(conf):
                argv = [*wrap, PROGRAM, mode, harness.LIBRARY / "libtss2-tcti-tabrmd.so.0", conf]
                env = harness.clean_env(DBUS_SESSION_BUS_ADDRESS=self.bus.address)
                done = subprocess.run([str(a) for a in argv], env=env, capture_output=True, text=True,
                                      timeout=5 * harness.HANG, check=False)
                self.assertEqual((done.returncode, done.stdout, done.stderr), (0, "", ""))

    def test_fork_and_both_go_on(self):
        self.run_program("fork")

    def test_fork_while_a_command_is_out(self):
        self.run_program("fork-busy")

    @needs(*PID_NAMESPACE)
    def test_fork_into_another_pid_namespace(self):
        self.run_program("fork-namespace", PID_NAMESPACE[:-1])

    def test_standard_descriptors_are_closed(self):
        self.run_program("closed")

    def test_tools_with_closed_descriptors(self):
        """What a tool prints does not get into the connection, where the daemon would take it for commands."""
        for conf in (self.daemon.socket_conf, self.daemon.bus_conf):
            tools = harness.Tools(self.folder / "tools", conf, self.daemon.library, self.bus)
            for closed in (">&-", "<&- >&-", "<&- >&- 2>&-"):
                with self.subTest(conf, closed=closed):
                    before = self.proxy.count()
                    tools.attempt("sh", "-c", "tpm2_getrandom 32 " + closed)
                    self.assertGreater(self.proxy.count(), before)
                    self.assertNotIn("is no TPM command", self.daemon.process.output())

    def test_a_context_per_thread(self):
        self.run_program("threads")

    def test_master_and_workers_that_reload(self):
        self.run_program("reload")

    def test_loaded_a_hundred_times(self):
        self.run_program("load")

    def test_loaded_a_hundred_times_without_a_leak(self):
        self.run_program("load", ["valgrind", "-q", "--error-exitcode=99", "--leak-check=full", "--show-leak-kinds=all",
                                  "--errors-for-leak-kinds=all"])


if __name__ == "__main__":
    harness.main()
