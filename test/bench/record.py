# SPDX-License-Identifier: BSD-2-Clause
"""
Records what programs use of a TPM, for test/bench/residency.c: `make traces`, or record.py [CLASS.TEST...]

The programs of Debian run unchanged, through a proxy in front of the daemon's socket, and each makes a file of
test/bench/traces. They may be unpacked below $RECORD_ROOT instead of being installed: tpm2-openssl, opensc,
clevis-tpm2, libtpm2-pkcs11-1, libtpm2-pkcs11-tools, and what they depend on. test/bench/residency-trace.h has the
format.
"""

import os
import pathlib
import re
import socket
import struct
import sys
import tempfile
import threading
import unittest

import harness
import tpm
import workout

ROOT = pathlib.Path(os.environ.get("RECORD_ROOT", "/"))
HERE = pathlib.Path(__file__).parent
LIBRARIES = ROOT / "usr/lib" / ("%s-linux-gnu" % os.uname().machine)
PIN = "123456"
PROVIDERS = ["-provider", "tpm2", "-provider", "default", "-propquery", "?provider=tpm2,tpm2.digest!=yes"]
CANCEL = 0x20001001  # nothing answers it
RESERVED = range(0x20001000, 0x20001003)
SEQUENCES = {0x186, 0x15B}  # HashSequenceStart, HMAC_Start
CC_FLUSH_CONTEXT, CC_CONTEXT_LOAD, CC_CONTEXT_SAVE = 0x165, 0x161, 0x162
CAP_COMMANDS = 2
SAVED_SEQUENCE = 0x80000001  # what a context says that it is of
CONTINUE = 1


def receive(stream):
    """-> a whole message, or b"" at the end"""
    data = b""
    while len(data) < 10 or len(data) < struct.unpack(">I", data[2:6])[0]:
        size = 10 if len(data) < 10 else struct.unpack(">I", data[2:6])[0]
        more = stream.recv(size - len(data))
        if not more:
            return b""
        data += more
    return data


class Proxy:
    """In front of the daemon's socket. commands: [(number of the client, command, response)]; both None: it went"""

    def __init__(self, path, to):
        self.path, self.to, self.commands, self.n = path, to, [], 0
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(path)
        self.listener.listen(64)
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            client, _ = self.listener.accept()
            self.n += 1
            threading.Thread(target=self.serve, args=(client, self.n), daemon=True).start()

    def serve(self, client, number):
        with client, tpm.connect_unix(self.to) as daemon:
            while command := receive(client):
                daemon.sendall(command)
                code = struct.unpack(">I", command[6:10])[0]
                if code == CANCEL:
                    continue
                response = receive(daemon)
                if code not in RESERVED:
                    self.commands.append((number, command, response))
                client.sendall(response)
        self.commands.append((number, None, None))


class Converter:
    """Commands to lines."""

    def __init__(self, attributes):
        self.attributes = attributes  # {command code: TPMA_CC}
        self.names, self.counts, self.lines = {}, {"o": 0, "s": 0, "q": 0}, []

    def new(self, client, handle, code, command):
        saved = struct.unpack(">I", command[18:22])[0] if code == CC_CONTEXT_LOAD else 0
        kind = "s" if handle >> 24 in (2, 3) else "q" if code in SEQUENCES or saved == SAVED_SEQUENCE else "o"
        self.counts[kind] += 1
        self.names[client, handle] = "%s%d" % (kind, self.counts[kind])
        # What comes with a context has one already.
        return self.names[client, handle] + ("" if kind != "s" and code == CC_CONTEXT_LOAD else "+")

    @staticmethod
    def auths(area):
        """-> [(session, attributes)]"""
        found, at, end = [], 4, 4 + struct.unpack(">I", area[:4])[0]
        while at < end:
            handle, n = struct.unpack(">IH", area[at:at + 6])
            attributes = area[at + 6 + n]
            n_hmac = struct.unpack(">H", area[at + 7 + n:at + 9 + n])[0]
            found.append((handle, attributes))
            at += 9 + n + n_hmac
        return found

    def add(self, client, command, response):
        if command is None:
            gone = [key for key in self.names if key[0] == client]
            words = [self.names.pop(key) + "-" for key in gone]
            if words:
                self.lines.append(" ".join(words))
            return
        tag, _, code = struct.unpack(">HII", command[:10])
        attributes = self.attributes.get(code, 0)
        n_handles, returns = attributes >> 25 & 7, attributes >> 28 & 1
        if struct.unpack(">I", response[6:10])[0] != 0:
            return
        handles = list(struct.unpack(">%dI" % n_handles, command[10:10 + 4 * n_handles]))
        auths = self.auths(command[10 + 4 * n_handles:]) if tag == tpm.ST_SESSIONS else []
        words, gone = [], []
        for handle in handles + [session for session, _ in auths]:
            if (client, handle) in self.names and self.names[client, handle] not in words:
                words.append(self.names[client, handle])
        if attributes >> 24 & 1 or (code == CC_CONTEXT_SAVE and handles[0] >> 24 in (2, 3)):
            gone.append(handles[0])
        if code == CC_FLUSH_CONTEXT:
            gone.append(struct.unpack(">I", command[10:14])[0])
        gone += [session for session, is_left in auths if not is_left & CONTINUE]
        words += [self.names.pop((client, handle)) + "-" for handle in gone if (client, handle) in self.names]
        if returns:
            words.append(self.new(client, struct.unpack(">I", response[10:14])[0], code, command))
        if words:
            self.lines.append(" ".join(words))


