# SPDX-License-Identifier: BSD-2-Clause
"""
Clients that know nothing of us: a program that writes TPM commands to a Unix socket, and tpm2-tools through socat.
"""

import hashlib
import socket
import struct
import subprocess

import harness
import tpm
from process import find_tool

OWNER, PASSWORD_SESSION = 0x40000001, 0x40000009
NO_SESSIONS, SESSIONS = 0x8001, 0x8002
CREATE_PRIMARY, CREATE, LOAD, SIGN, GET_RANDOM = 0x131, 0x153, 0x157, 0x15D, 0x17B
SHA256, ECC, ECDSA, NULL, AES, CFB, P256 = 0x0B, 0x23, 0x18, 0x10, 0x06, 0x43, 0x03
P256_KEY = bytes.fromhex("3059301306072a8648ce3d020106082a8648ce3d03010703420004")  # SubjectPublicKeyInfo, before x, y


class Stream:
    """What a client in any language would write, from the TPM specification alone."""

    def __init__(self, path):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.connect(path)
        self.file = self.sock.makefile("rwb")

    def close(self):
        self.file.close()
        self.sock.close()

    def ask(self, tag, code, body):
        self.file.write(struct.pack(">HII", tag, 10 + len(body), code) + body)
        self.file.flush()
        tag, size, rc = struct.unpack(">HII", self.file.read(10))
        body = self.file.read(size - 10)
        if rc:
            raise OSError("response code 0x%x" % rc)
        return body

    def authorized(self, code, handle, parameters):
        auth = struct.pack(">IHBH", PASSWORD_SESSION, 0, 0, 0)
        return self.ask(SESSIONS, code, struct.pack(">II", handle, len(auth)) + auth + parameters)


def sized(data=b""):
    return struct.pack(">H", len(data)) + data


def read_sized(data):
    size = struct.unpack(">H", data[:2])[0]
    return data[2:2 + size], data[2 + size:]


EMPTY_SENSITIVE = sized(sized() + sized())
NO_PCRS = struct.pack(">I", 0)
PARENT = struct.pack(">HHIHHHHHHHHH", ECC, SHA256, 0x30472, 0, AES, 128, CFB, NULL, P256, NULL, 0, 0)
SIGNER = struct.pack(">HHIHHHHHHHH", ECC, SHA256, 0x40472, 0, NULL, ECDSA, SHA256, P256, NULL, 0, 0)


def der_integer(value):
    value = value.lstrip(b"\0")
    value = (b"\0" if value[:1] >= b"\x80" else b"") + value
    return b"\x02" + bytes([len(value)]) + value


