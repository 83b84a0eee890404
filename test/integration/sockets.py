# SPDX-License-Identifier: BSD-2-Clause
"""The Unix sockets: their rights, who hands them over, who owns them, and from where they can be reached."""

import contextlib
import os
import pathlib
import re
import signal
import stat
import subprocess
import sys
import unittest

import harness
import tpm
from process import MOUNT, PID_NAMESPACE, needs, refusal

EX_USAGE, EX_UNAVAILABLE = 64, 69
RC_LOCALITY = 0x907
DELAY = ["strace", "-qq", "-o", "/dev/null", "-e", "inject=bind:delay_exit=1", "true"]
STARTERS = 8
PROGRESS = re.compile("the TPM at .* is there|stopped")

# What the service manager does: binds PATH at descriptor 3, the next at 4, ..., and becomes the daemon. A path that
# starts with "!" is an open file instead; "manager.sock" is handed over as the manager's.
LAUNCHER = """
import os, socket, sys
end = sys.argv.index("--")
for fd, path in enumerate(sys.argv[1:end], 3):
    if path.startswith("!"):
        taken = os.open(path[1:], os.O_RDONLY)
    else:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(path)
        os.chmod(path, 0o606)
        listener.listen()
        taken = listener.detach()
    if taken != fd:
        os.dup2(taken, fd)
        os.close(taken)
    os.set_inheritable(fd, True)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(end - 1), LISTEN_FDNAMES=":".join(
    "manager" if path.endswith("manager.sock") else "clients" for path in sys.argv[1:end]))
os.execv(sys.argv[end + 1], sys.argv[end + 1:])
"""

# For each path on standard input: a connection, and the code of an answer, or "refused".
CLIENT = """
import sys, tpm
for line in sys.stdin:
    with tpm.Client(tpm.connect_unix(line.strip())) as client:
        try:
            print("%x" % client.ask(tpm.get_random()).rc, flush=True)
        except Exception:
            print("refused", flush=True)
"""

# A mount namespace of our own in which one socket is all there is.
NOTHING_BUT_SOCKET = """
import ctypes, os, subprocess, sys, tpm
root, path = sys.argv[1:]
subprocess.run(["mount", "-t", "tmpfs", "tmpfs", root], check=True)
os.mkdir(root + "/old")
open(root + "/tpm.sock", "w").close()
subprocess.run(["mount", "--bind", path, root + "/tpm.sock"], check=True)
subprocess.run(["pivot_root", root, root + "/old"], check=True)
os.chdir("/")
if ctypes.CDLL(None, use_errno=True).umount2(b"/old", 2) < 0:
    sys.exit("umount: " + os.strerror(ctypes.get_errno()))
os.rmdir("/old")
if os.listdir("/") != ["tpm.sock"]:
    sys.exit("there is more: %s" % os.listdir("/"))
""" + CLIENT


class Bare(harness.Ours):
    """With no options but those that the test gives."""

    def argv(self, conf, unix, options):
        return [self.binary, "--tcti=" + conf, "--allow-root", "--no-dbus", *options]


class TestCase(harness.TestCase):
    def path(self, name):
        return str(self.folder / name)

    def start(self, *options, **keywords):
        self.daemon = self.start_daemon("libtpms", Bare, options=options, **keywords)

    def start_inherited(self, *paths, options=()):
        self.start(*options, wrap=[sys.executable, "-c", LAUNCHER, *paths, "--"])

    def to(self, path):
        client = tpm.Client(tpm.connect_unix(path))
        self.addCleanup(client.close)
        return client

    def assertRuns(self, status, *options, wrap=()):
        """The daemon ends by itself. -> its complaint"""
        log = self.folder / "ends.log"
        log.unlink(missing_ok=True)
        argv = [*wrap, *Bare.argv(Bare, "libtpms", False, options)]
        process = harness.Process("ends", argv, log, harness.clean_env(TABRMD_HELPER=str(harness.HELPER)))
        self.assertEqual(process.wait(), status, process.output())
        return self.only_line(process)

    def only_line(self, process):
        """-> the only one that is a complaint"""
        lines = [line for line in process.output().splitlines()
                 if not PROGRESS.fullmatch(line) and not harness.SANITIZER_NOISE.match(line)]
        self.assertEqual(len(lines), 1, lines)
        return lines[0]


