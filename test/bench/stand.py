# SPDX-License-Identifier: BSD-2-Clause
"""
What is measured, and on which processors: TPMs, the bare forwarding proxy, tpm2-abrmd 3.0 and ours by each of its
doors, each with a TPM of its own. `load` asks them (test/bench/load.c).

BENCH_CPUS=CLIENT,TPM,DAEMON names the processor of each; by default all share the last one there is. What one thread
hands to the next is then the sum of what both take, and runs can be compared: on two processors the scheduler decides.
"""

import contextlib
import os
import pathlib
import select
import subprocess

import harness
import proxy
from process import children

ALL_CPUS = os.sched_getaffinity(0)
BARE, PROXY, PEER = "bare TPM", "bare proxy", "3.0"
OURS, OURS_LIBRARY, OURS_BUS = "ours, socket", "ours, library", "ours, D-Bus"
SUBJECTS = (BARE, PROXY, PEER, OURS, OURS_LIBRARY, OURS_BUS)
OURS_NAME = "com.intel.tss2.TabrmdBench"
PEER_CLIENTS = 100  # it takes no more


def processors():
    """-> {"client": N, "tpm": N, "daemon": N}"""
    given = [int(cpu) for cpu in os.environ.get("BENCH_CPUS", str(max(ALL_CPUS))).split(",")]
    return dict(zip(("client", "tpm", "daemon"), given * 3 if len(given) == 1 else given, strict=True))


@contextlib.contextmanager
def pinned(what):
    """What is started here runs on that processor; None: on any but that of clients, where there is one."""
    before = os.sched_getaffinity(0)
    mine = {processors()[what]} if what else ALL_CPUS - {processors()["client"]} or ALL_CPUS
    os.sched_setaffinity(0, mine)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


class ChipTpm:
    """test/bench/chip.c: .conf (a TCTI name), .address (HOST:PORT). chip: of test/lib/fake-chips.c, or None"""

    def __init__(self, folder, chip=None, percent=100):
        folder.mkdir(parents=True, exist_ok=True)
        first, second = proxy.bind_pair()
        host, port = first.getsockname()
        first.close()
        second.close()
        self.conf = "swtpm:host=%s,port=%d" % (host, port)
        self.address = "%s:%d" % (host, port)
        self._ctrl = (host, port + 1)
        argv = [harness.built("test/bench/chip"), self.address, *([chip, percent] if chip else [])]
        self.process = harness.Process("chip", argv, folder / "chip.log", harness.clean_env())
        harness.wait_until(lambda: "ready" in self.process.output(), "the TPM starts", self.process.popen)

    def count(self):
        """-> commands so far"""
        with harness.socket.create_connection(self._ctrl, harness.HANG) as sock:
            sock.sendall(harness.tpm.u32(0x1000))
            return int.from_bytes(harness.tpm.read_exactly(sock, 8)[4:], "big")

    def stop(self):
        self.process.end()


def cpu_ns(pid):
    """Of all threads of a process and of its children"""
    total = 0
    for one in [pid, *children(pid)]:
        for task in pathlib.Path("/proc/%d/task" % one).iterdir():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                total += int((task / "schedstat").read_text().split()[0])
    return total


def pss_kib(pid):
    """-> None where only root may know it"""
    with contextlib.suppress(PermissionError):
        for line in pathlib.Path("/proc/%d/smaps_rollup" % pid).read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1])
    return None


class Subject:
    """wire: as wire.h has it; pid: of the daemon, or None; flushes: clients flush for themselves"""

    def __init__(self, name, wire, tpm, pid=None, flushes=False, socket=None):
        self.name, self.wire, self.tpm, self.pid, self.flushes = name, wire, tpm, pid, flushes
        self.socket = socket


class Load:
    """A running `load`."""

    def __init__(self, subject, workload, clients, bus):
        argv = [harness.BUILD / "test/bench/load", workload, clients, int(subject.flushes), subject.wire]
        env = harness.clean_env(DBUS_SESSION_BUS_ADDRESS=bus.address)
        with pinned("client"):
            self.popen = subprocess.Popen([str(a) for a in argv], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                          text=True, env=env)
        if self._line() != "ready":
            raise RuntimeError("%s, %s, %d clients: they do not get ready" % (subject.name, workload, clients))

    def _line(self):
        if not select.select([self.popen.stdout], [], [], 2 * harness.HANG)[0]:
            self.popen.kill()
            raise TimeoutError("load hangs")
        return self.popen.stdout.readline().strip()

    def run(self, ms, active):
        """-> runs, refused ones, commands, ns; median, 99th percentile and longest of the runs in ns"""
        self.popen.stdin.write("%d %d\n" % (ms, active))
        self.popen.stdin.flush()
        return [int(number) for number in self._line().split()]

    def end(self):
        with contextlib.suppress(BrokenPipeError):
            self.popen.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.popen.wait(2 * harness.HANG)
        self.popen.kill()
        self.popen.wait()
        self.popen.stdout.close()


class Stand:
    """All subjects, each on a TPM made by make_tpm(folder): .subjects, .bus, .folder"""

    def __init__(self, stack, make_tpm, names=SUBJECTS, options=()):
        self.folder = harness.make_folder()
        stack.callback(harness.shutil.rmtree, self.folder, ignore_errors=True)
        with pinned("daemon"):
            self.bus = harness.Bus(self.folder)
        stack.callback(self.bus.stop)
        self.subjects, self.daemons = {}, {}
        for name in names:
            folder = self.folder / name.replace(" ", "-").replace(",", "")
            with pinned("tpm"):
                tpm = make_tpm(folder)
            stack.callback(tpm.stop)
            with pinned("daemon"):
                self.subjects[name] = self._start(stack, name, folder, tpm, options)

    def _start(self, stack, name, folder, tpm, options):
        if name == BARE:
            return Subject(name, "tcp:" + tpm.address, tpm, flushes=True)
        if name == PROXY:
            path = str(folder / "proxy.sock")
            process = harness.Process(name, [harness.BUILD / "test/bench/forwarder", path, tpm.address],
                                      folder / "proxy.log")
            stack.callback(process.end)
            harness.wait_until(lambda: os.path.exists(path), "the proxy starts", process.popen)
            return Subject(name, "unix:" + path, tpm, process.pid, flushes=True)
        if name == PEER:
            daemon = harness.Peer(folder, tpm.conf, bus=self.bus, options=["--max-connections=%d" % PEER_CLIENTS])
            wire = "%s/libtss2-tcti-tabrmd.so.0:bus_type=session" % daemon.library
        elif name == OURS_BUS:
            daemon = harness.Ours(folder, tpm.conf, bus=self.bus, unix=False,
                                  options=["--dbus-name", OURS_NAME, "--max-connections=4096", *options])
            wire = "%s/libtss2-tcti-tabrmd.so.0:bus_type=session,bus_name=%s" % (daemon.library, OURS_NAME)
        else:
            manager = "--manager=%s" % (folder / "manager.sock")
            daemon = harness.Ours(folder, tpm.conf, options=["--max-connections=4096", manager, *options])
            wire = "unix:" + daemon.socket
            if name == OURS_LIBRARY:
                wire = "%s/libtss2-tcti-tabrmd.so.0:socket=%s" % (daemon.library, daemon.socket)
        stack.callback(daemon.stop)
        self.daemons[name] = daemon
        return Subject(name, wire, tpm, daemon.process.pid, socket=daemon.socket)

    def load(self, name, workload, clients):
        return Load(self.subjects[name], workload, clients, self.bus)
