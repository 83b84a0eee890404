# SPDX-License-Identifier: BSD-2-Clause
"""
Memory and descriptors run out, one call at a time: each system call that the daemon makes for some clients fails once.
The daemon lives, and at most one client is hurt; those who come next are served.
"""

import functools
import os
import signal
import socket

import harness
import tpm
from busclient import BusClient
from preload import Preload

# What the daemon calls while clients come, ask and go, and what it calls at the start.
RUNNING = ["malloc", "accept4", "epoll_ctl", "recv", "recvmsg", "send", "sendmsg", "read", "write", "socketpair",
           "getsockopt"]
STARTING = ["memfd_create", "mmap", "epoll_ctl", "recv", "send", "write", "read"]
LONG = 600  # bytes: more than is read of a command before its size is known
PATIENCE = 20  # seconds, for a client that is neither served nor sent away
ANSWERS = 1000  # more than a socket has room for


def read_some(sock):
    """-> b"" when it is empty"""
    try:
        return sock.recv(1 << 16)
    except BlockingIOError:
        return b""


class Exhaustion(harness.TestCase):
    def start(self):
        self.preload = Preload(self.folder / "preload")
        self.start_bus()
        self.start_subject(bus=self.bus, env=self.preload.env)
        self.old = None
        self.caller = BusClient(self.bus.address)
        self.addCleanup(self.caller.close)

    @staticmethod
    def use(client):
        """Something with a handle, a command that has memory of its own, and an answer longer than a header."""
        handle = client.run(tpm.hash_sequence_start()).handle
        client.run(tpm.sequence_update(handle, bytes(LONG)))
        client.run(tpm.get_random())
        client.run(tpm.flush_context(handle))

    def use_old(self):
        if not self.old:
            self.old = self.connect(timeout=PATIENCE)
        self.use(self.old)

    def use_new(self):
        with self.daemon.client(timeout=PATIENCE) as client:
            self.use(client)

    def use_bus(self):
        answer = self.caller.ask("CreateConnection")
        if answer.get_error_name():
            raise ConnectionError(answer.get_error_name())
        fd = answer.get_unix_fd_list().steal_fds()[0]
        with tpm.Client(socket.socket(fileno=fd), PATIENCE) as client:
            self.use(client)

    def work(self):
        """-> those of three clients that were hurt, with what they heard"""
        hurt = []
        for use in (self.use_old, self.use_new, self.use_bus, self.use_old):
            try:
                use()
            except TimeoutError:
                self.fail("%s: neither served nor sent away" % use.__name__)
            except Exception as error:  # pylint: disable=broad-except
                hurt.append((use.__name__, repr(error)))
                if use == self.use_old:
                    self.old = None
        return hurt

    def recover(self):
        self.preload.fail_none()
        harness.wait_until(lambda: self.bus.has_owner(harness.BUS_NAME), "the name is owned")
        self.caller.close()
        self.caller = BusClient(self.bus.address)
        self.assertEqual(self.work(), [])

    def test_running(self):
        self.start()
        self.assertEqual(self.work(), [])
        total, hurt_in = 0, {}
        for name in RUNNING:
            before = self.preload.n_calls(name)
            self.assertEqual(self.work(), [])
            n_calls = self.preload.n_calls(name) - before
            failed = self.preload.n_failed(name)
            for n in range(1, n_calls + 1):
                with self.subTest(call=name, n=n):
                    self.preload.fail(name, n)
                    hurt = self.work()
                    self.assertTrue(self.daemon.process.alive())
                    self.assertLessEqual(len({use for use, _ in hurt}), 1, hurt)
                    hurt_in[name] = hurt_in.get(name, 0) + bool(hurt)
                    self.recover()
            failed = self.preload.n_failed(name) - failed
            total += failed
            print("# %-12s %3d of %3d calls failed, a client was hurt by %d" % (name, failed, n_calls,
                                                                            hurt_in.get(name, 0)))
        self.assertGreater(total, 30)
        self.assertEqual(self.daemon.process.output().count("the TPM is lost"), 0)

    def test_command_without_memory(self):
        """Of the size that its client has decided: it is told so."""
        self.start()
        self.assertEqual(self.work(), [])
        with self.daemon.stream() as client, self.daemon.stream() as other:
            self.preload.fail("malloc", 1)
            client.sendall(tpm.command(tpm.CC_GET_RANDOM, parameters=bytes(LONG)))
            self.assertEqual(tpm.read_message(client)[6:10], tpm.u32(tpm.RM | 0x904))
            self.assertEqual(client.recv(1), b"")
            other.sendall(tpm.get_random())
            self.assertEqual(tpm.read_message(other)[6:10], tpm.u32(0))

    def n_sent(self):
        """-> how much is sent meanwhile"""
        before = self.preload.n_calls("send")
        self.use_old()
        return self.preload.n_calls("send") - before

    def test_answer_without_memory(self):
        """A socket has room for an answer again, and says so once, but there is no memory to send it."""
        self.start()
        self.use_old()
        alone = self.n_sent()
        with self.daemon.stream(PATIENCE) as sock:
            sock.sendall(tpm.get_random() * ANSWERS)
            harness.wait_until(lambda: self.n_sent() == alone, "the socket is full of answers")
            failed = self.preload.n_failed("send")
            os.kill(self.daemon.process.pid, signal.SIGSTOP)
            self.preload.fail("send", 1)
            sock.setblocking(False)
            n_bytes = sum(map(len, iter(functools.partial(read_some, sock), b"")))
            os.kill(self.daemon.process.pid, signal.SIGCONT)
            sock.settimeout(PATIENCE)
            n_answer = tpm.HEADER_SIZE + 2 + 8
            self.assertEqual(n_bytes % n_answer, 0)
            self.assertLess(n_bytes, ANSWERS * n_answer)
            for _ in range(n_bytes // n_answer, ANSWERS):
                self.assertEqual(len(tpm.read_message(sock)), n_answer)
            self.assertEqual(self.preload.n_failed("send"), failed + 1)

    def test_starting(self):
        """It starts, or ends with a code and a line, and never by a signal."""
        self.tpm = self.start_tpm()
        outcomes = {}
        for name in STARTING:
            for n in range(1, 100):
                preload = Preload(self.folder / "preload")
                preload.fail(name, n)
                code = self.start_once(preload, outcomes.setdefault(name, []))
                if not preload.n_failed(name):
                    break
                self.assertIn(code, (0, 69, 71, 74), "%s %d" % (name, n))
        for name, codes in outcomes.items():
            print("# %-12s %d calls failed at the start, it started in spite of %d" % (name, len(codes) - 1,
                                                                                   codes[:-1].count(0)))

    def start_once(self, preload, codes):
        try:
            daemon = harness.Ours(self.folder, self.tpm.conf, env=preload.env)
            code = daemon.stop()
        except RuntimeError as error:
            code = int(str(error).rpartition(" ")[2])
        codes.append(code)
        return code


class Standard(harness.TestCase):
    """Descriptors 0 to 2 are closed."""

    def test_daemon(self):
        self.start_subject(wrap=["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh"])
        self.assertServes()
        for fd in range(3):
            self.assertEqual(os.readlink("/proc/%d/fd/%d" % (self.daemon.process.pid, fd)), "/dev/null")


if __name__ == "__main__":
    harness.main()