class Rights(TestCase):
    def assertLocalities(self, path, allowed):
        client = self.to(path)
        for locality in (*range(6), 32, 255):
            wanted = 0 if locality in allowed else RC_LOCALITY
            self.assertEqual(client.ask(tpm.set_locality(locality)).rc, wanted, (path, locality))
        self.assertServes(client)

    def test_localities(self):
        plain, one, some, every = map(self.path, ("plain", "one", "some", "every"))
        self.start("--socket", plain, "--socket", one + ",locality=3", "--socket", some + ",locality=1+4", "--socket",
                   every + ",locality=0+1+2+3+4")
        self.assertLocalities(plain, [0])
        self.assertLocalities(one, [0, 3])
        self.assertLocalities(some, [0, 1, 4])
        self.assertLocalities(every, range(5))

    def test_mode_and_group(self):
        gid = 4711 if os.geteuid() == 0 else os.getegid()
        self.start("--socket", self.path("a"), "--socket", "%s,mode=0600,group=%d" % (self.path("b"), gid),
                   "--socket", self.path("c") + ",mode=666")
        found = {name: os.stat(self.path(name)) for name in "abc"}
        modes = {name: stat.S_IMODE(st.st_mode) for name, st in found.items()}
        self.assertEqual(modes, {"a": 0o660, "b": 0o600, "c": 0o666})
        self.assertEqual(found["b"].st_gid, gid)
        for name in "abc":
            self.assertServes(self.to(self.path(name)))
        self.assertEqual(self.daemon.stop(), 0)
        self.assertEqual([name for name in "abc" if os.path.exists(self.path(name))], [])

    def test_one_that_cannot_be_opened(self):
        """All that were asked for, or nothing: and what was bound before is taken away."""
        first, second = self.path("a"), self.path("no/such/folder")
        self.assertIn(second.rpartition("/")[0], self.assertRuns(EX_UNAVAILABLE, "--socket", first, "--socket", second))
        self.assertFalse(os.path.exists(first))

    def test_bad_rights(self):
        for bad in ("mode=1000", "mode=x", "locality=5", "locality=32", "locality=", "group=", "colour=red",
                    "mode=0600,mode=0600", ""):
            with self.subTest(bad):
                line = self.assertRuns(EX_USAGE, "--socket=%s,%s" % (self.path("a"), bad))
                self.assertIn(bad.rpartition(",")[2], line)

    def test_one_path_twice(self):
        path = self.path("a")
        self.assertIn(path, self.assertRuns(EX_USAGE, "--socket", path, "--socket", path + ",mode=0600"))

    def test_a_group_that_is_not_there(self):
        log = self.folder / "group.log"
        argv = Bare.argv(Bare, "libtpms", False, ["--socket=%s,group=nosuchgroup" % self.path("a")])
        process = harness.Process("group", argv, log, harness.clean_env(TABRMD_HELPER=str(harness.HELPER)))
        self.assertIn(process.wait(), (EX_USAGE, EX_UNAVAILABLE))
        self.assertIn("nosuchgroup", self.only_line(process))


# Waits for the socket at PATH; then puts into its place what the command says, which finds PATH in $0 and a file in $1.
PLANT = 'until [ -S "$0" ]; do :; done; mv "$0" "$0.away"; '


@unittest.skipIf(os.geteuid(), "only root may change what belongs to others")
class Folder(TestCase):
    """The folder is somebody else's, who puts another file in the socket's place as soon as it is bound."""

    def plant(self, command):
        """-> mode and group of a file that is not the daemon's business, and what the daemon said"""
        path, secret = self.path("tpm.sock"), self.folder / "secret"
        secret.write_text("root's own")
        os.chown(secret, 0, 4712)
        secret.chmod(0o600)
        with harness.Process("planter", ["sh", "-c", PLANT + command, path, secret],
                             self.folder / "planter.log").popen as planter:
            # It has a second for that: the call that binds the socket is done, and the daemon waits in it.
            line = self.assertRuns(EX_UNAVAILABLE, "--socket", path + ",mode=0666,group=4711", wrap=[
                *DELAY[:-2], "inject=bind:delay_exit=1000000", "setpriv", "--pdeathsig=TERM"])
            self.assertEqual(planter.wait(harness.HANG), 0)
        self.assertIn("another file in its place", line)
        found = secret.stat()
        return stat.S_IMODE(found.st_mode), found.st_gid

    @unittest.skipIf(harness.IS_SANITIZED, "the search for leaks does not work below strace")
    @needs(*DELAY)
    def test_link(self):
        for command in ('ln -s "$1" "$0"', 'ln "$1" "$0"', 'mv "$0.away" "$0"; ln "$0" "$0.twin"'):
            with self.subTest(command):
                self.assertEqual(self.plant(command), (0o600, 4712))
                for path in self.folder.glob("tpm.sock*"):
                    path.unlink()


