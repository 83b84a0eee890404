# SPDX-License-Identifier: BSD-2-Clause
"""
A TCTI library from Python: only what it takes to get at the connection that it makes.

The library runs in a process of its own, since the one of tpm2-abrmd 3.0 keeps its connection to the bus for as long
as the process lives.

    tcti.py LIBRARY CONF FD    sends the connection over the socket FD
"""

import ctypes
import os
import socket
import subprocess
import sys

INIT = ctypes.CFUNCTYPE(ctypes.c_uint32, ctypes.c_void_p, ctypes.POINTER(ctypes.c_size_t), ctypes.c_char_p)


class Context(ctypes.Structure):
    """TSS2_TCTI_CONTEXT_COMMON_V1"""
    _fields_ = [
        ("magic", ctypes.c_uint64),
        ("version", ctypes.c_uint32),
        ("transmit", ctypes.c_void_p),
        ("receive", ctypes.c_void_p),
        ("finalize", ctypes.c_void_p),
        ("cancel", ctypes.c_void_p),
        ("get_poll_handles", ctypes.c_void_p),
        ("set_locality", ctypes.c_void_p),
    ]


class PollHandle(ctypes.Structure):
    _fields_ = [("fd", ctypes.c_int), ("events", ctypes.c_short), ("revents", ctypes.c_short)]


GET_POLL_HANDLES = ctypes.CFUNCTYPE(ctypes.c_uint32, ctypes.c_void_p, ctypes.POINTER(PollHandle),
                                    ctypes.POINTER(ctypes.c_size_t))


FINALIZE = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
TRANSMIT = ctypes.CFUNCTYPE(ctypes.c_uint32, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p)
RECEIVE = ctypes.CFUNCTYPE(ctypes.c_uint32, ctypes.c_void_p, ctypes.POINTER(ctypes.c_size_t), ctypes.c_char_p,
                           ctypes.c_int32)
CANCEL = ctypes.CFUNCTYPE(ctypes.c_uint32, ctypes.c_void_p)
SET_LOCALITY = ctypes.CFUNCTYPE(ctypes.c_uint32, ctypes.c_void_p, ctypes.c_uint8)
BLOCK = -1


class Tcti:
    def __init__(self, library, conf):
        init = INIT(("Tss2_Tcti_Tabrmd_Init", ctypes.CDLL(str(library))))
        size = ctypes.c_size_t(0)
        rc = init(None, ctypes.byref(size), None)
        if rc:
            raise OSError("Tss2_Tcti_Tabrmd_Init: size: 0x%x" % rc)
        self._buffer = ctypes.create_string_buffer(size.value)
        self._address = ctypes.cast(self._buffer, ctypes.c_void_p)
        rc = init(self._address, ctypes.byref(size), conf.encode())
        if rc:
            raise ConnectionError("Tss2_Tcti_Tabrmd_Init: 0x%x" % rc)
        self._context = ctypes.cast(self._buffer, ctypes.POINTER(Context)).contents

    def finalize(self):
        FINALIZE(self._context.finalize)(self._address)

    def transmit(self, command):
        """-> response code of the library"""
        return TRANSMIT(self._context.transmit)(self._address, len(command), command)

    def receive(self, timeout=BLOCK):
        """-> response code of the library, response"""
        buffer, size = ctypes.create_string_buffer(16384), ctypes.c_size_t(16384)
        rc = RECEIVE(self._context.receive)(self._address, ctypes.byref(size), buffer, timeout)
        return rc, buffer.raw[:size.value]

    def cancel(self):
        """-> response code of the library"""
        return CANCEL(self._context.cancel)(self._address)

    def set_locality(self, locality):
        """-> response code of the library"""
        return SET_LOCALITY(self._context.set_locality)(self._address, locality)

    def fileno(self):
        handle, n = PollHandle(), ctypes.c_size_t(1)
        rc = GET_POLL_HANDLES(self._context.get_poll_handles)(self._address, ctypes.byref(handle), ctypes.byref(n))
        if rc:
            raise OSError("getPollHandles: 0x%x" % rc)
        return handle.fd


def over_bus(folder, address):
    os.environ["DBUS_SESSION_BUS_ADDRESS"] = address
    return Tcti(folder / "libtss2-tcti-tabrmd.so.0", "bus_type=session")


class BusStream(socket.socket):
    """A connection that our library made over a bus, in this process: it lives as long as what made it."""

    def __init__(self, folder, address):
        self._tcti = over_bus(folder, address)
        super().__init__(fileno=os.dup(self._tcti.fileno()))

    def close(self):
        super().close()
        self._tcti.finalize()


def connect_bus(folder, address, conf="bus_type=session"):
    """-> the connection that the library in this folder makes over this bus"""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        env = dict(os.environ, DBUS_SESSION_BUS_ADDRESS=address)
        argv = [sys.executable, __file__, str(folder / "libtss2-tcti-tabrmd.so.0"), conf, str(theirs.fileno())]
        done = subprocess.run(argv, env=env, pass_fds=[theirs.fileno()], capture_output=True, text=True, timeout=60,
                              check=False)
        if done.returncode:
            raise ConnectionError(done.stderr.strip().rpartition("\n")[2])
        _, fds, _, _ = socket.recv_fds(ours, 1, 1)
        return socket.socket(fileno=fds[0])


def main(library, conf, fd):
    tcti = Tcti(library, conf)
    socket.send_fds(socket.socket(fileno=int(fd)), [b"!"], [tcti.fileno()])
    os._exit(0)  # without finalizing: the connection is not ours any more


if __name__ == "__main__":
    main(*sys.argv[1:])
