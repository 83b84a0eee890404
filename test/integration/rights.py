# SPDX-License-Identifier: BSD-2-Clause
"""
Descriptors that clients pass along (SCM_RIGHTS), which take an hour to close: nobody waits for them, whether the kernel
can refuse them (SO_PASSRIGHTS) or not.
"""

import contextlib
import os
import signal
import socket
import struct
import time

import harness
import tcti
import tpm
from busclient import BusClient
from preload import Preload

ATTACKS = 20
ASKED = 200
LINGER_S = 3600
DESCRIPTORS = 64
PENDING_MAX = 1024  # as in util/foreign.h
AT_ONCE = 16  # in one message of a bus
SO_PASSRIGHTS = 83
BUS = "org.freedesktop.DBus"


def has_passrights():
    """Whether this kernel can refuse descriptors."""
    with socket.socket(socket.AF_UNIX) as sock:
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, SO_PASSRIGHTS, 0)
            return True
    return False


class Lingering:
    """TCP connections that are full and linger. .take() gives one away, whose descriptor is the caller's to close."""

    def __init__(self):
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._ends = []

    def take(self):
        sock = socket.create_connection(self._listener.getsockname())
        self._ends.append(self._listener.accept()[0])
        sock.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                sock.send(bytes(1 << 16))
        sock.setblocking(True)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, LINGER_S))
        return sock.detach()

    def close(self):
        for end in [*self._ends, self._listener]:
            end.close()


def give(sock, data, descriptor, before=()):
    """Sends it along, so that it is the receiver's alone, behind others. -> whether it arrived"""
    with socket.socket(fileno=descriptor) as given:
        try:
            socket.send_fds(sock, [data], [*before, descriptor])
        except (PermissionError, BrokenPipeError, ConnectionResetError):
            given.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # or it would linger here
            return False
    return True


