# SPDX-License-Identifier: BSD-2-Clause
"""What a command costs the daemon itself: system calls, and allocations. Counts, not times."""

import collections
import mmap
import re
import signal
import socket
import struct
import subprocess
import unittest

import harness
import tpm
from process import needs, wait_until
from tpms import BUILD

ALLOCATIONS = BUILD / "test/lib/allocations.so"
N = 1000
BATCH = 50
SO_PASSRIGHTS = 83
# What is told on its own: how often it waits depends on how soon the next command comes.
WAITS = {"epoll_wait", "poll", "ppoll"}


def refuses_rights():
    """Elsewhere each look at a client's socket is a system call of its own."""
    with socket.socket(socket.AF_UNIX) as unix:
        try:
            return unix.setsockopt(socket.SOL_SOCKET, SO_PASSRIGHTS, 0) is None
        except OSError:
            return False


class Calls(harness.TestCase):
    def setUp(self):
        super().setUp()
        self.start_subject(options=harness.NO_CHORES)
        self.client = self.connect()

    def count(self, command):
        """System calls of the daemon for a command, by name."""
        out = self.folder / "strace"
        for _ in range(50):
            self.client.run(command)
        argv = ["strace", "-f", "-qq", "-c", "-U", "calls,name", "-o", str(out), "-p", str(self.daemon.process.pid)]
        with subprocess.Popen(argv, stderr=subprocess.DEVNULL) as strace:
            wait_until(lambda: re.search(r"TracerPid:\t[1-9]", self.status()), "strace to attach")
            for _ in range(N):
                self.client.run(command)
            strace.send_signal(signal.SIGINT)
        calls = collections.Counter()
        for number, name in re.findall(r"^ *(\d+) (\w+)$", out.read_text(), re.M):
            calls[name] += int(number) / N
        del calls["total"]
        return {name: n for name, n in calls.items() if n > 0.01}

    def status(self):
        with open("/proc/%d/status" % self.daemon.process.pid, encoding="ascii") as file:
            return file.read()

    @unittest.skipIf(harness.IS_SANITIZED, "a sanitizer makes calls of its own")
    @needs("strace", "-qq", "-o", "/dev/null", "true")
    def test_system_calls(self):
        calls = self.count(tpm.get_random(8))
        print("# GetRandom: %.2f system calls: %s" % (sum(calls.values()), calls))
        work = sum(n for name, n in calls.items() if name not in WAITS)
        # It is received and sent on, and so is the answer.
        self.assertLessEqual(work, 4.05 + (not refuses_rights()))
        self.assertGreaterEqual(work, 3.95)


@unittest.skipUnless(ALLOCATIONS.exists(), "not with a sanitizer, nor without glibc")
class Allocations(harness.TestCase):
    def setUp(self):
        super().setUp()
        path = self.folder / "allocations"
        with open(path, "wb+") as file:
            file.write(bytes(8))
            file.flush()
            self.shared = mmap.mmap(file.fileno(), 8)
        self.start_subject(options=harness.NO_CHORES,
                           env={"LD_PRELOAD": str(ALLOCATIONS), "TABRMD_ALLOCATIONS": str(path)})
        self.client = self.connect()

    def count(self, command, run=tpm.Client.run):
        """The least of many rounds: GLib allocates for timers, and when a command is late, as on a busy machine."""
        for _ in range(BATCH):
            run(self.client, command)
        counts = []
        for _ in range(N // BATCH):
            before = struct.unpack("Q", self.shared)[0]
            for _ in range(BATCH):
                run(self.client, command)
            counts.append((struct.unpack("Q", self.shared)[0] - before) / BATCH)
        print("# %.3f to %.3f allocations" % (min(counts), max(counts)))
        return min(counts)

    def test_short_command(self):
        self.assertLess(self.count(tpm.get_random(8)), 0.1)

    def test_the_count_counts(self):
        """A long command has memory of its own. The TPM refuses it."""
        self.assertGreaterEqual(self.count(tpm.command(tpm.CC_GET_RANDOM, parameters=bytes(600)), tpm.Client.ask), 1)


if __name__ == "__main__":
    harness.main()
