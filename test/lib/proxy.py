# SPDX-License-Identifier: BSD-2-Clause
"""
Stands between somebody and a TPM, passes on whole commands, and counts them.

Upstream there is one connection for all who come: swtpm serves one at a time, and libtss2's swtpm TCTI makes a new one
for each command. So the TPM can also be asked directly while a daemon is using it.
"""

import collections
import contextlib
import random
import socket
import struct
import threading

import tpm

CONNECT_TIMEOUT = 30


def code_of(command):
    return struct.unpack(">I", command[6:10])[0]


class Counter:
    """commands: the codes that passed, in their order; ask(): past everybody, straight to the TPM, uncounted."""

    def count(self):
        return len(self.commands)

    def by_code(self):
        return collections.Counter("0x%x" % c for c in self.commands)

    def handles(self, first):
        return tpm.parse_handles(self.ask(tpm.get_capability(tpm.CAP_HANDLES, first, 254)))

    def holdings(self):
        """-> what lies in the TPM: transient objects, loaded sessions, saved sessions"""
        return tuple(self.handles(t) for t in (tpm.HT_TRANSIENT, tpm.HT_LOADED_SESSION, tpm.HT_SAVED_SESSION))


class Proxy(Counter):
    def __init__(self, connect):
        self._connect = connect
        self._upstream = None
        self._lock = threading.Lock()
        self._threads_end = False
        self._listeners = []
        self._gate = threading.Event()
        self._gate.set()
        self._held_after = False
        self.held = threading.Event()
        self.commands = []

    def close(self):
        self._threads_end = True
        self._gate.set()
        for listener in self._listeners:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        with self._lock:
            self._hang_up()

    def reset(self):
        self.commands = []

    # Holding a command back, so that something can happen while it runs

    def hold(self, after=False):
        """From now on commands wait: before the TPM sees them, or (after) with their answer. held: one does."""
        self.held.clear()
        self._held_after = after
        self._gate.clear()

    def release(self):
        self._gate.set()

    def _wait(self, after):
        if self._held_after == after and not self._gate.is_set():
            self.held.set()
            self._gate.wait()

    # The TPM itself

    def _hang_up(self):
        if self._upstream:
            self._upstream.close()
        self._upstream = None

    def reconnect(self):
        """The TPM behind us was started anew."""
        with self._lock:
            self._hang_up()

    def _exchange(self, command):
        if not self._upstream:
            self._upstream = self._connect()
            self._upstream.settimeout(None)
        self._upstream.sendall(command)
        answer = tpm.read_message(self._upstream)
        if answer is None:
            self._hang_up()
            raise ConnectionError("the TPM has gone")
        return answer

    def ask(self, command):
        with self._lock:
            return tpm.Response(self._exchange(command))

    # Doors

    def listen(self, listener, serve=None):
        self._listeners.append(listener)
        threading.Thread(target=self._accept, args=(listener, serve or self._serve), daemon=True).start()

    def _accept(self, listener, serve):
        while not self._threads_end:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            if client.family == socket.AF_INET:
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=serve, args=(client,), daemon=True).start()

    def _serve(self, client):
        with client, contextlib.suppress(OSError, ValueError):
            while True:
                command = tpm.read_message(client)
                if command is None:
                    return
                self._wait(after=False)
                with self._lock:
                    self.commands.append(code_of(command))
                    answer = self._exchange(command)
                self._wait(after=True)
                client.sendall(answer)


class StreamCounter(Proxy):
    """Counts commands of clients of a Unix socket; each has a connection of its own behind us, too."""

    def __init__(self, path, upstream_path):
        super().__init__(None)
        self._upstream_path = upstream_path
        self.listen(listen_unix(path))

    def _serve(self, client):
        with client, contextlib.suppress(OSError, ValueError), tpm.connect_unix(self._upstream_path, None) as upstream:
            while True:
                command = tpm.read_message(client)
                if command is None:
                    return
                with self._lock:
                    self.commands.append(code_of(command))
                upstream.sendall(command)
                answer = tpm.read_message(upstream)
                if answer is None:
                    return
                client.sendall(answer)


def pump(source, sink):
    with contextlib.suppress(OSError):
        while True:
            data = source.recv(4096)
            if not data:
                break
            sink.sendall(data)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)


class SwtpmProxy(Proxy):
    """
    In front of a swtpm on Unix sockets: .conf (a TCTI name). It listens at a path, with the control channel at
    PATH.ctrl, or without one on two TCP ports, for clients that know only these.
    """

    def __init__(self, data_path, ctrl_path, path=None):
        super().__init__(lambda: tpm.connect_unix(data_path, CONNECT_TIMEOUT))
        self._ctrl_path = ctrl_path
        data, ctrl = (listen_unix(path), listen_unix(path + ".ctrl")) if path else bind_pair()
        self.conf = "swtpm:path=" + path if path else "swtpm:host=%s,port=%d" % data.getsockname()
        self.listen(data)
        self.listen(ctrl, self._serve_ctrl)

    def _serve_ctrl(self, client):
        with client, contextlib.suppress(OSError), tpm.connect_unix(self._ctrl_path, None) as upstream:
            back = threading.Thread(target=pump, args=(upstream, client), daemon=True)
            back.start()
            pump(client, upstream)
            back.join()


def listen_unix(path):
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(path)
    listener.listen(64)
    return listener


def bind_pair():
    """
    -> two listeners on loopback, the second one's port being that of the first plus one

    The address is any of 127.0.0.0/8: on 127.0.0.1 the ports can run out, since connections that have ended keep theirs
    for a minute.
    """
    for _ in range(1000):
        host = "127.%d.%d.%d" % tuple(random.randrange(1, 255) for _ in range(3))
        first = socket.create_server((host, 0))
        try:
            return first, socket.create_server((host, first.getsockname()[1] + 1))
        except (OSError, OverflowError):
            first.close()
    raise OSError("no two free ports side by side")