class Inherited(TestCase):
    def test_two(self):
        paths = self.path("a"), self.path("b")
        self.start_inherited(*paths)
        clients = [self.to(path) for path in paths]
        for client in clients:
            self.assertServes(client)
            self.assertEqual(client.ask(tpm.set_locality(1)).rc, RC_LOCALITY)
        ready = [line for line in self.daemon.process.output().splitlines() if line.startswith("ready")]
        self.assertEqual(len(ready), 1)
        self.assertNotIn("/run/tpm2-abrmd", ready[0])
        self.assertEqual(self.daemon.stop(), 0)
        for client, path in zip(clients, paths):
            self.assertIsNone(client.receive())
            self.assertEqual(stat.S_IMODE(os.stat(path).st_mode), 0o606, "theirs is left as it was")
            self.assertFalse(os.path.exists(path + ".lock"))

    def test_rights_by_path_and_another_of_our_own(self):
        theirs, ours, other = map(self.path, ("theirs", "ours", "other"))
        self.start_inherited(theirs, other, options=["--socket", ours, "--socket", theirs + ",locality=3"])
        for path, rc in ((theirs, 0), (ours, RC_LOCALITY), (other, RC_LOCALITY)):
            self.assertEqual(self.to(path).ask(tpm.set_locality(3)).rc, rc, path)
        self.assertTrue(os.path.exists(ours + ".lock"))
        self.assertEqual(self.daemon.stop(), 0)
        self.assertEqual([os.path.exists(path) for path in (theirs, ours, other)], [True, False, True])

    def needRoot(self):
        if os.geteuid():
            self.skipTest("the manager answers to root alone")

    def assertManager(self, path):
        """It speaks D-Bus, to uid 0, and takes no command of a TPM."""
        with tpm.connect_unix(path) as sock:
            sock.sendall(b"\0AUTH EXTERNAL " + b"0".hex().encode() + b"\r\n")
            self.assertIn(b"OK ", sock.recv(1000))

    def test_managers(self):
        """By its name, wherever it stands among them: it is no door of clients."""
        self.needRoot()
        clients, manager = self.path("tpm.sock"), self.path("manager.sock")
        for paths in ((clients, manager), (manager, clients)):
            with self.subTest(paths):
                self.start_inherited(*paths)
                self.assertServes(self.to(clients))
                self.assertManager(manager)
                self.assertIn("ready: socket %s, no bus" % clients, self.daemon.process.output().splitlines())
                self.assertEqual(self.daemon.stop(), 0)
                for path in (*paths, self.daemon.process.log):
                    os.unlink(path)

    def test_managers_alone(self):
        """Clients have the sockets that they would have without."""
        self.needRoot()
        clients, manager = self.path("tpm.sock"), self.path("manager.sock")
        self.start_inherited(manager, options=["--socket", clients])
        self.assertServes(self.to(clients))
        self.assertManager(manager)
        self.assertTrue(os.path.exists(clients + ".lock"))
        self.assertNotIn(manager, next(line for line in self.daemon.process.output().splitlines() if "ready" in line))

    def test_nothing_of_it_gets_to_the_helper(self):
        self.start_inherited(self.path("a"), self.path("b"))
        helpers = harness.children(self.daemon.process.pid)
        self.assertTrue(helpers)
        with open("/proc/net/unix", encoding="ascii") as table:
            names = [line.split() for line in table]
        inodes = {fields[6] for fields in names if fields[-1] in (self.path("a"), self.path("b"))}
        self.assertEqual(len(inodes), 2)
        for helper in helpers:
            environment = pathlib.Path("/proc/%d/environ" % helper).read_bytes().split(b"\0")
            self.assertEqual([name for name in environment if name.startswith(b"LISTEN_")], [])
            links = {os.readlink(link) for link in pathlib.Path("/proc/%d/fd" % helper).iterdir()}
            self.assertEqual([inode for inode in inodes if "socket:[%s]" % inode in links], [])

    def test_what_is_no_listener(self):
        line = self.assertRuns(EX_UNAVAILABLE,
                               wrap=[sys.executable, "-c", LAUNCHER, self.path("a"), "!/dev/null", "--"])
        self.assertRegex(line, r"\b4\b")

    def test_what_is_meant_for_another_process(self):
        """LISTEN_PID is not ours: nothing is taken."""
        self.start("--socket", self.path("a"), env={"LISTEN_PID": "1", "LISTEN_FDS": "5"})
        self.assertServes(self.to(self.path("a")))