@contextlib.contextmanager
def stopped(daemon):
    os.kill(daemon.process.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(daemon.process.pid, signal.SIGCONT)


class Rights(harness.TestCase):
    old_kernel = False
    attacks = True

    def setUp(self):
        super().setUp()
        self.lingering = Lingering()
        self.addCleanup(self.lingering.close)
        if not self.old_kernel and not has_passrights():
            self.skipTest("this kernel cannot refuse descriptors: it is tried by OldKernel")

    def start(self, **keywords):
        preload = Preload(self.folder / "preload", self.old_kernel)
        self.start_subject(env=preload.env, **keywords)
        self.victim = self.connect()

    def give(self, sock):
        """The daemon is the last to close it. -> whether it arrived"""
        with stopped(self.daemon):
            if not self.attacks:
                sock.sendall(tpm.get_random())
                return False
            return give(sock, tpm.get_random(), self.lingering.take())

    def attack_by_read(self):
        with self.daemon.stream() as sock:
            if self.give(sock):
                self.assertEqual(tpm.read_message(sock)[6:10], tpm.u32(tpm.RM | tpm.RC_COMMAND_SIZE))
                with contextlib.suppress(ConnectionResetError):  # closed over what was passed
                    self.assertIsNone(tpm.read_message(sock))
                return True
        return False

    def attack_by_close(self):
        """What follows a command that runs, and the header of the next one, is not read until it is answered."""
        with self.daemon.stream() as sock:
            sock.sendall(tpm.create_primary(tpm.PUBLIC_RSA_SIGN) + tpm.get_random())
            return self.give(sock)

    def took(self):
        before = time.monotonic()
        self.assertServes(self.victim)
        return time.monotonic() - before

    def check(self, attack):
        """By turns, the same commands without a descriptor and with one."""
        passed, slowest = 0, {False: 0, True: 0}
        for _ in range(ATTACKS):
            for self.attacks in slowest:
                passed += attack()
                slowest[self.attacks] = max(slowest[self.attacks],
                                            *(self.took() for _ in range(ASKED // ATTACKS)))
        print("# slowest of %d answers: %.4f s without a descriptor, %.4f s with %d" % (
            ASKED, slowest[False], slowest[True], ATTACKS))
        self.assertEqual(passed, ATTACKS if self.old_kernel else 0)
        harness.wait_until(lambda: not self.foreign(), "what was passed is closed")
        self.assertServes()

    def foreign(self):
        """-> sockets of the daemon that are no Unix sockets, but for that of its TPM"""
        text = "".join(open("/proc/net/" + name, encoding="ascii").read() for name in ("tcp", "tcp6"))
        inodes = {line.split()[9] for line in text.splitlines() if line.split()[0] != "sl"}
        folder = "/proc/%d/fd" % self.daemon.process.pid
        links = []
        for fd in os.listdir(folder):
            with contextlib.suppress(FileNotFoundError):
                links.append(os.readlink(folder + "/" + fd))
        return [link for link in links if link.removeprefix("socket:[").rstrip("]") in inodes]

    def test_read(self):
        self.start()
        self.check(self.attack_by_read)

    def test_close(self):
        self.start()
        self.check(self.attack_by_close)

    def test_refused_client(self):
        """What nobody has accepted yet, or has no room for, is closed, too."""
        self.start(options=["--max-connections=2"])
        self.connect()

        for _ in range(ATTACKS):
            with tpm.connect_unix(self.daemon.socket) as sock:
                self.give(sock)
            self.assertServes(self.victim)
        harness.wait_until(lambda: not self.foreign(), "what was passed is closed")

    def test_no_descriptor_left(self):
        """What found no place in the daemon would be closed by the kernel, in the main loop."""
        self.start(wrap=["prlimit", "--nofile=%d:%d" % (DESCRIPTORS, DESCRIPTORS)])
        with self.daemon.stream() as sock:
            with stopped(self.daemon):
                give(sock, tpm.get_random(), self.lingering.take(), [0] * DESCRIPTORS)
            self.assertServes(self.victim)

    def test_many_at_once(self):
        self.start()
        with self.daemon.stream() as sock:
            for _ in range(ATTACKS):
                self.give(sock)
            for _ in range(ASKED):
                self.assertServes(self.victim)
        harness.wait_until(lambda: not self.foreign(), "what was passed is closed")


class OldKernel(Rights):
    old_kernel = True


class Bus(harness.TestCase):
    """The same by a bus that lets anybody send anything, as one whose policy is not ours may."""

    def setUp(self):
        super().setUp()
        self.lingering = Lingering()
        self.addCleanup(self.lingering.close)
        bus = self.start_bus()
        self.preload = Preload(self.folder / "preload")
        self.start_subject(bus=bus, env=self.preload.env)
        self.victims = [self.connect(), self.by_bus()]
        self.attacker = BusClient(bus.address)
        self.addCleanup(self.attacker.close)

    def by_bus(self):
        client = tpm.Client(tcti.connect_bus(self.daemon.library, self.bus.address))
        self.addCleanup(client.close)
        return client

    def check(self, attack):
        for _ in range(ATTACKS):
            with stopped(self.daemon):
                attack([self.lingering.take() for _ in range(4)])
                self.attacker.flush()
                self.assertEqual(self.bus.call(BUS, "/", BUS + ".GetId").returncode, 0)
            for victim in self.victims:
                self.assertServes(victim)
        self.assertEqual(self.bus.call(harness.BUS_NAME, "/", BUS + ".Peer.Ping").returncode, 0)

    def test_signals(self):
        self.check(self.attacker.signal)

    def test_one_takes_for_ever(self):
        """Whatever waits behind it harms no other door."""
        self.preload.fail("timer_create", 1)  # without that nothing cuts it short
        with stopped(self.daemon):  # to be the last to close it
            self.attacker.signal([self.lingering.take()])
            self.attacker.flush()
            self.attacker.ask_bus()
        harness.wait_until(lambda: self.preload.n_failed("timer_create") == 1, "the thread waits")
        for _ in range(PENDING_MAX // AT_ONCE + 1):
            self.attacker.signal([os.dup(0) for _ in range(AT_ONCE)])
            self.attacker.flush()
            self.attacker.ask_bus()
        self.assertIsNone(self.attacker.ask("CreateConnection").get_error_name())
        self.assertServes()

    def test_other_connection(self):
        """The one by which the daemon asks the bus: it has no name, so that a policy for the name is not for it."""
        name, = self.attacker.names_of(self.daemon.process.pid) - {self.attacker.owner()}
        self.check(lambda descriptors: self.attacker.signal(descriptors, to=name))
        self.assertIsNone(self.attacker.ask("CreateConnection").get_error_name())

    def test_calls(self):
        self.check(lambda descriptors: self.attacker.call("CreateConnection", descriptors, wants_reply=False))
        answer = self.attacker.ask("CreateConnection", [os.dup(0)])
        self.assertEqual(answer.get_error_name(), BUS + ".Error.LimitsExceeded")
        self.assertIsNone(self.attacker.ask("CreateConnection").get_error_name())


if __name__ == "__main__":
    harness.main()
