# SPDX-License-Identifier: BSD-2-Clause
"""Clients that mean harm, or do it: everybody else must not notice (F4, F5 and F6 of tpm2-abrmd 3.0, and more)."""

import contextlib
import random
import resource
import select
import socket
import struct
import threading
import time

import harness
import tpm

# What counts as flat; the peer grows by tens of MiB in the same time. AddressSanitizer keeps for itself what was freed.
GROWTH_KIB = 4096 * (2 if harness.IS_SANITIZED else 1)
WHOLE = tpm.get_random(32)
IMPOSSIBLE = [struct.pack(">HII", tpm.ST_NO_SESSIONS, n, tpm.CC_GET_RANDOM)
              for n in (0, 1, 9, tpm.MESSAGE_MAX + 1, 0x7FFFFFFF, 0xFFFFFFFF)]


class Background:
    """Runs a function over and over until the end of a with block, and raises there what it raised."""

    def __init__(self, function):
        self._function = function
        self._ended = threading.Event()
        self._error = None
        self.turns = 0
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self):
        try:
            while not self._ended.is_set():
                self._function()
                self.turns += 1
        except Exception as error:  # pylint: disable=broad-except
            self._error = error

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, kind, *_):
        self._ended.set()
        self._thread.join(harness.HANG)
        if self._error and not kind:
            raise self._error


def write_until_stuck(client, data):
    """Never reads. -> bytes that went out before no more fitted"""
    client.sock.setblocking(False)
    sent, quiet = 0, time.monotonic() + 0.5
    while time.monotonic() < quiet:
        try:
            sent += client.sock.send(data)
            quiet = time.monotonic() + 0.5
        except BlockingIOError:
            time.sleep(0.01)
    return sent


