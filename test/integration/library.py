# SPDX-License-Identifier: BSD-2-Clause
"""The client library as a file: what it needs, what it exports."""

import os
import re
import subprocess
import sys

import harness

PATH = harness.LIBRARY / "libtss2-tcti-tabrmd.so.0"


def readelf(*options):
    return subprocess.run(["readelf", "--wide", *options, str(PATH)], capture_output=True, text=True,
                          timeout=harness.HANG, check=True).stdout


class Library(harness.TestCase):
    def test_needs_libc_and_nothing_else(self):
        needed = re.findall(r"\(NEEDED\).*\[(.*)\]", readelf("--dynamic"))
        self.assertEqual([name for name in needed if not name.startswith("ld-linux")], ["libc.so.6"])

    def test_name(self):
        self.assertEqual(re.findall(r"\(SONAME\).*\[(.*)\]", readelf("--dynamic")), ["libtss2-tcti-tabrmd.so.0"])

    def test_exports_two_functions_alone(self):
        lines = [line.split() for line in readelf("--dyn-syms").splitlines() if re.match(r"\s*\d+:", line)]
        exported = {line[7].partition("@")[0] for line in lines if len(line) > 7 and line[6] not in ("UND", "ABS")}
        self.assertEqual(exported, {"Tss2_Tcti_Tabrmd_Init", "Tss2_Tcti_Info"})

    def test_has_no_writable_globals_worth_the_name(self):
        """No state of the process: contexts are all there is. (.bss holds a byte or two of the compiler's own.)"""
        sizes = {fields[0]: int(fields[4], 16) for fields in
                 (re.sub(r"^\s*\[\s*\d+\]\s*", "", line).split() for line in readelf("--sections").splitlines()
                  if re.match(r"\s*\[\s*\d+\]\s+\.(data|bss)\s", line))}
        self.assertLessEqual(sizes.get(".data", 0) + sizes.get(".bss", 0), 64, sizes)


class Absence(harness.TestCase):
    """No daemon: that is said at once, and nothing is printed."""

    def init(self, conf, env=None):
        """-> response code of Init, in a process of its own"""
        code = "import sys, tcti\ntry: tcti.Tcti(*sys.argv[1:])\nexcept ConnectionError as e: sys.exit(str(e)[-7:])"
        env = dict(harness.clean_env(**(env or {})), PYTHONPATH=os.environ["PYTHONPATH"])
        done = subprocess.run([sys.executable, "-c", code, str(PATH), conf], env=env, capture_output=True, text=True,
                              timeout=harness.HANG, check=False)
        self.assertEqual(done.stdout, "")
        return done.stderr.strip()

    def assertAbsent(self, *arguments):
        self.assertEqual(self.init(*arguments), "0xa0008")

    def test_no_socket(self):
        self.assertAbsent("socket=" + str(self.folder / "nothing"))

    def test_neither_socket_nor_bus(self):
        self.assertAbsent("")

    def test_nobody_on_the_bus(self):
        """The answer of the bus is not waited for in vain: there is nothing to start."""
        bus = self.start_bus()
        self.assertAbsent("bus_type=session", {"DBUS_SESSION_BUS_ADDRESS": bus.address})

    def test_what_cannot_be_started(self):
        bus = self.start_bus(services={harness.BUS_NAME: "/bin/false"})
        self.assertAbsent("bus_type=session", {"DBUS_SESSION_BUS_ADDRESS": bus.address})

    def test_what_can_be_started(self):
        """The bus starts the daemon for the first who asks."""
        swtpm = self.start_swtpm()
        argv = [harness.Ours.binary, "--tcti=" + swtpm.conf, "--session", "--no-socket", *harness.Ours.root_option()]
        bus = self.start_bus(services={harness.BUS_NAME: " ".join(map(str, argv))})
        self.assertEqual(self.init("bus_type=session", {"DBUS_SESSION_BUS_ADDRESS": bus.address}), "")


if __name__ == "__main__":
    harness.main()
