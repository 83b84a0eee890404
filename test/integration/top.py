# SPDX-License-Identifier: BSD-2-Clause
"""tabrmctl top in a terminal: what the screen shows, keys, sizes, and a daemon that goes and comes back."""

import json
import os
import pathlib
import re
import subprocess
import sys
import threading
import xml.etree.ElementTree

import ctl
import harness
import tpm
from process import OTHER_USER, find_tool, needs

SMALL, LARGE = (80, 24), (200, 50)
HINTS = "q quit"


class Terminal:
    """A program in a tmux of its own."""

    def __init__(self, test, size, *argv, env=None):
        self.test = test
        self.name = "tabrmd-%d-%d" % (os.getpid(), id(self))
        self.status = test.folder / "status"
        command = "%s; echo $? >%s; cat" % (" ".join("'%s'" % a for a in argv), self.status)
        environment = {**test.env, "LC_ALL": "C.UTF-8", "TERM": "xterm-256color", **(env or {})}
        self.tmux("new-session", "-d", "-x", size[0], "-y", size[1], command, env=environment)
        test.addCleanup(self.tmux, "kill-server")

    def tmux(self, *arguments, env=None):
        argv = ["tmux", "-L", self.name, "-f", "/dev/null", *map(str, arguments)]
        return subprocess.run(argv, env=env, capture_output=True, text=True, timeout=harness.HANG, check=True).stdout

    def screen(self):
        return self.tmux("capture-pane", "-p").splitlines()

    def raw(self):
        return self.tmux("capture-pane", "-p", "-e")

    def press(self, *keys):
        self.tmux("send-keys", *keys)

    def resize(self, size):
        self.tmux("resize-window", "-x", size[0], "-y", size[1])

    def wait_for(self, condition, what):
        """-> the screen, once it is as it should be"""
        seen = []

        def ask():
            seen[:] = self.screen()
            return condition(seen)
        try:
            harness.wait_until(ask, what)
        except TimeoutError:
            self.test.fail("%s:\n%s" % (what, "\n".join(seen)))
        return list(seen)


def titles_at(screen):
    return next((i for i, line in enumerate(screen) if re.match(r" *(ID|USER)[v^]? ", line)), None)


def rows(screen):
    """-> the lines below the titles"""
    return [line for line in screen[titles_at(screen) + 1:-1] if line.strip()] if titles_at(screen) is not None else []


def ids(screen):
    return [int(line.split()[0]) for line in rows(screen)]


