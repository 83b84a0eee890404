# SPDX-License-Identifier: BSD-2-Clause
"""The client library as a file: what it needs, what it exports."""

import re
import subprocess

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


if __name__ == "__main__":
    harness.main()
