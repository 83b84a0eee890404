# SPDX-License-Identifier: BSD-2-Clause
"""TPM commands byte by byte, and a client that speaks them over a stream socket (Part 1, section 18; Part 3)."""

import hashlib
import hmac
import os
import socket
import struct

HEADER_SIZE = 10
MESSAGE_MAX = 16384

ST_NO_SESSIONS, ST_SESSIONS = 0x8001, 0x8002

RH_OWNER, RH_NULL, RH_LOCKOUT, RH_PLATFORM = 0x40000001, 0x40000007, 0x4000000A, 0x4000000C
RS_PW = 0x40000009

ALG_NULL, ALG_SHA256 = 0x0010, 0x000B

CC_EVICT_CONTROL = 0x120
CC_CLEAR = 0x126
CC_HIERARCHY_CHANGE_AUTH = 0x129
CC_CREATE_PRIMARY = 0x131
CC_SEQUENCE_COMPLETE = 0x13E
CC_FLUSH_CONTEXT = 0x165
CC_LOAD_EXTERNAL = 0x167
CC_CREATE = 0x153
CC_LOAD = 0x157
CC_SEQUENCE_UPDATE = 0x15C
CC_SIGN = 0x15D
CC_CONTEXT_LOAD = 0x161
CC_CONTEXT_SAVE = 0x162
CC_READ_PUBLIC = 0x173
CC_START_AUTH_SESSION = 0x176
CC_GET_CAPABILITY = 0x17A
CC_GET_RANDOM = 0x17B
CC_POLICY_PCR = 0x17F
CC_EVENT_SEQUENCE_COMPLETE = 0x185
CC_HASH_SEQUENCE_START = 0x186
CC_POLICY_GET_DIGEST = 0x189

CAP_HANDLES, CAP_TPM_PROPERTIES = 1, 6
HT_LOADED_SESSION, HT_SAVED_SESSION, HT_TRANSIENT = 0x02000000, 0x03000000, 0x80000000

RC_SUCCESS, RC_RETRY = 0, 0x922
RM = 0xB0000  # codes made by the resource manager itself: layer 11
RC_COMMAND_SIZE, RC_COMMAND_CODE, RC_REFERENCE_H0, RC_REFERENCE_S0 = 0x142, 0x143, 0x910, 0x918
RC_FLUSH_UNKNOWN = 0x1CB  # HANDLE, parameter 1

CONTINUE, AUDIT = 0x01, 0x80
SE_HMAC, SE_POLICY = 0, 1


def u16(value):
    return struct.pack(">H", value)


def u32(value):
    return struct.pack(">I", value)


def tpm2b(data=b""):
    return u16(len(data)) + data


PASSWORD = (RS_PW, b"", 0, b"")  # the empty password


def command(code, handles=(), parameters=b"", auths=None, tag=None):
    """auths: None, or a list of (session, nonce, attributes, hmac)."""
    body = b"".join(u32(h) for h in handles)
    if auths is not None:
        area = b"".join(u32(s) + tpm2b(n) + bytes([a]) + tpm2b(h) for s, n, a, h in auths)
        body += u32(len(area)) + area
    if tag is None:
        tag = ST_NO_SESSIONS if auths is None else ST_SESSIONS
    body += parameters
    return struct.pack(">HII", tag, HEADER_SIZE + len(body), code) + body


def get_random(n=8):
    return command(CC_GET_RANDOM, parameters=u16(n))


def set_locality(locality):
    """A reserved code of the socket: see docs/PROTOCOL.md."""
    return command(0x20001000, parameters=bytes([locality]), tag=ST_NO_SESSIONS)


CANCEL = command(0x20001001, tag=ST_NO_SESSIONS)  # another one
LAYERS = 1
HELLO = command(0x20001002, parameters=u32(LAYERS), tag=ST_NO_SESSIONS)  # the last
NO_TPM, LOST = 0xB0100, 0xB0101  # there is no TPM; it went away with the command


def get_capability(capability, prop, count):
    return command(CC_GET_CAPABILITY, parameters=u32(capability) + u32(prop) + u32(count))


PUBLIC_ECC_SIGN = (struct.pack(">HHI", 0x0023, ALG_SHA256, 0x40072) + tpm2b() +
                   struct.pack(">HHHHH", ALG_NULL, 0x0018, ALG_SHA256, 0x0003, ALG_NULL) + tpm2b() + tpm2b())
PUBLIC_ECC_PARENT = (struct.pack(">HHI", 0x0023, ALG_SHA256, 0x30072) + tpm2b() +
                     struct.pack(">HHHHHH", 0x0006, 128, 0x0043, ALG_NULL, 0x0003, ALG_NULL) + tpm2b() + tpm2b())
