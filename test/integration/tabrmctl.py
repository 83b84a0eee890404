# SPDX-License-Identifier: BSD-2-Clause
"""What tabrmctl says of a busy daemon, to whom, and what it changes there."""

import contextlib
import fcntl
import json
import os
import pty
import random
import re
import signal
import socket
import struct
import subprocess
import termios
import threading
import time

import bus
import ctl
import harness
import tpm
from process import PID_NAMESPACE, needs

N_OBJECTS, N_SESSIONS = 5, 2
PROMTOOL = os.environ.get("TABRMD_PROMTOOL", harness.BUILD / "prometheus/usr/bin/promtool")
PROMTOOL = PROMTOOL if os.path.exists(PROMTOOL) else "promtool"
REFUSED = ["metrics"], ["flush", "--abandoned"], ["flush", "--client", "1"], ["log-level"], \
    ["log-level", "debug"], ["trace"]


class Busy(ctl.TestCase):
    """Clients that hold things, some that are always at work, and one of another user."""

    def setUp(self):
        super().setUp()
        self.tpm = self.start_tpm()
        self.proxy = self.tpm.proxy
        self.left_over = self.save(self.proxy.ask)
        self.start_bus()
        self.daemon = self.start_daemon(self.tpm.conf, bus=self.bus, options=["--manager=" + self.manager])
        self.holder = self.connect()
        self.objects = [self.holder.create_primary(tpm.public_hmac_key(b"%d" % i)) for i in range(N_OBJECTS)]
        self.sessions = [self.holder.start_session(tpm.SE_POLICY) for _ in range(N_SESSIONS)]
        self.context = self.holder.context_save(self.sessions[1])
        with self.daemon.client() as gone:
            self.abandoned = self.save(gone.run)
        self.other = self.start_other()
        self.others_session = self.handle(self.other.ask(tpm.start_auth_session(tpm.SE_POLICY)))
        self.ending, self.busy = threading.Event(), threading.Semaphore(0)
        self.workers = [threading.Thread(target=self.work, args=(self.connect(),)) for _ in range(3)]
        for worker in self.workers:
            worker.start()
        self.addCleanup(self.rest)
        for _ in self.workers:
            self.assertTrue(self.busy.acquire(timeout=harness.HANG), "it works")

    @staticmethod
    def handle(response):
        return tpm.Response(response).handle

    def save(self, ask):
        """-> the handle of a session that was saved"""
        response = ask(tpm.start_auth_session(tpm.SE_POLICY))
        handle = response.handle if isinstance(response, tpm.Response) else self.handle(response)
        ask(tpm.context_save(handle))
        return handle

    def work(self, client):
        """More than the holder did before anybody asks, and on."""
        for _ in range(2 * (N_OBJECTS + N_SESSIONS)):
            client.run(tpm.get_random())
        self.busy.release()
        while not self.ending.is_set():
            client.run(tpm.get_random())

    def rest(self):
        self.ending.set()
        for worker in self.workers:
            worker.join()

    def of_holder(self, rows):
        return next(row for row in rows if row["objects"] == N_OBJECTS)