class Owner(TestCase):
    def race(self, path):
        """-> the one that serves; the others have ended"""
        env = harness.clean_env(TABRMD_HELPER=str(harness.HELPER))
        argv = Bare.argv(Bare, "libtpms", False, ["--socket", path])
        started = [harness.Process("starter", argv, self.folder / ("starter-%d.log" % i), env) for i in range(STARTERS)]
        for process in started:
            self.addCleanup(process.end)

        def settled():
            return sum(not process.alive() for process in started) >= STARTERS - 1

        harness.wait_until(settled, "all but one end")
        alive = [process for process in started if process.alive()]
        self.assertEqual(len(alive), 1, [process.output() for process in started])
        for process in started:
            if process is not alive[0]:
                self.assertEqual(process.wait(), EX_UNAVAILABLE)
                self.assertIn(path, self.only_line(process))
        harness.wait_until(lambda: "ready" in alive[0].output(), "the winner is ready", alive[0].popen)
        self.assertServes(self.to(path))
        for process in started:
            pathlib.Path(process.log).unlink()
        return alive[0]

    def test_many_start_at_once(self):
        """On a path where nothing is, then on the stale file of one that was killed."""
        path = self.path("tpm.sock")
        winner = self.race(path)
        winner.end(signal.SIGKILL)
        self.assertTrue(os.path.exists(path))
        winner = self.race(path)
        self.assertEqual(winner.end(), 0)
        self.assertFalse(os.path.exists(path))


