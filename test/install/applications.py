# SPDX-License-Identifier: BSD-2-Clause
"""
Programs of the distribution at real work, by whatever door: mixed into a TestCase with .place and make_tools(). What a
key of the TPM has signed is verified by something that does not ask the TPM.
"""

import concurrent.futures
import pathlib
import re

import harness

HERE = pathlib.Path(__file__).parent
NOT_BUILT = 77  # fapi.py says so
MESSAGE = b"a message of some length\n"
PROVIDERS = ["-provider", "tpm2", "-provider", "default", "-propquery", "?provider=tpm2,tpm2.digest!=yes"]
MODULE = "usr/lib/*/pkcs11/libtpm2_pkcs11.so"
PIN = "123456"


class Applications:
    def start_server(self, tools, *options):
        """openssl s_server; it sends lines back with their letters reversed. -> its address"""
        argv = tools.argv("openssl", "s_server", *PROVIDERS, "-accept", "127.0.0.1:0", "-rev", *options)
        server = harness.Process("s_server", argv, self.folder / (tools.folder.name + "-server.log"))
        self.addCleanup(server.end)
        return harness.wait_until(lambda: re.search(r"^ACCEPT (\S+:\d+)$", server.output(), re.M), "s_server starts",
                                  server.popen)[1]

    def check_tls(self, versions, *algorithm):
        tools = self.make_tools()
        tools("openssl", "genpkey", "-provider", "tpm2", *algorithm, "-out", "key.pem")
        self.assertIn(b"TSS2 PRIVATE KEY", tools.path("key.pem").read_bytes())
        tools("openssl", "req", *PROVIDERS, "-x509", "-sha256", "-days", "1", "-subj", "/CN=localhost",
              "-key", "key.pem", "-out", "certificate.pem")
        address = self.start_server(tools, "-key", "key.pem", "-cert", "certificate.pem")
        for version in versions:
            said = tools("openssl", "s_client", version, "-connect", address, "-CAfile", "certificate.pem",
                         "-verify_return_error", "-verify_hostname", "localhost", "-ign_eof",
                         input=MESSAGE + b"CLOSE\n")
            self.assertIn(MESSAGE.strip()[::-1], said, version)
            self.assertIn(b"Verify return code: 0 (ok)", said, version)

    def test_openssl_serves_tls_with_an_rsa_key(self):
        self.check_tls(["-tls1_3", "-tls1_2"], "-algorithm", "RSA", "-pkeyopt", "bits:2048")

    def test_openssl_serves_tls_with_an_ecc_key(self):
        """Not TLS 1.2: tpm2-openssl 1.1.1 cannot, whatever the way to the TPM."""
        self.check_tls(["-tls1_3"], "-algorithm", "EC", "-pkeyopt", "group:P-256")

    def make_tokens(self, tools, *algorithms):
        """Each with a key in it, and named by its algorithm. -> the module's path"""
        tools.variables["TPM2_PKCS11_STORE"] = tools.cwd
        tools("tpm2_ptool", "init")
        for name in algorithms:
            tools("tpm2_ptool", "addtoken", "--pid", "1", "--label", name, "--sopin", PIN, "--userpin", PIN)
            tools("tpm2_ptool", "addkey", "--algorithm", name, "--label", name, "--key-label", name, "--userpin", PIN)
        return "/%s" % next(iter(self.place.path.glob(MODULE))).relative_to(self.place.path)

    def test_pkcs11_signs(self):
        tools = self.make_tools()
        module = self.make_tokens(tools, "ecc256", "rsa2048")
        tools.path("message").write_bytes(MESSAGE)
        for name, mechanism in (("ecc256", "ECDSA-SHA256"), ("rsa2048", "SHA256-RSA-PKCS")):
            tool = ["pkcs11-tool", "--module", module, "--token-label", name]
            tools(*tool, "--login", "--pin", PIN, "--sign", "--mechanism", mechanism, "--signature-format", "openssl",
                  "--input-file", "message", "--output-file", "signature")
            tools(*tool, "--read-object", "--type", "pubkey", "--label", name, "--output-file", "key.der")
            tools("openssl", "dgst", "-sha256", "-verify", "key.der", "-keyform", "DER", "-signature", "signature",
                  "message")

    def test_ssh_agent_signs(self):
        tools = self.make_tools()
        module = self.make_tokens(tools, "ecc256")
        tools.path("message").write_bytes(MESSAGE)
        tools.path("ask").write_text("#!/bin/sh\necho %s\n" % PIN)
        tools.path("ask").chmod(0o755)
        tools.variables.update(SSH_AUTH_SOCK=tools.cwd + "/agent", SSH_ASKPASS=tools.cwd + "/ask",
                               SSH_ASKPASS_REQUIRE="force")
        agent = harness.Process("ssh-agent", tools.argv("ssh-agent", "-D", "-a", "agent", "-P", "/usr/lib/*"),
                                self.folder / (tools.folder.name + "-agent.log"))
        self.addCleanup(agent.end)
        harness.wait_until(lambda: harness.can_connect(str(tools.path("agent"))), "ssh-agent starts", agent.popen)
        tools("ssh-add", "-s", module)
        key = tools("ssh-add", "-L")
        tools.path("key.pub").write_bytes(key)
        tools.path("allowed").write_bytes(b"member " + key)
        for _ in range(3):
            tools.path("message.sig").unlink(missing_ok=True)
            tools("ssh-keygen", "-Y", "sign", "-n", "file", "-f", "key.pub", "message")
            tools("ssh-keygen", "-Y", "verify", "-f", "allowed", "-I", "member", "-n", "file", "-s", "message.sig",
                  input=MESSAGE)

    def test_systemd_creds_decrypts_while_the_pcr_is_as_it_was(self):
        tools = self.make_tools()
        if int(tools("systemd-creds", "--version").split()[1]) >= 256:
            tools = self.make_tools("root")  # for other users, it leaves the work to a service
        tools.path("secret").write_bytes(MESSAGE)
        device = "--tpm2-device=" + self.conf
        tools("systemd-creds", "encrypt", "--with-key=tpm2", device, "--tpm2-pcrs=7", "--name=it", "secret", "sealed")
        self.assertEqual(tools("systemd-creds", "decrypt", device, "--name=it", "sealed", "-"), MESSAGE)
        tools("tpm2_pcrextend", "7:sha256=" + "77" * 32)
        refused = tools.attempt("systemd-creds", "decrypt", device, "--name=it", "sealed", "-")
        self.assertNotEqual(refused.returncode, 0)
        self.assertEqual(refused.stdout, b"")

    def test_clevis_decrypts_while_the_pcr_is_as_it_was(self):
        tools = self.make_tools()
        sealed = tools("clevis", "encrypt", "tpm2", '{"pcr_bank":"sha256","pcr_ids":"7"}', input=MESSAGE)
        self.assertEqual(tools("clevis", "decrypt", input=sealed), MESSAGE)
        tools("tpm2_pcrextend", "7:sha256=" + "77" * 32)
        refused = tools.attempt("clevis", "decrypt", input=sealed)
        self.assertNotEqual(refused.returncode, 0)
        self.assertEqual(refused.stdout, b"")

    def check_python(self, name):
        """A program that says so when all went well. Standard error has what it was refused, as it should be, too."""
        done = self.make_tools().attempt("python3", "-", self.conf, input=(HERE / name).read_bytes())
        if done.returncode == NOT_BUILT:
            self.skipTest(done.stderr.decode().strip())
        self.assertEqual((done.returncode, done.stdout), (0, b"done\n"), done.stderr.decode(errors="replace"))

    def test_esys_from_python(self):
        self.check_python("esys.py")

    def test_fapi_from_python(self):
        self.check_python("fapi.py")

    def test_all_at_once(self):
        work = [self.test_openssl_serves_tls_with_an_rsa_key, self.test_openssl_serves_tls_with_an_ecc_key,
                self.test_openssl_serves_tls_with_an_ecc_key, self.test_pkcs11_signs, self.test_esys_from_python,
                self.test_clevis_decrypts_while_the_pcr_is_as_it_was]
        with concurrent.futures.ThreadPoolExecutor(len(work)) as pool:
            for done in [pool.submit(one) for one in work]:
                done.result()
