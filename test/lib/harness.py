# SPDX-License-Identifier: BSD-2-Clause
"""
What integration, compat and bench share: a software TPM behind a counting proxy, a private bus, the daemon under test
or its peer in front of it, and tpm2-tools pointed at them. All of it lives in a folder of its own, and ends by process
id.

    TABRMD_BUILD    the meson build directory with the daemon under test
    TABRMD_LIBRARY  the folder of its client library, where it is not that of TABRMD_BUILD (a tool without sanitizers
                    cannot load a library with them)
    TABRMD_PEER     tpm2-abrmd 3.0, unpacked by fetch-peer.sh; by default peer/ in the build directory
    TABRMD_SUBJECT  "peer": run the tests against tpm2-abrmd 3.0 instead, to see them fail where it does
"""

import contextlib
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback
import unittest

import proxy
import tcti
import tpm

BUILD = pathlib.Path(os.environ.get("TABRMD_BUILD", "build")).absolute()
LIBRARY = pathlib.Path(os.environ.get("TABRMD_LIBRARY", BUILD / "src/tcti")).absolute()
PEER = pathlib.Path(os.environ.get("TABRMD_PEER", BUILD / "peer")).absolute()
IS_PEER = os.environ.get("TABRMD_SUBJECT") == "peer"
HELPER = BUILD / "src/helper/tpm2-abrmd-helper"
BUS_NAME = "com.intel.tss2.Tabrmd"

HANG = 60  # seconds after which something is said to hang; nothing that works comes near it
TICKS = os.sysconf("SC_CLK_TCK")
SANITIZER_WORDS = ("AddressSanitizer", "LeakSanitizer", "runtime error:", "UndefinedBehaviorSanitizer")


def peer_library():
    return next(iter(PEER.glob("usr/lib/*/libtss2-tcti-tabrmd.so.0"))).parent


def wait_until(condition, what, process=None, timeout=HANG):
    """Asks again and again; ends early when the process has ended. -> what the condition gave"""
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if process and process.poll() is not None:
            raise RuntimeError("%s: the process ended with %s" % (what, process.returncode))
        if time.monotonic() > deadline:
            raise TimeoutError(what)
        time.sleep(0.005)


def runs(pid):
    with contextlib.suppress(FileNotFoundError):
        return pathlib.Path("/proc/%d/stat" % pid).read_text().rpartition(")")[2].split()[0] not in "ZX"
    return False


class Process:
    """A child with its output in a file. It ends with us, however we end, but not on a Ctrl-C that is meant for us."""

    def __init__(self, name, argv, log, env=None):
        self.name = name
        self.log = pathlib.Path(log)
        with open(self.log, "ab") as output:
            self.popen = subprocess.Popen(["setpriv", "--pdeathsig", "TERM", *map(str, argv)], stdin=subprocess.DEVNULL,
                                          stdout=output, stderr=subprocess.STDOUT, env=env, cwd=self.log.parent,
                                          start_new_session=True)

    @property
    def pid(self):
        return self.popen.pid

    def alive(self):
        return self.popen.poll() is None

    def output(self):
        return self.log.read_text(errors="replace")

    def end(self, sig=signal.SIGTERM, timeout=HANG):
        """-> exit status; negative: the signal that ended it"""
        if self.alive():
            self.popen.send_signal(sig)
        return self.wait(timeout)

    def wait(self, timeout=HANG):
        try:
            return self.popen.wait(timeout)
        except subprocess.TimeoutExpired:
            self.popen.kill()
            self.popen.wait()
            raise TimeoutError("%s does not end" % self.name) from None

    def cpu_ticks(self):
        fields = pathlib.Path("/proc/%d/stat" % self.pid).read_text().rpartition(")")[2].split()
        return int(fields[11]) + int(fields[12])

    def memory_kib(self):
        for line in pathlib.Path("/proc/%d/status" % self.pid).read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1])
        raise RuntimeError("no VmRSS")