class Top(ctl.TestCase):
    by_bus = False

    def setUp(self):
        super().setUp()
        self.start()
        self.ending = threading.Event()
        self.threads = []

    def rest(self):
        self.ending.set()
        for thread in self.threads:
            thread.join()

    def populate(self, n_clients, n_busy=0):
        """Client i has i % 4 objects; the first ones are at work."""
        self.clients = [self.connect() for _ in range(n_clients)]
        for i, client in enumerate(self.clients):
            for k in range(i % 4):
                client.create_primary(tpm.public_hmac_key(b"%d %d" % (i, k)))
        self.addCleanup(self.rest)
        for client in self.clients[:n_busy]:
            thread = threading.Thread(target=self.work, args=(client,))
            thread.start()
            self.threads.append(thread)

    def work(self, client):
        while not self.ending.is_set():
            client.run(tpm.get_random())

    def top(self, size, *options, **keywords):
        return Terminal(self, size, self.program, *self.where, "top", "-d", "0.2", *options, **keywords)

    def shown(self, terminal, n):
        return terminal.wait_for(lambda screen: len(rows(screen)) == n and HINTS in screen[-1], "%d clients" % n)

    def assertFits(self, screen, size):
        self.assertLessEqual(len(screen), size[1])
        for line in screen:
            self.assertLessEqual(len(line), size[0])

    def assertColumns(self, screen):
        """Right-aligned ones end where their titles do, the others begin there."""
        title = screen[titles_at(screen)]
        command, pid = title.index("COMMAND"), title.index("PID") + 3
        for line in rows(screen):
            self.assertRegex(line[:pid], r" %d$" % os.getpid())
            self.assertTrue(line[command:].startswith("python3"), line)
            self.assertEqual(line[command - 1], " ")

    def test_80x24_and_200x50(self):
        self.populate(6, n_busy=2)
        for size in (SMALL, LARGE):
            with self.subTest(size):
                terminal = self.top(size)
                screen = self.shown(terminal, 6)
                self.assertFits(screen, size)
                self.assertColumns(screen)
                self.assertEqual(len(screen), size[1])
                self.assertRegex(screen[0], r"^tpm2-abrmd 4\.0\.0  ready  IBM ")
                self.assertRegex("\n".join(screen), r"Slots    objects 3 of 3, 7 in all .* clients 6\n")
                title = screen[titles_at(screen)].split()
                for column in ("ID", "USER", "PID", "COMMAND", "OBJ", "SES", "CMD/S", "TPM/S", "BUSY%v", "STATE"):
                    self.assertIn(column, title)
                for column in ("UNIT", "DOOR", "WAIT", "FAILED"):
                    self.assertEqual(column in title, size == LARGE, column)
                told = {row["id"]: row for row in self.json("clients")}
                at = title.index("OBJ")
                for line in rows(screen):
                    fields = line.split()
                    self.assertEqual(int(fields[at]), told[int(fields[0])]["objects"])
                # Those that work come first, since the busiest do.
                terminal.wait_for(lambda screen: set(ids(screen)[:2]) == {1, 2}, "the busiest come first")
                self.assertIn("\033[32m", terminal.raw(), "colours")

    def test_sorting(self):
        self.populate(6)
        terminal = self.top(LARGE)
        self.shown(terminal, 6)
        terminal.press("i")
        terminal.wait_for(lambda screen: ids(screen) == [1, 2, 3, 4, 5, 6] and "ID^" in screen[titles_at(screen)],
                          "by id")
        terminal.press("r")
        terminal.wait_for(lambda screen: ids(screen) == [6, 5, 4, 3, 2, 1] and "IDv" in screen[titles_at(screen)],
                          "reversed")
        terminal.press("r", "o")
        terminal.wait_for(lambda screen: ids(screen) == [4, 3, 2, 6, 1, 5] and "OBJv" in screen[titles_at(screen)],
                          "by objects")
        terminal.press("<")
        terminal.wait_for(lambda screen: "DOOR^" in screen[titles_at(screen)], "the column to the left")
        terminal.press(">", ">")
        terminal.wait_for(lambda screen: "SESv" in screen[titles_at(screen)], "two to the right")

    def test_scrolling(self):
        self.populate(40)
        terminal = self.top(SMALL)
        terminal.wait_for(lambda screen: HINTS in screen[-1] and rows(screen), "clients")
        terminal.press("i")
        screen = terminal.wait_for(lambda screen: ids(screen)[:2] == [1, 2], "the first ones")
        n = len(rows(screen))
        self.assertLess(n, 40)
        terminal.press("End")
        terminal.wait_for(lambda screen: ids(screen) == list(range(41 - n, 41)), "the last ones")
        terminal.press("PPage")
        terminal.wait_for(lambda screen: ids(screen)[0] == 40 - n, "a page up")
        terminal.press("Home")
        terminal.wait_for(lambda screen: ids(screen)[0] == 1, "the first one")
        terminal.press("NPage", "Down")
        terminal.wait_for(lambda screen: ids(screen)[-1] == n + 2, "a page and a line down")
        for client in self.clients[20:]:
            client.close()
        self.clients = self.clients[:20]
        terminal.wait_for(lambda screen: len(rows(screen)) == n and max(ids(screen)) <= 20, "less clients")

    def test_pause_and_delay(self):
        self.populate(2)
        terminal = self.top(SMALL)
        self.shown(terminal, 2)
        terminal.press("p")
        terminal.wait_for(lambda screen: "paused" in screen[-1], "a pause")
        self.populate(1)
        looks = self.json("status")["counters"]["connections"]
        self.assertEqual(len(rows(terminal.screen())), 2)
        terminal.press("p")
        self.shown(terminal, 3)
        self.assertEqual(self.json("status")["counters"]["connections"], looks)
        terminal.press("d", "0", ".", "5", "Enter")
        self.shown(terminal, 3)
        terminal.press("d")
        terminal.wait_for(lambda screen: "now 0.5" in screen[-1], "the delay was changed")
        terminal.press("0", "Enter")
        terminal.wait_for(lambda screen: "from 0.1 to 3600" in screen[-1], "a delay that cannot be")

    def test_help(self):
        self.populate(1)
        for size in (SMALL, LARGE):
            terminal = self.top(size)
            self.shown(terminal, 1)
            terminal.press("h")
            screen = terminal.wait_for(lambda screen: any("any key goes back" in line for line in screen), "the help")
            self.assertFits(screen, size)
            terminal.press("x")
            self.shown(terminal, 1)

    def test_flush(self):
        self.populate(4)
        terminal = self.top(SMALL)
        self.shown(terminal, 4)
        terminal.press("f")
        terminal.wait_for(lambda screen: "no client is selected" in screen[-1], "what to flush?")
        terminal.press("i")
        terminal.press("End", "f")
        terminal.wait_for(lambda screen: "flush all that client 4 (python3) has? y/n" in screen[-1], "the question")
        terminal.press("n")
        terminal.wait_for(lambda screen: HINTS in screen[-1], "no")
        self.assertEqual(self.json("status")["objects"], 6)
        terminal.press("f", "y")
        terminal.wait_for(lambda screen: "flushed: 3 objects, 0 sessions" in screen[-1], "yes")
        harness.wait_until(lambda: self.json("status")["objects"] == 3, "they are flushed")

    def test_resizing(self):
        self.populate(6)
        terminal = self.top(SMALL)
        self.shown(terminal, 6)
        for size in (LARGE, SMALL, (40, 10), (20, 5), (3, 2), (1, 1), LARGE):
            terminal.resize(size)
            screen = terminal.wait_for(lambda screen: len(screen) == size[1] and (
                size[0] < 40 or titles_at(screen) is not None), "%dx%d" % size)
            self.assertFits(screen, size)
            for key in ("h", "Down", "Down", "f", "n"):
                terminal.press(key)
        screen = self.shown(terminal, 6)
        self.assertIn("UNIT", screen[titles_at(screen)])

    def test_daemon_goes_and_comes_back(self):
        self.populate(2)
        terminal = self.top(SMALL)
        self.shown(terminal, 2)
        for client in self.clients:
            client.close()
        self.assertEqual(self.daemon.stop(), 0)
        terminal.wait_for(lambda screen: "no daemon listens" in screen[-1], "that it is gone")
        self.daemon = self.start_daemon(self.tpm.conf, bus=self.bus, options=["--manager=" + self.manager])
        self.populate(3)
        self.shown(terminal, 3)
        terminal.press("q")
        harness.wait_until(self.ended, "it ends")
        self.assertEqual(terminal.status.read_text(), "0\n")

    def ended(self):
        return (self.folder / "status").exists() and (self.folder / "status").read_text()

    def test_leaves_the_terminal_in_order(self):
        self.populate(1)
        terminal = self.top(SMALL, "-c", "3")
        harness.wait_until(self.ended, "it ends by itself")
        self.assertEqual(self.ended(), "0\n")
        terminal.press("a", "b", "c")
        screen = terminal.wait_for(lambda screen: any("abc" in line for line in screen), "echo")
        self.assertFalse(any("tpm2-abrmd" in line for line in screen), "the screen is as it was before")
        self.assertEqual(terminal.tmux("display-message", "-p", "#{cursor_flag}"), "1\n")

    def test_a_late_command_and_waiting_ones(self):
        self.populate(2)
        harness.wait_until(lambda: tpm.CC_CONTEXT_SAVE in self.proxy.commands, "the daemon's own command comes first")
        self.proxy.hold()
        terminal = self.top(LARGE)
        for client in self.clients:
            client.send(tpm.get_random())
        screen = terminal.wait_for(lambda screen: any("late: GetRandom of client 1 " in line for line in screen),
                                   "late")
        self.assertRegex("\n".join(screen), r"waiting 1 \(")
        self.assertRegex("\n".join(rows(screen)), r" running GetRandom\n(.|\n)* waiting GetRandom")
        self.assertIn("late: GetRandom", re.findall(r"\033\[31m(?:\033\[49m)?([^\033]*)", terminal.raw()))
        terminal.wait_for(lambda screen: any(re.match(r"TPM +\[\|{20}\] 100\.0 %", line) for line in screen),
                          "a busy TPM")
        self.proxy.release()
        terminal.wait_for(lambda screen: any(re.match("Running +nothing", line) for line in screen), "it is over")

    def test_short_lived_tools(self):
        """Rows of those that have left; and folded, with those that have not."""
        self.populate(2, n_busy=1)
        self.addCleanup(self.rest)
        self.threads.append(threading.Thread(target=self.come_and_go))
        self.threads[-1].start()
        for size in (SMALL, LARGE):
            terminal = self.top(size)
            screen = terminal.wait_for(lambda screen: any(" gone" in line for line in rows(screen)), "some have left")
            self.assertFits(screen, size)
            terminal.wait_for(lambda screen: re.search(r"\033\[2m +- root", terminal.raw()), "they are dim")
            terminal.press("P")
            terminal.wait_for(lambda screen: len(rows(screen)) == 1 and "P unfolds" in screen[-1] and
                              re.search(r"^root +python3 .* 2 here, [1-9]\d* gone$", rows(screen)[0]), "by program")
            terminal.press("U")
            terminal.wait_for(lambda screen: len(rows(screen)) == 1 and "U unfolds" in screen[-1] and
                              re.search(r"^root +\d.* 2 here, [1-9]\d* gone$", rows(screen)[0]), "by user")
            terminal.press("Down", "f")
            terminal.wait_for(lambda screen: "no client is selected" in screen[-1], "a user is no client")
            terminal.press("U", "i")
            terminal.wait_for(lambda screen: HINTS in screen[-1] and len(rows(screen)) >= 2, "unfolded")

    def come_and_go(self):
        while not self.ending.is_set():
            with self.daemon.client() as client:
                client.run(tpm.get_random())

    def test_without_colours(self):
        self.populate(1)
        terminal = self.top(SMALL, env={"NO_COLOR": "1"})
        self.shown(terminal, 1)
        self.assertNotRegex(terminal.raw(), r"\033\[3[0-7]m")

    def test_terminal_that_nobody_knows(self):
        # ncurses forgets what it has begun.
        terminal = Terminal(self, SMALL, "env", "TERM=nonsense", "ASAN_OPTIONS=detect_leaks=0", self.program,
                            *self.where, "top")
        harness.wait_until(self.ended, "it ends")
        self.assertEqual(self.ended(), "64\n")
        terminal.wait_for(lambda screen: "--batch" in screen[0], "what to do")

    def test_of_somebody_else(self):
        """By the bus, and of its own clients alone."""
        self.populate(3)
        other = self.start_other()
        other.ask(tpm.get_random())
        self.where = ["--session"]
        argv = [*ctl.member(), self.program, *self.where, "top", "-d", "0.2"]
        terminal = Terminal(self, SMALL, *argv)
        screen = self.shown(terminal, 1)
        self.assertIn(" %d " % other.pid, rows(screen)[0])
        self.assertIn("  ready  IBM ", screen[0])
        self.assertIn("your own clients", screen[1])
        terminal.press("Down", "f", "y")
        terminal.wait_for(lambda screen: "only root" in screen[-1], "it may not flush")

    def test_batch(self):
        self.populate(3)
        text = self.ctl("top", "--batch", "-c", "2", "-d", "0.1")
        first, second = re.findall("^Commands .*", text, re.M)
        self.assertIn("on average so far", first)
        self.assertNotIn("on average", second)
        self.assertEqual(text.count("tpm2-abrmd 4.0.0  ready"), 2)
        self.assertNotIn("\033", text)
        looks = [json.loads(line) for line in self.ctl("top", "--json", "-c", "2", "-d", "0.1").splitlines()]
        self.assertEqual([[row["id"] for row in look["clients"]] for look in looks], [[1, 2, 3]] * 2)
        self.assertEqual(looks[0]["status"]["state"], "ready")
        self.assertLess(looks[0]["time"], looks[1]["time"])
        for bad in (["-d", "0"], ["-d", "x"], ["-c", "-1"]):
            self.ctl("top", *bad, status=ctl.EX_USAGE)


class Pictures(harness.TestCase):
    @needs(*OTHER_USER)
    def test_they_can_be_made(self):
        for program in ("tmux", "dbus-daemon"):
            find_tool(program)
        harness.built("src/ctl/tabrmctl")
        subprocess.run([sys.executable, pathlib.Path(harness.__file__).with_name("pictures.py"), self.folder],
                       stdin=subprocess.DEVNULL, timeout=harness.HANG * 3, check=True)
        for name, words in (("status", ["ready", " of 1024", "3 owned, 3 saved"]),
                            ("top", ["ssh-agent", "www-data", "BUSY%v"])):
            picture = xml.etree.ElementTree.parse(self.folder / (name + ".svg"))
            text = "".join(picture.getroot().itertext()).replace("\u00a0", " ")
            for word in words:
                self.assertIn(word, text)


if __name__ == "__main__":
    harness.main()
