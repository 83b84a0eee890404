# SPDX-License-Identifier: BSD-2-Clause
"""A TPM that does not answer is given up after its time, and opened again."""

import os
import signal

import harness
import tpm

LIMITS = ["--time-limit=1", "--time-limit-long=2"]


class Hangs(harness.TestCase):
    def assertGivenUp(self, stop):
        """Whose command is out hears that it is lost; whose waited, that it was not executed."""
        first, second = self.connect(), self.connect()
        self.assertServes(first)
        self.assertServes(second)
        stop()
        first.send(tpm.get_random(20))
        second.send(tpm.get_random(21))
        self.assertEqual([first.receive().rc, second.receive().rc], [tpm.LOST, tpm.NO_TPM])
        self.assertIn(first.ask(tpm.get_random()).rc, (tpm.NO_TPM, tpm.LOST))
        self.assertIdle()
        return first, second

    def assertBack(self, first, second):
        """And nobody gets what was late."""
        harness.wait_until(lambda: first.ask(tpm.get_random(7)).rc == 0, "the TPM is back")
        for client, size in ((first, 8), (second, 9)):
            answer = client.ask(tpm.get_random(size))
            self.assertEqual((answer.rc, len(answer.body)), (0, 2 + size))

    def test_swtpm_that_is_stopped(self):
        self.tpm = self.start_swtpm(proxied=False)
        self.daemon = self.start_daemon(self.tpm.conf, options=LIMITS)
        clients = self.assertGivenUp(lambda: os.kill(self.tpm.process.pid, signal.SIGSTOP))
        os.kill(self.tpm.process.pid, signal.SIGCONT)
        self.assertBack(*clients)

    def test_helper_that_hangs_is_replaced(self):
        self.daemon = self.start_daemon("libtpms", options=LIMITS)
        helper, = harness.children(self.daemon.process.pid)
        clients = self.assertGivenUp(lambda: os.kill(helper, signal.SIGSTOP))
        self.assertBack(*clients)
        harness.wait_until(lambda: helper not in harness.children(self.daemon.process.pid),
                           "the helper that hung is gone")
        self.assertEqual(len(harness.children(self.daemon.process.pid)), 1)

    if harness.IS_DEVICE:

        def test_chip_that_does_not_answer(self):
            """It cannot even be closed as long as it does not."""
            self.start_subject(options=LIMITS)
            clients = self.assertGivenUp(self.proxy.hold)
            self.assertEqual(clients[0].ask(tpm.get_random()).rc, tpm.NO_TPM)
            self.proxy.release()
            self.assertBack(*clients)

    def test_longer_for_keys(self):
        """A command that makes a key has its own limit."""
        self.tpm = self.start_swtpm(proxied=False)
        self.daemon = self.start_daemon(self.tpm.conf, options=["--time-limit=1", "--time-limit-long=60"])
        client, other = self.connect(), self.connect()
        self.assertServes(client)
        os.kill(self.tpm.process.pid, signal.SIGSTOP)
        client.send(tpm.create_primary(tpm.public_hmac_key(b"x")))
        other.sock.settimeout(3)
        other.send(tpm.get_random())
        with self.assertRaises(TimeoutError):
            other.receive()
        os.kill(self.tpm.process.pid, signal.SIGCONT)
        self.assertEqual(client.receive().rc, 0)


if __name__ == "__main__":
    harness.main()
