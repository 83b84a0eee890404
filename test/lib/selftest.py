# SPDX-License-Identifier: BSD-2-Clause
"""
What the tests stand on: a missing program or privilege skips a test with its reason, all results are counted, and a
table of states that differs from its list is found.
"""

import json
import pathlib
import shutil
import subprocess
import sys

import harness
from process import ALL_TOOLS, clean_env, refusal, run

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parents[1]

MODULE = """
import subprocess, unittest
import harness
from process import Process, needs, run

class Case(unittest.TestCase):
    def test_called(self):
        subprocess.run(["no-such-program", "1"])
    def test_run(self):
        run("no-such-program")
    def test_started(self):
        Process("x", ["no-such-program"], "/dev/null")
    def test_within(self):
        with self.subTest("a"):
            run("no-such-program")
    def test_file(self):
        open("/no-such-file")
    def test_bare_file(self):
        open("no-such-data")
    def test_in_a_folder(self):
        run("/no-such-folder/program")
    def test_fails(self):
        self.fail("on purpose")
    def test_passes(self):
        pass
    @needs("sh", "-c", "echo first >&2; echo not allowed >&2; exit 1")
    def test_refused(self):
        pass
    @needs("true")
    def test_allowed(self):
        pass

class Whole(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        raise unittest.SkipTest("none of them")
    def test_never(self):
        self.fail()

harness.main()
"""
MISSING = {"called", "run", "started", "within"}
BROKEN = {"file", "bare_file", "in_a_folder", "fails"}


class Skips(harness.TestCase):
    def results(self, *arguments, **env):
        """-> {name: (passed, the rest of its line)} of that module"""
        program = self.folder / "module.py"
        program.write_text(MODULE)
        env = {**clean_env(), "PYTHONPATH": str(HERE), "PYTHONDONTWRITEBYTECODE": "1", **env}
        done = subprocess.run([sys.executable, program, *arguments], env=env, capture_output=True, text=True,
                              timeout=harness.HANG, check=False)
        self.status, self.output = done.returncode, done.stdout
        lines = [line.partition(" - Case.test_") for line in done.stdout.splitlines() if " - Case." in line]
        return {name.partition(" ")[0]: (head.startswith("ok"), name.partition(" # ")[2]) for head, _, name in lines}

    def test_missing_programs(self):
        results = self.results()
        missing = {name for name, (_, rest) in results.items() if rest == "SKIP there is no no-such-program"}
        self.assertEqual(missing, MISSING)
        self.assertEqual({name for name, (passed, _) in results.items() if not passed}, BROKEN)
        self.assertEqual(results["refused"], (True, "SKIP not allowed"))
        self.assertEqual((results["allowed"], results["passes"]), ((True, ""), (True, "")))
        self.assertEqual(self.status, 1)
        self.assertRegex(self.output, r"(?m)^ok \d+ - setUpClass .*Whole.* # SKIP none of them$")

    def test_where_all_are_installed(self):
        results = self.results(TABRMD_ALL_TOOLS="1")
        self.assertEqual({name for name, (passed, _) in results.items() if not passed}, BROKEN | MISSING)
        self.assertEqual(results["refused"], (True, "SKIP not allowed"))

    def test_list(self):
        self.assertEqual(self.results("--list"), {})
        self.assertEqual(len(self.output.splitlines()), len(MISSING) + len(BROKEN) + 4)

    def test_privileges_are_tried(self):
        self.assertEqual(refusal("true"), "")
        self.assertEqual(refusal("no-such-program"), "" if ALL_TOOLS else "there is no no-such-program")
        self.assertEqual(refusal("false"), "false ends with 1")


