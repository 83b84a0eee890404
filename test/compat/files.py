# SPDX-License-Identifier: BSD-2-Clause
"""
Context files that tpm2-tools wrote through tpm2-abrmd 3.0 or through this daemon, and the daemon that wrote them has
ended: the other one loads them. The bare TPM is asked, too, to tell a limit of the daemon from one of the file.
"""

import tempfile

import harness

HANDLE_1 = b"(0x1CB)"  # the TPM's answer to a context that is not the last one of its session


class Files(harness.TestCase):
    def setUp(self):
        super().setUp()
        self.start_bus()
        self.tpm = self.start_swtpm(proxied=False)
        self.files = tempfile.mkdtemp(dir=self.folder)
        self.door = None

    def go_to(self, subject=None):
        """Ends the daemon that runs. Makes self.tools for the next one; with no subject, for the bare TPM."""
        if self.door:
            self.assertEqual(self.door.stop(), 0)
        self.door = subject and self.start_daemon(self.tpm.conf, subject, bus=self.bus)
        self.tools = harness.Tools(self.files, self.door.bus_conf, self.door.library, self.bus) if subject else \
            harness.Tools(self.files, self.tpm.conf)

    def start_session(self):
        self.tools("tpm2_startauthsession", "--policy-session", "-S", "session.ctx")

    def use_session(self):
        self.tools("tpm2_policypcr", "-Q", "-S", "session.ctx", "-l", "sha256:0")

    def assertSessionLoads(self):
        """As often as it is needed, and its file can be flushed."""
        self.use_session()
        self.use_session()
        self.tools("tpm2_flushcontext", "session.ctx")

    def assertSessionIsRefused(self):
        done = self.tools.attempt("tpm2_policypcr", "-S", "session.ctx", "-l", "sha256:0")
        self.assertEqual(done.returncode, 1)
        self.assertIn(b"Esys_ContextLoad" + HANDLE_1, done.stderr)

    def test_key(self):
        for first, second in ((harness.Peer, harness.Ours), (harness.Ours, harness.Peer)):
            with self.subTest("%s, then %s" % (first.name, second.name)):
                self.go_to(first)
                self.tools("tpm2_createprimary", "-Q", "-C", "o", "-G", "ecc", "-c", "parent.ctx")
                self.tools("tpm2_create", "-Q", "-C", "parent.ctx", "-G", "ecc:ecdsa", "-c", "key.ctx")
                self.tools.path("message").write_bytes(b"message")
                sign = ["tpm2_sign", "-Q", "-c", "key.ctx", "-g", "sha256", "-o", "signature", "message"]
                self.tools(*sign)
                self.go_to(second)
                self.tools(*sign)

    def test_session_that_was_only_started(self):
        for first, second in ((harness.Peer, harness.Ours), (harness.Ours, harness.Peer)):
            with self.subTest("%s, then %s" % (first.name, second.name)):
                self.go_to(first)
                self.start_session()
                self.go_to(second)
                self.assertSessionLoads()

    def test_session_that_was_used_through_ours(self):
        for second in (harness.Peer, harness.Ours, None):
            with self.subTest(second.name if second else "the bare TPM"):
                self.go_to(harness.Ours)
                self.start_session()
                self.use_session()
                self.go_to(second)
                self.assertSessionLoads()

    def test_session_that_was_used_through_3_0(self):
        """The file has not the last context of the session, which 3.0 kept to itself: nobody can load it any more."""
        for second in (harness.Ours, harness.Peer, None):
            with self.subTest(second.name if second else "the bare TPM"):
                self.go_to(harness.Peer)
                self.start_session()
                self.use_session()
                self.use_session()
                self.go_to(second)
                self.assertSessionIsRefused()


if __name__ == "__main__":
    harness.main()