class Swtpm:
    """A software TPM behind a counting proxy: .proxy, .conf (a TCTI name)."""

    def __init__(self, folder, started=True):
        self.folder = pathlib.Path(folder)
        self.state = self.folder / "tpm"
        self.state.mkdir(parents=True, exist_ok=True)
        self.data, self.ctrl = str(self.folder / "data"), str(self.folder / "ctrl")
        self.process = None
        self.start(started)
        self.proxy = proxy.SwtpmProxy(self.data, self.ctrl)
        self.conf = "swtpm:host=127.0.0.1,port=%d" % self.proxy.port

    def start(self, started=True):
        """started: TPM2_Startup was done"""
        for path in (self.data, self.ctrl):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
        self.process = Process("swtpm", [
            "swtpm", "socket", "--tpm2", "--tpmstate", "dir=%s" % self.state,
            "--server", "type=unixio,path=" + self.data, "--ctrl", "type=unixio,path=" + self.ctrl, "--flags",
            "not-need-init" + ",startup-clear" * started,
        ], self.folder / "swtpm.log")
        wait_until(lambda: can_connect(self.ctrl), "swtpm starts", self.process.popen)

    def restart(self):
        """The power goes and comes back."""
        self.process.end(signal.SIGKILL)
        self.start()
        self.proxy.reconnect()

    def stop(self):
        self.proxy.close()
        self.process.end()


class TcpSwtpm:
    """A software TPM with nobody in between, for measuring."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        (self.folder / "tpm").mkdir(parents=True, exist_ok=True)
        for attempt in range(20):
            first, second = proxy.bind_pair()
            self.port = first.getsockname()[1]
            first.close()
            second.close()
            self.process = Process("swtpm", [
                "swtpm", "socket", "--tpm2", "--tpmstate", "dir=%s" % (self.folder / "tpm"),
                "--server", "type=tcp,bindaddr=127.0.0.1,port=%d" % self.port,
                "--ctrl", "type=tcp,bindaddr=127.0.0.1,port=%d" % (self.port + 1),
                "--flags", "not-need-init,startup-clear",
            ], self.folder / "swtpm.log")
            try:
                wait_until(lambda: "Listening" in self.process.output() or self.listens(), "swtpm starts",
                           self.process.popen)
                break
            except RuntimeError:  # somebody took a port in the meantime
                if attempt == 19:
                    raise
        self.conf = "swtpm:host=127.0.0.1,port=%d" % self.port

    def listens(self):
        """Without a connection, which swtpm would take for its client."""
        for path in ("/proc/net/tcp", "/proc/net/tcp6"):
            with contextlib.suppress(OSError):
                for line in pathlib.Path(path).read_text().splitlines()[1:]:
                    fields = line.split()
                    if fields[3] == "0A" and int(fields[1].rpartition(":")[2], 16) == self.port:
                        return True
        return False

    def stop(self):
        self.process.end()


def can_connect(path):
    try:
        tpm.connect_unix(path, HANG).close()
        return True
    except OSError:
        return False


BUS_CONFIG = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>session</type>
  <listen>unix:path=%s</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/><allow own="*"/>
  </policy>
</busconfig>
"""


class Bus:
    def __init__(self, folder):
        path = str(pathlib.Path(folder) / "bus")
        config = pathlib.Path(folder) / "bus.conf"
        config.write_text(BUS_CONFIG % path)
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


def clean_env(**more):
    """Nothing of whoever runs the tests, and above all not the way to their bus or TPM."""
    env = {k: v for k, v in os.environ.items()
           if not k.startswith(("DBUS_", "TPM2", "TSS2", "TCTI", "TABRMD_", "LD_", "NOTIFY_", "XDG_"))}
    env.update(LC_ALL="C", ASAN_OPTIONS="quarantine_size_mb=1:detect_leaks=%d" % (os.geteuid() == 0),
               UBSAN_OPTIONS="print_stacktrace=1")
    env["DBUS_SYSTEM_BUS_ADDRESS"] = env["DBUS_SESSION_BUS_ADDRESS"] = "unix:path=/nonexistent"
    env.update(more)
    return env


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
    binary = BUILD / "src/daemon/tpm2-abrmd"
    library = LIBRARY

    def argv(self, conf, unix, options):
        argv = [self.binary, "--tcti=" + conf, *self.root_option(), *options]
        if unix:
            self.socket = str(self.folder / "tpm.sock")
            argv.append("--socket=" + self.socket)
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

    def client(self, timeout=HANG):
        return tpm.Client(tpm.connect_unix(self.socket, timeout), timeout)

    @property
    def socket_conf(self):
        return "tabrmd:socket=" + self.socket

    bus_conf = "tabrmd:bus_type=session"


