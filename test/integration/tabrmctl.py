# SPDX-License-Identifier: BSD-2-Clause
"""What tabrmctl says of a busy daemon, to whom, and what it changes there."""

import contextlib
import json
import os
import random
import re
import signal
import subprocess
import threading
import time

import ctl
import harness
import tpm

N_OBJECTS, N_SESSIONS = 5, 2
PROMTOOL = os.environ.get("TABRMD_PROMTOOL", harness.BUILD / "prometheus/usr/bin/promtool")
PROMTOOL = PROMTOOL if os.path.exists(PROMTOOL) else "promtool"
REFUSED = ["status"], ["metrics"], ["flush", "--abandoned"], ["flush", "--client", "1"], ["log-level"], \
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
        self.assertEqual(status["State"], "ready")
        self.assertEqual(status["Clients"], 5)
        self.assertEqual((status["Objects"], status["ObjectsLoaded"], status["ObjectSlots"]), (N_OBJECTS, 3, 3))
        self.assertEqual(status["Sessions"], {"owned": 2, "saved": 1, "abandoned": 1, "left-over": 1, "flushing": 0})
        self.assertEqual(status["Tcti"], self.tpm.conf)
        self.assertGreater(status["Counters"]["commands"], 10)
        harness.wait_until(lambda: self.json("status")["Counters"]["commands"] > status["Counters"]["commands"],
                           "it is told how work goes on")
        text = self.ctl("status")
        for words in ("tpm2-abrmd 4.0.0: ready", "clients     5 of ", "%d of 16384; loaded: 3 of 3 slots" % N_OBJECTS,
                      "2 owned, 1 saved, 1 abandoned, 1 left-over"):
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
        self.assertEqual(saved["gap"] + saved["gap-left"], self.json("status")["MaxGap"])
        self.assertGreater(saved["gap"], abandoned["gap"])
        self.assertEqual(rows[self.others_session]["uid"], ctl.NOBODY)
        lines = self.ctl("sessions").splitlines()
        self.assertEqual(len(lines), 6)
        self.assertRegex(lines[1], r"^0x0[23]000000 +\S+")

    def test_top(self):
        looks = [json.loads(line) for line in self.ctl("--json", "top", "-n", "2", "-d", "0.3").splitlines()]
        for look in looks:
            self.assertEqual(len(look["clients"]), 5)
            self.assertEqual(look["status"]["Clients"], 5)
        self.assertGreater(looks[1]["status"]["Counters"]["commands"], looks[0]["status"]["Counters"]["commands"])
        text = self.ctl("top", "-b", "-n", "2", "-d", "0.3")
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
        self.assertNotEqual(self.holder.ask(tpm.context_load(self.context)).rc, 0)
        self.assertEqual(self.ctl("flush", "--abandoned"), "flushed: 0 objects, 1 sessions\n")
        self.assertEqual(self.ctl("flush", "--left-over"), "flushed: 0 objects, 1 sessions\n")
        self.assertEqual(self.ctl("flush", "--left-over"), "flushed: 0 objects, 0 sessions\n")
        harness.wait_until(lambda: sum(self.json("status")["Sessions"].values()) == 1, "the others are flushed")
        objects, loaded, saved = self.proxy.holdings()
        self.assertEqual(objects, [])
        self.assertEqual(len(loaded) + len(saved), 1)
        # It goes on where it was.
        self.assertEqual(self.holder.create_primary(tpm.public_hmac_key(b"9")), self.objects[0])
        self.assertIn("no such client", self.ctl("flush", "--client", "12345", status=ctl.FAILED))
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
        self.assertEqual(self.json("metrics")["State"], "ready")
        checked = subprocess.run([PROMTOOL, "check", "metrics"], input=text, capture_output=True, text=True,
                                 timeout=harness.HANG, check=False)
        self.assertEqual((checked.returncode, checked.stdout + checked.stderr), (0, ""))

    def test_log_level(self):
        self.assertEqual(self.ctl("log-level"), "info\n")
        self.assertEqual(self.ctl("log-level", "debug"), "")
        self.assertEqual(self.json("log-level"), {"LogLevel": "debug"})
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
        for arguments in REFUSED:
            with self.subTest(arguments):
                self.assertIn("uid 0", self.ctl(*arguments, status=ctl.EX_NOPERM, user=user))
        self.assertEqual(self.ctl("log-level"), "info\n")
        self.assertEqual(self.json("status")["Sessions"]["abandoned"], 1)

    def test_where(self):
        """With nothing said, the private socket, and the system bus where there is none."""
        self.assertEqual(len(self.json("clients", where=[])), 5)
        self.assertEqual(len(self.json("clients", where=["--bus"])), 5)
        self.ctl("clients", where=["--bus", "--dbus-name", "com.example.Nobody"], status=ctl.EX_UNAVAILABLE)


