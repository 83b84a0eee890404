# SPDX-License-Identifier: BSD-2-Clause
"""What people do with tpm2-tools, unchanged, through whatever door they are pointed at: mixed into a TestCase."""

import concurrent.futures
import hashlib
import os
import tempfile

import harness

SECRET = b"a secret of no importance"


class Workout:
    """The class it is mixed into says where the tools go: door() -> TCTI name, folder of its library, bus or None"""

    workers, rounds = (3, 1) if harness.IS_DEVICE else (6, 3)

    def make_tools(self):
        return harness.Tools(tempfile.mkdtemp(dir=self.folder), *self.door())

    def make_parent(self, tools):
        tools("tpm2_createprimary", "-Q", "-C", "o", "-G", "ecc", "-c", "parent.ctx")

    def make_key(self, tools, *options):
        tools("tpm2_create", "-Q", "-C", "parent.ctx", "-u", "key.pub", "-r", "key.priv", *options)
        tools("tpm2_load", "-Q", "-C", "parent.ctx", "-u", "key.pub", "-r", "key.priv", "-c", "key.ctx")

    def test_random(self):
        tools = self.make_tools()
        first = tools("tpm2_getrandom", "--hex", "32")
        self.assertEqual(len(first), 64)
        self.assertNotEqual(first, tools("tpm2_getrandom", "--hex", "32"))

    def test_primary_and_child_keys_sign_and_verify(self):
        for algorithm, scheme in (("ecc:ecdsa", "ecdsa"), ("rsa2048:rsassa:null", "rsassa")):
            tools = self.make_tools()
            self.make_parent(tools)
            self.make_key(tools, "-G", algorithm)
            tools.path("message").write_bytes(b"message")
            tools("tpm2_sign", "-Q", "-c", "key.ctx", "-g", "sha256", "-s", scheme, "-o", "signature", "message")
            tools("tpm2_verifysignature", "-Q", "-c", "key.ctx", "-g", "sha256", "-s", "signature", "-m", "message")
            tools.path("message").write_bytes(b"massage")
            bad = tools.attempt("tpm2_verifysignature", "-Q", "-c", "key.ctx", "-g", "sha256", "-s", "signature", "-m",
                                "message")
            self.assertNotEqual(bad.returncode, 0)

    def test_hmac_session_kept_in_a_file(self):
        tools = self.make_tools()
        tools("tpm2_startauthsession", "-S", "session.ctx", "--hmac-session")
        self.make_parent(tools)
        self.make_key(tools, "-G", "ecc:ecdsa", "-p", "password")
        tools.path("message").write_bytes(b"message")
        for _ in range(3):
            tools("tpm2_sign", "-Q", "-c", "key.ctx", "-p", "session:session.ctx+password", "-g", "sha256",
                  "-o", "signature", "message")
        tools("tpm2_verifysignature", "-Q", "-c", "key.ctx", "-g", "sha256", "-s", "signature", "-m", "message")
        tools("tpm2_flushcontext", "session.ctx")

    def test_policy_session_kept_in_a_file(self):
        tools = self.make_tools()
        tools("tpm2_startauthsession", "-S", "session.ctx", "--policy-session")
        tools("tpm2_policypcr", "-Q", "-S", "session.ctx", "-l", "sha256:0,16", "-L", "policy")
        tools("tpm2_policycommandcode", "-Q", "-S", "session.ctx", "-L", "policy", "TPM2_CC_Unseal")
        tools("tpm2_flushcontext", "session.ctx")
        self.assertEqual(len(tools.path("policy").read_bytes()), 32)

    def test_seal_and_unseal_under_a_pcr_policy(self):
        tools = self.make_tools()
        pcr = "sha256:0,23"
        tools("tpm2_startauthsession", "-S", "trial.ctx")
        tools("tpm2_policypcr", "-Q", "-S", "trial.ctx", "-l", pcr, "-L", "policy")
        tools("tpm2_flushcontext", "trial.ctx")
        self.make_parent(tools)
        tools.path("secret").write_bytes(SECRET)
        self.make_key(tools, "-i", "secret", "-L", "policy")
        tools("tpm2_startauthsession", "-S", "session.ctx", "--policy-session")
        tools("tpm2_policypcr", "-Q", "-S", "session.ctx", "-l", pcr)
        self.assertEqual(tools("tpm2_unseal", "-c", "key.ctx", "-p", "session:session.ctx"), SECRET)
        tools("tpm2_flushcontext", "session.ctx")
        self.assertEqual(tools("tpm2_unseal", "-c", "key.ctx", "-p", "pcr:" + pcr), SECRET)
        tools("tpm2_pcrextend", "23:sha256=" + hashlib.sha256(b"change").hexdigest())
        refused = tools.attempt("tpm2_unseal", "-c", "key.ctx", "-p", "pcr:" + pcr)
        self.assertNotEqual(refused.returncode, 0)
        self.assertNotIn(SECRET, refused.stdout)
        tools("tpm2_pcrreset", "23")

    def test_nv_write_and_read(self):
        tools = self.make_tools()
        data = os.urandom(1500)
        tools.path("data").write_bytes(data)
        tools("tpm2_nvdefine", "-Q", "-C", "o", "-s", "1500", "-a", "ownerread|ownerwrite", "0x1500016")
        tools("tpm2_nvwrite", "-Q", "-C", "o", "-i", "data", "0x1500016")
        self.assertEqual(tools("tpm2_nvread", "-C", "o", "-s", "1500", "0x1500016"), data)
        tools("tpm2_nvundefine", "-Q", "-C", "o", "0x1500016")

    def test_hash_of_a_large_file(self):
        tools = self.make_tools()
        data = os.urandom(1 << 20) * 3 + b"end"
        tools.path("large").write_bytes(data)
        tools("tpm2_hash", "-C", "n", "-g", "sha256", "-o", "digest", "large")
        self.assertEqual(tools.path("digest").read_bytes(), hashlib.sha256(data).digest())

    def test_quote_and_checkquote(self):
        tools = self.make_tools()
        self.make_parent(tools)
        self.make_key(tools, "-G", "ecc:ecdsa-sha256:null", "-a",
                      "fixedtpm|fixedparent|sensitivedataorigin|userwithauth|restricted|sign")
        tools("tpm2_readpublic", "-Q", "-c", "key.ctx", "-f", "pem", "-o", "key.pem")
        tools("tpm2_quote", "-Q", "-c", "key.ctx", "-l", "sha256:0,1,2", "-q", "c0ffee", "-m", "quote",
              "-s", "signature", "-o", "pcrs", "-g", "sha256")
        check = ["tpm2_checkquote", "-u", "key.pem", "-m", "quote", "-s", "signature", "-f", "pcrs", "-g", "sha256",
                 "-q"]
        tools(*check, "c0ffee")
        self.assertNotEqual(tools.attempt(*check, "c0ffef").returncode, 0)

    def test_several_processes_at_once(self):
        def work(number):
            tools = self.make_tools()
            message = b"message of %d" % number
            tools.path("message").write_bytes(message)
            self.make_parent(tools)
            for _ in range(self.rounds):
                self.make_key(tools, "-G", "ecc:ecdsa")
                tools("tpm2_sign", "-Q", "-c", "key.ctx", "-g", "sha256", "-o", "signature", "message")
                tools("tpm2_verifysignature", "-Q", "-c", "key.ctx", "-g", "sha256", "-s", "signature", "-m", "message")
                tools("tpm2_startauthsession", "-S", "session.ctx", "--policy-session")
                tools("tpm2_policypcr", "-Q", "-S", "session.ctx", "-l", "sha256:0")
                tools("tpm2_flushcontext", "session.ctx")
            return number

        with concurrent.futures.ThreadPoolExecutor(self.workers) as pool:
            self.assertEqual(sorted(pool.map(work, range(self.workers))), list(range(self.workers)))
