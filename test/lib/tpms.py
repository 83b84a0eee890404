# SPDX-License-Identifier: BSD-2-Clause
"""The TPMs of tests: swtpm behind a counting proxy, swtpm itself, and the fake one."""

import contextlib
import os
import pathlib
import signal
import socket
import struct

import proxy
import tpm
from process import HANG, Process, can_connect, clean_env, listens, wait_until

BUILD = pathlib.Path(os.environ.get("TABRMD_BUILD", "build")).absolute()


class Swtpm:
    """
    A software TPM behind a counting proxy: .proxy, .conf (a TCTI name). Or with nobody in between.

    It is on Unix sockets, which our daemon knows and the TCTI of libtss2 3.2 does not; tcp: the proxy is on TCP ports.
    """

    def __init__(self, folder, started=True, proxied=True, version="2.0", tcp=False):
        self.folder = pathlib.Path(folder)
        self.state = self.folder / "tpm"
        self.state.mkdir(parents=True, exist_ok=True)
        self.data, self.ctrl = str(self.folder / "data"), str(self.folder / "data.ctrl")
        self.process = None
        self.version = version
        self.start(started)
        path = None if tcp else str(self.folder / "proxy")
        self.proxy = proxy.SwtpmProxy(self.data, self.ctrl, path) if proxied else None
        self.conf = self.proxy.conf if proxied else "swtpm:path=" + self.data

    def start(self, started=True):
        """started: TPM2_Startup was done"""
        for path in (self.data, self.ctrl):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
        self.process = Process("swtpm", [
            "swtpm", "socket", *["--tpm2"] * (self.version == "2.0"), "--tpmstate", "dir=%s" % self.state,
            "--server", "type=unixio,path=" + self.data, "--ctrl", "type=unixio,path=" + self.ctrl, "--flags",
            "not-need-init" + ",startup-clear" * started,
        ], self.folder / "swtpm.log")
        wait_until(lambda: listens(self.data) and can_connect(self.ctrl), "swtpm starts", self.process.popen)

    def restart(self):
        """The power goes and comes back."""
        self.process.end(signal.SIGKILL)
        self.start()
        if self.proxy:
            self.proxy.reconnect()

    # Its state, over the control channel: CMD_INIT, CMD_GET_STATEBLOB, CMD_SET_STATEBLOB, CMD_STOP of swtpm

    def _control(self, *words, data=b"", n_answer=4):
        """-> what follows the result"""
        with tpm.connect_unix(self.ctrl, HANG) as sock:
            sock.sendall(b"".join(map(tpm.u32, words)) + data)
            answer = tpm.read_exactly(sock, n_answer)
            if answer[:4] != bytes(4):
                raise ValueError("swtpm refuses %r" % (words,))
            return answer[4:] + (tpm.read_exactly(sock, int.from_bytes(answer[12:16], "big")) if n_answer > 4 else b"")

    def snapshot(self):
        """-> all that it is at the moment, permanent and volatile"""
        return [self._control(12, 1, blob, 0, n_answer=16)[12:] for blob in (1, 2)]

    def put_back(self, snapshot):
        """As with a virtual machine that goes back to a snapshot: connections stay, and nobody is told."""
        self._control(14)
        for blob, data in zip((1, 2), snapshot):
            self._control(13, 1, blob, len(data), data=data)
        self._control(2, 0)

    def stop(self):
        if self.proxy:
            self.proxy.close()
        self.process.end()


class TcpSwtpm:
    """A software TPM with nobody in between, for measuring: .conf (a TCTI name), .address (HOST:PORT)."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        (self.folder / "tpm").mkdir(parents=True, exist_ok=True)
        for attempt in range(20):
            first, second = proxy.bind_pair()
            self.host, self.port = first.getsockname()
            first.close()
            second.close()
            self.process = Process("swtpm", [
                "swtpm", "socket", "--tpm2", "--tpmstate", "dir=%s" % (self.folder / "tpm"),
                "--server", "type=tcp,bindaddr=%s,port=%d" % (self.host, self.port),
                "--ctrl", "type=tcp,bindaddr=%s,port=%d" % (self.host, self.port + 1),
                "--flags", "not-need-init,startup-clear",
            ], self.folder / "swtpm.log")
            try:
                wait_until(lambda: "Listening" in self.process.output() or self.listens(), "swtpm starts",
                           self.process.popen)
                break
            except RuntimeError:  # somebody took a port in the meantime
                if attempt == 19:
                    raise
        self.conf = "swtpm:host=%s,port=%d" % (self.host, self.port)
        self.address = "%s:%d" % (self.host, self.port)

    def listens(self):
        """Without a connection, which swtpm would take for its client."""
        local = "%08X:%04X" % (*struct.unpack("=I", socket.inet_aton(self.host)), self.port)
        sockets = [line.split() for line in pathlib.Path("/proc/net/tcp").read_text().splitlines()]
        return any(fields[1] == local and fields[3] == "0A" for fields in sockets)

    def stop(self):
        self.process.end()


class Chip:
    """The fake TPM with the sizes of a real chip (test/lib/fake-chips.c), behind a counting proxy."""

    def __init__(self, folder, name, percent=1):
        self.folder = pathlib.Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.fake = FakeTpm(self.folder, "chip=%s:%d" % (name, percent))
        self.process = self.fake.process
        with tpm.Client(tpm.connect_unix(self.fake.data, HANG)) as client:
            client.run(tpm.command(0x144, parameters=tpm.u16(0), tag=tpm.ST_NO_SESSIONS))  # Startup, as of an swtpm
        self.proxy = proxy.SwtpmProxy(self.fake.data, self.fake.ctrl, str(self.folder / "proxy"))
        self.conf = self.proxy.conf

    def stop(self):
        self.proxy.close()
        self.fake.stop()


class FakeTpm:
    """test/lib/fake-tpm.h behind the sockets of an swtpm: .conf. Options as in fake-tpm-server.c: "gap=255"."""

    def __init__(self, folder, *options):
        path = str(pathlib.Path(folder) / "fake-tpm")
        argv = [BUILD / "test/lib/fake-tpm", path, *("--" + option for option in options)]
        self.process = Process("fake-tpm", argv, path + ".log", clean_env())
        wait_until(lambda: "ready" in self.process.output(), "the fake TPM starts", self.process.popen)
        self.data, self.ctrl = path, path + ".ctrl"
        self.conf = "swtpm:path=" + path

    def control(self, request, n_answer=4):
        """One request of its control channel. -> what follows the result"""
        with tpm.connect_unix(self.ctrl, HANG) as sock:
            sock.sendall(request)
            answer = tpm.read_exactly(sock, n_answer)
        if answer[:4] != bytes(4):
            raise ValueError("the fake TPM refuses %r" % request)
        return answer[4:]

    def option(self, text):
        """fault=..., fail, heal"""
        self.control(tpm.u32(0x1001) + text.encode())

    def reset(self):
        """The power goes and comes back."""
        self.control(tpm.u32(2) + tpm.u32(0))

    def count(self, code=0):
        """-> commands of that code so far; 0: all"""
        return int.from_bytes(self.control(tpm.u32(0x1000) + tpm.u32(code), 8), "big")

    def stop(self):
        self.process.end()
