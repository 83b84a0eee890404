# SPDX-License-Identifier: BSD-2-Clause
"""tabrmctl, asked by root and by others, over the bus and over the private socket."""

import grp
import json
import os
import shutil
import subprocess
import threading
import unittest

import harness
import tpm
from process import OTHER_USER, refusal

NOBODY = 65534
EX_USAGE, EX_UNAVAILABLE, EX_NOPERM, FAILED, NO_TPM = 64, 69, 77, 1, 3

# A client that is another user: it sends what it is told, in hexadecimal, and says what was answered.
CLIENT = """
import socket, sys
sock = socket.socket(socket.AF_UNIX)
sock.connect(sys.argv[1])
for line in sys.stdin:
    sock.sendall(bytes.fromhex(line))
    print(sock.recv(16384).hex(), flush=True)
"""


def member():
    """-> setpriv's options for somebody in group tss; skips the test where it may not be another user"""
    if reason := refusal(*OTHER_USER):
        raise unittest.SkipTest(reason)
    group = str(grp.getgrnam("tss").gr_gid)
    return ["setpriv", "--reuid", str(NOBODY), "--regid", str(NOBODY), "--groups", group, "--"]


class TestCase(harness.TestCase):
    """A daemon with a bus and a private socket. self.where is how tabrmctl finds it."""

    by_bus = True

    def setUp(self):
        super().setUp()
        if os.geteuid():
            self.skipTest("the manager answers to root alone")
        self.folder.chmod(0o755)  # for the other user
        self.program = shutil.copy(harness.built("src/ctl/tabrmctl"), self.folder)
        self.manager = str(self.folder / "manager.sock")
        self.where = ["--session"] if self.by_bus else ["--socket", self.manager]
        self.env = harness.clean_env(DBUS_SESSION_BUS_ADDRESS="unix:path=%s/bus" % self.folder,
                                     DBUS_SYSTEM_BUS_ADDRESS="unix:path=%s/bus" % self.folder)

    def start(self, **keywords):
        options = ["--manager=" + self.manager, *keywords.pop("options", [])]
        self.start_subject(bus=self.bus or self.start_bus(), options=options, **keywords)

    def ctl(self, *arguments, status=0, user=(), where=None):
        """-> what it says; on standard error, when it fails"""
        argv = [*user, self.program, *(self.where if where is None else where), *map(str, arguments)]
        done = subprocess.run(argv, env=self.env, cwd=self.folder, stdin=subprocess.DEVNULL, capture_output=True,
                              text=True, timeout=harness.HANG, check=False)
        self.assertEqual(done.returncode, status, "%s\n%s%s" % (argv, done.stdout, done.stderr))
        if "trace" not in arguments:  # which says there at the end how many it has shown
            self.assertEqual(done.stdout if status not in (0, NO_TPM) else done.stderr, "")
        return done.stderr if status not in (0, NO_TPM) else done.stdout

    def json(self, *arguments, **keywords):
        return json.loads(self.ctl("--json", *arguments, **keywords))

    def work(self):
        """-> ends it; until then commands are sent: of all kinds that a record can be of"""
        client = self.connect()
        ending = threading.Event()

        def run():
            while not ending.is_set():
                client.create_primary(tpm.public_hmac_key(b"1"))
                client.ask(tpm.read_public(0x80000000))
                client.ask(tpm.flush_context(0x80000000))
                client.ask(tpm.command(0x2FFFFFFF))

        thread = threading.Thread(target=run)
        thread.start()

        def end():
            ending.set()
            thread.join()
        return end

    def start_other(self):
        """-> a client of another user, in group tss; ask() sends a command"""
        process = subprocess.Popen([*member(), "/usr/bin/python3", "-c", CLIENT, self.daemon.socket],
                                   stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd="/")
        self.addCleanup(process.wait)
        self.addCleanup(process.stdout.close)
        self.addCleanup(process.stdin.close)
        return Other(process)


class Other:
    def __init__(self, process):
        self.pid = process.pid
        self._process = process

    def ask(self, command):
        """-> the response"""
        self._process.stdin.write(command.hex() + "\n")
        self._process.stdin.flush()
        return bytes.fromhex(self._process.stdout.readline())
