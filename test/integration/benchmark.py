# SPDX-License-Identifier: BSD-2-Clause
"""`make bench` measures: its smallest run, for what it counts and what it writes, and for no time at all."""

import json
import os
import pathlib
import subprocess
import sys
import unittest
import xml.etree.ElementTree

import harness

PROGRAM = pathlib.Path(__file__).parents[1] / "bench/bench.py"
TIMES = ("median_us", "high_us", "per_s")


@unittest.skipIf(harness.IS_PEER, "it measures both")
class Bench(harness.TestCase):
    def setUp(self):
        super().setUp()
        harness.built("test/bench/chip")
        harness.peer_library()
        folder = self.folder / "results"
        done = subprocess.run([sys.executable, PROGRAM, folder], env={**os.environ, "BENCH": "smallest"},
                              capture_output=True, text=True, timeout=2 * harness.HANG, check=False)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.printed, self.written = done.stdout, (folder / "README.md").read_text()
        self.results = json.loads((folder / "bench.json").read_text())
        self.cells = {(cell["workload"], cell["clients"], cell["subject"]): cell for cell in self.results["cells"]}
        xml.etree.ElementTree.parse(folder / "bench.svg")

    def test_smallest(self):
        daemons = ("3.0", "ours, socket", "ours, library", "ours, D-Bus")
        wanted = {(workload, clients, name)
                  for workload in ("random", "sign") for clients in (1, 4) for name in daemons}
        wanted |= {("random", 1, "bare TPM"), ("random", 1, "bare proxy"), ("random", 4, "bare proxy"),
                   ("sign", 1, "bare TPM"), ("sign", 1, "bare proxy")}
        self.assertEqual(set(self.cells), wanted)
        for (workload, clients, name), cell in self.cells.items():
            with self.subTest(workload=workload, clients=clients, subject=name):
                self.assertGreaterEqual(cell["runs"], clients, "each client runs once at least")
                self.assertEqual((cell["refused"], cell["commands"]), (0, cell["runs"]))
                self.assertTrue(all(cell[key] > 0 for key in TIMES))
                self.assertLessEqual(cell["median_us"], cell["high_us"])
                self.assertEqual(bool(cell["cpu_us"]), name != "bare TPM")
        for (workload, clients, name), cell in self.cells.items():
            if workload == "random":
                self.assertEqual(cell["tpm_commands"], 1, "what the TPM counts, for each of %s" % name)
        self.assertGreater(self.cells["sign", 1, "3.0"]["tpm_commands"], 2.5)
        for name in daemons[1:]:
            self.assertLess(self.cells["sign", 1, name]["tpm_commands"], 1.5)
        self.assertIn("| 4 |", self.printed)
        self.assertIn(self.printed.splitlines()[-1], self.written)
        self.assertEqual(len(set(self.results["machine"]["pinned"].split(", "))), 1, "all of it shares a processor")


if __name__ == "__main__":
    harness.main()
