# SPDX-License-Identifier: BSD-2-Clause
"""The manual pages, the README and the completions say what the programs do: no option more, and none less."""

import os
import pathlib
import re
import subprocess

import harness

ROOT = pathlib.Path(__file__).parent.parent.parent
PAGES = sorted((ROOT / "man").glob("*.[0-9]"))
PAGE, LIBRARY_PAGE, INIT_PAGE = (ROOT / "man" / name for name in (
    "tpm2-abrmd.8", "tss2-tcti-tabrmd.7", "Tss2_Tcti_Tabrmd_Init.3"))
COMPLETIONS = ROOT / "data/completions"


def run(*argv, **keywords):
    done = subprocess.run([str(a) for a in argv], capture_output=True, text=True, timeout=harness.HANG, check=False,
                          **keywords)
    if done.returncode:
        raise AssertionError("%s: %d\n%s%s" % (argv, done.returncode, done.stdout, done.stderr))
    return done


def help_options():
    """-> {long option: (short option or "", whether it takes a value)}"""
    text = run(harness.Ours.binary, "--help").stdout
    found = re.findall(r"^  (?:-(\w), )?--([\w-]+)(=\S+)?  ", text, re.M)
    return {name: (short, bool(value)) for short, name, value in found}


class Options(harness.TestCase):
    def setUp(self):
        super().setUp()
        self.options = help_options()
        self.assertGreater(len(self.options), 20)

    def test_manual_page(self):
        items = re.findall(r"^\.It (?:Fl (\w) , )?Fl -([\w-]+)( Ns = Ns )?", PAGE.read_text(), re.M)
        self.assertEqual({name: (short, bool(value)) for short, name, value in items}, self.options)

    def test_readme(self):
        items = re.findall(r"^\| (?:`-(\w)`, )?`--([\w-]+)( [A-Z]+)?[^`]*`", (ROOT / "README.md").read_text(), re.M)
        listed = {name: short for short, name, _ in items}
        # Who asks for these knows of them, or should not use them.
        wanted = {name: short for name, (short, _) in self.options.items()
                  if name not in ("help", "version", "prng-seed-file")}
        self.assertEqual(listed, wanted)

    def complete(self, *words):
        """-> what bash proposes; an equals sign is a word of its own, as there"""
        script = ". %s; COMP_WORDS=(%s); COMP_CWORD=%d; _tpm2_abrmd; printf '%%s\\n' \"${COMPREPLY[@]}\"" % (
            COMPLETIONS / "tpm2-abrmd", " ".join("'%s'" % word for word in words), len(words) - 1)
        return run("bash", "-uc", script).stdout.split()

    def test_bash(self):
        spelled = {"--" + name + ("=" if value else "") for name, (_, value) in self.options.items()}
        spelled |= {"-" + short for short, _ in self.options.values() if short}
        self.assertEqual(set(self.complete("tpm2-abrmd", "")), spelled)
        self.assertEqual(self.complete("tpm2-abrmd", "--ti"), ["--time-limit=", "--time-limit-long="])
        self.assertEqual(self.complete("tpm2-abrmd", "--logger", "=", "sy"), ["syslog"])
        self.assertEqual(self.complete("tpm2-abrmd", "-l", ""), ["stdout", "syslog"])
        self.assertEqual(self.complete("tpm2-abrmd", "--max-sessions", "="), [])
        self.assertEqual(self.complete("tpm2-abrmd", "--tcti", "=", "dev"), ["device:/dev/tpm0"])

    def test_zsh(self):
        path = COMPLETIONS / "_tpm2-abrmd"
        run("zsh", "-n", path)
        with_short = re.findall(r"'\(-(\w) --([\w-]+)\)'\{-(\w)(\+?),--([\w-]+)(=?)\}'", path.read_text())
        alone = re.findall(r"'\*?--([\w-]+)(=?)\[", path.read_text())
        for short, name, short_too, plus, name_too, equals in with_short:
            self.assertEqual((short, name, bool(plus)), (short_too, name_too, bool(equals)))
        found = {name: (short, bool(equals)) for short, name, _, _, _, equals in with_short}
        found.update({name: ("", bool(equals)) for name, equals in alone})
        self.assertEqual(found, self.options)

    def test_fish(self):
        path = COMPLETIONS / "tpm2-abrmd.fish"
        run("fish", "-n", path)
        found = re.findall(r"^complete -c tpm2-abrmd (?:-s (\w) )?-l ([\w-]+)( -[rx])?", path.read_text(), re.M)
        self.assertEqual({name: (short, bool(value)) for short, name, value in found}, self.options)


class Pages(harness.TestCase):
    def test_lint(self):
        self.assertEqual(len(PAGES), 3)
        for page in PAGES:
            with self.subTest(page.name):
                # Of style it would say that lines are longer than 80 bytes.
                self.assertEqual(run("mandoc", "-T", "lint", "-W", "warning", page).stdout, "")
                done = run("man", "--warnings", "-E", "UTF-8", "-l", "-Tutf8", "-Z", page,
                           env={**os.environ, "LC_ALL": "C.UTF-8", "MANROFFSEQ": ""})
                self.assertEqual(done.stderr, "")

    def test_configuration_of_the_library(self):
        """The library knows each key and value of the page, and no other: it then finds that nobody is there."""
        items = re.findall(r"^\.It Li (\w+)= Ns Ar (\S+)", LIBRARY_PAGE.read_text(), re.M)
        self.assertEqual([key for key, _ in items], ["socket", "bus_type", "bus_name"])
        values = {"bus_type": items[1][1].split("|"), "socket": ["/nonexistent"], "bus_name": ["com.example.Nobody"]}
        bus = self.start_bus()
        for key, known in {**values, "bus-type": ["system"], "path": ["/x"], "bus_type ": ["session"]}.items():
            for value in known:
                with self.subTest(key=key, value=value):
                    done = subprocess.run(
                        ["tpm2_getrandom", "-T", "%s/libtss2-tcti-tabrmd.so.0:%s=%s" % (harness.LIBRARY, key, value), "1"],
                        capture_output=True, text=True, timeout=harness.HANG, check=False,
                        env={**os.environ, "DBUS_SYSTEM_BUS_ADDRESS": bus.address,
                             "DBUS_SESSION_BUS_ADDRESS": bus.address, "TSS2_LOG": "all+debug"})
                    self.assertIn("failed with a0008" if key in values else "failed with a000b", done.stderr)

    def test_example_program(self):
        source = re.search(r"^\.Bd -literal\n(#include.*?)^\.Ed", INIT_PAGE.read_text(), re.M | re.S).group(1)
        (self.folder / "program.c").write_text(source.replace("\\e", "\\"))
        program = self.folder / "program"
        run("cc", "-Wall", "-Wextra", "-Werror", "-I%s" % (ROOT / "src/tcti"), self.folder / "program.c", "-o", program,
            harness.LIBRARY / "libtss2-tcti-tabrmd.so.0")
        env = {**os.environ, "LD_LIBRARY_PATH": str(harness.LIBRARY)}
        bus = self.start_bus()
        self.start_subject(bus=bus)
        env["DBUS_SYSTEM_BUS_ADDRESS"] = bus.address
        self.assertEqual(run(program, env=env).stdout, "a response of 20 bytes\n")


if __name__ == "__main__":
    harness.main()