class Raw(harness.TestCase):
    def setUp(self):
        super().setUp()
        self.start_subject()

    def make_key(self, stream):
        """-> handle of a signing key below a parent, its x and y"""
        template = EMPTY_SENSITIVE + sized(PARENT) + sized() + NO_PCRS
        parent, = struct.unpack(">I", stream.authorized(CREATE_PRIMARY, OWNER, template)[:4])
        template = EMPTY_SENSITIVE + sized(SIGNER) + sized() + NO_PCRS
        private, rest = read_sized(stream.authorized(CREATE, parent, template)[4:])
        public, _ = read_sized(rest)
        key, = struct.unpack(">I", stream.authorized(LOAD, parent, sized(private) + sized(public))[:4])
        x, rest = read_sized(public[20:])
        return key, x, read_sized(rest)[0]

    def test_create_load_sign(self):
        stream = Stream(self.daemon.socket)
        self.addCleanup(stream.close)
        key, x, y = self.make_key(stream)
        message = b"a message"
        parameters = sized(hashlib.sha256(message).digest()) + struct.pack(">HHIH", NULL, 0x8024, 0x40000007, 0)
        signature = stream.authorized(SIGN, key, parameters)[8:]
        r, rest = read_sized(signature)
        s, _ = read_sized(rest)
        pair = der_integer(r) + der_integer(s)

        (self.folder / "message").write_bytes(message)
        (self.folder / "key").write_bytes(P256_KEY + x.rjust(32, b"\0") + y.rjust(32, b"\0"))
        (self.folder / "signature").write_bytes(b"\x30" + bytes([len(pair)]) + pair)
        verify = ["openssl", "dgst", "-sha256", "-keyform", "DER", "-verify", "key", "-signature", "signature",
                  "message"]
        self.assertIn("Verified OK", subprocess.run(verify, cwd=self.folder, capture_output=True, text=True,
                                                    timeout=harness.HANG, check=False).stdout)
        stream.close()
        self.assertTpmEmpty()

    def test_tools_through_socat(self):
        """tpm2-tools with the TCTI that speaks to a command's standard streams."""
        find_tool("socat")
        tools = harness.Tools(self.folder / "tools", "cmd:socat - UNIX-CONNECT:" + self.daemon.socket)
        self.assertEqual(len(tools("tpm2_getrandom", "--hex", "16")), 32)
        tools("tpm2_createprimary", "-Q", "-G", "ecc", "-c", "parent.ctx")
        tools("tpm2_create", "-Q", "-C", "parent.ctx", "-G", "ecc:ecdsa", "-u", "key.pub", "-r", "key.priv")
        tools("tpm2_load", "-Q", "-C", "parent.ctx", "-u", "key.pub", "-r", "key.priv", "-c", "key.ctx")
        tools.path("message").write_bytes(b"message")
        tools("tpm2_sign", "-Q", "-c", "key.ctx", "-g", "sha256", "-o", "signature", "message")
        tools("tpm2_verifysignature", "-Q", "-c", "key.ctx", "-g", "sha256", "-s", "signature", "-m", "message")
        self.assertTpmEmpty()

    def plain(self):
        client = tpm.Client(tpm.connect_unix(self.daemon.socket))
        self.addCleanup(client.close)
        return client

    def test_refusals_are_those_of_a_bare_tpm(self):
        """Programs that are no TSS decide by them, and know nothing of layers."""
        swtpm = harness.Swtpm(self.folder / "bare", proxied=False)
        self.addCleanup(swtpm.stop)
        bare = tpm.Client(tpm.connect_unix(swtpm.data))
        self.addCleanup(bare.close)
        bare.ask(tpm.command(0x144, parameters=tpm.u16(0)))  # Startup(CLEAR)
        plain = self.plain()
        session = (0x02000000, b"", 0, b"")
        for command, code in ((tpm.flush_context(0x80000001), 0x1CB), (tpm.flush_context(0x02000001), 0x1CB),
                              (tpm.read_public(0x80000001), 0x910), (tpm.policy_get_digest(0x03000001), 0x910),
                              (tpm.command(tpm.CC_CLEAR, [tpm.RH_LOCKOUT], auths=[session]), 0x918)):
            self.assertEqual(plain.ask(command).rc, code, command.hex())
            self.assertEqual(bare.ask(command).rc, code, command.hex())

    def test_limits_have_the_codes_of_a_tpm(self):
        self.daemon.stop()
        self.daemon = self.start_daemon(self.tpm.conf, options=["--max-transients=2", "--max-sessions=1"])
        plain, layered = self.plain(), self.connect()
        for client, layer in ((plain, 0), (layered, tpm.RM)):
            for i in range(2):
                client.create_primary(tpm.public_hmac_key(b"%d" % i))
            self.assertEqual(client.ask(tpm.create_primary(tpm.public_hmac_key(b"x"))).rc, layer | 0x902)
            client.start_session(tpm.SE_HMAC)
            self.assertEqual(client.ask(tpm.start_auth_session(tpm.SE_HMAC)).rc, layer | 0x903)
            self.assertEqual(client.ask(tpm.set_locality(1)).rc, layer | 0x907)

    def test_tpm_that_is_gone(self):
        plain, layered = self.plain(), self.connect()
        plain.run(tpm.get_random())
        self.tpm.stop()
        for client, layer in ((plain, 0), (layered, tpm.RM)):
            self.assertIn(client.ask(tpm.get_random()).rc, (layer | 0x101, layer | 0x100))
            self.assertEqual(client.ask(tpm.get_random()).rc, layer | 0x100)


if __name__ == "__main__":
    harness.main()
