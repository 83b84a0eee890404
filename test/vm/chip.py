#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""
The chip of the virtual machine: a swtpm, and between it and the machine a proxy that counts.

    chip.py FOLDER COMMAND...    runs the command; -> its exit status, 124 after TABRMD_VM_SECONDS

FOLDER/chip is the control channel for the machine's TPM; over FOLDER/asker the tests inside ask the proxy, a line of
JSON for each call and one for each answer: see test/lib/device.py.
"""

import contextlib
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import threading

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "lib"))

import proxy  # noqa: E402
import tpm  # noqa: E402
from process import Process, wait_until  # noqa: E402


class Chip(proxy.Proxy):
    """The machine hands over its data channel as a descriptor (CMD_SET_DATAFD); we keep it, and pass on one of ours."""

    def __init__(self, folder):
        super().__init__(lambda: self._data)
        self._data = None
        state, self._ctrl = folder / "tpm", str(folder / "swtpm")
        state.mkdir()
        self.process = Process("swtpm", ["swtpm", "socket", "--tpm2", "--tpmstate", "dir=%s" % state, "--ctrl",
                                         "type=unixio,path=" + self._ctrl], folder / "swtpm.log")
        wait_until(lambda: os.path.exists(self._ctrl), "swtpm starts", self.process.popen)
        self._bind(folder / "chip", self._serve_ctrl)
        self._bind(folder / "asker", self._serve_asker)

    def _bind(self, path, serve):
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(str(path))
        listener.listen()
        self.listen(listener, serve)

    def _serve_ctrl(self, client):
        with client, contextlib.suppress(OSError), tpm.connect_unix(self._ctrl, None) as upstream:
            threading.Thread(target=proxy.pump, args=(upstream, client), daemon=True).start()
            while True:
                data, fds, _, _ = socket.recv_fds(client, 4096, 1)
                if not data:
                    break
                if fds:
                    self._data, theirs = socket.socketpair()
                    socket.send_fds(upstream, [data], [theirs.fileno()])
                    theirs.close()
                    threading.Thread(target=self._serve, args=(socket.socket(fileno=fds[0]),), daemon=True).start()
                else:
                    upstream.sendall(data)

    # What the tests inside may ask for

    def _serve_asker(self, client):
        with client, contextlib.suppress(OSError):
            for line in client.makefile("r", encoding="ascii"):
                name, argument = json.loads(line)
                answer = getattr(self, "do_" + name)(argument)
                client.sendall(json.dumps(answer).encode() + b"\n")

    def do_ask(self, command):
        return self.ask(bytes.fromhex(command)).raw.hex()

    def do_commands(self, _):
        return self.commands

    def do_reset(self, _):
        self.reset()

    def do_hold(self, after):
        self.hold(after)

    def do_held(self, timeout):
        return self.held.wait(timeout)

    def do_release(self, _):
        self.release()


def main(folder, *command):
    chip = Chip(pathlib.Path(folder))
    try:
        with subprocess.Popen(["setpriv", "--pdeathsig", "KILL", *command], stdin=subprocess.DEVNULL) as machine:
            try:
                return machine.wait(int(os.environ.get("TABRMD_VM_SECONDS", "600")))
            except subprocess.TimeoutExpired:
                return 124
            finally:
                machine.kill()
    finally:
        chip.close()
        chip.process.end(signal.SIGTERM)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    sys.exit(main(*sys.argv[1:]))