class Counts(harness.TestCase):
    def count(self, *lines, **files):
        """-> exit status, lines of what it prints"""
        for name, text in files.items():
            (self.folder / name).write_text(text)
        (self.folder / "steps").write_text("".join(line.replace("@", str(self.folder) + "/") + "\n" for line in lines))
        done = run(sys.executable, HERE / "count.py", self.folder / "steps", self.folder / "results", check=False)
        return done.returncode, done.stdout.splitlines()

    def test_steps(self):
        self.assertEqual(self.count("ok a", "ok b c # SKIP no d"),
                         (0, ["skipped: b c (no d)", "1 passed, 0 failed, 1 skipped"]))
        self.assertEqual(self.count("ok a", "not ok b"), (1, ["failed: b", "1 passed, 1 failed, 0 skipped"]))
        self.assertEqual(self.count(), (1, ["0 passed, 0 failed, 0 skipped"]))

    def test_what_did_not_run(self):
        line = "log\ttap\t@log\t@list\tof it"
        self.assertEqual(self.count(line, log="ok 1 - a\n", list="a\nb\n"),
                         (1, ["failed: of it: b: did not run", "1 passed, 1 failed, 0 skipped"]))
        self.assertEqual(self.count("log\ttap\t@none\t@list\tof it", list="a\nb\n")[1][-1],
                         "0 passed, 2 failed, 0 skipped")
        self.assertEqual(self.count("log\ttap\t@none\t@list\tof it", list="")[1][0], "failed: of it: nothing ran")
        self.assertEqual(self.count("log\tmeson\t@log\t@list\tof it", log='{"name": "p:u', list="")[1][-1],
                         "0 passed, 1 failed, 0 skipped")
        self.assertEqual(self.count("log\ttap\t@none\t@no\tof it"),
                         (1, ["failed: of it: its tests cannot be listed", "0 passed, 1 failed, 0 skipped"]))
        self.assertEqual(self.count("log\tmeson\t@none\t@list\tof it", list="p:unit / a\n")[1][0],
                         "failed: of it: a: did not run")

    def test_meson(self):
        tests = [
            ("a", "OK", "[ RUN      ] x\nno y\n[  SKIPPED ] x\n[ RUN      ] z\n[       OK ] z\n"),
            ("b", "FAIL", "[ RUN      ] x\n[       OK ] x\n[ RUN      ] z\n"),
            ("c", "SKIP", "there is no d\n"),
            ("e", "OK", "ok 1 - f # SKIP g\nok 2 - h\n1..2\n"),
            ("i", "FAIL", "ok 1 - j\n"),
        ]
        log = "\n".join(json.dumps({"name": "p:unit / " + name, "result": result, "stdout": output})
                        for name, result, output in tests)
        self.assertEqual(self.count("log\tmeson\t@log\t@list\tk", log=log, list=""), (1, [
            "skipped: k: a: x (no y)", "failed: k: b: z", "skipped: k: c (there is no d)", "skipped: k: e: f (g)",
            "failed: k: i: FAIL", "4 passed, 2 failed, 3 skipped"]))
        nested = self.count("log\ttap\t@results\t@none\tl", none="")
        self.assertEqual(nested[1][-1], "4 passed, 2 failed, 3 skipped", "its own results can be counted again")


TABLE = """
/*
 * Lamp
 *
 *      OFF       --pressed-->                        ON
 *      ON        --pressed, with --some option or
 *                  other-->                          OFF, at once
 *      ON, OFF   --struck-->                         BROKEN_OFF
 */
typedef enum Lamp {
        LAMP_OFF,
        LAMP_ON, /* DIM */
        LAMP_BROKEN_OFF,
} Lamp;
"""
LIST = """
static const uint8_t lamp_transitions[][2] = {
        { LAMP_OFF, LAMP_ON }, { LAMP_ON, LAMP_OFF },
        { LAMP_OFF, LAMP_BROKEN_OFF }, { LAMP_ON, LAMP_BROKEN_OFF }, /* { LAMP_OFF, LAMP_OFF } */
};
"""
SHORTER = LIST.replace("{ LAMP_OFF, LAMP_ON },", "")


