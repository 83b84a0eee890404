# SPDX-License-Identifier: BSD-2-Clause
"""
The ways to the TPM side by side: /dev/tpm0 itself, a bare forwarder before it, the kernel's resource manager,
tpm2-abrmd 3.0 and ours. How long a command takes with 0, 1 and 3 keys loaded, and how many commands of the TPM it is;
and what the process between costs for one: how often it was scheduled, and its processor time. Counts are asserted;
times are shown: there is no interrupt, so the kernel asks the TPM every millisecond whether it is done.
"""

import collections
import contextlib
import os
import statistics
import time

import device
import harness
import tcti
import tpm

ROUNDS, TURNS = 3, 60
BARE, FORWARDER = "/dev/tpm0, bare", "a bare forwarder"
KERNEL, PEER = "/dev/tpmrm0", "tpm2-abrmd 3.0, D-Bus"
SOCKET, BUS = "ours, socket", "ours, D-Bus"
WAYS = [BARE, FORWARDER, KERNEL, PEER, BUS, SOCKET]
KEYS = [0, 1, 3]
SIGN = "Sign"
COLUMNS = ["GetRandom, %d keys" % n for n in KEYS] + [SIGN]


def connect_unix(path):
    """It is there before anybody listens on it."""
    found = []

    def connects():
        with contextlib.suppress(OSError):
            found.append(tpm.connect_unix(path))
        return found

    harness.wait_until(connects, "the forwarder listens")
    return found[0]


def effort(process):
    """-> how often its threads were scheduled, and their processor time in us"""
    n = us = 0
    for task in os.listdir("/proc/%d/task" % process.pid) if process else []:
        with open("/proc/%d/task/%s/schedstat" % (process.pid, task), encoding="ascii") as file:
            ns, _, times = map(int, file.read().split())
        n, us = n + times, us + ns / 1000
    return n, us


class Compare(harness.TestCase):
    def setUp(self):
        super().setUp()
        self.times, self.counts = collections.defaultdict(list), collections.Counter()
        self.efforts = collections.defaultdict(list)
        self.bus = self.start_bus()
        self.between = None  # the process between

    def measure(self, way, column, client, command):
        times = []
        for _ in range(5):
            client.ask(command)
        device.chip().reset()
        before = effort(self.between)
        for _ in range(TURNS):
            start = time.perf_counter()
            client.run(command)
            times.append(time.perf_counter() - start)
        self.efforts[way, column].append([(now - then) / TURNS for now, then in zip(effort(self.between), before)])
        self.counts[way, column] += device.chip().count()
        self.times[way, column] += times

    def use(self, way, client):
        keys = []
        for n in KEYS:
            while len(keys) < n:
                keys.append(client.create_primary(tpm.PUBLIC_ECC_SIGN))
            self.measure(way, "GetRandom, %d keys" % n, client, tpm.get_random())
            if n == 1:
                self.measure(way, SIGN, client, tpm.sign(keys[0], bytes(32)))
        for key in keys:
            client.run(tpm.flush_context(key))
        client.close()

    def use_forwarder(self):
        path = self.folder / "forwarder.sock"
        path.unlink(missing_ok=True)
        argv = [harness.BUILD / "test/bench/forwarder", path, "/dev/tpm0"]
        self.between = harness.Process("forwarder", argv, self.folder / "forwarder.log")
        try:
            self.use(FORWARDER, tpm.Client(connect_unix(str(path))))
        finally:
            self.between.end()
            self.between = None

    def test_side_by_side(self):
        for _ in range(ROUNDS):
            device.Device()
            self.use(BARE, device.connect("/dev/tpm0"))
            self.use_forwarder()
            self.use(KERNEL, device.connect("/dev/tpmrm0"))
            for subject in (harness.Peer, harness.Ours):
                daemon = self.start_daemon(device.CONF, subject, bus=self.bus)
                self.between = daemon.process
                self.use(PEER if subject is harness.Peer else BUS,
                         tpm.Client(tcti.connect_bus(daemon.library, self.bus.address)))
                if subject is harness.Ours:
                    self.use(SOCKET, daemon.client())
                self.between = None
                self.assertEqual(daemon.stop(), 0)
        self.show()
        for column in COLUMNS:
            others = [self.each(other, column) for other in (PEER, KERNEL)]
            for way in (SOCKET, BUS):
                with self.subTest(column, way=way):
                    # Where the machine pauses for long enough, what is idle leaves the TPM and has to come back.
                    self.assertLessEqual(self.each(way, column), min(1.1, *(n + 0.1 for n in others)))

    def each(self, way, column):
        return self.counts[way, column] / (ROUNDS * TURNS)

    def show(self):
        print("# median us and commands of the TPM, each of %d times:" % (ROUNDS * TURNS))
        print("# %-22s" % "" + "".join("%20s" % column for column in COLUMNS))
        for way in WAYS:
            cells = ("%12.0f %7.2f" % (statistics.median(self.times[way, column]) * 1e6, self.each(way, column))
                     for column in COLUMNS)
            print("# %-22s" % way + "".join(cells))
        print("# the process between, for each: how often it was scheduled, and us of its time")
        for way in WAYS[1:2] + WAYS[3:]:
            cells = ("%12.1f %7.0f" % tuple(map(statistics.median, zip(*self.efforts[way, column])))
                     for column in COLUMNS)
            print("# %-22s" % way + "".join(cells))


if __name__ == "__main__":
    harness.main()