class Namespaces(TestCase):
    unshare = ["unshare"] if os.geteuid() == 0 else ["unshare", "-r"]
    # LeakSanitizer looks for its process by number, below a /proc that does not have it there.
    NO_LEAKS = {"ASAN_OPTIONS": "detect_leaks=0"}

    def run_inside(self, options, source, *arguments, before=""):
        """Python in namespaces of its own. @before: shell commands there, for which $1, ... are the arguments."""
        argv = [*self.unshare, *options, "sh", "-ec", before + '\nexec "$0" -c "$SOURCE" "$@"', sys.executable,
                *arguments]
        process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                   env={**os.environ, "SOURCE": source,
                                        "PATH": os.environ["PATH"] + ":/usr/sbin:/sbin"})
        self.addCleanup(process.wait, harness.HANG)
        for file in (process.stdout, process.stdin):
            self.addCleanup(file.close)
        return process

    @staticmethod
    def ask_inside(process, path):
        process.stdin.write(path + "\n")
        process.stdin.flush()
        return process.stdout.readline().strip()

    def assertServesInside(self, process, path):
        self.assertEqual(self.ask_inside(process, path), "0")

    @needs(*MOUNT)
    def test_nothing_but_the_socket(self):
        path, root = self.path("tpm.sock"), self.path("root")
        os.mkdir(root)
        self.start("--socket", path)
        inside = self.run_inside(["-m"], NOTHING_BUT_SOCKET, root, path)
        self.assertServesInside(inside, "/tpm.sock")
        self.assertServesInside(inside, "/tpm.sock")

    @needs(*MOUNT)
    def test_restart_below_a_mounted_folder(self):
        """The folder is mounted elsewhere, and where it was nothing is seen of it."""
        run, elsewhere = self.path("run"), self.path("elsewhere")
        os.mkdir(elsewhere)
        self.start("--socket", run + "/tpm.sock")
        folder = os.stat(run)
        inside = self.run_inside(["-m"], CLIENT, run, elsewhere,
                                 before='mount --bind "$1" "$2"; mount -t tmpfs tmpfs "$1"')
        self.assertServesInside(inside, elsewhere + "/tpm.sock")
        for sig in (signal.SIGTERM, signal.SIGKILL):
            self.daemon.stop(sig)
            self.start("--socket", run + "/tpm.sock")
            self.assertServesInside(inside, elsewhere + "/tpm.sock")
        self.assertEqual(os.stat(run).st_ino, folder.st_ino)

    def refusals(self):
        """-> lines of the log, once there is one"""
        def lines():
            return [line for line in self.daemon.process.output().splitlines() if "refused" in line]

        return harness.wait_until(lines, "a line of the log")

    @staticmethod
    def let_in(path):
        """-> a client that was answered, or None"""
        client = tpm.Client(tpm.connect_unix(path))
        with contextlib.suppress(OSError, EOFError):
            client.send(tpm.get_random())
            if client.receive():
                return client
        client.close()
        return None

    @needs(*PID_NAMESPACE)
    def test_client_in_another_pid_namespace(self):
        """It goes by the number that it has where the daemon is."""
        path = self.path("tpm.sock")
        self.start("--socket", path, "--max-connections", "1")
        inside = self.run_inside(["-p", "-f", "--kill-child"], CLIENT)
        self.assertServesInside(inside, path)
        holder = harness.wait_until(lambda: self.let_in(path), "the client inside is gone")
        self.addCleanup(holder.close)
        pid, = harness.children(inside.pid)
        self.assertEqual(self.ask_inside(inside, path), "refused")
        self.assertRegex(self.refusals()[-1], r"\bpid %d\b.*python" % pid)

    @needs(*PID_NAMESPACE)
    def test_daemon_in_another_pid_namespace(self):
        """It cannot know which process its client is: it says so, and names nobody else."""
        for proc in ([], ["--mount-proc"]):
            with self.subTest(proc):
                if proc and (reason := refusal(*MOUNT)):
                    self.skipTest(reason)
                path = self.path("tpm.sock")
                wrap = [*self.unshare, "-p", "-f", "--kill-child", *proc, "--"]
                self.start("--socket", path, "--max-connections", "1", wrap=wrap, env=self.NO_LEAKS)
                holder = self.to(path)
                self.assertServes(holder)
                self.assertIsNone(self.to(path).receive())
                line, = self.refusals()
                self.assertRegex(line, r"\bpid (unknown|0)\b")
                self.assertNotRegex(line, "python")
                os.kill(harness.children(self.daemon.process.pid)[0], signal.SIGTERM)
                self.assertEqual(self.daemon.wait(), 0)
                self.daemon.process.log.unlink()

    @needs(*PID_NAMESPACE)
    def test_a_proc_of_another_namespace(self):
        """Daemon and client share a namespace, but /proc is the one outside: by number it tells of somebody else."""
        path = self.path("tpm.sock")
        script = '"$@" & daemon=$!; read line; "$PYTHON" -c "$SOURCE" "$SOCKET"; kill $daemon; wait $daemon'
        source = ("import sys, tpm\na = tpm.Client(tpm.connect_unix(sys.argv[1])); a.ask(tpm.get_random())\n"
                  "tpm.Client(tpm.connect_unix(sys.argv[1])).receive()")
        env = {**harness.clean_env(), **self.NO_LEAKS, "TABRMD_HELPER": str(harness.HELPER),
               "PYTHON": sys.executable, "SOURCE": source, "SOCKET": path}
        argv = Bare.argv(Bare, "libtpms", False, ["--socket", path, "--max-connections", "1"])
        with open(self.folder / "inside.log", "wb") as log, subprocess.Popen(
                [*self.unshare, "-p", "-f", "--kill-child", "sh", "-c", script, "sh", *argv], stdin=subprocess.PIPE,
                stdout=log, stderr=log, env=env) as inside:
            harness.wait_until(lambda: harness.can_connect(path), "the daemon inside starts", inside)
            inside.communicate(b"go\n", timeout=harness.HANG)
            self.assertEqual(inside.returncode, 0)
        lines = [line for line in (self.folder / "inside.log").read_text().splitlines() if "refused" in line]
        self.assertEqual(len(lines), 1, lines)
        self.assertIn("(?)", lines[0])


if __name__ == "__main__":
    harness.main()
