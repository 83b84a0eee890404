# SPDX-License-Identifier: BSD-2-Clause
"""Cancel, by every door: the reserved code of the stream, the library over the socket, the library over the bus."""

import os
import struct
import time

import harness
import tpm

CANCELED = 0x909
NOT_IMPLEMENTED = 0xB0002
TRIES, ENOUGH = 10, 0.8


class Code:
    """A client that speaks the stream itself: a cancel is sent, and nothing comes back for it."""

    def __init__(self, daemon):
        self.client = daemon.client()
        self.send = self.client.send
        self.close = self.client.close

    def cancel(self):
        self.send(tpm.CANCEL)
        return 0

    def receive(self):
        return self.client.receive()


class Library:
    by_bus = False

    def __init__(self, daemon):
        self.context = daemon.context(self.by_bus)
        self.cancel = self.context.cancel
        self.close = self.context.finalize

    def send(self, command):
        rc = self.context.transmit(command)
        if rc:
            raise OSError("transmit: 0x%x" % rc)

    def receive(self):
        rc, response = self.context.receive()
        if rc:
            raise OSError("receive: 0x%x" % rc)
        return tpm.Response(response)


class LibraryByBus(Library):
    by_bus = True


DOORS = (Code, Library, LibraryByBus)


def random_size(response):
    return response.rc, len(response.body) - 2


def rsa_3072():
    """A template that no key was made of yet."""
    return tpm.PUBLIC_RSA_SIGN[:-8] + struct.pack(">HI", 3072, 0) + tpm.tpm2b(os.urandom(16))


class Cancel(harness.TestCase):
    def open(self, door):
        speaker = door(self.daemon)
        self.addCleanup(speaker.close)
        return speaker

    def start(self, **keywords):
        self.start_subject(bus=self.start_bus(), **keywords)
        self.proxy.reset()

    def ask(self, speaker, size):
        speaker.send(tpm.get_random(size))
        return random_size(speaker.receive())

    def test_waiting(self):
        """It is answered before the one that keeps the TPM busy, and the TPM never sees it."""
        self.start()
        for door in DOORS:
            with self.subTest(door.__name__):
                running, waiting = self.open(door), self.open(door)
                self.ask(waiting, 1)
                self.proxy.reset()
                self.proxy.hold()
                running.send(tpm.get_random(20))
                self.assertTrue(self.proxy.held.wait(harness.HANG))
                waiting.send(tpm.get_random(21))
                self.assertEqual(waiting.cancel(), 0)
                self.assertEqual(waiting.receive().rc, CANCELED)
                self.assertEqual(self.proxy.count(), 0, "the one that runs is still held")
                self.proxy.release()
                self.assertEqual(random_size(running.receive()), (0, 20))
                self.assertEqual(self.ask(waiting, 22), (0, 22))
                self.assertEqual(self.proxy.by_code(), {"0x17b": 2})

    def test_running_that_cannot_be_stopped(self):
        """swtpm has no cancel: the command goes on. Over the bus the caller hears of it; the stream has no answer."""
        self.start()
        for door in DOORS:
            with self.subTest(door.__name__):
                running = self.open(door)
                self.ask(running, 1)
                self.proxy.hold()
                running.send(tpm.get_random(20))
                self.assertTrue(self.proxy.held.wait(harness.HANG))
                self.assertEqual(running.cancel(), NOT_IMPLEMENTED if door is LibraryByBus else 0)
                self.proxy.release()
                self.assertEqual(random_size(running.receive()), (0, 20))
                self.assertEqual(self.ask(running, 22), (0, 22))

    def test_cancel_means_the_command_that_runs_and_not_one_written_behind_it(self):
        self.start()
        client = self.connect()
        self.assertServes(client)
        self.proxy.hold()
        client.send(tpm.get_random(20) + tpm.get_random(21) + tpm.CANCEL + tpm.get_random(22))
        self.assertTrue(self.proxy.held.wait(harness.HANG))
        self.proxy.release()
        self.assertEqual(random_size(client.receive()), (0, 20))
        second = client.receive()
        self.assertIn((second.rc, len(second.raw)), [(CANCELED, 10), (0, 12 + 21)])
        self.assertEqual(random_size(client.receive()), (0, 22))

    def test_cancel_and_go(self):
        """Cancelled, and the client is gone at once: what it had is flushed, and nobody else notices."""
        self.start()
        other = self.connect()
        key = other.create_primary(tpm.public_hmac_key(b"other"))
        for n in range(20):
            for door in DOORS:
                speaker = door(self.daemon)
                speaker.send(tpm.create_primary(tpm.public_hmac_key(b"%d" % n)))
                speaker.cancel()
                speaker.close()
        other.run(tpm.read_public(key))
        other.close()
        self.assertTpmEmpty()

    def test_running_rsa_3072(self):
        """On a TPM that can: most end with CANCELED, whoever is next has its own answer."""
        self.daemon = self.start_daemon("libtpms", bus=self.start_bus())
        other = self.connect()
        key = other.create_primary(tpm.public_hmac_key(b"other"))
        cancelled = []
        for door in DOORS:
            with self.subTest(door.__name__):
                running, n = self.open(door), 0
                for _ in range(TRIES):
                    running.send(tpm.create_primary(rsa_3072()))
                    time.sleep(0.005)
                    self.assertEqual(running.cancel(), 0)
                    other.send(tpm.read_public(key))
                    response = running.receive()
                    self.assertIn(response.rc, (0, CANCELED))
                    n += response.rc == CANCELED
                    self.assertEqual(other.receive().rc, 0)
                    self.assertEqual(self.ask(running, 22), (0, 22))
                    if response.rc == 0:
                        running.send(tpm.flush_context(response.handle))
                        self.assertEqual(running.receive().rc, 0)
                print("# %s: %d of %d cancelled" % (door.__name__, n, TRIES))
                cancelled.append(n)
        self.assertGreaterEqual(sum(cancelled), ENOUGH * TRIES * len(DOORS))


if __name__ == "__main__":
    harness.main()