class Verbs:
    """Of root, by either way."""

    def test_status(self):
        status = self.json("status")
        self.assertEqual(status["state"], "ready")
        self.assertEqual(status["clients"], 5)
        self.assertEqual((status["objects"], status["objects-loaded"], status["object-slots"]), (N_OBJECTS, 3, 3))
        self.assertEqual(status["sessions"], {"owned": 2, "saved": 1, "abandoned": 1, "left-over": 1, "flushing": 0})
        self.assertEqual(status["tcti"], self.tpm.conf)
        self.assertEqual([status[key] for key in ("reserve", "reserve-sessions", "reserve-reason")], [0, 0, "fixed"])
        self.assertGreater(status["counters"]["commands"], 10)
        harness.wait_until(lambda: self.json("status")["counters"]["commands"] > status["counters"]["commands"],
                           "it is told how work goes on")
        text = self.ctl("status")
        for words in ("tpm2-abrmd 4.0.0: ready", "clients     5 of ", "%d of 16384; loaded: 3 of 3 slots" % N_OBJECTS,
                      "2 owned, 1 saved, 1 abandoned, 1 left-over",
                      "kept free   0 slots for objects, 0 for sessions (fixed)"):
            self.assertIn(words, text)
        self.assertNotIn("\033", text)

    def test_clients(self):
        rows = self.json("clients")
        self.assertEqual(len(rows), 5)
        holder = self.of_holder(rows)
        self.assertEqual((holder["uid"], holder["pid"], holder["door"]), (0, os.getpid(), "socket"))
        self.assertEqual((holder["sessions"], holder["commands"]), (N_SESSIONS, N_OBJECTS + N_SESSIONS + 1))
        self.assertEqual((holder["state"], holder["failed"]), ("idle", 0))
        other = next(row for row in rows if row["uid"] == ctl.NOBODY)
        self.assertEqual((other["pid"], other["sessions"]), (self.other.pid, 1))
        self.assertEqual(rows, sorted(rows, key=lambda row: row["id"]))
        busiest = self.json("clients", "--sort", "commands")[0]
        self.assertGreater(busiest["commands"], holder["commands"])
        self.assertEqual([row["pid"] for row in self.json("clients", "--user", ctl.NOBODY)], [self.other.pid])
        lines = self.ctl("clients").splitlines()
        self.assertEqual(len(lines), 6)
        at = lines[0].index("COMMAND")
        self.assertTrue(all(line[at:].startswith(row["name"]) for line, row in zip(lines[1:], rows)))

    def test_sessions(self):
        rows = {row["handle"]: row for row in self.json("sessions")}
        states = {handle & 0xFFFFFF: row["state"] for handle, row in rows.items()}
        self.assertEqual(states, {
            self.sessions[0] & 0xFFFFFF: "owned", self.sessions[1] & 0xFFFFFF: "saved",
            self.abandoned & 0xFFFFFF: "abandoned", self.left_over & 0xFFFFFF: "left-over",
            self.others_session & 0xFFFFFF: "owned"})
        saved, abandoned = rows[self.sessions[1]], rows[self.abandoned]
        self.assertEqual((saved["loaded"], abandoned["client"], abandoned["uid"]), (False, 0, 0))
        self.assertEqual(saved["gap"] + saved["gap-left"], self.json("status")["max-gap"])
        self.assertGreater(saved["gap"], abandoned["gap"])
        self.assertEqual(rows[self.others_session]["uid"], ctl.NOBODY)
        lines = self.ctl("sessions").splitlines()
        self.assertEqual(len(lines), 6)
        self.assertRegex(lines[1], r"^0x0[23]000000 +\S+")

    def test_top(self):
        looks = [json.loads(line) for line in self.ctl("--json", "top", "-c", "2", "-d", "0.3").splitlines()]
        for look in looks:
            self.assertEqual(len(look["clients"]), 5)
            self.assertEqual(look["status"]["clients"], 5)
        self.assertGreater(looks[1]["status"]["counters"]["commands"], looks[0]["status"]["counters"]["commands"])
        text = self.ctl("top", "--batch", "-c", "2", "-d", "0.3")
        # Those that are at work come first.
        busiest = re.findall(r"(?m)^ *(\d+) root .* ([\d.]+) +[\d.]+ +[\d.]+ +[\d.]+ (?:us|ms)",
                             text.rpartition("BUSY%v")[2])
        self.assertEqual(len(busiest), 4)
        self.assertTrue(all(float(rate) > 0 for _, rate in busiest[:3]), busiest)

    def test_trace(self):
        records = [json.loads(line) for line in self.ctl("--json", "trace", "-c", "30").splitlines()]
        self.assertEqual(len(records), 30)
        self.assertEqual({record["command"] for record in records}, {"GetRandom"})
        self.assertEqual(len({record["client"] for record in records}), 3)

    def test_flush(self):
        holder = self.of_holder(self.json("clients"))
        self.assertEqual(self.json("flush", "--client", holder["id"]), {"objects": N_OBJECTS, "sessions": N_SESSIONS})
        self.assertEqual(self.holder.ask(tpm.read_public(self.objects[0])).rc, 0xB0910)
        # Until it is flushed, which takes a few commands of others, whoever has its context may load it.
        harness.wait_until(lambda: self.json("status")["sessions"]["flushing"] == 0, "its sessions are flushed")
        self.assertNotEqual(self.holder.ask(tpm.context_load(self.context)).rc, 0)
        self.assertEqual(self.ctl("flush", "--abandoned"), "flushed: 0 objects, 1 sessions\n")
        self.assertEqual(self.ctl("flush", "--left-over"), "flushed: 0 objects, 1 sessions\n")
        self.assertEqual(self.ctl("flush", "--left-over"), "flushed: 0 objects, 0 sessions\n")
        harness.wait_until(lambda: sum(self.json("status")["sessions"].values()) == 1, "the others are flushed")
        objects, loaded, saved = self.proxy.holdings()
        self.assertEqual(objects, [])
        self.assertEqual(len(loaded) + len(saved), 1)
        # It goes on where it was.
        self.assertEqual(self.holder.create_primary(tpm.public_hmac_key(b"9")), self.objects[0])
        self.assertIn("no client has the id 12345; tabrmctl clients",
                      self.ctl("flush", "--client", "12345", status=ctl.FAILED))
        self.assertIn("uid 0 pid", self.daemon.process.output())

    def test_metrics(self):
        text = self.ctl("metrics")
        values = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
        self.assertEqual(values["tabrmd_tpm_ready"], "1")
        self.assertEqual(values["tabrmd_clients"], "5")
        self.assertEqual(values['tabrmd_sessions{state="left-over"}'], "1")
        self.assertGreater(int(values['tabrmd_commands_by_code_total{command="GetRandom"}']), 0)
        self.assertEqual(int(values['tabrmd_commands_by_code_total{command="CreatePrimary"}']), N_OBJECTS)
        self.assertEqual(values["tabrmd_command_seconds_count"], values['tabrmd_command_seconds_bucket{le="+Inf"}'])
        for line in text.splitlines():
            if not line.startswith("#"):
                float(line.rsplit(" ", 1)[1])
        self.assertEqual(self.json("metrics")["state"], "ready")
        checked = subprocess.run([PROMTOOL, "check", "metrics"], input=text, capture_output=True, text=True,
                                 timeout=harness.HANG, check=False)
        self.assertEqual((checked.returncode, checked.stdout + checked.stderr), (0, ""))

    def test_log_level(self):
        self.assertEqual(self.ctl("log-level"), "info\n")
        self.assertEqual(self.ctl("log-level", "debug"), "")
        self.assertEqual(self.json("log-level"), {"log-level": "debug"})
        self.connect()
        harness.wait_until(lambda: " connected" in self.daemon.process.output(), "a line of that level")
        self.ctl("log-level", "error")
        n = len(self.daemon.process.output())
        self.connect().run(tpm.get_random())
        self.assertEqual(self.ctl("log-level"), "error\n")
        self.assertEqual(len(self.daemon.process.output()), n)
        self.assertIn("levels are", self.ctl("log-level", "loud", status=ctl.FAILED))