class Peer(Broker):
    """tpm2-abrmd 3.0. It needs a bus."""

    name = "peer"
    binary = PEER / "usr/sbin/tpm2-abrmd"

    def argv(self, conf, unix, options):
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


class FakeTpm:
    """test/lib/fake-tpm.h behind the ports of an swtpm: .conf. Options as in fake-tpm-server.c: "gap=255"."""

    def __init__(self, folder, *options):
        self.process = Process("fake-tpm", [BUILD / "test/lib/fake-tpm", *("--" + option for option in options)],
                               pathlib.Path(folder) / "fake-tpm.log", clean_env())
        wait_until(lambda: "ready" in self.process.output(), "the fake TPM starts", self.process.popen)
        self.port = int(self.process.output().partition("ready ")[2].split()[0])
        self.conf = "swtpm:host=127.0.0.1,port=%d" % self.port

    def control(self, request, n_answer=4):
        """One request of its control port. -> what follows the result"""
        with socket.create_connection(("127.0.0.1", self.port + 1), HANG) as sock:
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


def make_folder():
    return pathlib.Path(tempfile.mkdtemp(prefix="tabrmd-"))


class TestCase(unittest.TestCase):
    """A folder, and whatever was started in it; at the end everything must have ended well."""

    def setUp(self):
        self.folder = make_folder()
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        self.addCleanup(self._check_logs)
        self.daemon = None

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

    def start_bus(self):
        bus = Bus(self.folder)
        self.addCleanup(bus.stop)
        return bus

    def start_daemon(self, conf, subject=Ours, **keywords):
        """It must end with 0 on SIGTERM once the test is over, unless the test ended it."""
        daemon = subject(self.folder, conf, **keywords)
        self.addCleanup(self._end_daemon, daemon)
        return daemon

    def _end_daemon(self, daemon):
        if not daemon.stopped:
            self.assertTrue(daemon.process.alive(), "the daemon has ended by itself")
            self.assertEqual(daemon.stop(), 0, "the daemon's exit status on SIGTERM")

    def start_subject(self, **keywords):
        """Makes self.tpm, a software TPM; self.proxy, which counts in front of it; self.daemon, the one under test."""
        self.tpm = self.start_swtpm()
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

    def assertIdle(self, seconds=1.0, share=0.2):
        """The daemon does not spin."""
        before = self.daemon.process.cpu_ticks()
        time.sleep(seconds)
        used = (self.daemon.process.cpu_ticks() - before) / TICKS
        self.assertLess(used, seconds * share, "CPU seconds of the daemon")

    def assertServes(self, client=None):
        client = client or self.connect()
        self.assertEqual(client.ask(tpm.get_random()).rc, 0)


class TapResult(unittest.TestResult):
    """What meson reads: a line for each test. What went wrong goes to standard error, which meson shows."""

    def __init__(self):
        super().__init__()
        self.number = 0
        self.bad = {}

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


def main():
    """Runs the module's tests, or those named: TAP on standard output."""
    names = sys.argv[1:]
    module = sys.modules["__main__"]
    loader = unittest.TestLoader()
    suite = loader.loadTestsFromNames(names, module) if names else loader.loadTestsFromModule(module)
    result = TapResult()
    try:
        suite.run(result)
    except Exception:  # pylint: disable=broad-except
        traceback.print_exc()
        print("Bail out!")
        sys.exit(1)
    other = len([1 for test, _ in result.errors if not isinstance(test, unittest.TestCase)])
    for n in range(other):
        print("not ok %d - set-up of the module" % (result.number + n + 1))
    print("1..%d" % (result.number + other))
    sys.exit(0 if result.wasSuccessful() and result.number else 1)
