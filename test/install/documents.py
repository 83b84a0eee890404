# SPDX-License-Identifier: BSD-2-Clause
"""The manual pages, the README and the completions say what the programs do: no option more, and none less."""

import os
import pathlib
import re
import subprocess

import harness
from process import run

ROOT = pathlib.Path(__file__).parent.parent.parent
PAGES = sorted((ROOT / "man").glob("*.[0-9]"))
PAGE, TABRMCTL_PAGE, LIBRARY_PAGE, INIT_PAGE = (ROOT / "man" / name for name in (
    "tpm2-abrmd.8", "tabrmctl.1", "tss2-tcti-tabrmd.7", "Tss2_Tcti_Tabrmd_Init.3"))
COMPLETIONS = ROOT / "data/completions"


def help_options(*argv):
    """-> {long option: (short option or "", whether it takes a value)}"""
    found = re.findall(r"^  (?:-(\w), )?--([\w-]+)(=\S+)?  ", run(*argv, "--help").stdout, re.M)
    return {name: (short, bool(value)) for short, name, value in found}


def page_options(text):
    """-> the same, of a manual page"""
    items = re.findall(r"^\.It (?:Fl (\w) , )?Fl -([\w-]+)( Ns = Ns )?", text, re.M)
    return {name: (short, bool(value)) for short, name, value in items}


def zsh_options(text):
    """-> the same, of a completion for zsh"""
    with_short = re.findall(r"'\(-(\w) --([\w-]+)\)'\{-(\w)(\+?),--([\w-]+)(=?)\}'", text)
    alone = re.findall(r"'\*?--([\w-]+)(=?)\[", text)
    for short, name, short_too, plus, name_too, equals in with_short:
        assert (short, name, bool(plus)) == (short_too, name_too, bool(equals)), name
    found = {name: (short, bool(equals)) for short, name, _, _, _, equals in with_short}
    found.update({name: ("", bool(equals)) for name, equals in alone})
    return found


def spelled(options):
    """-> as bash proposes them"""
    return {"--" + name + "=" * value for name, (_, value) in options.items()} | {
        "-" + short for short, _ in options.values() if short}


def complete(path, function, *words):
    """-> what bash proposes; an equals sign is a word of its own, as there"""
    script = ". %s; COMP_WORDS=(%s); COMP_CWORD=%d; %s; printf '%%s\\n' \"${COMPREPLY[@]}\"" % (
        path, " ".join("'%s'" % word for word in words), len(words) - 1, function)
    return run("bash", "-uc", script).stdout.split()


class Options(harness.TestCase):
    def setUp(self):
        super().setUp()
        self.options = help_options(harness.Ours.binary)
        self.assertGreater(len(self.options), 20)

    def test_manual_page(self):
        self.assertEqual(page_options(PAGE.read_text()), self.options)

    def test_readme(self):
        items = re.findall(r"^\| (?:`-(\w)`, )?`--([\w-]+)( [A-Z]+)?[^`]*`", (ROOT / "README.md").read_text(), re.M)
        listed = {name: short for short, name, _ in items}
        # Who asks for these knows of them, or should not use them.
        wanted = {name: short for name, (short, _) in self.options.items()
                  if name not in ("help", "version", "prng-seed-file")}
        self.assertEqual(listed, wanted)

    def complete(self, *words):
        return complete(COMPLETIONS / "tpm2-abrmd", "_tpm2_abrmd", "tpm2-abrmd", *words)

    def test_bash(self):
        self.assertEqual(set(self.complete("")), spelled(self.options))
        self.assertEqual(self.complete("--ti"), ["--time-limit=", "--time-limit-long="])
        self.assertEqual(self.complete("--logger", "=", "sy"), ["syslog"])
        self.assertEqual(self.complete("-l", ""), ["stdout", "syslog"])
        self.assertEqual(self.complete("--max-sessions", "="), [])
        self.assertEqual(self.complete("--tcti", "=", "dev"), ["device:/dev/tpm0"])

    def test_zsh(self):
        path = COMPLETIONS / "_tpm2-abrmd"
        run("zsh", "-n", path)
        self.assertEqual(zsh_options(path.read_text()), self.options)

    def test_fish(self):
        path = COMPLETIONS / "tpm2-abrmd.fish"
        run("fish", "-n", path)
        found = re.findall(r"^complete -c tpm2-abrmd (?:-s (\w) )?-l ([\w-]+)( -[rx])?", path.read_text(), re.M)
        self.assertEqual({name: (short, bool(value)) for short, name, value in found}, self.options)


