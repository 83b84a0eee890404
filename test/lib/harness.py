# SPDX-License-Identifier: BSD-2-Clause
"""
What integration, compat and bench share: a software TPM behind a counting proxy, a private bus, the daemon under test
or its peer in front of it, and tpm2-tools pointed at them. All of it lives in a folder of its own, and ends by process
id.

    TABRMD_BUILD    the meson build directory with the daemon under test
    TABRMD_LIBRARY  the folder of its client library, where it is not that of TABRMD_BUILD (a tool without sanitizers
                    cannot load a library with them)
    TABRMD_PEER     tpm2-abrmd 3.0, unpacked by fetch-peer.sh; by default peer/ in the build directory
    TABRMD_PROMTOOL of the distribution's prometheus, unpacked by fetch-peer.sh; by default in prometheus/ there
    TABRMD_DOOR     "bus": the daemon under test has no socket, and clients come by D-Bus
    TABRMD_TPM      "device": the TPM is /dev/tpm0 of a virtual machine, where one can be enough (test/lib/device.py)
                    "chip:NAME": a fake TPM with the sizes of a real chip (test/lib/fake-chips.c)
    TABRMD_ALL_TOOLS a test for which a program is missing fails, and is not skipped
    TABRMD_SUBJECT  "peer": run the tests against tpm2-abrmd 3.0 instead, to see them fail where it does
"""

import contextlib
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback
import unittest

import tcti
import tpm
from device import IS_DEVICE, Device
# Some of these are for those who import this.
from process import (  # noqa: F401
    ALL_TOOLS, HANG, TICKS, MissingTool, Process, can_connect, children, clean_env, runs, wait_until)
from tpms import BUILD, Chip, FakeTpm, Swtpm, TcpSwtpm  # noqa: F401

LIBRARY = pathlib.Path(os.environ.get("TABRMD_LIBRARY", BUILD / "src/tcti")).absolute()
PEER = pathlib.Path(os.environ.get("TABRMD_PEER", BUILD / "peer")).absolute()
BY_BUS = os.environ.get("TABRMD_DOOR") == "bus"
CHIP = os.environ.get("TABRMD_TPM", "").partition("chip:")[2]
SLOTS = 5 if CHIP == "npct75x" else 3  # for objects, and as many for sessions
IS_PEER = os.environ.get("TABRMD_SUBJECT") == "peer"
HELPER = BUILD / "src/helper/tpm2-abrmd-helper"
DAEMON = BUILD / "src/daemon/tpm2-abrmd"
IS_SANITIZED = DAEMON.exists() and b"__asan_init" in DAEMON.read_bytes()
NO_CHORES = ["--idle-evict=0"] if IS_DEVICE else []  # where commands are counted; elsewhere it is the default
BUS_NAME = "com.intel.tss2.Tabrmd"

# LeakSanitizer says so when a thread of the helper ends while it looks; a leak would be another line.
SANITIZER_NOISE = re.compile(r"==\d+==Unable to get registers from thread")
SANITIZER_WORDS = ("AddressSanitizer", "LeakSanitizer", "runtime error:", "UndefinedBehaviorSanitizer")


def built(path):
    """-> a program of the build; raises MissingTool where the build is without it, for lack of a library"""
    if not (BUILD / path).exists():
        raise MissingTool("%s is not built" % pathlib.Path(path).name)
    return BUILD / path


def peer_library():
    found = list(PEER.glob("usr/lib/*/libtss2-tcti-tabrmd.so.0"))
    if not found:
        raise MissingTool("there is no tpm2-abrmd 3.0: see test/lib/fetch-peer.sh")
    return found[0].parent


BUS_CONFIG = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>session</type>
  <listen>unix:path=%s</listen>
  %s
  <auth>EXTERNAL</auth>
  <limit name="max_completed_connections">4096</limit>
  <limit name="max_connections_per_user">4096</limit>
  <policy context="default">
    <allow user="*"/>
    <allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/><allow own="%s"/>
  </policy>