class BySocket(Verbs, Busy):
    by_bus = False

    def test_nobody_else_gets_in(self):
        user = ctl.member()
        for arguments in (["clients"], ["sessions"], *REFUSED):
            with self.subTest(arguments):
                self.assertIn("denied", self.ctl(*arguments, status=ctl.EX_NOPERM, user=user))
        # It is not the file's mode alone.
        os.chmod(self.manager, 0o666)
        self.ctl("clients", status=ctl.EX_UNAVAILABLE, user=user)
        self.assertRegex(self.daemon.process.output(), r"uid 65534 pid \d+ \(\S+\) is refused by the manager: .*uid 0")
        self.assertEqual(len(self.json("clients")), 5)

    def test_file(self):
        self.assertEqual(os.stat(self.manager).st_mode & 0o7777, 0o600)


class Alone(ctl.TestCase):
    def test_what_is_counted(self):
        """A known number of commands, and what the TPM was sent for them."""
        self.start(options=harness.NO_CHORES)
        client = self.connect()
        before, n_before = self.json("status")["Counters"], self.proxy.count()
        for _ in range(10):
            client.run(tpm.get_random())
        for _ in range(3):
            client.ask(tpm.flush_context(0x80000000))
        n = self.proxy.count() - n_before
        after = self.json("status")["Counters"]
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
            self.assertEqual([row["command"] for row in rows], [0x17B, 0x17B])
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
        self.assertEqual(status["State"], "absent")
        self.assertNotEqual(status["Reason"], "")
        self.assertIn(": absent: ", self.ctl("status", status=ctl.NO_TPM))
        self.tpm.restart()
        harness.wait_until(lambda: '"ready"' in changes.output().rpartition('"absent"')[2], "that it is back is told")
        self.assertEqual(self.json("status")["Counters"]["tpm-lost"], 1)

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
                          ["log-level", "debug", "info"]):
            with self.subTest(arguments):
                self.assertIn("--help", self.ctl(*arguments, status=ctl.EX_USAGE))
        self.ctl("status", where=["--bus", "--session"], status=ctl.EX_USAGE)

    def test_no_daemon(self):
        self.start_bus()
        for where in (["--session"], ["--bus"], ["--socket", self.manager], []):
            for verb in ("status", "clients", "sessions", "metrics", "log-level", "trace"):
                with self.subTest(where=where, verb=verb):
                    self.assertIn("tabrmctl: ", self.ctl(verb, where=where, status=ctl.EX_UNAVAILABLE))

    def test_names_that_are_no_names(self):
        """A process calls itself what it likes: nothing of it gets to a terminal."""
        self.start()
        program = "import ctypes, socket, sys; ctypes.CDLL(None).prctl(15, b'\\033[2J\\n\\xff\"x', 0, 0, 0); " \
            "s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); print(flush=True); sys.stdin.read()"
        with subprocess.Popen(["/usr/bin/python3", "-c", program, self.daemon.socket], stdin=subprocess.PIPE,
                              stdout=subprocess.PIPE) as process:
            process.stdout.readline()
            text = harness.wait_until(lambda: next((t for t in [self.ctl("clients")] if "[2J" in t), None),
                                      "it is there")
            self.assertNotRegex(text, "[\033\\x80-\\xff]")
            self.assertEqual(len(text.splitlines()), 2)
            self.assertEqual(self.json("clients")[0]["name"], '?[2J??"x')
            process.stdin.close()


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
                                   ["top", "-n", "2", "-d", "0.1"]))
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