class Tabrmctl(harness.TestCase):
    """Its options, and those of each verb."""

    def setUp(self):
        super().setUp()
        self.program = harness.built("src/ctl/tabrmctl")
        self.verbs = re.findall(r"^  (?!tabrmctl)([a-z-]+) ", run(self.program, "--help").stdout, re.M)
        self.assertGreater(len(self.verbs), 7)
        self.options = {verb: help_options(self.program, *([verb] if verb else [])) for verb in ["", *self.verbs]}
        self.values = {
            ("clients", "--sort"): re.findall(r"[a-z]+(?=,| or|$| \(def)", re.search(
                r"--sort=KEY +(.*)", run(self.program, "clients", "--help").stdout).group(1)),
            ("log-level", None): re.search(
                r"\[(\S+\|\S+)\]", run(self.program, "log-level", "--help").stdout).group(1).split("|"),
            ("help", None): self.verbs,
        }

    def options_of(self, verb):
        """-> its own, and those of all verbs, which may stand behind it, too"""
        return {**self.options[""], **self.options[verb]}

    def test_manual_page(self):
        text = TABRMCTL_PAGE.read_text()
        head, *parts = re.split(r"^\.Ss (\S+)$", text[:text.index(".Sh ENVIRONMENT")], flags=re.M)
        self.assertEqual(parts[::2], self.verbs)
        self.assertEqual(page_options(head), self.options[""])
        for verb, part in zip(parts[::2], parts[1::2]):
            with self.subTest(verb):
                self.assertEqual({**page_options(part), "help": ("h", False)}, self.options[verb])
                for (of, _), values in self.values.items():
                    if of == verb and verb != "help":
                        self.assertEqual(set(re.findall(r"^\.Ql (\w+)", part, re.M)) & set(values), set(values))

    def test_why_slots_are_kept_free(self):
        """The words are those of the source, and both documents explain all of them."""
        source = "".join((ROOT / "src" / name).read_text() for name in (
            "daemon/shared.c", "broker/reserve.c", "broker/broker.c"))
        words = re.findall(r"\[NEIGHBOURS_\w+\] = \"(\w+)\"", source)
        words += re.findall(r"\"(kernel|traces|fixed)\"", source)
        page = TABRMCTL_PAGE.read_text().partition(".It kept free\n")[2].partition("\n.El\n")[0]
        table = (ROOT / "docs/MANAGER.md").read_text().partition("Reasons of `ReserveReason`")[2].split("\n\n")[1]
        self.assertEqual(len(words), 8)
        self.assertCountEqual(re.findall(r"^\.It Ql (\w+)", page, re.M), words)
        self.assertCountEqual(re.findall(r"^\| `(\w+)` \|", table, re.M), words)

    def complete(self, *words):
        return complete(COMPLETIONS / "tabrmctl", "_tabrmctl", "tabrmctl", *words)

    def test_bash(self):
        self.assertEqual(set(self.complete("")), spelled(self.options[""]) | set(self.verbs))
        for verb in self.verbs:
            with self.subTest(verb):
                self.assertEqual(set(self.complete("--json", verb, "")),
                                 spelled(self.options_of(verb)) | set(self.values.get((verb, None), [])))
        self.assertEqual(self.complete("clients", "--sort", "=", ""), self.values["clients", "--sort"])
        self.assertEqual(self.complete("clients", "-k", "bus"), ["busy"])
        self.assertEqual(self.complete("trace", "-c", ""), [])
        self.assertEqual(self.complete("top", "--delay", "="), [])
        self.assertIn("root", self.complete("clients", "--user", "=", "ro"))

    def test_zsh(self):
        path = COMPLETIONS / "_tabrmctl"
        run("zsh", "-n", path)
        head, cases = path.read_text().split("case $words[1] in\n")
        self.assertEqual(zsh_options(head), self.options[""])
        self.assertEqual(head.count("_arguments -C -s $all "), 1)
        self.assertEqual(re.findall(r"^        '([a-z-]+):", head, re.M), self.verbs)
        blocks = dict(re.findall(r"^(\S+)\)\n(.*?);;", cases, re.M | re.S))
        for verb in self.verbs:
            with self.subTest(verb):
                block = blocks.get(verb, blocks["*"])
                self.assertEqual({**zsh_options(block), "help": ("h", False)}, self.options[verb])
                self.assertIn("_arguments -s $all", block)
        self.assertEqual(set(blocks) - {"*"} - set(self.verbs), set())
        for (verb, _), values in self.values.items():
            self.assertIn(":(%s)'" % " ".join(values), blocks[verb])

    def propose(self, *words):
        """-> what fish does"""
        script = "source %s; complete -C 'tabrmctl %s'" % (COMPLETIONS / "tabrmctl.fish", " ".join(words))
        return {line.split("\t")[0] for line in run("fish", "-c", script, env={**os.environ, "HOME": str(self.folder)})
                .stdout.splitlines()}

    def test_fish(self):
        run("fish", "-n", COMPLETIONS / "tabrmctl.fish")
        self.assertEqual(self.propose(""), set(self.verbs))
        for verb in ["", *self.verbs]:
            with self.subTest(verb):
                self.assertEqual(self.propose(verb, "-"), {word.rstrip("=") for word in spelled(self.options_of(verb))})
        self.assertEqual(self.propose("clients", "--sort", ""), set(self.values["clients", "--sort"]))
        for verb in ("log-level", "help"):
            self.assertEqual(self.propose(verb, ""), set(self.values[verb, None]))

    def test_keys_of_top(self):
        """The page has all that top obeys, and so has its own help."""
        source = ROOT / "src/ctl"
        table = (source / "top-screen.c").read_text()
        table = table[table.index("key_selects("):table.index("flush_selected(")]
        named = {" ": "space", "KEY_LEFT": "left", "KEY_RIGHT": "right", "KEY_UP": "up", "KEY_DOWN": "down",
                 "KEY_PPAGE": "page up", "KEY_NPAGE": "page down", "KEY_HOME": "home", "KEY_END": "end"}
        keys = {named.get(a or b, a or b) for a, b in re.findall(r"case (?:'(.)'|(KEY_\w+)):", table)}
        keys |= set(re.findall(r"\}, '(.)', (?:true|false), \d+ \}", (source / "top-model.c").read_text()))
        self.assertGreater(len(keys), 25)
        page = TABRMCTL_PAGE.read_text()
        page = re.search(r"^Keys:$(.*?)^\.Ss sessions", page, re.M | re.S).group(1)
        listed = {key for line in re.findall(r"^\.It (.*)", page, re.M) for key in line.replace("\\&", "").split(" , ")}
        self.assertEqual(listed, keys)
        text = (source / "top-draw.c").read_text()
        text = text[text.index("LINES_OF_HELP"):text.index("draw_text(i, i")]
        text = " ".join(re.findall(r'"((?:[^"\\]|\\.)*)"', text))
        for key in keys:
            self.assertRegex(text, r"(^|[ ,])%s($|[ ,])" % re.escape(key))


