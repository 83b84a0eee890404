# SPDX-License-Identifier: BSD-2-Clause
"""Streams of commands cut anywhere: what is written at once or byte by byte is answered the same, in order."""

import random
import socket
import struct

import harness
import tpm

CANCEL = struct.pack(">HII", 0x8001, 10, 0x20001001)
SET_LOCALITY_0 = struct.pack(">HIIB", 0x8001, 11, 0x20001000, 0)


class Pipelined(harness.TestCase):
    def setUp(self):
        super().setUp()
        self.start_subject()

    def exchange(self, data, sizes, rnd, half_close=False):
        """Write data in random pieces; the answers must have these sizes, in this order."""
        with tpm.connect_unix(self.daemon.socket) as sock:
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
                    data += SET_LOCALITY_0
                    sizes.append(10)
            self.exchange(data, sizes, rnd, half_close=seed % 2)

    def test_half_closed_at_every_byte(self):
        command = tpm.get_random(5)
        for n in range(2 * len(command) + 1):
            whole, rest = divmod(n, len(command))
            with tpm.connect_unix(self.daemon.socket) as sock:
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

    def test_cancels_in_between(self):
        """Each command has one answer, its own or CANCELED, however many cancels there are."""
        for seed in range(40):
            rnd = random.Random(seed)
            data, n_commands = b"", rnd.choice([1, 5, 80])
            for _ in range(n_commands):
                data += CANCEL * rnd.randrange(3) + tpm.get_random(4) + CANCEL * rnd.randrange(3)
            with tpm.connect_unix(self.daemon.socket) as sock:
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


if __name__ == "__main__":
    harness.main()