class ByBus(Verbs, Busy):
    def test_member_of_tss_sees_what_is_its_own(self):
        user = ctl.member()
        rows = self.json("clients", user=user)
        self.assertEqual([(row["uid"], row["pid"]) for row in rows], [(ctl.NOBODY, self.other.pid)])
        self.assertEqual([row["handle"] for row in self.json("sessions", user=user)], [self.others_session])
        self.assertEqual(len(self.ctl("clients", user=user).splitlines()), 2)
        self.assertEqual(len(self.ctl("sessions", user=user).splitlines()), 2)
        status = self.json("status", user=user)
        self.assertEqual(set(status), {"version", "state", "reason", "manufacturer", "vendor", "firmware", "revision"})
        self.assertEqual(status["state"], "ready")
        text = self.ctl("status", user=user)
        self.assertRegex(text, r"\Atpm2-abrmd 4\.0\.0: ready\n\nTPM +IBM .*\n\nThe rest is for root\.\n\Z")
        for arguments in REFUSED:
            with self.subTest(arguments):
                self.assertIn("only root may", self.ctl(*arguments, status=ctl.EX_NOPERM, user=user))
        self.assertEqual(self.ctl("log-level"), "info\n")
        self.assertEqual(self.json("status")["sessions"]["abandoned"], 1)

    def test_where(self):
        """With nothing said, the private socket, and the system bus where there is none."""
        self.assertEqual(len(self.json("clients", where=[])), 5)
        self.assertEqual(len(self.json("clients", where=["--bus"])), 5)
        self.ctl("clients", where=["--bus", "--dbus-name", "com.example.Nobody"], status=ctl.EX_UNAVAILABLE)


class BySocket(Verbs, Busy):
    by_bus = False

    def test_nobody_else_gets_in(self):
        user = ctl.member()
        for arguments in (["clients"], ["sessions"], ["status"], *REFUSED):
            with self.subTest(arguments):
                self.assertIn("is for root alone", self.ctl(*arguments, status=ctl.EX_NOPERM, user=user))
        # It is not the file's mode alone.
        os.chmod(self.manager, 0o666)
        self.assertIn("is for root alone", self.ctl("clients", status=ctl.EX_NOPERM, user=user))
        self.assertRegex(self.daemon.process.output(), r"uid 65534 pid \d+ \(\S+\) is refused by the manager: .*uid 0")
        self.assertEqual(len(self.json("clients")), 5)

    def test_file(self):
        self.assertEqual(os.stat(self.manager).st_mode & 0o7777, 0o600)


