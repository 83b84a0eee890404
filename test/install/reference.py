# SPDX-License-Identifier: BSD-2-Clause
"""
docs/MANAGER.md says what the interface, the JSON and the metrics have: no key more, and none less; and its examples
work.
"""

import json
import pathlib
import re
import subprocess
from xml.etree import ElementTree

import ctl
import harness
import tpm

ROOT = pathlib.Path(__file__).parent.parent.parent
PAGE = ROOT / "docs/MANAGER.md"
INTERFACE = "com.intel.tss2.Tabrmd.Manager1"
NODE = ["com.intel.tss2.Tabrmd", "/com/intel/tss2/Tabrmd/Manager"]


def table(title):
    """-> the cells of each row of the first table below that text, without the marks of code"""
    rows = []
    text = PAGE.read_text()
    for line in text[text.index("\n" + title):].split("\n|---", 1)[1].splitlines()[1:]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip().strip("`") for cell in line[1:-1].split("|")])
    assert rows, title
    return rows


def types(title):
    return {row[0]: row[1] for row in table(title)}


class Reference(ctl.TestCase):
    """A daemon that has something in each list."""

    def setUp(self):
        super().setUp()
        self.tpm = self.start_tpm()
        left_over = self.tpm.proxy.ask(tpm.start_auth_session(tpm.SE_POLICY)).handle
        self.tpm.proxy.ask(tpm.context_save(left_over))
        self.start_bus()
        self.daemon = self.start_daemon(self.tpm.conf, bus=self.bus, options=["--manager=" + self.manager])
        client = self.connect()
        client.start_session(tpm.SE_POLICY)
        client.context_save(client.start_session(tpm.SE_POLICY))
        with self.daemon.client() as gone:
            gone.context_save(gone.start_session(tpm.SE_POLICY))

    def busctl(self, *arguments):
        done = subprocess.run(["busctl", "--user", "--json=short", *arguments], env=self.env, capture_output=True,
                              text=True, timeout=harness.HANG, check=True)
        return json.loads(done.stdout)["data"]

    def interface(self):
        """-> its element of what the daemon says of itself"""
        (text,) = self.busctl("call", *NODE, "org.freedesktop.DBus.Introspectable", "Introspect")
        return ElementTree.fromstring(text).find("interface[@name='%s']" % INTERFACE)

    def rows(self, method):
        """-> {key: its type} of all dictionaries"""
        (dictionaries,) = self.busctl("call", *NODE, INTERFACE, method)
        return {key: value["type"] for row in dictionaries for key, value in row.items()}

    def test_properties(self):
        signalled = {"const": "const", "false": "no", "true": "yes"}
        found, writable = {}, []
        for element in self.interface().iter("property"):
            changes = element.find("annotation[@name='org.freedesktop.DBus.Property.EmitsChangedSignal']")
            found[element.get("name")] = [element.get("type"),
                                          signalled["true" if changes is None else changes.get("value")]]
            if element.get("access") != "read":
                writable.append(element.get("name"))
        self.assertEqual({name: cells[:2] for name, *cells in table("| property |")}, found)
        self.assertEqual(writable, ["LogLevel"])

    def test_methods(self):
        found = {method.get("name"): ["".join(arg.get("type") for arg in method.iter("arg")
                                              if arg.get("direction") == way)
                                      for way in ("in", "out")] for method in self.interface().iter("method")}
        self.assertEqual({name: cells[:2] for name, *cells in table("| method |")}, found)
        for name, takes, _, who, _ in table("| method |"):
            arguments = {"": [], "t": ["t", "1"], "a{sv}": ["a{sv}", "0"]}[takes]
            argv = [*ctl.member(), "busctl", "--user", "call", *NODE, INTERFACE, name, *arguments]
            done = subprocess.run(argv, env=self.env, capture_output=True, text=True, timeout=harness.HANG, check=False)
            self.assertEqual("Access denied" in done.stderr, who == "root", name + done.stderr)

    def test_keys(self):
        for title, method in (("A client, of", "ListClients"), ("A program, of", "ListPrograms"),
                              ("A session, of", "ListSessions"), ("A command code, of", "ListCommands")):
            with self.subTest(method):
                self.assertEqual(types(title), self.rows(method))
        status = self.json("status")
        self.assertEqual([row[0] for row in table("Counters:")], list(status["counters"]))
        self.assertEqual([row[0] for row in table("Latencies:")], list(status["latencies"]))
        (states,) = [row[2] for row in table("A session, of") if row[0] == "state"]
        self.assertEqual(set(re.findall(r"`(\S+)`", "`" + states)), set(status["sessions"]))

    def test_json(self):
        verbs = set(re.findall(r"^  ([a-z-]+) ", self.ctl("--help"), re.M)) - {"tabrmctl", "help"}
        self.assertEqual({name for name, _ in table("| verb | prints")}, verbs)
        properties = {re.sub(r"(?<!^)([A-Z])", r"-\1", name).lower() for name in types("| property |")}
        status = self.json("status")
        self.assertEqual(set(status), properties)
        for latency in status["latencies"].values():
            self.assertEqual(set(latency), set(types("| key of a latency")))
        self.assertEqual(set(self.json("metrics")), properties | {"commands", "programs"})
        self.assertEqual({key for row in self.json("metrics")["commands"] for key in row},
                         set(types("A command code, of")))
        self.assertEqual({key for row in self.json("clients") for key in row},
                         set(types("A client, of")) | {"code", "unit"})
        self.assertEqual({key for row in self.json("clients", "--recent") for key in row}, set(types("A program, of")))
        self.assertEqual({key for row in self.json("sessions") for key in row}, set(types("A session, of")))
        top = self.json("top", "--count", 1)
        self.assertEqual(set(top), {"time", "clients", "programs", "status"})
        self.assertEqual(set(top["status"]), properties)
        self.assertEqual({key for row in top["clients"] for key in row}, set(types("A client, of")) | {"code"})
        self.assertEqual(set(self.json("flush", "--abandoned")), {"objects", "sessions"})
        self.assertEqual(set(self.json("log-level")), {"log-level"})

    def test_json_of_a_command_that_runs(self):
        client = self.connect()
        self.tpm.proxy.hold()
        client.send(tpm.get_random())
        running = harness.wait_until(lambda: self.json("status")["running"], "it runs")
        self.tpm.proxy.release()
        self.assertEqual(client.receive().rc, 0)
        self.assertEqual(set(running), set(types("| key of `running`")))
        self.assertEqual((running["code"], running["command"]), (0x17B, "GetRandom"))
        self.assertIsNone(self.json("status")["running"])

    def test_trace(self):
        end = self.work()
        try:
            argv = [self.program, *self.where, "--json", "trace", "--tpm", "--payload", "--count=100"]
            text = subprocess.run(argv, env=self.env, capture_output=True, text=True, timeout=harness.HANG,
                                  check=True).stdout
        finally:
            end()
        kinds = {"number": int, "string": str}
        documented = types("| key of a line of")
        records = [json.loads(line) for line in text.splitlines()]
        self.assertEqual({key for record in records for key in record}, set(documented))
        for record in records:
            for key, value in record.items():
                if documented[key] in kinds:
                    self.assertIsInstance(value, kinds[documented[key]], key)
        self.assertIn(None, [record["command"] for record in records])

    def test_metrics(self):
        found = {}
        kinds = {}
        for line in self.ctl("metrics").splitlines():
            if line.startswith("# TYPE"):
                name, kind = line.split()[2:]
                kinds[name] = kind
                found[name] = set()
            elif not line.startswith("#"):
                name = re.match(r"\w+", line).group()
                name = name if name in kinds else re.sub(r"_(bucket|sum|count)$", "", name)
                found[name] |= set(re.findall(r'(\w+)="', line)) - {"le"}
        documented = {name: (kind, set(re.findall(r"\w+", labels))) for name, kind, labels, _ in table("| metric |")}
        self.assertEqual(documented, {name: (kind, found[name]) for name, kind in kinds.items()})

    def test_examples(self):
        commands = re.findall(r"^    ((?:busctl|gdbus|dbus-send|tabrmctl) .*(?:\n {8}.*)*)", PAGE.read_text(), re.M)
        self.assertGreater(len(commands), 8)
        program = re.search(r"^```python\n(.*?)^```", PAGE.read_text(), re.M | re.S).group(1)
        (self.folder / "bin").mkdir()
        (self.folder / "bin/tabrmctl").write_text("#!/bin/sh\nexec %s --session \"$@\"\n" % self.program)
        (self.folder / "bin/tabrmctl").chmod(0o755)
        env = {**self.env, "PATH": "%s/bin:%s" % (self.folder, self.env["PATH"])}
        for example in commands:
            with self.subTest(example):
                here = example.replace("/run/tpm2-abrmd/", "%s/" % self.folder).replace(
                    "/var/lib/prometheus/node-exporter/", "%s/" % self.folder)
                done = subprocess.run(["bash", "-ec", here], env=env, capture_output=True, text=True,
                                      timeout=harness.HANG, check=False)
                self.assertEqual((done.returncode, done.stderr), (0, ""))
                self.assertTrue(done.stdout or "set-property" in example or "mv " in example)
        end = self.work()
        try:
            output = subprocess.run(["/usr/bin/python3", "-c",
                                     program.replace("/run/tpm2-abrmd/", "%s/" % self.folder)], env=env,
                                    capture_output=True, text=True, timeout=harness.HANG, check=True).stdout
        finally:
            end()
        self.assertRegex(output, r"client \d+: uid 0, pid \d+, \d objects\n")
        self.assertEqual(len(re.findall(r"^[ct] .* us 800", output, re.M)), 10)


if __name__ == "__main__":
    harness.main()