class Hostile(harness.TestCase):
    def setUp(self):
        super().setUp()
        self.start_subject()

    def memory(self):
        return self.daemon.process.memory_kib()

    def assertFlat(self, before):
        self.assertLess(self.memory() - before, GROWTH_KIB, "growth of the daemon's memory in KiB")

    def test_F5_half_a_header(self):
        for n in (1, 5, 9):
            self.connect().send(WHOLE[:n])
            self.assertServes()
        self.connect().send(WHOLE[:-1])
        self.assertServes()
        self.assertIdle()

    def test_half_a_command_is_finished_later(self):
        slow = self.connect()
        for i in range(len(WHOLE)):
            slow.send(WHOLE[i:i + 1])
            self.assertServes()
        self.assertEqual(slow.receive().rc, 0)

    def test_F6_writes_without_reading(self):
        greedy = self.connect()
        self.assertServes(greedy)
        before = self.memory()
        write_until_stuck(greedy, WHOLE * 50)
        self.assertServes()
        self.assertFlat(before)
        self.assertIdle()
        self.assertFlat(before)

    def test_F6_what_waited_is_answered_when_it_reads_again(self):
        n = 2000
        client = self.connect()
        writer = threading.Thread(target=client.send, args=(WHOLE * n,), daemon=True)
        writer.start()
        time.sleep(0.2)
        for _ in range(n):
            self.assertEqual(client.receive().rc, 0)
        writer.join(harness.HANG)

    def test_flood_of_garbage(self):
        before = None
        source = random.Random(1)
        for i in range(400):
            client = self.connect()
            with contextlib.suppress(OSError):
                client.send(source.randbytes(source.randrange(1, 5000)))
            client.close()
            if i == 50:
                before = self.memory()
        self.assertServes()
        self.assertFlat(before)
        self.assertIdle()

    def test_flood_of_garbage_in_well_formed_headers(self):
        source = random.Random(2)
        client = self.connect()
        before = None
        for i in range(600):
            body = source.randbytes(source.randrange(0, 200))
            # no command that changes the TPM for good: codes outside of its table, and some that are harmless
            code = source.choice([0x11E, 0x1FE, 0xFFFFFFFF, 0x20000000, tpm.CC_GET_RANDOM, tpm.CC_CONTEXT_LOAD,
                                  tpm.CC_FLUSH_CONTEXT, tpm.CC_READ_PUBLIC, tpm.CC_SIGN, tpm.CC_GET_CAPABILITY])
            answer = client.ask(tpm.command(code, parameters=body, tag=source.choice([0x8001, 0x8002, 0, 0xFFFF])))
            self.assertEqual(len(answer.raw), answer.size)
            if answer.rc:
                self.assertEqual((answer.tag, answer.size), (tpm.ST_NO_SESSIONS, 10))
            self.assertIn(answer.rc >> 16, (0, 11), hex(answer.rc))
            if i == 100:
                before = self.memory()
        self.assertServes(client)
        self.assertFlat(before)
        client.close()
        self.assertTpmEmpty()

    def test_bad_input_is_answered_and_the_connection_goes_on(self):
        client = self.connect()
        for bad in (tpm.command(0x1FE), tpm.command(tpm.CC_GET_RANDOM), tpm.command(tpm.CC_GET_RANDOM, tag=0x1234),
                    tpm.command(tpm.CC_SIGN), tpm.command(tpm.CC_CONTEXT_LOAD), tpm.command(tpm.CC_FLUSH_CONTEXT),
                    tpm.command(tpm.CC_GET_RANDOM, tag=tpm.ST_SESSIONS), tpm.command(tpm.CC_CONTEXT_SAVE, [1])):
            answer = client.ask(bad)
            self.assertNotEqual(answer.rc, 0)
            self.assertEqual((answer.tag, answer.size, len(answer.raw)), (tpm.ST_NO_SESSIONS, 10, 10))
        self.assertServes(client)

    def test_impossible_header(self):
        for header in IMPOSSIBLE:
            client = self.connect()
            client.send(WHOLE)
            self.assertEqual(client.receive().rc, 0)
            client.send(header)
            self.assertEqual(client.receive().rc, tpm.RM | tpm.RC_COMMAND_SIZE)
            self.assertIsNone(client.receive(), "the end of the stream")
        self.assertServes()
        self.assertIdle()

    def test_impossible_header_with_more_behind_it(self):
        client = self.connect()
        client.send(IMPOSSIBLE[0] + b"x" * 3000)
        self.assertEqual(client.receive().rc, tpm.RM | tpm.RC_COMMAND_SIZE)
        self.assertIsNone(client.receive(), "the end of the stream")

    def test_half_closed_after_a_whole_command(self):
        client = self.connect()
        client.send(WHOLE)
        client.sock.shutdown(socket.SHUT_WR)
        self.assertEqual(client.receive().rc, 0)
        self.assertIsNone(client.receive(), "the end of the stream")

    def test_half_closed_after_several_commands(self):
        client = self.connect()
        client.send(WHOLE * 3)
        client.sock.shutdown(socket.SHUT_WR)
        for _ in range(3):
            self.assertEqual(client.receive().rc, 0)
        self.assertIsNone(client.receive(), "the end of the stream")

    def test_half_closed_within_a_command(self):
        client = self.connect()
        client.send(WHOLE[:-1])
        client.sock.shutdown(socket.SHUT_WR)
        self.assertIsNone(client.receive(), "the end of the stream")

    def test_half_closed_while_a_command_runs_does_not_spin(self):
        client = self.connect()
        self.proxy.hold()
        client.send(WHOLE)
        self.assertTrue(self.proxy.held.wait(harness.HANG))
        client.sock.shutdown(socket.SHUT_WR)
        self.assertIdle()
        self.proxy.release()
        self.assertEqual(client.receive().rc, 0)
        self.assertIsNone(client.receive(), "the end of the stream")

    def test_hang_up_while_a_command_runs(self):
        """What the command made is flushed, whether the TPM had already made it or not."""
        for after in (False, True):
            for command in (tpm.create_primary(tpm.public_hmac_key(b"x")), tpm.start_auth_session(tpm.SE_POLICY),
                            tpm.hash_sequence_start()):
                client = self.connect()
                self.proxy.hold(after)
                client.send(command)
                self.assertTrue(self.proxy.held.wait(harness.HANG))
                client.close()
                self.assertIdle(0.2)
                self.proxy.release()
                self.assertTpmEmpty()
        self.assertServes()

    def test_hang_up_while_a_command_runs_does_not_spin(self):
        client = self.connect()
        self.proxy.hold()
        client.send(WHOLE)
        self.assertTrue(self.proxy.held.wait(harness.HANG))
        client.close()
        self.assertIdle()
        self.proxy.release()
        self.assertServes()

    def test_hang_up_of_one_that_waits(self):
        first, second = self.connect(), self.connect()
        self.proxy.hold()
        first.send(WHOLE)
        self.assertTrue(self.proxy.held.wait(harness.HANG))
        second.send(tpm.create_primary(tpm.public_hmac_key(b"x")))
        time.sleep(0.1)
        second.close()
        self.assertIdle()
        self.proxy.reset()
        self.proxy.release()
        self.assertEqual(first.receive().rc, 0)
        self.assertTpmEmpty()
        self.assertNotIn(tpm.CC_CREATE_PRIMARY, self.proxy.commands)

    def test_hang_up_with_answers_unread(self):
        for _ in range(20):
            client = self.connect()
            client.send(WHOLE * 100)
            select.select([client.sock], [], [], harness.HANG)
            client.close()
        self.assertServes()
        self.assertIdle()

    def test_idle_clients_cost_nothing(self):
        clients = [self.connect() for _ in range(100)]
        for client in clients:
            self.assertServes(client)
        self.assertIdle()

    def test_a_fourth_client_beside_three_hostile_ones(self):
        """One that sends half a command, one that never reads, one that floods with garbage."""
        good = self.connect(timeout=20)
        self.assertServes(good)
        self.connect().send(WHOLE[:7])
        mute = self.connect()
        write_until_stuck(mute, WHOLE * 50)
        source = random.Random(3)
        garbage = [tpm.command(0x20000000 + i, parameters=source.randbytes(100)) for i in range(16)]
        flooder = [self.connect()]

        def flood():
            flooder[0].send(b"".join(garbage))
            for _ in garbage:
                flooder[0].receive()
            with contextlib.suppress(OSError):
                flooder[0].send(IMPOSSIBLE[source.randrange(6)] + source.randbytes(3000))
            flooder[0].close()
            flooder[0] = self.daemon.client()

        with Background(flood) as background:
            harness.wait_until(lambda: background.turns > 50, "the flood")
            before, slowest, n = self.memory(), 0.0, 0
            end = time.monotonic() + 5
            while time.monotonic() < end:
                start = time.monotonic()
                self.assertServes(good)
                slowest, n = max(slowest, time.monotonic() - start), n + 1
            self.assertFlat(before)
        print("# %d answers, the slowest after %.1f ms, %d turns of the flood" % (n, slowest * 1e3, background.turns))
        flooder[0].close()
        self.assertIdle()


