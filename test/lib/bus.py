# SPDX-License-Identifier: BSD-2-Clause
"""Messages of D-Bus, byte for byte, for what no library would send; and connections to a bus as any user."""

import array
import contextlib
import os
import socket
import struct

METHOD_CALL, METHOD_RETURN, ERROR, SIGNAL = 1, 2, 3, 4
NO_REPLY, NO_AUTO_START = 0x1, 0x2
PATH, INTERFACE, MEMBER, REPLY_SERIAL, DESTINATION, SIGNATURE, UNIX_FDS = 1, 2, 3, 5, 6, 8, 9
TYPES = {PATH: b"o", INTERFACE: b"s", MEMBER: b"s", 4: b"s", REPLY_SERIAL: b"u", DESTINATION: b"s", 7: b"s",
         SIGNATURE: b"g", UNIX_FDS: b"u"}
HEADER = 16
DRIVER = {DESTINATION: "org.freedesktop.DBus", PATH: "/org/freedesktop/DBus", INTERFACE: "org.freedesktop.DBus"}


def align(data, to):
    return data + bytes(-len(data) % to)


def string(text):
    text = text.encode()
    return struct.pack("<I", len(text)) + text + b"\0"


def message(kind, serial, fields, body=b"", flags=0):
    """-> bytes, in little endian"""
    out = b""
    for code, value in fields.items():
        kind_of = TYPES[code]
        out = align(out, 8) + bytes([code, 1]) + kind_of + b"\0"
        if kind_of == b"u":
            out += struct.pack("<I", value)
        elif kind_of == b"g":
            out += bytes([len(value)]) + value.encode() + b"\0"
        else:
            out += string(value)
    return align(struct.pack("<cBBBIII", b"l", kind, flags, 1, len(body), serial, len(out)) + out, 8) + body


def read_fields(data, end):
    """-> {code: value} of a header"""
    fields, at = {}, HEADER
    while at < end:
        at += -at % 8
        code, kind = data[at], data[at + 2:at + 3]
        at += 4
        if kind == b"u":
            fields[code] = struct.unpack_from("<I", data, at)[0]
            at += 4
        else:
            n, skip = (data[at], 1) if kind == b"g" else (struct.unpack_from("<I", data, at)[0], 4)
            fields[code] = data[at + skip:at + skip + n].decode()
            at += skip + n + 1
    return fields


@contextlib.contextmanager
def identity(uid, gid, groups):
    """The user that this process is meanwhile, as a bus sees it."""
    before = os.getgroups()
    os.setgroups(groups)
    os.setegid(gid)
    os.seteuid(uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(before)


class Connection:
    """To a bus, of which descriptors can be sent."""

    def __init__(self, path, timeout):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(timeout)
        self.sock.connect(path)
        self.serial = 0
        uid = str(os.geteuid()).encode().hex().encode()
        for line, answer in ((b"\0AUTH EXTERNAL " + uid, b"OK"), (b"NEGOTIATE_UNIX_FD", b"AGREE_UNIX_FD")):
            self.sock.sendall(line + b"\r\n")
            assert self.sock.recv(1000).startswith(answer)
        self.sock.sendall(b"BEGIN\r\n")
        self.ask("Hello")

    def close(self):
        self.sock.close()

    def send(self, kind, fields, body=b"", flags=0, fds=()):
        """-> its serial number"""
        self.serial += 1
        fields = {**fields, **({UNIX_FDS: len(fds)} if fds else {})}
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        self.sock.sendmsg([message(kind, self.serial, fields, body, flags)], rights)
        return self.serial

    def _read(self, n):
        data = b""
        while len(data) < n:
            part, rights, _, _ = socket.recv_fds(self.sock, n - len(data), 16)
            for fd in rights:
                os.close(fd)
            if not part:
                raise EOFError("the bus has closed the connection")
            data += part
        return data

    def receive(self):
        """-> kind, header fields, body"""
        data = self._read(HEADER)
        _, kind, _, _, n_body, _, n_fields = struct.unpack("<cBBBIII", data)
        data += self._read(n_fields + -n_fields % 8)
        return kind, read_fields(data, HEADER + n_fields), self._read(n_body)

    def ask(self, member, signature="", body=b""):
        """Of the bus itself. -> kind and body of its answer, and what came before: header fields of messages"""
        more = {SIGNATURE: signature} if signature else {}
        serial = self.send(METHOD_CALL, {**DRIVER, MEMBER: member, **more}, body)
        before = []
        while True:
            kind, fields, answer = self.receive()
            if fields.get(REPLY_SERIAL) == serial:
                return kind, answer, before
            before.append(fields)