PUBLIC_RSA_SIGN = (struct.pack(">HHI", 0x0001, ALG_SHA256, 0x40072) + tpm2b() +
                   struct.pack(">HHHHI", ALG_NULL, 0x0014, ALG_SHA256, 2048, 0) + tpm2b())


def public_hmac_key(unique):
    """A key that costs next to nothing to make."""
    return (struct.pack(">HHI", 0x0008, ALG_SHA256, 0x40072) + tpm2b() +
            struct.pack(">HH", 0x0005, ALG_SHA256) + tpm2b(unique.ljust(32, b"\0")))


def create_primary(public, hierarchy=RH_OWNER):
    sensitive = tpm2b(tpm2b() + tpm2b())
    return command(CC_CREATE_PRIMARY, [hierarchy], sensitive + tpm2b(public) + tpm2b() + u32(0), [PASSWORD])


def sign(key, digest):
    hashcheck = u16(0x8024) + u32(RH_NULL) + tpm2b()
    return command(CC_SIGN, [key], tpm2b(digest) + u16(ALG_NULL) + hashcheck, [PASSWORD])


def start_auth_session(kind, nonce=None):
    return command(CC_START_AUTH_SESSION, [RH_NULL, RH_NULL],
                   tpm2b(nonce or os.urandom(16)) + tpm2b() + bytes([kind]) + u16(ALG_NULL) + u16(ALG_SHA256))


def policy_pcr(session, pcr=0):
    selection = u32(1) + u16(ALG_SHA256) + bytes([3]) + (1 << pcr).to_bytes(3, "little")
    return command(CC_POLICY_PCR, [session], tpm2b() + selection)


def policy_get_digest(session):
    return command(CC_POLICY_GET_DIGEST, [session])


def flush_context(handle):
    return command(CC_FLUSH_CONTEXT, parameters=u32(handle))


def context_save(handle):
    return command(CC_CONTEXT_SAVE, [handle])


def context_load(context):
    return command(CC_CONTEXT_LOAD, parameters=context)


def hash_sequence_start(algorithm=ALG_SHA256):
    return command(CC_HASH_SEQUENCE_START, parameters=tpm2b() + u16(algorithm))


def sequence_update(sequence, data):
    return command(CC_SEQUENCE_UPDATE, [sequence], tpm2b(data), [PASSWORD])


def sequence_complete(sequence, data=b"", hierarchy=RH_NULL, auth=PASSWORD):
    return command(CC_SEQUENCE_COMPLETE, [sequence], tpm2b(data) + u32(hierarchy), [auth])


def event_sequence_complete(pcr, sequence, data=b""):
    return command(CC_EVENT_SEQUENCE_COMPLETE, [pcr, sequence], tpm2b(data), [PASSWORD, PASSWORD])


def read_public(handle):
    return command(CC_READ_PUBLIC, [handle])


def pcr_read(pcr):
    return command(0x17E, parameters=u32(1) + u16(ALG_SHA256) + bytes([3]) + (1 << pcr).to_bytes(3, "little"))


def pcr_extend(pcr, digest):
    return command(0x182, [pcr], u32(1) + u16(ALG_SHA256) + digest, [PASSWORD])


def clear():
    return command(CC_CLEAR, [RH_LOCKOUT], auths=[PASSWORD])


def hierarchy_change_auth(hierarchy, auth):
    return command(CC_HIERARCHY_CHANGE_AUTH, [hierarchy], tpm2b(auth), [PASSWORD])


def evict_control(key, persistent):
    return command(CC_EVICT_CONTROL, [RH_OWNER, key], u32(persistent), [PASSWORD])


class Response:
    def __init__(self, raw):
        self.raw = raw
        self.tag, self.size, self.rc = struct.unpack(">HII", raw[:HEADER_SIZE])
        self.body = raw[HEADER_SIZE:]

    @property
    def handle(self):
        return struct.unpack(">I", self.body[:4])[0]

    def parameters(self, has_handle=False):
        body = self.body[4:] if has_handle else self.body
        if self.tag != ST_SESSIONS:
            return body
        size = struct.unpack(">I", body[:4])[0]
        return body[4:4 + size]

    def auths(self, has_handle=False):
        """-> [(nonce, attributes, hmac)]"""
        body = self.body[4:] if has_handle else self.body
        size = struct.unpack(">I", body[:4])[0]
        rest, found = body[4 + size:], []
        while rest:
            n = struct.unpack(">H", rest[:2])[0]
            nonce, attributes, rest = rest[2:2 + n], rest[2 + n], rest[3 + n:]
            n = struct.unpack(">H", rest[:2])[0]
            found.append((nonce, attributes, rest[2:2 + n]))
            rest = rest[2 + n:]
        return found

    def __repr__(self):
        return "<rc 0x%x, %d bytes>" % (self.rc, len(self.raw))


