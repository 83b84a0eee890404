# SPDX-License-Identifier: BSD-2-Clause
"""How many TPM commands a client's command costs, counted in front of the TPM."""

import hashlib

import harness
import tpm


class Counts(harness.TestCase):
    def setUp(self):
        super().setUp()
        self.start_subject(options=harness.NO_CHORES)
        self.client = self.connect()

    def assertCost(self, n, at_most):
        cost = self.proxy.count() / n
        print("# %s: %.2f TPM commands each: %s" % (self._testMethodName, cost, dict(self.proxy.by_code())))
        self.assertGreaterEqual(cost, 1)
        self.assertLessEqual(cost, at_most)

    def test_sign_100_times_with_one_key(self):
        key = self.client.create_primary(tpm.PUBLIC_ECC_SIGN)
        self.client.ask(tpm.sign(key, bytes(32)))  # a fresh TPM answers RETRY to the first authorization
        self.proxy.reset()
        for i in range(100):
            self.client.run(tpm.sign(key, hashlib.sha256(b"%d" % i).digest()))
        self.assertCost(100, 1.02)

    if not harness.IS_DEVICE:  # where slots are left free for others

        def test_sign_100_times_with_5_keys_in_turn(self):
            """More keys than slots: at best every second signature has to flush another key and load its own."""
            keys = [self.client.create_primary(tpm.PUBLIC_ECC_SIGN) for _ in range(5)]
            for key in 2 * keys:
                self.client.ask(tpm.sign(key, bytes(32)))
            self.proxy.reset()
            for i in range(100):
                self.client.run(tpm.sign(keys[i % 5], hashlib.sha256(b"%d" % i).digest()))
            self.assertCost(100, 2.2)

    @harness.needs_cryptography
    def test_one_hmac_session_100_times(self):
        session = tpm.HmacSession(self.client)
        self.proxy.reset()
        for _ in range(100):
            self.assertTrue(session.get_random())
        self.assertCost(100, 1.02)

    def test_50_policy_runs(self):
        self.proxy.reset()
        for _ in range(50):
            session = self.client.start_session(tpm.SE_POLICY)
            self.client.run(tpm.policy_pcr(session))
            self.client.run(tpm.policy_get_digest(session))
            self.client.run(tpm.flush_context(session))
        self.assertCost(50, 4.05)

    @harness.needs_cryptography
    def test_20_hash_sequences_of_8_updates(self):
        self.proxy.reset()
        for i in range(20):
            sequence = self.client.run(tpm.hash_sequence_start()).handle
            data = [bytes([i, n]) * 100 for n in range(8)]
            for chunk in data:
                self.client.run(tpm.sequence_update(sequence, chunk))
            done = self.client.run(tpm.sequence_complete(sequence))
            self.assertEqual(done.parameters()[2:34], hashlib.sha256(b"".join(data)).digest())
        self.assertCost(20, 10.2)


if __name__ == "__main__":
    harness.main()