class Transitions(harness.TestCase):
    def compare(self, table, source):
        """-> exit status, what it prints"""
        folder = self.folder / "src" / "house"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "lamp.h").write_text(table)
        (folder / "lamp.c").write_text(source)
        done = run(sys.executable, HERE / "transitions.py", self.folder, check=False)
        return done.returncode, done.stdout

    def expect(self, what, table=TABLE, source=LIST):
        status, output = self.compare(table, source)
        self.assertEqual(status, 1, output)
        self.assertIn(what, output)

    def test_the_same(self):
        self.assertEqual(self.compare(TABLE, LIST),
                         (0, "transitions: 1 tables, 4 pairs, 0 tables without a list, 0 differences\n"))

    def test_above_a_declaration(self):
        begin = TABLE.index("typedef")
        table = TABLE[:begin] + "extern const uint8_t lamp_transitions[][2];\n" + TABLE[begin:]
        self.assertEqual(self.compare(table, LIST)[0], 0)
        self.expect("LAMP_OFF to LAMP_ON has a row, and is not listed", table, SHORTER)

    def test_differences(self):
        self.expect("LAMP_OFF to LAMP_ON has a row, and is not listed", source=SHORTER)
        self.expect("LAMP_OFF to LAMP_ON has no row", TABLE.replace("> " + " " * 23 + "ON\n", ""))
        self.expect("LAMP_OFF to LAMP_BROKEN_OFF has no row", TABLE.replace("ON, OFF  ", "ON"))
        self.expect("no such state: DIM", TABLE.replace("BROKEN_OFF\n */", "DIM\n */"))
        self.expect("no such state: any", TABLE.replace("ON, OFF", "any"))
        self.expect("nothing leads to LAMP_NEW", TABLE.replace("LAMP_ON,", "LAMP_ON, LAMP_NEW,"))
        self.expect("listed twice", source=LIST.replace("{ LAMP_ON, LAMP_OFF }", "{ LAMP_OFF, LAMP_ON }"))

    def test_halves(self):
        self.expect("is missing", source="")
        self.expect("has no table", "int lamp;\n")
        self.expect("0 tables", "int lamp;\n", "")


class Structure(harness.TestCase):
    """The checks of the structure pass on the tree as it is, and fail on a fault that is planted in a copy of it."""

    def setUp(self):
        super().setUp()
        for name in ("src", "docs"):
            shutil.copytree(ROOT / name, self.folder / name, ignore=shutil.ignore_patterns("test-*"))

    def check(self, script):
        """-> exit status, what it prints"""
        done = run(sys.executable, HERE / script, self.folder, check=False)
        return done.returncode, done.stdout

    def expect(self, what, script, path, old, new):
        text = (self.folder / path).read_text()
        self.assertIn(old, text)
        (self.folder / path).write_text(text.replace(old, new, 1))
        status, output = self.check(script)
        (self.folder / path).write_text(text)
        self.assertEqual(status, 1, output)
        self.assertIn(what, output)

    def test_floors(self):
        self.assertEqual(self.check("floors.py")[0], 0)
        self.expect("cell.c includes repair.h", "floors.py", "src/resmgr/cell.c", "#include",
                    '#include "resmgr/repair.h"\n#include')
        self.expect("cell.c uses rm_repair() of repair.c", "floors.py", "src/resmgr/cell.c", "\n}\n",
                    "\n        rm_repair(rm, NULL, 0);\n}\n")
        self.expect("only src/resmgr/entry.c writes this", "floors.py", "src/resmgr/step.c", "\n}\n",
                    "\n        entry->state = RM_FREE;\n}\n")
        self.expect("has no floor", "floors.py", "docs/ARCHITECTURE.md", "block, cell, entry", "block, entry")

    def test_repairs(self):
        self.assertEqual(self.check("repairs.py")[0], 0)
        self.expect("YIELDED: pause_job, says the document alone", "repairs.py", "src/resmgr/repair.c",
                    "        { TPM2_RC_YIELDED, 1, UINT32_MAX, 0, pause_job },\n", "")
        self.expect("MEMORY: OBJECT, says the code alone", "repairs.py", "src/resmgr/repair.c",
                    "OBJECT | SESSION, NULL", "OBJECT, NULL")


if __name__ == "__main__":
    harness.main()