</busconfig>
"""


class Bus:
    def __init__(self, folder, services=None, own="*"):
        """services: {name: the command that is to be started for it}; own: the name that may be had"""
        path = str(pathlib.Path(folder) / "bus")
        config = pathlib.Path(folder) / "bus.conf"
        activated = pathlib.Path(folder) / "services"
        config.write_text(BUS_CONFIG % (path, "<servicedir>%s</servicedir>" % activated if services else "", own))
        for name, command in (services or {}).items():
            activated.mkdir(exist_ok=True)
            (activated / (name + ".service")).write_text("[D-BUS Service]\nName=%s\nExec=%s\n" % (name, command))
        self.address = "unix:path=" + path
        self.process = Process("dbus-daemon", ["dbus-daemon", "--nofork", "--config-file", config],
                               pathlib.Path(folder) / "bus.log")
        wait_until(lambda: can_connect(path), "the bus starts", self.process.popen)

    def call(self, destination, path, method, *arguments):
        """-> CompletedProcess of dbus-send"""
        argv = ["dbus-send", "--bus=" + self.address, "--print-reply", "--dest=" + destination, path, method]
        return subprocess.run(argv + list(arguments), capture_output=True, text=True, timeout=HANG, check=False)

    def has_owner(self, name):
        done = self.call("org.freedesktop.DBus", "/", "org.freedesktop.DBus.GetNameOwner", "string:" + name)
        return done.returncode == 0

    def stop(self):
        self.process.end()


class Broker:
    """Ours, or the peer: .client() is a raw connection, .library the folder of its client library."""

    def __init__(self, folder, conf, bus=None, options=(), wrap=(), unix=True, ready=True, env=None):
        self.folder = pathlib.Path(folder)
        self.bus = bus
        self.socket = None
        self.stopped = False
        environment = clean_env(**(env or {}))
        argv = self.argv(conf, unix, options)
        if bus:
            environment["DBUS_SESSION_BUS_ADDRESS"] = bus.address
        self.process = Process(self.name, [*wrap, *argv], self.folder / (self.name + ".log"), environment)
        if ready:
            try:
                wait_until(self.is_ready, self.name + " gets ready", self.process.popen)
            except Exception:
                self.process.popen.kill()
                self.process.popen.wait()
                raise

    def is_ready(self):
        return self.bus.has_owner(BUS_NAME)

    @staticmethod
    def root_option():
        return ["--allow-root"] if os.geteuid() == 0 else []

    def stop(self, sig=signal.SIGTERM):
        """-> exit status"""
        self.stopped = True
        return self.process.end(sig)

    def wait(self):
        """It ends by itself. -> exit status"""
        self.stopped = True
        return self.process.wait()


class Ours(Broker):
    name = "tpm2-abrmd"
    binary = DAEMON
    library = LIBRARY

    def argv(self, conf, unix, options):
        argv = [self.binary, "--tcti=" + conf, *self.root_option(), *options]
        if unix:
            self.socket = str(self.folder / "tpm.sock")
            argv.append("--socket=" + self.socket)
        else:
            argv.append("--no-socket")
        argv.append("--session" if self.bus else "--no-dbus")
        return argv

    def __init__(self, folder, *arguments, env=None, **keywords):
        notify = str(pathlib.Path(folder) / "notify")
        more = {"TABRMD_HELPER": str(HELPER), "NOTIFY_SOCKET": notify}
        with contextlib.suppress(FileNotFoundError):
            os.unlink(notify)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as self._notify:
            self._notify.bind(notify)
            super().__init__(folder, *arguments, env={**more, **(env or {})}, **keywords)

    def is_ready(self):
        """As the service manager would hear of it: a trial connection might count against a limit for a moment."""
        with contextlib.suppress(BlockingIOError):
            return b"READY=1" in self._notify.recv(1000)
        return False

    def stream(self, timeout=HANG):
        """-> a connection, as a socket, on which refusals have codes of layer 11"""
        if self.socket:
            return tpm.say_hello(tpm.connect_unix(self.socket, timeout))
        return tcti.BusStream(self.library, self.bus.address)

    def client(self, timeout=HANG):
        if self.socket:
            return tpm.Client(tpm.connect_unix(self.socket, timeout), timeout, hello=True)
        return tpm.Client(self.stream(timeout), timeout)

    def context(self, by_bus=False):
        """-> a context of our library"""
        if by_bus:
            return tcti.over_bus(self.library, self.bus.address)
        return tcti.Tcti(self.library / "libtss2-tcti-tabrmd.so.0", "socket=" + self.socket)

    @property
    def socket_conf(self):
        return "tabrmd:socket=" + self.socket

    bus_conf = "tabrmd:bus_type=session"

    @property
    def conf(self):
        """The name of our TCTI, by whichever door there is."""
        return self.socket_conf if self.socket else self.bus_conf


class Peer(Broker):
    """tpm2-abrmd 3.0. It needs a bus."""

    name = "peer"
    binary = PEER / "usr/sbin/tpm2-abrmd"

    def argv(self, conf, unix, options):
        peer_library()
        return [self.binary, "--tcti=" + conf, "--session", *self.root_option(), *options]

    @property
    def library(self):
        return peer_library()

    bus_conf = "tabrmd:bus_type=session"

    def client(self, timeout=HANG):
        return tpm.Client(tcti.connect_bus(self.library, self.bus.address), timeout)


class Tools:
    """tpm2-tools in a folder of their own."""

    def __init__(self, folder, conf, library=None, bus=None):
        self.folder = pathlib.Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.env = clean_env(TPM2TOOLS_TCTI=conf)
        if library:
            self.env["LD_LIBRARY_PATH"] = str(library)
        if bus:
            self.env["DBUS_SESSION_BUS_ADDRESS"] = bus.address

    def path(self, name):
        return self.folder / name

    def attempt(self, *argv, **keywords):
        """-> CompletedProcess with bytes"""
        return subprocess.run([str(a) for a in argv], cwd=self.folder, env=self.env, capture_output=True,
                              timeout=HANG * 5, check=False, **keywords)

    def __call__(self, *argv, **keywords):
        """-> standard output, as bytes. A tool that fails raises."""
        done = self.attempt(*argv, **keywords)
        if done.returncode or b"ERROR" in done.stderr:
            raise AssertionError("%s: %d\n%s" % (" ".join(map(str, argv)), done.returncode,
                                                 done.stderr.decode(errors="replace")))
        return done.stdout


def make_folder():
    return pathlib.Path(tempfile.mkdtemp(prefix="tabrmd-"))


class TestCase(unittest.TestCase):
    """A folder, and whatever was started in it; at the end everything must have ended well."""

    def setUp(self):
        self.folder = make_folder()
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        self.addCleanup(self._check_logs)
        self.daemon = None
        self.bus = None

    def _check_logs(self):
        logs = {path: path.read_text(errors="replace") for path in sorted(self.folder.rglob("*.log"))}
        bad = [path.name for path, text in logs.items() if any(word in text for word in SANITIZER_WORDS)]
        errors = getattr(self._outcome, "result", None)
        if bad or (errors and any(test is self for test, _ in errors.failures + errors.errors)):
            self._show(logs)
        self.assertEqual(bad, [], "a sanitizer has something to say")

    def _show(self, logs):
        for path, text in logs.items():
            lines = [line for line in text.splitlines() if "Failed to set fd limit" not in line]
            print("--- %s of %s" % (path.name, self.id()), *lines[-60:], sep="\n", file=sys.stderr)

    def start_swtpm(self, **keywords):
        swtpm = Swtpm(self.folder / "swtpm", **keywords)
        self.addCleanup(swtpm.stop)
        return swtpm

    def start_tpm(self, **keywords):
        """-> a TPM behind a proxy: of its own, or what there is"""
        if CHIP:
            chip = Chip(self.folder / "chip", CHIP)
            self.addCleanup(chip.stop)
            return chip
        if not IS_DEVICE:
            return self.start_swtpm(**keywords)
        device = Device()
        self.addCleanup(device.stop)
        return device

    def start_bus(self, **keywords):
        self.bus = Bus(self.folder, **keywords)
        self.addCleanup(self.bus.stop)
        return self.bus

    def start_daemon(self, conf, subject=Ours, **keywords):
        """It must end with 0 on SIGTERM once the test is over, unless the test ended it."""
        if BY_BUS and subject is Ours and "bus" not in keywords:
            keywords.update(bus=self.bus or self.start_bus(), unix=False)
        daemon = subject(self.folder, conf, **keywords)
        self.addCleanup(self._end_daemon, daemon)
        return daemon

    def _end_daemon(self, daemon):
        if not daemon.stopped:
            self.assertTrue(daemon.process.alive(), "the daemon has ended by itself")
            self.assertEqual(daemon.stop(), 0, "the daemon's exit status on SIGTERM")

    def start_subject(self, **keywords):
        """Makes self.tpm, a TPM; self.proxy, which counts in front of it; self.daemon, the one under test."""
        self.tpm = self.start_tpm(tcp=IS_PEER)
        self.proxy = self.tpm.proxy
        if IS_PEER:
            keywords.setdefault("bus", self.start_bus())
        self.daemon = self.start_daemon(self.tpm.conf, Peer if IS_PEER else Ours, **keywords)

    def connect(self, **keywords):
        client = self.daemon.client(**keywords)
        self.addCleanup(client.close)
        return client

    def assertTpmEmpty(self):
        """Nothing of any client lies in the TPM, or will before long."""
        try:
            wait_until(lambda: self.proxy.holdings() == ([], [], []), "the TPM is emptied", timeout=20)
        except TimeoutError:
            self.assertEqual(self.proxy.holdings(), ([], [], []), "transient, loaded and saved handles left in the TPM")

    def cpu_share(self, seconds):
        before = self.daemon.process.cpu_ticks()
        time.sleep(seconds)
        return (self.daemon.process.cpu_ticks() - before) / TICKS / seconds

    def assertIdle(self, seconds=1.0, share=0.2):
        """The daemon does not spin."""
        used = self.cpu_share(seconds)
        for _ in range(20 * IS_DEVICE):  # what was asked of it before takes its time, emulated
            if used < share:
                break
            used = self.cpu_share(seconds)
        self.assertLess(used, share, "share of a CPU that the daemon takes")

    def assertServes(self, client=None):
        client = client or self.connect()
        self.assertEqual(client.ask(tpm.get_random()).rc, 0)


def needs_cryptography(test):
    """Decorates tests that check an HMAC or a digest, or use PCRs."""
    return unittest.skipIf(CHIP, "the fake TPM has no cryptography")(test)


def by_socket_only(test_case):
    """Decorates tests of what the bus has not, such as reserved codes, and long ones that no door matters to."""
    return None if BY_BUS else test_case


class TapResult(unittest.TestResult):
    """What meson reads: a line for each test. What went wrong goes to standard error, which meson shows."""

    def __init__(self):
        super().__init__()
        self.number = 0

    @staticmethod
    def _is_of_subprocess(error):
        """Whether a program could not be started that was named without a folder."""
        frames = [frame.filename for frame in traceback.extract_tb(error.__traceback__)]
        return frames[-1] == subprocess.__file__ and "/" not in str(error.filename or "/")

    @staticmethod
    def _missing(error):
        """-> which program is missing, where that is the error; None in ./check, which has installed all of them"""
        if isinstance(error, FileNotFoundError) and TapResult._is_of_subprocess(error):
            error = MissingTool("there is no %s" % error.filename)
        return str(error) if isinstance(error, MissingTool) and not ALL_TOOLS else None

    def addError(self, test, err):
        if reason := self._missing(err[1]):
            self.addSkip(test, reason)
        else:
            super().addError(test, err)

    def addSubTest(self, test, subtest, err):
        if reason := err and self._missing(err[1]):
            self.addSkip(test, reason)
        else:
            super().addSubTest(test, subtest, err)

    def stopTest(self, test):
        super().stopTest(test)
        self.number += 1
        name = test.id().partition(".")[2] or test.id()
        reason = dict((t, text) for t, text in self.skipped).get(test)
        failed = [text for t, text in self.failures + self.errors if t is test or getattr(t, "test_case", None) is test]
        print("%s %d - %s%s" % ("not ok" if failed else "ok", self.number, name, " # SKIP " + reason if reason else ""))
        sys.stdout.flush()
        for text in failed:
            print("--- " + name, text, sep="\n", file=sys.stderr)


def all_tests(suite):
    for test in suite:
        yield from all_tests(test) if isinstance(test, unittest.TestSuite) else [test]


def main(skip=None):
    """
    Runs the module's tests, or those named: TAP on standard output. With --list it prints their names instead; with
    --skip REASON, or skip, it only says of each that it is skipped.
    """
    names = sys.argv[1:]
    if names[:1] == ["--skip"]:
        skip, names = names[1], names[2:]
    module = sys.modules["__main__"]
    loader = unittest.TestLoader()
    listed = names[:1] == ["--list"]
    names = names[listed:]
    suite = loader.loadTestsFromNames(names, module) if names else loader.loadTestsFromModule(module)
    if listed:
        print("\n".join(test.id().partition(".")[2] for test in all_tests(suite)))
        return
    if skip:
        tests = list(all_tests(suite))
        for n, test in enumerate(tests):
            print("ok %d - %s # SKIP %s" % (n + 1, test.id().partition(".")[2], skip))
        print("1..%d" % len(tests))
        return
    result = TapResult()
    try:
        suite.run(result)
    except Exception:  # pylint: disable=broad-except
        traceback.print_exc()
        print("Bail out!")
        sys.exit(1)
    # Set-ups of a class or of the module, whose tests are not counted
    others = [("not ok", test, "", text) for test, text in result.errors if not isinstance(test, unittest.TestCase)]
    others += [("ok", test, " # SKIP " + text, text) for test, text in result.skipped
               if not isinstance(test, unittest.TestCase)]
    for n, (word, test, directive, text) in enumerate(others):
        print("%s %d - %s%s" % (word, result.number + n + 1, test.id(), directive))
        print(text, file=sys.stderr)
    print("1..%d" % (result.number + len(others)))
    sys.exit(0 if result.wasSuccessful() and result.number else 1)
