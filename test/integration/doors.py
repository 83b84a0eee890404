# SPDX-License-Identifier: BSD-2-Clause
"""The door of the bus: it goes and comes back, somebody floods it, and the other door notices nothing of that."""

import contextlib
import os
import signal
import socket
import time

import harness
import process
import tcti
import tpm
from busclient import BusClient

FLOODERS = 4
ASKED = 7


class Door(harness.TestCase):
    def connect_by_bus(self):
        client = tpm.Client(tcti.connect_bus(self.daemon.library, self.bus.address))
        self.addCleanup(client.close)
        return client

    def output(self):
        return self.daemon.process.output()


class Goes(Door):
    def test_goes_and_comes_back(self):
        """Whoever came by either door keeps what it has; there is a line for each."""
        bus = self.start_bus()
        self.start_subject(bus=bus)
        clients = [self.connect(), self.connect_by_bus()]
        keys = [client.run(tpm.create_primary(tpm.public_hmac_key(b"k"))).handle for client in clients]
        for _ in range(2):
            bus.stop()
            harness.wait_until(lambda: "session bus: it is gone" in self.output(), "the daemon notices")
            for client, key in zip(clients, keys):
                client.run(tpm.read_public(key))
            bus = self.start_bus()
            harness.wait_until(lambda: bus.has_owner(harness.BUS_NAME), "the name is owned again")
            self.assertServes(self.connect_by_bus())
            self.assertServes(self.connect())
        self.assertEqual(self.output().count("it is gone"), 2)
        self.assertEqual(self.output().count("it is there; bus name"), 2)

    def bus_sockets(self):
        """-> the daemon's connections to the bus, in the order in which it made them"""
        sockets = []
        pid = self.daemon.process.pid
        for fd in sorted(int(fd) for fd in os.listdir("/proc/%d/fd" % pid)):
            if os.readlink("/proc/%d/fd/%d" % (pid, fd)).startswith("socket:"):
                with process.descriptor_of(pid, fd) as sock, contextlib.suppress(OSError):
                    if sock.getpeername() == self.bus.address.partition("=")[2]:
                        sockets.append(fd)
        return sockets

    @process.needs(*process.DESCRIPTOR)
    def test_one_connection_ends(self):
        """It has two to the bus, and is of no use there with one alone."""
        self.start_bus()
        self.start_subject(bus=self.bus)
        for i in range(2):
            before = self.bus_sockets()
            self.assertEqual(len(before), 2)
            with process.descriptor_of(self.daemon.process.pid, before[i]) as sock:
                sock.shutdown(socket.SHUT_RDWR)
            harness.wait_until(lambda n=i + 1: self.output().count("it is there; bus name") == n, "it comes back")
            self.assertServes(self.connect_by_bus())

    def test_starts_without(self):
        """A bus that comes late is used once it is there."""
        bus = self.start_bus()
        bus.stop()
        self.start_subject(bus=bus)
        self.assertServes()
        self.assertIn("session bus: Could not connect", self.output())
        self.assertRegex(self.output(), "ready: socket .*, no bus")
        bus = self.start_bus()
        harness.wait_until(lambda: bus.has_owner(harness.BUS_NAME), "the name is owned")
        self.assertServes(self.connect_by_bus())


class Flood(Door):
    """Calls of which nobody wants the answer, signals, and calls that are never waited for."""

    def setUp(self):
        super().setUp()
        self.start_bus()
        self.start_subject(bus=self.bus)
        self.honest = BusClient(self.bus.address)
        self.addCleanup(self.honest.close)
        self.victim = self.connect()

    def flood(self, kind, i):
        argv = [harness.BUILD / "test/lib/bus-flood", self.bus.address, harness.BUS_NAME, kind]
        flooder = harness.Process("flooder", argv, self.folder / ("flooder-%d.log" % i))
        self.addCleanup(flooder.end, signal.SIGKILL)

    def typical(self, ask):
        """-> seconds, the median of some"""
        took = []
        for _ in range(ASKED):
            before = time.monotonic()
            ask()
            took.append(time.monotonic() - before)
        return sorted(took)[ASKED // 2]

    def create(self):
        """However many others call, who waits for each answer is never refused."""
        answer = self.honest.ask("CreateConnection")
        self.assertIsNone(answer.get_error_name())

    def look(self, when):
        took = [self.typical(ask) for ask in (self.create, self.honest.ask_bus, lambda: self.assertServes(self.victim))]
        print("# %s: %.4f s by the bus, %.4f s a call of the bus itself, %.4f s by a socket" % (when, *took))
        return took

    def check(self, kind):
        self.create()
        self.look("alone")
        for i in range(FLOODERS):
            self.flood(kind, i)
        self.look("flooded with " + kind)

    def test_silent_calls(self):
        self.check("silent")

    def test_calls(self):
        self.check("call")

    def test_signals(self):
        self.check("signal")


if __name__ == "__main__":
    harness.main()
