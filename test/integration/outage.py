# SPDX-License-Identifier: BSD-2-Clause
"""A TPM that is stopped, killed and started again under load: nothing is executed twice, and all goes on."""

import collections
import os
import signal
import struct
import threading
import time

import harness
import tpm

NV_DEFINE_SPACE, NV_INCREMENT, NV_READ = 0x12A, 0x134, 0x14E
COUNTER_ATTRIBUTES = 0x02060016  # a counter, read and written with its own authorization, which no attack locks
FIRST_INDEX = 0x01500010
CLIENTS = 4


def define(index):
    public = struct.pack(">IHIHH", index, tpm.ALG_SHA256, COUNTER_ATTRIBUTES, 0, 8)
    return tpm.command(NV_DEFINE_SPACE, [tpm.RH_OWNER], tpm.tpm2b() + tpm.tpm2b(public), [tpm.PASSWORD])


def increment(index):
    return tpm.command(NV_INCREMENT, [index, index], b"", [tpm.PASSWORD])


def read(index):
    return tpm.command(NV_READ, [index, index], tpm.u16(8) + tpm.u16(0), [tpm.PASSWORD])


class Incrementer(threading.Thread):
    """A client with a counter of its own in the TPM, and its own idea of what it must stand at."""

    def __init__(self, client, index):
        super().__init__(daemon=True)
        self.client = client
        self.index = index
        client.run(define(index))
        client.run(increment(index))
        self.first = self.value()
        self.answers = collections.Counter()
        self.failure = None
        self.stopping = False

    def value(self):
        return struct.unpack(">Q", self.client.run(read(self.index)).parameters()[2:])[0]

    def run(self):
        try:
            while not self.stopping:
                rc = self.client.ask(increment(self.index)).rc
                self.answers[rc] += 1
                if rc == tpm.NO_TPM:
                    time.sleep(0.01)
        except (OSError, EOFError) as error:
            self.failure = error


class Outage(harness.TestCase):
    def start(self, *options):
        self.tpm = self.start_swtpm(proxied=False)
        self.daemon = self.start_daemon(self.tpm.conf, options=options)
        self.incrementers = [Incrementer(self.connect(), FIRST_INDEX + n) for n in range(CLIENTS)]
        for incrementer in self.incrementers:
            incrementer.start()

    def successes(self):
        return [incrementer.answers[0] for incrementer in self.incrementers]

    def assertProgress(self):
        """Everybody has some more commands done."""
        before = self.successes()
        harness.wait_until(lambda: all(now > then + 3 for now, then in zip(self.successes(), before)), "progress")

    def finish(self):
        """-> answers of all, after each counter was compared with its owner's"""
        self.assertProgress()
        for incrementer in self.incrementers:
            incrementer.stopping = True
        all_answers = collections.Counter()
        for incrementer in self.incrementers:
            incrementer.join(harness.HANG)
            self.assertIsNone(incrementer.failure)
            answers = incrementer.answers
            self.assertLessEqual(set(answers), {0, tpm.LOST, tpm.NO_TPM}, answers)
            # Of a command that was lost nobody knows whether it was executed; of all others everybody does.
            counted = incrementer.value() - incrementer.first
            self.assertGreaterEqual(counted, answers[0])
            self.assertLessEqual(counted, answers[0] + answers[tpm.LOST])
            all_answers += answers
        print("#", ", ".join("0x%x: %d" % pair for pair in sorted(all_answers.items())))
        return all_answers

    def test_stopped_for_a_while(self):
        """Nothing is lost but time: the counters stand at exactly the number of successes."""
        self.start()
        for _ in range(5):
            self.assertProgress()
            os.kill(self.tpm.process.pid, signal.SIGSTOP)
            time.sleep(0.3)
            os.kill(self.tpm.process.pid, signal.SIGCONT)
        self.assertEqual(set(self.finish()), {0})

    def test_stopped_for_too_long(self):
        self.start("--time-limit=5")  # more than a disk that is busy takes for an increment
        for _ in range(2):
            self.assertProgress()
            os.kill(self.tpm.process.pid, signal.SIGSTOP)
            harness.wait_until(lambda: any(i.answers[tpm.NO_TPM] for i in self.incrementers), "it is given up")
            os.kill(self.tpm.process.pid, signal.SIGCONT)
            self.assertProgress()
            for incrementer in self.incrementers:
                del incrementer.answers[tpm.NO_TPM]
        answers = self.finish()
        self.assertGreater(answers[tpm.LOST], 0)

    def test_killed_and_started_again(self):
        self.start()
        for _ in range(4):
            self.assertProgress()
            self.tpm.restart()
        answers = self.finish()
        # Each time everybody has at most one command under way.
        self.assertLessEqual(answers[tpm.LOST], 4 * CLIENTS)


class Snapshot(harness.TestCase):
    def test_state_put_back(self):
        """Sessions of the past are nobody's, and make room; a key of the past is not taken for one of now."""
        self.tpm = self.start_swtpm(proxied=False)
        self.daemon = self.start_daemon(self.tpm.conf, options=["--manager", self.folder / "manager"])
        first, second = self.connect(), self.connect()
        past = first.run(tpm.read_public(first.create_primary(tpm.public_hmac_key(b"past")))).body
        for _ in range(3):
            first.start_session(tpm.SE_HMAC)
        snapshot = self.tpm.snapshot()
        first.close()
        handle = second.create_primary(tpm.public_hmac_key(b"now"))
        now = second.run(tpm.read_public(handle)).body
        for _ in range(6):  # of which some are saved: the TPM counts them
            second.start_session(tpm.SE_HMAC)
        self.tpm.put_back(snapshot)

        third = self.connect()
        sessions = [third.ask(tpm.start_auth_session(tpm.SE_HMAC)).rc for _ in range(6)]
        self.assertEqual(sessions, [0] * 6)
        answer = second.ask(tpm.read_public(handle))
        self.assertNotEqual(answer.body, past)
        self.assertIn((answer.rc, answer.body), [(0, now), (tpm.RM | tpm.RC_REFERENCE_H0, b"")])


if __name__ == "__main__":
    harness.main()