def read_exactly(sock, n):
    """-> n bytes; fewer when the stream ends before."""
    data = b""
    while len(data) < n:
        more = sock.recv(n - len(data))
        if not more:
            break
        data += more
    return data


def read_message(sock):
    """-> one whole command or response; None when the stream ended before it, or within it."""
    header = read_exactly(sock, HEADER_SIZE)
    if len(header) < HEADER_SIZE:
        return None
    size = struct.unpack(">I", header[2:6])[0]
    if not HEADER_SIZE <= size <= MESSAGE_MAX:
        raise ValueError("impossible header " + header.hex())
    body = read_exactly(sock, size - HEADER_SIZE)
    return header + body if len(body) == size - HEADER_SIZE else None


class TpmError(Exception):
    def __init__(self, response, sent):
        super().__init__("rc 0x%x for command 0x%x" % (response.rc, struct.unpack(">I", sent[6:10])[0]))
        self.rc = response.rc


class Client:
    """One connection. A hang shows as a timeout."""

    def __init__(self, sock, timeout=60, hello=False):
        """hello: it is said with the first command, as the client library does it."""
        self.sock = sock
        sock.settimeout(timeout)
        self._hello, self._greeting = hello, False

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.sock.close()

    def send(self, data):
        self.sock.sendall(HELLO + data if self._hello else data)
        self._hello, self._greeting = False, self._hello or self._greeting

    def receive(self):
        """-> Response, or None at the end of the stream."""
        try:
            raw = read_message(self.sock)
            if self._greeting and raw is not None:
                self._greeting = False
                check_greeting(raw)
                raw = read_message(self.sock)
        except ConnectionResetError:
            return None
        return None if raw is None else Response(raw)

    def ask(self, data):
        """-> Response, whatever it says."""
        self.send(data)
        response = self.receive()
        if response is None:
            raise EOFError("the connection was closed instead of an answer")
        return response

    def run(self, data):
        """-> Response; TpmError when it is no success."""
        response = self.ask(data)
        if response.rc != RC_SUCCESS:
            raise TpmError(response, data)
        return response

    def handles(self, first):
        """CAP_HANDLES from first on."""
        return parse_handles(self.run(get_capability(CAP_HANDLES, first, 254)))

    def create_primary(self, public, hierarchy=RH_OWNER):
        return self.run(create_primary(public, hierarchy)).handle

    def start_session(self, kind):
        return self.run(start_auth_session(kind)).handle

    def context_save(self, handle):
        return self.run(context_save(handle)).body


def parse_handles(response):
    n = struct.unpack(">I", response.body[5:9])[0]
    return list(struct.unpack(">%dI" % n, response.body[9:9 + 4 * n]))


class HmacSession:
    """An unbound, unsalted HMAC session: its key is empty, its HMACs are real."""

    def __init__(self, client):
        self.client = client
        self.nonce_caller = os.urandom(32)
        response = client.run(start_auth_session(SE_HMAC, self.nonce_caller))
        self.handle = response.handle
        self.nonce_tpm = response.body[6:]

    def get_random(self, n=8, attributes=CONTINUE | AUDIT):
        """-> whether the answer's HMAC is right; TpmError when it is no success."""
        response = self.client.run(self.command(CC_GET_RANDOM, u16(n), attributes))
        return self.settle(CC_GET_RANDOM, response)

    def command(self, code, parameters, attributes):
        """A command without handles, under this session."""
        self.nonce_caller = os.urandom(32)
        digest = hashlib.sha256(u32(code) + parameters).digest()
        mac = hmac.new(b"", digest + self.nonce_caller + self.nonce_tpm + bytes([attributes]), "sha256").digest()
        return command(code, (), parameters, [(self.handle, self.nonce_caller, attributes, mac)])

    def settle(self, code, response):
        """Takes over the nonce of a successful response and says whether its HMAC is right."""
        nonce, attributes, mac = response.auths()[0]
        digest = hashlib.sha256(u32(0) + u32(code) + response.parameters()).digest()
        good = hmac.new(b"", digest + nonce + self.nonce_caller + bytes([attributes]), "sha256").digest()
        self.nonce_tpm = nonce
        return hmac.compare_digest(mac, good)


def check_greeting(raw):
    if raw != command(0, parameters=u32(LAYERS), tag=ST_NO_SESSIONS):
        raise ValueError("hello is answered %s" % raw)


def say_hello(sock):
    """From now on refusals have the codes that the client library hears, in layer 11."""
    sock.sendall(HELLO)
    check_greeting(read_message(sock))
    return sock


def connect_unix(path, timeout=60):
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.settimeout(timeout)
    sock.connect(path)
    return sock
