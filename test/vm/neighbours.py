# SPDX-License-Identifier: BSD-2-Clause
"""
The kernel and its clients use the TPM past a daemon that is kept busy: trusted keys below a persistent parent, a key
that is loaded and used over /dev/tpmrm0, and the same with tpm2-tools. They must not fail more often beside ours than
beside tpm2-abrmd 3.0, and the daemon's clients must not fail at all.
"""

import collections
import errno
import multiprocessing
import os
import threading
import time

import device
import harness
import keyring
import tcti
import tpm

PARENT = 0x81000001
CLIENTS, KEYS, SESSIONS = 4, 4, 2
TURNS = int(os.environ.get("TABRMD_NEIGHBOUR_TURNS", "80"))
TOOL_TURNS = TURNS // 10

# The chip has a context gap of 65,535. To pass it takes more commands than a suite has time for.
FORGOTTEN, COMMANDS = 20, int(os.environ.get("TABRMD_NEIGHBOUR_COMMANDS", "400"))
SECONDS = int(os.environ.get("TABRMD_NEIGHBOUR_SECONDS", "60"))


def work(client, keys, sessions, stop, results):
    """Uses what the client has, in turn. results: how often that went well, and how often not"""
    commands = [tpm.sign(key, bytes(32)) for key in keys] + [tpm.policy_pcr(session) for session in sessions]
    good = bad = 0
    while not stop.is_set():
        for command in commands:
            if client.ask(command).rc:
                bad += 1
            else:
                good += 1
    results.put((good, bad))