def variables_read(folders):
    """-> names of environment variables that the sources of a program ask for themselves"""
    found = set()
    for folder in folders:
        for path in folder.glob("*.c"):
            if not path.name.startswith("test-"):
                for argument in re.findall(r"getenv\(([^;]*?)\)", path.read_text()):
                    found |= set(re.findall(r'"(\w+)"', argument))
    return found


class Pages(harness.TestCase):
    def test_version(self):
        version = re.search(r"^ +version: '(\S+)'", (ROOT / "meson.build").read_text(), re.M).group(1)
        for page in PAGES:
            with self.subTest(page.name):
                self.assertEqual(re.findall(r"^\.Os.*", page.read_text(), re.M), [".Os tpm2-abrmd " + version])

    def test_environment(self):
        source = ROOT / "src"
        daemon = [folder for folder in source.iterdir() if folder.name not in ("ctl", "tcti")]
        by_gio = {"DBUS_SYSTEM_BUS_ADDRESS", "DBUS_SESSION_BUS_ADDRESS"}
        for page, folders, more in ((PAGE, daemon, by_gio), (TABRMCTL_PAGE, [source / "ctl"], by_gio),
                                    (LIBRARY_PAGE, [source / "tcti"], set())):
            with self.subTest(page.name):
                section = re.search(r"^\.Sh ENVIRONMENT$(.*?)^\.Sh", page.read_text(), re.M | re.S).group(1)
                listed = [name for names in re.findall(r"^\.It Ev (.*)", section, re.M) for name in names.split(" , ")]
                self.assertEqual(sorted(listed), sorted(variables_read(folders) | more))

    def test_lint(self):
        self.assertEqual(len(PAGES), 4)
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
                        ["tpm2_getrandom", "-T",
                         "%s/libtss2-tcti-tabrmd.so.0:%s=%s" % (harness.LIBRARY, key, value), "1"],
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