class Alone(ctl.TestCase):
    def test_what_is_counted(self):
        """A known number of commands, and what the TPM was sent for them."""
        self.start(options=harness.NO_CHORES)
        client = self.connect()
        before, n_before = self.json("status")["counters"], self.proxy.count()
        for _ in range(10):
            client.run(tpm.get_random())
        for _ in range(3):
            client.ask(tpm.flush_context(0x80000000))
        n = self.proxy.count() - n_before
        after = self.json("status")["counters"]
        grown = {key: after[key] - before[key] for key in after if after[key] != before[key]}
        self.assertEqual(grown, {"commands": 13, "failed": 3, "local": 3, "tpm-commands": n})
        self.assertEqual(n, 10)

    def test_a_late_tpm(self):
        self.start()
        client = self.connect()
        client.run(tpm.get_random())
        self.proxy.hold()
        client.send(tpm.get_random())
        with self.daemon.client() as second:
            second.send(tpm.get_random())
            text = harness.wait_until(lambda: next((t for t in [self.ctl("status")] if ": late" in t), None),
                                      "it is late")
            self.assertRegex(text, r"running +GetRandom of client 1 \(uid 0 pid %d .*, for .* of 1 min 0 s at most: "
                             r"late" % os.getpid())
            self.assertRegex(text, r"waiting +1, the first for ")
            rows = self.json("clients")
            self.assertEqual([row["state"] for row in rows], ["running", "waiting"])
            self.assertEqual([(row["code"], row["command"]) for row in rows], [(0x17B, "GetRandom")] * 2)
            self.proxy.release()
            self.assertEqual(client.receive().rc, 0)
            self.assertEqual(second.receive().rc, 0)
        self.assertIn("running     nothing", self.ctl("status"))

    @harness.by_socket_only
    def test_no_tpm(self):
        self.start(options=["--wait"])
        changes = self.monitor()
        self.tpm.process.end(signal.SIGKILL)
        with contextlib.suppress(OSError):
            self.connect().ask(tpm.get_random())
        harness.wait_until(lambda: '"absent"' in changes.output(), "the change is told")
        status = self.json("status", status=ctl.NO_TPM)
        self.assertEqual(status["state"], "absent")
        self.assertNotEqual(status["reason"], "")
        self.assertIn(": absent: ", self.ctl("status", status=ctl.NO_TPM))
        self.tpm.restart()
        harness.wait_until(lambda: '"ready"' in changes.output().rpartition('"absent"')[2], "that it is back is told")
        # The log tells of each. A TPM that is being started may be found, and lost once more.
        n_lost = self.daemon.process.output().count("the TPM is lost: ")
        self.assertGreaterEqual(n_lost, 1)
        self.assertEqual(self.json("status")["counters"]["tpm-lost"], n_lost)

    def monitor(self):
        """-> a process whose output has what is said to have changed"""
        rule = "type='signal',interface='org.freedesktop.DBus.Properties',path='/com/intel/tss2/Tabrmd/Manager'"
        process = harness.Process("monitor", ["dbus-monitor", "--address", self.bus.address, rule],
                                  self.folder / "monitor.log")
        self.addCleanup(process.end)
        # A level that was set is told, too: so it listens.
        levels = iter(["debug", "info"] * 1000)
        harness.wait_until(lambda: self.ctl("log-level", next(levels)) or "LogLevel" in process.output(), "it listens")
        return process

    def test_wrong_usage(self):
        self.start()
        for arguments in ([], ["nonsense"], ["--nonsense"], ["flush"], ["flush", "--abandoned", "--left-over"],
                          ["flush", "--client", "0"], ["flush", "--client", "x"], ["clients", "--sort", "beauty"],
                          ["clients", "--user", "nobody-of-that-name"], ["status", "--nonsense"],
                          ["log-level", "debug", "info"], ["status", "surplus"], ["trace", "surplus"],
                          ["help", "nonsense"], ["help", "status", "surplus"], ["top", "-n", "2"]):
            with self.subTest(arguments):
                self.assertIn("--help", self.ctl(*arguments, status=ctl.EX_USAGE))
        for arguments in (["--bus", "--session", "status"], ["--bus", "status", "--session"],
                          ["--socket", self.manager, "status", "--dbus-name", "com.example.Name"]):
            self.assertIn("exclude", self.ctl(*arguments, where=[], status=ctl.EX_USAGE))

    def test_near_misses(self):
        for written, meant in (("stats", "status"), ("client", "clients"), ("loglevel", "log-level"), ("tpo", "top")):
            for arguments in ([written], ["help", written]):
                self.assertIn("did you mean %s?" % meant, self.ctl(*arguments, status=ctl.EX_USAGE))
        self.assertNotIn("did you mean", self.ctl("list", status=ctl.EX_USAGE))

    def test_help(self):
        """It needs no daemon."""
        self.assertEqual(self.ctl("help", where=[]), self.ctl("--help", where=[]))
        self.assertEqual(self.ctl("help", "trace", where=[]), self.ctl("trace", "--help", where=[]))
        self.assertIn("--pcapng", self.ctl("help", "trace", where=[]))
        # what can be sorted by, of either list
        text = self.ctl("clients", "--help", where=[])
        for option, word in (("--sort=KEY", "id"), ("--recent", "last")):
            keys = re.search(option + r" .*?(\w+) \(default\)", text)
            self.assertEqual(keys and keys.group(1), word, option)

    def test_options_behind_the_verb(self):
        self.start()
        for arguments in (["status", "--json"], ["-j", "status"], ["status", "-j", *self.where]):
            where = [] if "--session" in arguments else None
            self.assertEqual(json.loads(self.ctl(*arguments, where=where))["state"], "ready")
        # The last one counts.
        self.assertEqual(self.ctl("--socket", "/nonexistent", "log-level", "--socket", self.manager, where=[]),
                         "info\n")
        self.assertIn("4.0.0", self.ctl("status", "--version"))

    def test_letters_have_one_meaning(self):
        meanings = {}
        for verb in ["help", *re.findall(r"(?m)^  ([a-z-]+) ", self.ctl("--help", where=[]))[1:]]:
            for letter, name in re.findall(r"(?m)^  -(\w), --([\w-]+)", self.ctl("help", verb, where=[]) +
                                           self.ctl("help", where=[])):
                self.assertEqual(meanings.setdefault(letter, name), name, "-%s of %s" % (letter, verb))
        self.assertGreater(len(meanings), 15)

    def test_no_such_client_to_trace(self):
        self.start()
        self.assertIn("no client has the id 9999; tabrmctl clients",
                      self.ctl("trace", "--client=9999", status=ctl.FAILED))
        self.assertNotIn("watches", self.daemon.process.output())

    def test_the_socket_of_clients(self):
        """It is said at once, there and in the log."""
        self.start()
        if self.daemon.socket is None:
            self.skipTest("there is none")
        text = self.ctl("status", where=["--socket", self.daemon.socket], status=ctl.EX_USAGE)
        self.assertIn("%s is the socket of clients; the manager's is %s" % (self.daemon.socket, self.manager), text)
        self.assertRegex(self.daemon.process.output(),
                         r"uid 0 pid \d+ \(tabrmctl\) sent D-Bus on the socket of clients: "
                         r"its connection is closed; the manager has a socket of its own")

    def serve(self, answer):
        """-> the path of a socket where whatever comes hears that"""
        path = str(self.folder / "other.sock")
        listener = socket.socket(socket.AF_UNIX)
        self.addCleanup(listener.close)
        listener.bind(path)
        listener.listen()

        def serve():
            with contextlib.suppress(OSError):
                while True:
                    stream, _ = listener.accept()
                    self.addCleanup(stream.close)
                    stream.recv(1000)
                    if answer:
                        stream.sendall(answer)
                        stream.close()
        threading.Thread(target=serve, daemon=True).start()
        return path

    def test_a_socket_of_another_protocol(self):
        path = self.serve(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        self.assertIn("does not speak D-Bus", self.ctl("status", where=["--socket", path], status=ctl.EX_USAGE))

    def test_a_socket_that_says_nothing(self):
        path = self.serve(b"")
        self.assertIn("%s does not answer" % path,
                      self.ctl("top", "--batch", where=["--socket", path], status=ctl.EX_UNAVAILABLE))

    def test_other_protocols_at_the_managers_socket(self):
        self.start()
        for sent, name in ((tpm.get_random(), "TPM commands; clients have a socket of their own"),
                           (b"GET / HTTP/1.0\r\n\r\n", "HTTP"), (b"\0AUTH NONSENSE\r\nBEGIN\r\n", None)):
            with self.subTest(sent), socket.socket(socket.AF_UNIX) as stream:
                stream.settimeout(harness.HANG)
                stream.connect(self.manager)
                stream.sendall(sent)
                if name:
                    self.assertEqual(stream.recv(100), b"")
                    self.assertIn("is let go by the manager: this socket is for D-Bus, and it sent " + name,
                                  self.daemon.process.output())
        self.assertEqual(self.json("clients"), [])

    def test_messages(self):
        """The thing, the reason, the next step; and none of GLib's."""
        self.start()
        other = "--dbus-name=com.example.Nobody"
        for where, status, said in (
                (["--socket", "/nonexistent"], ctl.EX_UNAVAILABLE, "no daemon listens at /nonexistent; see systemctl"),
                (["--session", other], ctl.EX_UNAVAILABLE, "no daemon is com.example.Nobody on the session bus; see "),
                (["--bus"], 0, "")):
            with self.subTest(where):
                text = self.ctl("status", where=where, status=status)
                self.assertIn(said, text)
                self.assertNotIn("GDBus", text)
                self.assertEqual(len(text.splitlines()) == 1, status != 0)
        self.env["DBUS_SYSTEM_BUS_ADDRESS"] = "unix:path=/nonexistent"
        text = self.ctl("status", where=["--bus"], status=ctl.EX_UNAVAILABLE)
        self.assertRegex(text, "no system bus .*; .*--socket=")

    def test_tables_fit_the_terminal(self):
        self.start()
        end = self.work()
        self.addCleanup(end)
        for arguments in (["clients"], ["sessions"], ["trace", "--tpm", "--count=20"]):
            for columns in (60, 80, 100, 153):
                with self.subTest(arguments, columns=columns):
                    lines = self.on_terminal(columns, *arguments)
                    self.assertLessEqual(max(map(len, lines)), columns, lines)
            whole = self.ctl(*arguments).splitlines()
            self.assertLessEqual(set(lines[0].split()), set(whole[0].split()))
        self.assertIn("UNIT", self.ctl("clients"))
        self.assertNotIn("UNIT", "".join(self.on_terminal(80, "clients")))

    def on_terminal(self, columns, *arguments):
        """-> the lines it prints there"""
        ours, its = pty.openpty()
        fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        with subprocess.Popen([self.program, *self.where, *arguments], env=self.env, stdin=subprocess.DEVNULL,
                              stdout=its, stderr=subprocess.DEVNULL) as process:
            os.close(its)
            text = b""
            with contextlib.suppress(OSError):
                while part := os.read(ours, 4096):
                    text += part
            os.close(ours)
            self.assertEqual(process.wait(harness.HANG), 0)
        return text.decode().replace("\r\n", "\n").splitlines()

    def test_no_daemon(self):
        self.start_bus()
        for where in (["--session"], ["--bus"], ["--socket", self.manager], []):
            for verb in ("status", "clients", "sessions", "metrics", "log-level", "trace"):
                with self.subTest(where=where, verb=verb):
                    self.assertIn("tabrmctl: ", self.ctl(verb, where=where, status=ctl.EX_UNAVAILABLE))

    def test_names_that_are_no_names(self):
        """A process calls itself what it likes: nothing of it gets to a terminal, and no line or value is broken."""
        names = {b"\033[2J\n\xff\"x": '?[2J??"x', b"a\nb\rc\td": "a?b?c?d", b"'\"\\\\<&>": "'\"\\\\<&>",
                 "\u00e4\u4e2d\u202e".encode(): "?" * 8, b"\xff\xfe\xc3": "???", b"%s%n{}": "%s%n{}",
                 b"\033]0;title\a": "?]0;title?"}
        program = "import ctypes, socket, sys; ctypes.CDLL(None).prctl(15, bytes.fromhex(sys.argv[2]), 0, 0, 0); " \
            "s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); print(flush=True)\n" \
            "while sys.stdin.read(1): s.sendall(bytes.fromhex(sys.argv[3])); s.recv(100)"
        self.start()
        for name, shown in names.items():
            with self.subTest(name), subprocess.Popen(
                    ["/usr/bin/python3", "-c", program, self.daemon.socket, name.hex(), tpm.get_random().hex()],
                    stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
                process.stdout.readline()
                harness.wait_until(lambda: self.json("clients"), "it is there")
                self.ctl("log-level", "debug")
                records = []
                tracer = threading.Thread(target=lambda into=records: into.extend(
                    self.ctl("trace", *how, "-c", "1") for how in ([], ["--json"])))
                texts = {"table": self.ctl("clients"), "top": self.ctl("top", "--batch", "--count=1"),
                         "metrics": self.ctl("metrics")}
                row, = self.json("clients")
                self.assertEqual(row["name"], shown)
                tracer.start()
                harness.wait_until(lambda: process.stdin.write(b"x") and process.stdin.flush() or not tracer.is_alive(),
                                   "it is traced")
                tracer.join()
                texts["trace"] = records[0]
                self.assertEqual(json.loads(records[1])["name"], shown)
                process.stdin.close()
                harness.wait_until(lambda: not self.json("clients"), "it is gone")
                texts["log"] = self.daemon.process.output()
                for what, text in texts.items():
                    self.assertNotRegex(text, "[\0-\x08\x0b-\x1f\x7f-\uffff]", what)
                for what in ("table", "top", "trace", "log"):
                    self.assertIn(shown, texts[what], what)
                self.assertEqual(len(texts["table"].splitlines()), 2)
                self.assertEqual(len(texts["trace"].splitlines()), 2)
                self.assertIn("(%s) disconnected" % shown, texts["log"])


class Impostor(ctl.TestCase):
    """Who says that it is the daemon may say anything; a terminal and a reader of metrics get none of it."""

    by_bus = False
    SAID = "\033[31m\x9b2J\x1f\n\"} 1"
    OBEYED = "[\0-\x09\x0b-\x1f\x7f-\x9f]"

    @staticmethod
    def dictionary(**texts):
        out = b""
        for key, value in texts.items():
            out = bus.align(bus.align(out, 8) + bus.string(key) + b"\1s\0", 4) + bus.string(value)
        return out

    def answer(self, stream):
        """Everything by texts alone."""
        status = self.dictionary(**{key: self.SAID for key in ("State", "Version", "Revision", "Vendor", "Reason")})
        row = self.dictionary(name=self.SAID, state=self.SAID, door=self.SAID)
        for said in (b"OK 0123456789abcdef0123456789abcdef", b"AGREE_UNIX_FD", None):
            line = stream.readline()
            while b"AUTH" in line and b"EXTERNAL" not in line:
                stream.write(b"REJECTED EXTERNAL\r\n")
                line = stream.readline()
            stream.write(said + b"\r\n" if said else b"")
        while head := stream.read(bus.HEADER):
            _, _, _, _, n_body, serial, n_fields = struct.unpack("<cBBBIII", head)
            fields = bus.read_fields(head + stream.read(n_fields + -n_fields % 8), bus.HEADER + n_fields)
            stream.read(n_body)
            signature, body = "aa{sv}", struct.pack("<II", 4 + len(row), len(row)) + row
            if fields[bus.MEMBER] == "GetAll":
                signature, body = "a{sv}", struct.pack("<II", len(status), 0) + status
            stream.write(bus.message(bus.METHOD_RETURN, serial, {bus.REPLY_SERIAL: serial, bus.SIGNATURE: signature},
                                     body))

    def start_impostor(self):
        self.env["LC_ALL"] = "C.UTF-8"
        listener = socket.socket(socket.AF_UNIX)
        self.addCleanup(listener.close)
        listener.bind(self.manager)
        listener.listen()

        def serve():
            with contextlib.suppress(OSError):
                while True:
                    stream, _ = listener.accept()
                    with stream, stream.makefile("rwb", buffering=0) as file, contextlib.suppress(OSError):
                        self.answer(file)
        threading.Thread(target=serve, daemon=True).start()

    def test_texts(self):
        self.start_impostor()
        for verb, status in (("status", ctl.NO_TPM), ("clients", 0), ("clients --recent", 0), ("sessions", 0),
                             ("top --batch --count=1", 0), ("metrics", ctl.FAILED)):
            with self.subTest(verb):
                text = self.ctl(*verb.split(), status=status)
                self.assertNotRegex(text, self.OBEYED)
                self.assertNotRegex(text, '(?m)^"} 1')

    def test_json_has_them_as_they_are(self):
        self.start_impostor()
        for verb, status in (("status", ctl.NO_TPM), ("clients", 0)):
            text = self.ctl("--json", verb, status=status)
            self.assertNotRegex(text, self.OBEYED)
            said = json.loads(text)
            self.assertEqual((said if verb == "status" else said[0])["state"], self.SAID)


class ShortLived(ctl.TestCase):
    """Tools that are gone before anybody asks."""

    N = 7

    def setUp(self):
        super().setUp()
        self.start()
        for _ in range(self.N):
            with self.daemon.client() as client:
                client.run(tpm.get_random())
                client.ask(tpm.flush_context(0x80000000))
        harness.wait_until(lambda: self.json("clients") == [], "they are gone")
        self.other = self.start_other()
        self.other.ask(tpm.get_random())

    def test_recent(self):
        rows = self.json("clients", "--recent")
        self.assertEqual([(row["uid"], row["clients"]) for row in rows], [(ctl.NOBODY, 1), (0, 0)])
        row = rows[1]
        self.assertEqual((row["name"], row["connections"], row["commands"], row["failed"]),
                         ("python3", self.N, 2 * self.N, self.N))
        self.assertEqual(row["tpm-commands"], self.N)
        self.assertLess(row["since"], row["last"])
        lines = self.ctl("clients", "--recent").splitlines()
        self.assertRegex(lines[2], r" root +python3 +0 +%d +%d +%d +%d " % (self.N, 2 * self.N, self.N, self.N))
        self.assertEqual([row["uid"] for row in self.json("clients", "--recent", "--sort=commands")], [0, ctl.NOBODY])
        self.assertEqual([row["uid"] for row in self.json("clients", "--recent", "--user=0")], [0])
        self.assertIn("last (default)", self.ctl("clients", "--recent", "--sort=beauty", status=ctl.EX_USAGE))

    def test_others_see_their_own(self):
        rows = self.json("clients", "--recent", user=ctl.member(), where=["--session"])
        self.assertEqual([(row["uid"], row["connections"]) for row in rows], [(ctl.NOBODY, 1)])

    def test_top(self):
        text = self.ctl("top", "--batch", "--count=1")
        self.assertRegex(text, r"(?m)^ +- root +- python3 .* %d gone$" % self.N)
        self.assertEqual(len(re.findall(" gone$", text, re.M)), 1)
        # Nothing was done since.
        text = self.ctl("top", "--batch", "--count=2", "--delay=0.1")
        self.assertNotIn(" gone", text.rpartition("tpm2-abrmd")[2])

    def test_metrics(self):
        values = dict(line.rsplit(" ", 1) for line in self.ctl("metrics").splitlines() if not line.startswith("#"))
        labels = '{uid="0",name="python3"}'
        for name, n in (("connections", self.N), ("commands", 2 * self.N), ("failed_commands", self.N)):
            self.assertEqual(values["tabrmd_%s_by_program_total%s" % (name, labels)], str(n))
        self.assertGreater(float(values["tabrmd_busy_seconds_by_program_total" + labels]), 0)

    def test_more_names_than_accounts(self):
        """They are bounded, and nothing that was counted is lost."""
        program = "import ctypes, socket, sys\nfor i in range(300):\n" \
            " ctypes.CDLL(None).prctl(15, b'name %d' % i, 0, 0, 0); s = socket.socket(socket.AF_UNIX)\n" \
            " s.connect(sys.argv[1]); s.sendall(bytes.fromhex(sys.argv[2])); s.recv(100); s.close()"
        subprocess.run(["/usr/bin/python3", "-c", program, self.daemon.socket, tpm.get_random().hex()], check=True,
                       timeout=harness.HANG)
        rows = self.json("clients", "--recent")
        self.assertEqual(len(rows), 129)
        self.assertEqual([row["name"] for row in rows if "uid" not in row], [""])
        self.assertEqual(sum(row["connections"] for row in rows), self.N + 1 + 300)
        self.assertEqual(sum(row["commands"] for row in rows), 2 * self.N + 1 + 300)
        self.assertIn((0, "python3"), [(row.get("uid"), row["name"]) for row in rows])
        self.assertRegex(self.ctl("clients", "--recent"), r"(?m)^ *\S+ \S+ +- +\(others\) ")


@needs(*PID_NAMESPACE)
class OfAnotherPidNamespace(ctl.TestCase):
    """The daemon sees nobody's process number: it is 0 at each door, and nothing depends on it."""

    def setUp(self):
        super().setUp()
        # A leak checker cannot look at a process of whose namespace it has no /proc.
        self.start(wrap=["unshare", "-p", "-f", "--kill-child"], options=["--wait"],
                   env={"ASAN_OPTIONS": "detect_leaks=0"})
        self.addCleanup(self.end)
        self.ctl("log-level", "debug", where=["--socket", self.manager])

    def end(self):
        """The signal is for the daemon, and not for what has started it."""
        os.kill(harness.children(self.daemon.process.pid)[0], signal.SIGTERM)
        self.assertEqual(self.daemon.wait(), 0)

    def check(self, where):
        self.where = where
        client = self.connect()
        session = client.start_session(tpm.SE_POLICY)
        client.run(tpm.get_random())
        row, = self.json("clients")
        self.assertEqual((row["uid"], row["pid"], row["name"], row["unit"]), (0, 0, "?", "-"))
        self.assertEqual(self.json("status")["state"], "ready")
        lines = self.ctl("clients").splitlines()
        self.assertRegex(lines[1], r"^ *%d +root +- +\? +- +socket " % row["id"])
        self.assertRegex(self.ctl("top", "--batch", "--count=1").splitlines()[-2], r"^ *%d +root +- +\? " % row["id"])
        self.assertRegex(self.ctl("sessions").splitlines()[1], r" +root +%d \(\?\) " % row["id"])
        for kind, told in (([], "0/-/?"), (["--json"], '"pid":0')):
            argv = [self.program, *self.where, "trace", "--count=1", *kind]
            with subprocess.Popen(argv, env=self.env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
                                  stderr=subprocess.DEVNULL) as trace:
                harness.wait_until(lambda: client.run(tpm.get_random()) and trace.poll() is not None, "it is traced")
                self.assertIn(told, trace.stdout.read())
        self.assertIn("tabrmd_clients 1\n", self.ctl("metrics"))
        self.assertEqual(self.json("flush", "--client", row["id"]), {"objects": 0, "sessions": 1})
        self.assertNotEqual(client.ask(tpm.flush_context(session)).rc, 0)
        client.close()
        harness.wait_until(lambda: self.json("clients") == [], "it is gone")

    def test_private_socket(self):
        self.check(["--socket", self.manager])
        self.assertIn("uid 0 pid 0 (?) flushes what client 1 has", self.daemon.process.output())
        self.assertIn("uid 0 pid 0 (?) connected", self.daemon.process.output())

    def test_bus(self):
        self.check(["--session"])

    @harness.by_socket_only
    def test_clients_of_the_bus(self):
        """Of whom the bus knows a number, of a namespace that is not the daemon's."""
        tools = harness.Tools(self.folder / "tools", self.daemon.bus_conf, self.daemon.library, self.bus)
        tools("tpm2_getrandom", "--hex", "8")
        self.assertEqual(self.json("status")["counters"]["connections"], 1)
        self.assertRegex(self.daemon.process.output(), r"uid 0 pid \d+ \(\?\) connected")


class Everything(ctl.TestCase):
    """All of it at once, and a TPM that goes: nobody hears what cannot be, and nothing is left."""

    SECONDS = 6

    def setUp(self):
        super().setUp()
        self.start(options=["--wait"])
        self.ending, self.failures = time.monotonic() + self.SECONDS, []

    def attempt(self, action, source, others=()):
        """Until the time is over, and the other threads are."""
        try:
            while time.monotonic() < self.ending or any(thread.is_alive() for thread in others):
                action(source)
        except Exception as failure:  # pylint: disable=broad-except
            self.failures.append(failure)

    def be_client(self, source):
        """Its things may be flushed, and its TPM may go, at any time: whatever it hears is an answer."""
        with self.daemon.client() as client:
            handles = [0x80000000, 0x03000000]
            for _ in range(source.randrange(30)):
                command = source.choice([
                    lambda: tpm.create_primary(tpm.public_hmac_key(b"%d" % source.randrange(5))),
                    lambda: tpm.start_auth_session(tpm.SE_POLICY), tpm.get_random,
                    lambda: tpm.context_save(source.choice(handles)), lambda: tpm.read_public(source.choice(handles)),
                    lambda: tpm.flush_context(source.choice(handles)), lambda: tpm.policy_pcr(source.choice(handles))])
                response = client.ask(command())
                if response is None:
                    return
                if response.rc == 0 and len(response.raw) >= 14:
                    handles.append(response.handle)

    def run_ctl(self, source):
        where = source.choice((["--session"], ["--socket", self.manager]))
        arguments = source.choice((["status"], ["clients"], ["sessions"], ["metrics"], ["flush", "--abandoned"],
                                   ["flush", "--left-over"], ["flush", "--client", str(source.randrange(1, 300))],
                                   ["log-level", "info"], ["trace", "--tpm", "-c", "20"],
                                   ["top", "-c", "2", "-d", "0.1"]))
        done = subprocess.run([self.program, *where, *arguments], env=self.env, stdin=subprocess.DEVNULL,
                              capture_output=True, text=True, timeout=harness.HANG, check=False)
        if done.returncode not in (0, ctl.FAILED, ctl.NO_TPM):
            raise AssertionError("%s: %d\n%s" % (arguments, done.returncode, done.stderr))

    def kill_ctl(self, source):
        """In the middle of whatever it does."""
        argv = [self.program, "--socket", self.manager, *source.choice((["trace"], ["clients"], ["status"]))]
        with subprocess.Popen(argv, env=self.env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                              stderr=subprocess.DEVNULL) as process:
            time.sleep(source.random() / 20)
            process.kill()

    def lose_tpm(self, source):
        time.sleep(source.uniform(0.5, 1.5))
        self.tpm.restart()

    def test_everything_at_once(self):
        actions = [self.run_ctl] * 2 + [self.kill_ctl]
        askers = [threading.Thread(target=self.attempt, args=(action, random.Random(i)))
                  for i, action in enumerate(actions)]
        # A trace waits for commands, so clients go on until nobody asks any more.
        clients = [threading.Thread(target=self.attempt, args=(self.be_client, random.Random(i), askers))
                   for i in range(len(actions), len(actions) + 6)]
        threads = askers + clients
        for thread in threads:
            thread.start()
        # From here, since what a thread has started ends with it.
        self.attempt(self.lose_tpm, random.Random(0))
        for thread in threads:
            thread.join()
        self.assertEqual(self.failures, [])
        harness.wait_until(lambda: self.json("clients") == [], "all are gone")
        client = self.connect()
        harness.wait_until(lambda: client.ask(tpm.get_random()).rc == 0, "the TPM is back")
        self.ctl("flush", "--abandoned")
        self.ctl("flush", "--left-over")
        self.assertTpmEmpty()


if __name__ == "__main__":
    harness.main()
