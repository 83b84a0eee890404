# SPDX-License-Identifier: BSD-2-Clause
"""
/dev/tpm0 of a virtual machine, whose chip stands behind a counting proxy outside: see test/vm/chip.py.

TABRMD_TPM=device makes it the TPM of the tests that run inside. It is the same one for all of them, and its power does
not go; what cannot be on it runs on a swtpm of its own as anywhere else.
"""

import functools
import json
import os
import threading

import proxy
import tpm

IS_DEVICE = os.environ.get("TABRMD_TPM") == "device"
CONF = "device:/dev/tpm0"
ASKER = "/dev/vport0p1"


class Held:
    """As the event of a proxy."""

    def __init__(self, chip):
        self._chip = chip

    def wait(self, timeout):
        return self._chip.call("held", timeout)


class Chip(proxy.Counter):
    """A proxy.Proxy that is somewhere else."""

    def __init__(self):
        self._lock = threading.Lock()
        self._file = open(ASKER, "r+b", buffering=0)
        self.held = Held(self)

    def call(self, name, argument=None):
        with self._lock:
            self._file.write(json.dumps([name, argument]).encode() + b"\n")
            line = b""
            while not line.endswith(b"\n"):
                line += self._file.read(4096) or b""
        return json.loads(line)

    @property
    def commands(self):
        return self.call("commands")

    def reset(self):
        self.call("reset")

    def hold(self, after=False):
        self.call("hold", after)

    def release(self):
        self.call("release")

    def ask(self, command):
        return tpm.Response(bytes.fromhex(self.call("ask", command.hex())))


@functools.cache
def chip():
    """It can be opened once."""
    return Chip()


class Device:
    """As tpms.Swtpm: .proxy, .conf; emptied of what whoever came before has left there."""

    conf = CONF

    def __init__(self):
        self.proxy = chip()
        for handles in self.proxy.holdings():
            for handle in handles:
                self.proxy.ask(tpm.flush_context(handle))
        while self.proxy.ask(tpm.clear()).rc == tpm.RC_RETRY:
            pass
        self.proxy.reset()

    def stop(self):
        self.proxy.release()


class File:
    """A device as tpm.Client wants it."""

    def __init__(self, path):
        self._fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)

    def settimeout(self, _):
        pass

    def sendall(self, data):
        os.write(self._fd, data)

    def recv(self, n):
        return os.read(self._fd, n)

    def close(self):
        os.close(self._fd)


def connect(path):
    """-> a client of /dev/tpm0, which must be free, or of /dev/tpmrm0"""
    return tpm.Client(File(path))
