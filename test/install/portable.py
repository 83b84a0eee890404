# SPDX-License-Identifier: BSD-2-Clause
"""
The client library with another libc, and all of it on a machine with the other order of bytes, emulated.

BUILD/s390x and what lies below it is kept for the next time.
"""

import functools
import os
import pathlib
import re
import subprocess
import threading
import unittest

import harness
import workout
from process import find_tool, run

ROOT = pathlib.Path(__file__).parents[2]
S390X = harness.BUILD / "s390x"
S390X_BUILD = S390X / "build"
EMULATOR = ["qemu-s390x", "-L", S390X / "root"]
# Not those that take long, emulated; start other programs; ask the kernel what they are called; or limit their memory.
UNITS = """broker broker-report frontend-unix fuzz-core fuzz-reader fuzz-tcti resmgr-capability resmgr-edges
    resmgr-edges-fake resmgr-edges-repair resmgr-faults resmgr-objects resmgr-power resmgr-report tcti
    tcti-conf tcti-parts tcti-process tcti-restart tpm""".split()


class Musl(harness.TestCase):
    """The client library and a program that uses it, with no other header than those of musl and tpm2-tss."""

    def setUp(self):
        super().setUp()
        find_tool("musl-gcc")
        self.build = self.folder / "build"
        include = self.folder / "include"
        include.mkdir()
        (include / "tss2").symlink_to(run("pkg-config", "--variable=includedir", "tss2-mu").stdout.strip() + "/tss2")
        flags = "-isystem%s" % include
        run("meson", "setup", "--werror", "-Dclient_only=true", "-Dtests=disabled", "-Dc_args=" + flags, self.build,
            ROOT, env={**os.environ, "CC": "musl-gcc"})
        run("meson", "compile", "-C", self.build)
        self.library = self.build / "src/tcti/libtss2-tcti-tabrmd.so.0"
        self.client = self.folder / "client"
        (self.folder / "own").mkdir()
        (self.folder / "own/tss2").symlink_to(ROOT / "src/tcti/tss2")
        run("musl-gcc", "-Wall", "-Wextra", "-Werror", "-I%s" % (self.folder / "own"), flags,
            ROOT / "test/install/client.c", self.library, "-o", self.client, "-Wl,-rpath," + str(self.library.parent))

    def talk(self, conf):
        """Does what the client says, which see."""
        actions = {"hold": self.proxy.hold, "wait": lambda: self.proxy.held.wait(harness.HANG),
                   "release": self.proxy.release}
        env = harness.clean_env(DBUS_SESSION_BUS_ADDRESS=self.bus.address)
        with subprocess.Popen([self.client, conf], env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, bufsize=1) as client:
            timer = threading.Timer(harness.HANG, client.kill)
            timer.start()
            for name, action in actions.items():
                self.assertEqual(client.stdout.readline(), name + "\n")
                action()
                client.stdin.write("\n")
            rest, _ = client.communicate()
            timer.cancel()
        self.assertEqual((client.returncode, rest), (0, ""))

    def test_library_and_program(self):
        for path in self.library, self.client:
            needed = re.findall(r"\(NEEDED\).*\[(.*)\]", run("readelf", "--dynamic", path).stdout)
            self.assertEqual(set(needed) - {self.library.name}, {"libc.so"}, path)
        self.start_subject(bus=self.start_bus())
        for conf in "socket=" + self.daemon.socket, "bus_type=session":
            with self.subTest(conf):
                self.talk(conf)
        self.assertTpmEmpty()


@functools.cache
def fetch_s390x():
    """-> why the libraries of that machine cannot be had; "" when they are there"""
    done = run(ROOT / "test/lib/fetch-s390x.sh", S390X / "root", check=False)
    if done.returncode not in (0, 77):
        raise AssertionError(done.stderr)
    return done.stderr.splitlines()[-1] if done.returncode else ""


def build_s390x(*targets):
    for program in ("s390x-linux-gnu-gcc", EMULATOR[0]):
        find_tool(program)
    if reason := fetch_s390x():
        raise unittest.SkipTest(reason)
    if not (S390X_BUILD / "build.ninja").exists():
        run("meson", "setup", "--werror", "--cross-file", S390X / "root/s390x.ini", "-Dlibtpms=enabled",
            "-Dtests=enabled", "-Doptimization=0", "-Ddebug=false", S390X_BUILD, ROOT)
    run("ninja", "-C", S390X_BUILD, *targets)


class BigEndian(harness.TestCase):
    def test_units(self):
        build_s390x("src/tpm/libtpm.a")
        output = run("meson", "test", "-C", S390X_BUILD, "--print-errorlogs", "--num-processes", "2", *UNITS).stdout
        self.assertRegex(output, r"(?m)^Ok:\s+%d\s*$" % len(UNITS))

    def test_simulation(self):
        build_s390x("test/sim/sim")
        run(*EMULATOR, S390X_BUILD / "test/sim/sim", "--seeds", "5", "--faults")


class BigEndianDaemon(harness.Ours):
    binary = S390X_BUILD / "src/daemon/tpm2-abrmd"


class BigEndianWithTools(workout.Workout, harness.TestCase):
    """tpm2-tools and client library of this machine, the daemon of the other."""

    workers, rounds = 3, 1

    def setUp(self):
        super().setUp()
        build_s390x("src/daemon/tpm2-abrmd")
        self.tpm = self.start_tpm()
        self.proxy = self.tpm.proxy
        self.daemon = self.start_daemon(self.tpm.conf, BigEndianDaemon, wrap=EMULATOR)
        self.addCleanup(self.assertTpmEmpty)

    def door(self):
        return self.daemon.conf, self.daemon.library, None


if __name__ == "__main__":
    harness.main()
