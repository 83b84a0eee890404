# SPDX-License-Identifier: BSD-2-Clause
"""Processes that tests start, wait for and end, by process id; and the programs and privileges that they need."""

import contextlib
import ctypes
import functools
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import time
import unittest

import tpm

HANG = 60  # seconds after which something is said to hang; nothing that works comes near it
TICKS = os.sysconf("SC_CLK_TCK")
ALL_TOOLS = bool(os.environ.get("TABRMD_ALL_TOOLS"))  # ./check has installed every program: a missing one is a failure


class MissingTool(Exception):
    """A program that is not installed; TapResult skips the test, except in ./check."""


def find_tool(program):
    """Raises MissingTool where a program that is named without a folder is not installed."""
    if "/" not in str(program) and not shutil.which(program):
        raise MissingTool("there is no %s" % program)


@functools.cache
def refusal(*argv):
    """Tries a command. -> "" where it succeeds, otherwise its reason. A missing program is none: see find_tool()."""
    try:
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=HANG, check=False)
    except FileNotFoundError:
        return "" if ALL_TOOLS else "there is no %s" % argv[0]
    if done.returncode == 0:
        return ""
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    return lines[-1] if lines else "%s ends with %d" % (argv[0], done.returncode)


def needs(*argv):
    """
    Decorates tests that need a privilege: they are skipped where this harmless command, which needs it too, is refused.
    """
    reason = refusal(*argv)
    return unittest.skipIf(reason, reason)


# Namespaces and mounts of one's own, as the tests use them; another user's identity; looking into another process.
MOUNT = ["unshare", *["-r"] * (os.geteuid() != 0), "-m", "sh", "-ec", "mount -t tmpfs tmpfs /mnt"]
PID_NAMESPACE = ["unshare", *["-r"] * (os.geteuid() != 0), "-p", "-f", "--kill-child", "true"]
OTHER_USER = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "true"]
# The daemon is not dumpable, so that a strace without privileges cannot read its memory.
TRACE = ["sh", "-c", """strace --version >/dev/null || exit 0
program='import ctypes; ctypes.CDLL(None).prctl(4, 0, 0, 0, 0); open("/dev/null")'
strace -e trace=openat /usr/bin/python3 -c "$program" 2>&1 | grep -q '"/dev/null"' && exit
echo 'strace may not read the memory of the daemon' >&2
exit 1"""]

# Taking a descriptor from another process, with descriptor_of().
DESCRIPTOR = [sys.executable, "-c", """import ctypes, os, sys
libc = ctypes.CDLL(None)
libc.prctl(4, 0, 0, 0, 0)
if os.fork() == 0:
    os._exit(libc.syscall(438, os.pidfd_open(os.getppid()), 0, 0) < 0)
os.wait()[1] and sys.exit("descriptors of the daemon may not be taken")"""]


def descriptor_of(pid, fd):
    """-> the socket that another process has"""
    pidfd = os.pidfd_open(pid)
    try:
        return socket.socket(fileno=ctypes.CDLL(None).syscall(438, pidfd, fd, 0))  # pidfd_getfd()
    finally:
        os.close(pidfd)


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


def as_user(user):
    """-> what a command begins with that is to run as that user, with their groups"""
    return ["setpriv", "--reuid=" + user, "--regid=" + user, "--init-groups", "--"] if user else []


def run(*argv, user=None, check=True, **keywords):
    """-> CompletedProcess, with text. One that fails raises, with all that it said, unless check is false."""
    keywords = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "timeout": HANG * 10, **keywords}
    find_tool(argv[0])
    argv = [str(a) for a in (*as_user(user), *argv)]
    done = subprocess.run(argv, text=True, errors="replace", check=False, **keywords)
    if check and done.returncode:
        raise AssertionError("%s: %d\n%s%s" % (" ".join(argv), done.returncode, done.stdout, done.stderr or ""))
    return done


def runs(pid):
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return pathlib.Path("/proc/%d/stat" % pid).read_text().rpartition(")")[2].split()[0] not in "ZX"
    return False


def children(pid):
    """-> process ids"""
    return [int(child) for child in pathlib.Path("/proc/%d/task/%d/children" % (pid, pid)).read_text().split()]


class Process:
    """A child with its output in a file. It ends with us, however we end, but not on a Ctrl-C that is meant for us."""

    def __init__(self, name, argv, log, env=None):
        find_tool(argv[0])
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


@functools.cache
def can_detect_leaks():
    """
    LeakSanitizer wants to trace its process, which ordinary users may not do with the daemon, and some containers
    forbid.
    """
    program = pathlib.Path(os.environ.get("TABRMD_BUILD", "build"), "src/daemon/tpm2-abrmd").absolute()
    if os.geteuid() or not program.exists():
        return False
    done = subprocess.run([program, "--version"], env={**os.environ, "ASAN_OPTIONS": "detect_leaks=1"},
                          stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=HANG, check=False)
    return "LeakSanitizer has encountered a fatal error" not in done.stderr


def clean_env(**more):
    """Nothing of whoever runs the tests, and above all not the way to their bus or TPM."""
    env = {k: v for k, v in os.environ.items()
           if not k.startswith(("DBUS_", "TPM2", "TSS2", "TCTI", "TABRMD_", "LD_", "NOTIFY_", "XDG_"))}
    env.update(LC_ALL="C", ASAN_OPTIONS="quarantine_size_mb=1:detect_leaks=%d" % can_detect_leaks(),
               UBSAN_OPTIONS="print_stacktrace=1")
    env["DBUS_SYSTEM_BUS_ADDRESS"] = env["DBUS_SESSION_BUS_ADDRESS"] = "unix:path=/nonexistent"
    env.update(more)
    return env


def listens(path):
    """Whether a Unix socket does, without a connection, which swtpm would take for its client."""
    lines = pathlib.Path("/proc/net/unix").read_text().splitlines()
    return any(line.endswith(" " + path) and line.split()[3] == "00010000" for line in lines)


def can_connect(path):
    try:
        tpm.connect_unix(path, HANG).close()
        return True
    except OSError:
        return False