class Record(workout.Workout, harness.TestCase):
    """Each test makes a trace."""

    def setUp(self):
        super().setUp()
        self.start_subject()
        self.proxy_of_clients = Proxy(str(self.folder / "proxy.sock"), self.daemon.socket)

    def door(self):
        return "tabrmd:socket=" + self.proxy_of_clients.path, self.daemon.library, None

    def make_tools(self):
        tools = harness.Tools(tempfile.mkdtemp(dir=self.folder), *self.door())
        conf = self.door()[0]
        tools.env.update(
            PATH="%s:%s" % (ROOT / "usr/bin", os.environ["PATH"]),
            LD_LIBRARY_PATH="%s:%s" % (self.daemon.library, LIBRARIES), HOME=str(tools.folder),
            PYTHONPATH=str(ROOT / "usr/lib/python3/dist-packages"), TPM2OPENSSL_TCTI=conf, TPM2_PKCS11_TCTI=conf,
            TPM2_PKCS11_STORE=str(tools.folder), TPM2TOOLS_TCTI=conf)
        return tools

    def write(self, name, title):
        client = self.connect()
        listed = client.ask(tpm.get_capability(CAP_COMMANDS, 0, 1000)).body  # more or not, which, how many
        values = struct.unpack(">%dI" % ((len(listed) - 9) // 4), listed[9:])
        converter = Converter({value & 0xFFFF: value for value in values})
        for command in self.proxy_of_clients.commands:
            converter.add(*command)
        self.assertGreater(len(converter.lines), 4)
        head = "# %s\n# Recorded by test/bench/record.py Record.%s, with the programs of Debian 12.\n" % (
            title, self._testMethodName)
        (HERE / "traces" / (name + ".trace")).write_text(head + "\n".join(converter.lines) + "\n")

    def test_tls_server(self):
        tools = self.make_tools()
        tools.env["OPENSSL_MODULES"] = str(LIBRARIES / "ossl-modules")
        tools("openssl", "genpkey", "-provider", "tpm2", "-algorithm", "EC", "-pkeyopt", "group:P-256", "-out",
              "key.pem")
        tools("openssl", "req", *PROVIDERS, "-x509", "-sha256", "-days", "1", "-subj", "/CN=localhost",
              "-key", "key.pem", "-out", "certificate.pem")
        self.proxy_of_clients.commands.clear()
        argv = ["openssl", "s_server", *PROVIDERS, "-accept", "127.0.0.1:0", "-rev", "-key", tools.path("key.pem"),
                "-cert", tools.path("certificate.pem")]
        server = harness.Process("s_server", argv, self.folder / "server.log", env=tools.env)
        self.addCleanup(server.end)
        address = harness.wait_until(lambda: re.search(r"^ACCEPT (\S+:\d+)$", server.output(), re.M), "it starts",
                                     server.popen)[1]
        for _ in range(4):
            tools("openssl", "s_client", "-tls1_3", "-connect", address, "-CAfile", "certificate.pem",
                  "-verify_return_error", "-ign_eof", input=b"a line\nCLOSE\n")
        server.end()
        self.write("tls-server", "tpm2-openssl: openssl s_server with an ECC key, and four connections")

    def test_pkcs11(self):
        tools = self.make_tools()
        tools.path("message").write_bytes(b"message\n")
        ptool = ["/usr/bin/python3", ROOT / "usr/bin/tpm2_ptool"]
        tools(*ptool, "init")
        for name in ("ecc256", "rsa2048"):
            tools(*ptool, "addtoken", "--pid", "1", "--label", name, "--sopin", PIN, "--userpin", PIN)
            tools(*ptool, "addkey", "--algorithm", name, "--label", name, "--key-label", name, "--userpin", PIN)
        self.proxy_of_clients.commands.clear()
        module = next((LIBRARIES / "pkcs11").glob("libtpm2_pkcs11.so*"), LIBRARIES / "libtpm2_pkcs11.so.1")
        for _ in range(3):
            for name, mechanism in (("ecc256", "ECDSA-SHA256"), ("rsa2048", "SHA256-RSA-PKCS")):
                tools("pkcs11-tool", "--module", module, "--token-label", name, "--login", "--pin", PIN, "--sign",
                      "--mechanism", mechanism, "--input-file", "message", "--output-file", "signature")
        self.write("pkcs11", "tpm2-pkcs11: pkcs11-tool signs by two tokens, three times each")

    def test_tools_keys(self):
        self.test_primary_and_child_keys_sign_and_verify()
        self.test_hash_of_a_large_file()
        self.write("tools-keys", "tpm2-tools: keys are made, sign and verify; a large file is hashed")

    def test_tools_sessions(self):
        self.test_hmac_session_kept_in_a_file()
        self.test_policy_session_kept_in_a_file()
        self.write("tools-sessions", "tpm2-tools: HMAC and policy sessions in files, with keys")

    def test_clevis(self):
        tools = self.make_tools()
        sealed = tools("clevis", "encrypt", "tpm2", '{"pcr_bank":"sha256","pcr_ids":"7"}', input=b"a secret")
        self.proxy_of_clients.commands.clear()
        for _ in range(3):
            tools("clevis", "decrypt", input=sealed)
        self.write("clevis", "clevis: a secret bound to a PCR is decrypted, three times")


def load_tests(loader, tests, pattern):
    """Of the inherited ones, none by itself."""
    own = [name for name in vars(Record) if name.startswith("test_")]
    return unittest.TestSuite(Record(name) for name in own)


if __name__ == "__main__":
    sys.exit(unittest.main())
