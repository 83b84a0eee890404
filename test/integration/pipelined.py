# SPDX-License-Identifier: BSD-2-Clause
"""Streams of commands cut anywhere: what is written at once or byte by byte is answered the same, in order."""

import contextlib
import random
import socket
import threading
import time

import harness
import tpm


class Pipelined(harness.TestCase):
    def setUp(self):
        super().setUp()
        self.start_subject()

    def exchange(self, data, sizes, rnd, half_close=False):
        """Write data in random pieces; the answers must have these sizes, in this order."""
        with self.daemon.stream() as sock:
            sock.settimeout(harness.HANG)
            at = 0
            while at < len(data):
                n = rnd.choice([1, 3, 9, 10, 11, 12, 40, 1000, len(data)])
                sock.sendall(data[at:at + n])
                at += n
            if half_close:
                sock.shutdown(socket.SHUT_WR)
            for i, size in enumerate(sizes):
                answer = tpm.read_message(sock)
                self.assertEqual(len(answer), size, "answer %d" % i)
            if half_close:
                self.assertEqual(sock.recv(1), b"", "closed after the last answer")

    def test_cut_anywhere(self):
        for seed in range(60):
            rnd = random.Random(seed)
            data, sizes = b"", []
            for _ in range(rnd.choice([1, 2, 7, 70, 200])):
                n = rnd.randrange(1, 33)
                data += tpm.get_random(n)
                sizes.append(12 + n)
                if rnd.random() < 0.1:
                    data += tpm.set_locality(0)
                    sizes.append(10)
                if rnd.random() < 0.1:  # refused, and as long as what is read at once, or about so
                    data += tpm.command(tpm.CC_GET_RANDOM, parameters=bytes(rnd.randrange(490, 514)))
                    sizes.append(10)
            self.exchange(data, sizes, rnd, half_close=seed % 2)

    def test_half_closed_at_every_byte(self):
        command = tpm.get_random(5)
        for n in range(2 * len(command) + 1):
            whole, rest = divmod(n, len(command))
            with self.daemon.stream() as sock:
                sock.settimeout(harness.HANG)
                sock.sendall((command * 2)[:n])
                sock.shutdown(socket.SHUT_WR)
                answers = b""
                while True:
                    data = sock.recv(1000)
                    if not data:
                        break
                    answers += data
                # Half a command at the end is no reason to withhold the answer to the whole one before it.
                self.assertEqual(len(answers), 17 * whole, "%d bytes, %d of them too many" % (n, rest))

    def test_answers_without_the_tpm_do_not_hold_others_up(self):
        stop = threading.Event()

        def read(sock):
            with contextlib.suppress(ConnectionResetError):
                while sock.recv(1 << 16):
                    pass

        def flood():
            with self.daemon.stream() as sock:
                reader = threading.Thread(target=read, args=[sock])
                reader.start()
                while not stop.is_set():
                    sock.sendall(tpm.flush_context(0x80000077) * 500)
                sock.shutdown(socket.SHUT_RDWR)
                reader.join()

        flooders = [threading.Thread(target=flood) for _ in range(2)]
        for thread in flooders:
            thread.start()
        client = self.connect()
        try:
            for _ in range(200):
                before = time.monotonic()
                client.run(tpm.get_random())
                self.assertLess(time.monotonic() - before, 1)
        finally:
            stop.set()
            for thread in flooders:
                thread.join()


@harness.by_socket_only
class Cancels(harness.TestCase):
    def test_cancels_in_between(self):
        """Each command has one answer, its own or CANCELED, however many cancels there are."""
        self.start_subject()
        for seed in range(40):
            rnd = random.Random(seed)
            data, n_commands = b"", rnd.choice([1, 5, 80])
            for _ in range(n_commands):
                data += tpm.CANCEL * rnd.randrange(3) + tpm.get_random(4) + tpm.CANCEL * rnd.randrange(3)
            with self.daemon.stream() as sock:
                sock.settimeout(harness.HANG)
                at = 0
                while at < len(data):
                    n = rnd.choice([1, 7, 10, 25, len(data)])
                    sock.sendall(data[at:at + n])
                    at += n
                for _ in range(n_commands):
                    response = tpm.Response(tpm.read_message(sock))
                    self.assertIn((response.rc, len(response.raw)), [(0, 16), (0x909, 10)])
                sock.sendall(tpm.get_random(9))
                self.assertEqual(len(tpm.read_message(sock)), 21)
        self.assertIdle()

    def test_last_of_many_turns_is_a_bare_header(self):
        """A command of ten bytes that ends a turn of reading is not left lying."""
        self.start_subject()
        read_clock = tpm.command(0x181)
        for n in range(120):
            with self.daemon.stream() as sock:
                sock.settimeout(harness.HANG)
                sock.sendall(tpm.CANCEL * n + read_clock)
                self.assertEqual(tpm.Response(tpm.read_message(sock)).rc, 0)

    def test_flood_of_cancels_does_not_cost_the_tpm(self):
        self.daemon = self.start_daemon("libtpms")
        client, other = self.connect(), self.connect()
        key = other.create_primary(tpm.public_hmac_key(b"other"))
        for _ in range(5):
            client.send(tpm.create_primary(tpm.PUBLIC_RSA_SIGN) + tpm.CANCEL * 5000)
            self.assertIn(client.receive().rc, (0, 0x909))
        other.run(tpm.read_public(key))
        self.assertNotIn("lost", self.daemon.process.output())


if __name__ == "__main__":
    harness.main()