@harness.by_socket_only
class Descriptors(harness.TestCase):
    def test_F4_more_clients_than_descriptors(self):
        self.start_subject(wrap=["prlimit", "--nofile=56:56"])
        first = self.connect()
        self.assertServes(first)
        for _ in range(3):
            crowd = []
            for _ in range(100):
                with contextlib.suppress(OSError):
                    crowd.append(self.daemon.client(timeout=5))
            for client in crowd:
                with contextlib.suppress(OSError):
                    client.send(WHOLE)
            self.assertTrue(self.daemon.process.alive())
            self.assertServes(first)
            answers = []
            for client in crowd:
                try:
                    answers.append(client.receive())
                except TimeoutError:
                    self.fail("a client is neither served nor refused")
            self.assertIn(None, answers, "some are refused")
            self.assertTrue(any(answers), "some are served")
            self.assertIdle()
            for client in crowd:
                client.close()
            harness.wait_until(self.serves, "a place becomes free", timeout=20)
        self.assertServes(first)

    def serves(self):
        with contextlib.suppress(OSError, EOFError):
            with self.daemon.client() as client:
                return client.ask(WHOLE).rc == 0
        return False

    def test_F4_descriptors_run_out_below_the_limit_of_connections(self):
        """The limit sinks while the daemon runs, so that accept() itself fails."""
        self.start_subject()
        first = self.connect()
        self.assertServes(first)
        resource.prlimit(self.daemon.process.pid, resource.RLIMIT_NOFILE, (32, 32))
        crowd = [self.connect(timeout=20) for _ in range(60)]
        answers = []
        for client in crowd:
            with contextlib.suppress(OSError):
                client.send(WHOLE)
            answers.append(client.receive())
        self.assertIn(None, answers, "some are refused")
        self.assertTrue(any(answers), "some are served")
        self.assertServes(first)
        self.assertIdle()
        for client in crowd:
            client.close()
        harness.wait_until(self.serves, "a place becomes free", timeout=20)
        self.assertServes(first)


class Limits(harness.TestCase):
    def test_max_connections(self):
        self.start_subject(options=["--max-connections", "2"])
        first, second = self.connect(), self.connect()
        self.assertServes(first)
        self.assertServes(second)
        for _ in range(5):
            try:
                third = self.connect()
            except ConnectionError as error:
                self.assertIn("0xa0008", str(error), "by the bus, no connection is made")
                continue
            with contextlib.suppress(OSError):
                third.send(WHOLE)
            self.assertIsNone(third.receive(), "a third connection is closed")
        self.assertServes(first)
        second.close()

        def free():
            with contextlib.suppress(OSError, EOFError):
                with self.daemon.client() as client:
                    return client.ask(WHOLE).rc == 0
            return False

        harness.wait_until(free, "a place becomes free", timeout=20)
        self.assertServes(first)

    def test_max_sessions_and_max_transients(self):
        self.start_subject(options=["--max-sessions", "3", "--max-transients", "4"])
        client = self.connect()
        for _ in range(3):
            client.start_session(tpm.SE_POLICY)
        self.assertEqual(client.ask(tpm.start_auth_session(tpm.SE_POLICY)).rc, 0xB0903)
        key = [client.create_primary(tpm.public_hmac_key(b"%d" % i)) for i in range(4)][0]
        saved = client.context_save(key)
        for command in (tpm.create_primary(tpm.public_hmac_key(b"x")), tpm.hash_sequence_start(),
                        tpm.context_load(saved)):
            self.assertEqual(client.ask(command).rc, 0xB0902)
        self.assertEqual(len(client.handles(tpm.HT_TRANSIENT)), 4)
        self.connect().create_primary(tpm.public_hmac_key(b"y"))


if __name__ == "__main__":
    harness.main()