def be_busy(clients, stop, results):
    threads = [threading.Thread(target=work, args=(*client, stop, results)) for client in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


class Users:
    """What uses the TPM past the daemon. failures, done: by kind"""

    def __init__(self, tools, open_now=True):
        self.done, self.failures = collections.Counter(), collections.Counter()
        self.tools = tools
        self.key = tools.path("key.pub").read_bytes(), tools.path("key.priv").read_bytes()
        self.kernel = device.connect("/dev/tpmrm0") if open_now else None

    def attempt(self, kind, function):
        self.done[kind] += 1
        try:
            return function()
        except (OSError, tpm.TpmError, AssertionError) as error:
            self.failures[kind] += 1
            self.failures["%s: %s" % (kind, str(error).replace("\n", " ")[-100:])] += 0
            return None

    def trusted_key(self, turn):
        options = "keyhandle=0x%x" % PARENT
        key = self.attempt("trusted key, seal", lambda: keyring.add("new%d" % turn, "new 32 " + options))
        if key is None:
            return
        blob = keyring.read(key)
        keyring.forget(key)
        key = self.attempt("trusted key, unseal", lambda: keyring.add("old%d" % turn, "load %s %s" % (blob, options)))
        if key is not None:
            keyring.forget(key)

    def load_and_sign(self):
        public, private = self.key
        handle = self.attempt("/dev/tpmrm0, load", lambda: self.kernel.run(
            tpm.command(tpm.CC_LOAD, [PARENT], private + public, [tpm.PASSWORD])).handle)
        if handle is not None:
            self.attempt("/dev/tpmrm0, sign", lambda: self.kernel.run(tpm.sign(handle, bytes(32))))
            self.attempt("/dev/tpmrm0, flush", lambda: self.kernel.run(tpm.flush_context(handle)))

    def load_and_sign_with_tools(self):
        self.tools.path("key.ctx").unlink(missing_ok=True)
        self.attempt("tpm2_load", lambda: self.tools("tpm2_load", "-Q", "-C", "0x%x" % PARENT, "-u", "key.pub", "-r",
                                                     "key.priv", "-c", "key.ctx"))
        if self.tools.path("key.ctx").exists():
            self.attempt("tpm2_sign", lambda: self.tools("tpm2_sign", "-Q", "-c", "key.ctx", "-g", "sha256", "-o",
                                                         "signature", "key.pub"))

    def visit(self):
        self.kernel = device.connect("/dev/tpmrm0")
        self.load_and_sign()
        self.kernel.close()

    def run(self):
        for turn in range(TURNS):
            self.trusted_key(turn)
            self.load_and_sign()
            if turn % (TURNS // TOOL_TURNS) == 0:
                self.load_and_sign_with_tools()
        self.kernel.close()


def make_parent(folder):
    """-> tools over /dev/tpmrm0, and below the parent key.pub and key.priv"""
    chip = device.Device().proxy
    key = chip.ask(tpm.create_primary(tpm.PUBLIC_ECC_PARENT)).handle
    for command in (tpm.evict_control(key, PARENT), tpm.flush_context(key)):
        answer = chip.ask(command)
        if answer.rc:
            raise tpm.TpmError(answer, command)
    tools = harness.Tools(folder / "tools", "device:/dev/tpmrm0")
    tools("tpm2_create", "-Q", "-C", "0x%x" % PARENT, "-G", "ecc:ecdsa", "-u", "key.pub", "-r", "key.priv")
    return tools


def connect_to(daemon):
    if isinstance(daemon, harness.Ours):
        return daemon.client()
    return tpm.Client(tcti.connect_bus(daemon.library, daemon.bus.address))


class Neighbours(harness.TestCase):
    def setUp(self):
        super().setUp()
        self.bus = self.start_bus()

    def beside(self, subject, options=()):
        """-> Users, and how many commands of the daemon's clients went well, and how many did not"""
        users = Users(make_parent(self.folder))
        daemon = self.start_daemon(device.CONF, subject, bus=self.bus, options=options)
        clients = []
        for _ in range(CLIENTS):
            client = connect_to(daemon)
            clients.append((client, [client.create_primary(tpm.PUBLIC_ECC_SIGN) for _ in range(KEYS)],
                            [client.start_session(tpm.SE_POLICY) for _ in range(SESSIONS)]))
        stop, results = multiprocessing.Event(), multiprocessing.Queue()
        busy = multiprocessing.Process(target=be_busy, args=(clients, stop, results), daemon=True)
        busy.start()
        try:
            users.run()
        finally:
            stop.set()
            done = [results.get(timeout=harness.HANG) for _ in clients]
            busy.join()
        for client, _, _ in clients:
            client.close()
        self.assertEqual(daemon.stop(), 0)
        return users, [sum(n) for n in zip(*done)]

    def test_beside_a_busy_daemon(self):
        theirs, their_clients = self.beside(harness.Peer)
        fixed, fixed_clients = self.beside(harness.Ours, ["--reserve=2"])
        ours, our_clients = self.beside(harness.Ours)
        print("# %-28s%24s%24s%24s" % ("failures of", "beside tpm2-abrmd 3.0", "ours, --reserve=2", "ours"))
        for kind in theirs.done:
            print("# %-28s%24s%24s%24s" % (kind, *("%d of %d" % (users.failures[kind], users.done[kind])
                                                   for users in (theirs, fixed, ours))))
        print("# %-28s%24s%24s%24s" % ("the daemon's clients", *(
            "%d of %d" % (bad, good + bad) for good, bad in (their_clients, fixed_clients, our_clients))))
        for name, users in (("tpm2-abrmd 3.0", theirs), ("ours, --reserve=2", fixed), ("ours", ours)):
            for kind in users.failures:
                if ": " in kind:
                    print("# beside %s: %s" % (name, kind))
        self.assertEqual(our_clients[1], 0)
        for kind in theirs.done:
            with self.subTest(kind):
                self.assertLessEqual(ours.failures[kind], theirs.failures[kind])


def start_and_end(n, until, results):
    """
    Sessions over /dev/tpmrm0, of which the kernel saves one context for each command. results: commands by code, or by
    the error of the kernel, which is what comes of a context that cannot be loaded any more.
    """
    codes = collections.Counter()
    while sum(codes.values()) < n and time.monotonic() < until:
        kernel = device.connect("/dev/tpmrm0")
        try:
            start_and_end_until_it_fails(kernel, n, until, codes)
        except OSError as error:
            codes[errno.errorcode[error.errno]] += 1
        finally:
            kernel.close()
    results.put(codes)


def start_and_end_until_it_fails(kernel, n, until, codes):
    while sum(codes.values()) < n and time.monotonic() < until:
        answer = kernel.ask(tpm.start_auth_session(tpm.SE_POLICY))
        codes["0x%x" % answer.rc] += 1
        if answer.rc:
            continue
        for command in [tpm.policy_pcr(answer.handle)] * 4 + [tpm.flush_context(answer.handle)]:
            codes["0x%x" % kernel.ask(command).rc] += 1


class Gap(harness.TestCase):
    """Sessions that the daemon's clients have forgotten keep no neighbour from saving theirs."""

    def setUp(self):
        super().setUp()
        self.bus = self.start_bus()

    def beside(self, subject):
        """-> commands of the neighbours, by code"""
        daemon = self.start_daemon(device.CONF, subject, bus=self.bus)
        clients = [daemon.client() for _ in range(FORGOTTEN)]
        for client in clients:
            client.start_session(tpm.SE_POLICY)
        results, until = multiprocessing.Queue(), time.monotonic() + SECONDS
        programs = [multiprocessing.Process(target=start_and_end, args=(COMMANDS // 2, until, results), daemon=True)
                    for _ in range(2)]
        for program in programs:
            program.start()
        codes = sum((results.get(timeout=SECONDS + harness.HANG) for _ in programs), collections.Counter())
        for program in programs:
            program.join()
        for client in clients:
            client.close()
        self.assertEqual(daemon.stop(), 0)
        return codes

    def test_beside_forgotten_sessions(self):
        theirs, ours = self.beside(harness.Peer), self.beside(harness.Ours)
        for name, codes in (("tpm2-abrmd 3.0", theirs), ("ours", ours)):
            print("# session commands of two programs beside %s: %s" % (
                name, ", ".join("%s: %d" % pair for pair in sorted(codes.items()))))
        self.assertEqual(set(ours), {"0x0"}, ours)


if __name__ == "__main__":
    harness.main()
