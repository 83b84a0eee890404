# SPDX-License-Identifier: BSD-2-Clause
"""What the daemon says: what happened, to whom, and what can be done about it; once."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import time
import unittest

import harness
import lifecycle
import tpm
from process import MOUNT, needs

EX_USAGE, EX_UNAVAILABLE = 64, 69
GET_TEST_RESULT = tpm.command(0x17C)
SET_LOCALITY = tpm.command(0x20001000, parameters=b"\3", tag=0x8001)
PROGRESS = re.compile("the TPM at .* is there|ready: .*|stopped")


class TestCase(lifecycle.Starter):
    def complaints(self, daemon=None):
        """-> lines of the log that are more than progress"""
        lines = (daemon or self.daemon).process.output().splitlines()
        return [line for line in lines if not PROGRESS.fullmatch(line) and not harness.SANITIZER_NOISE.match(line)]

    def assertSays(self, *patterns, daemon=None):
        """These, in this order, and nothing else."""
        harness.wait_until(lambda: len(self.complaints(daemon)) >= len(patterns), "a line of the log")
        lines = self.complaints(daemon)
        self.assertEqual(len(lines), len(patterns), lines)
        for line, pattern in zip(lines, patterns):
            print("#", line)
            self.assertRegex(line, pattern)

    def assertEnds(self, status, pattern, daemon):
        self.assertEqual(daemon.wait(), status)
        self.assertSays(pattern, daemon=daemon)

    def second(self, conf="libtpms", **keywords):
        folder = self.folder / "second"
        folder.mkdir()
        daemon = harness.Ours(folder, conf, ready=False, **keywords)
        self.addCleanup(daemon.stop)
        return daemon

    def me(self):
        return r"uid %d pid %d \(python3?[\d.]*\) " % (os.geteuid(), os.getpid())


class WithoutBus(harness.Ours):
    def argv(self, *arguments):
        return [option for option in super().argv(*arguments) if option != "--no-dbus"]


@harness.by_socket_only
class Starts(TestCase):
    def assertRefuses(self, status, pattern, *options):
        code, lines = self.run_daemon(*harness.Ours.root_option(), *options)
        lines = [line for line in lines if not PROGRESS.fullmatch(line)]
        self.assertEqual((code, len(lines)), (status, 1), lines)
        print("#", lines[0])
        self.assertRegex(lines[0], pattern)

    def test_options(self):
        for option, pattern in (("--nonsense", "--nonsense.*--help"), ("stray", "stray.*--help"),
                                ("--logger=paper", "stdout or syslog.*paper"),
                                ("--dbus-name=no name", "com.intel.tss2.Tabrmd.*no name"),
                                ("--tcti=tabrmd", "--tcti=tabrmd: .*itself"),
                                ("--tcti=swtpm:port=0", "--tcti=swtpm:port=0: .*1 to 65534"),
                                ("--tcti=swtpm:hots=h", '"hots=h" is none of host=NAME, port=NUMBER and path=FILE'),
                                ("--tcti=swtpm:host=h, port=1", '" port=1" is none of'),
                                ("--tcti=pcap:swtpm:hots=h", r"cannot open pcap:swtpm:hots=h: .*\(0x000a000b\)"),
                                ("--tcti=mssim:host=h, port=1", r"\(0x000a000b\); a setting of it is unknown"),
                                ("--max-connections=0", "--max-connections.* from 1 to .* 0"),
                                ("--socket=/x,mode=9", "/x,mode=9.*none of mode=0660, group=NAME, locality="),
                                ("--no-socket", "--no-socket")):
            with self.subTest(option):
                self.assertRefuses(EX_USAGE, pattern, option, "--wait")

    def test_no_tpm(self):
        gone = str(self.folder / "gone")
        for conf, pattern in (("device:" + gone, gone + ": No such file.*firmware.*driver.*--wait"),
                              ("device:/dev/null", "/dev/null: it is no TPM"),
                              ("swtpm:path=" + gone, "swtpm at %s: .*No such file" % gone),
                              ("nonsense", "cannot open nonsense: .*library of that name"),
                              ("libtpms:%s/state" % gone, "cannot make the directory")):
            with self.subTest(conf):
                self.assertRefuses(EX_UNAVAILABLE, pattern, "--tcti=" + conf)

    def test_sockets(self):
        """run_daemon() has one that can be opened, too."""
        taken = self.folder / "taken"
        taken.write_text("mine")
        for name, pattern in (("taken", "is no socket; remove it, or"), ("a/b/c", "/a/b: cannot be made: No such file"),
                              ("x" * 110, "at most 107 bytes"), ("s,group=nosuch", "there is no group nosuch")):
            with self.subTest(name):
                self.assertRefuses(EX_UNAVAILABLE, "no socket: .*" + pattern, "--tcti=libtpms",
                                   "--socket=%s/%s" % (self.folder, name))
        self.assertEqual(taken.read_text(), "mine")

    def test_socket_that_another_daemon_has(self):
        self.start_subject()
        self.assertRefuses(EX_UNAVAILABLE, "%s: another daemon has it; .*--socket" % self.daemon.socket,
                           "--tcti=libtpms")

    def test_bus(self):
        bus = self.start_bus()
        self.start_subject(bus=bus)
        pattern = r"session bus: the name %s is taken by uid %d pid %d \(tpm2-abrmd\); .*--dbus-name" % (
            harness.BUS_NAME, os.geteuid(), self.daemon.process.pid)
        self.assertEnds(EX_UNAVAILABLE, pattern, self.second(bus=bus))

    def test_bus_that_is_not_there(self):
        argv = [harness.Ours.binary, *harness.Ours.root_option(), "--tcti=libtpms", "--session", "--no-socket"]
        done = subprocess.run(argv, env=harness.clean_env(TABRMD_HELPER=str(harness.HELPER)), stdout=subprocess.PIPE,
                              text=True, timeout=harness.HANG, check=False)
        self.assertEqual(done.returncode, EX_UNAVAILABLE)
        self.assertRegex(done.stdout, "session bus: Could not connect: .*--no-dbus does without")

    def test_bus_that_can_be_done_without(self):
        """Where there is a socket; and with --wait, as in the unit, where the bus does not give the name."""
        env = harness.clean_env(TABRMD_HELPER=str(harness.HELPER))
        options = [*harness.Ours.root_option(), "--tcti=libtpms", "--session"]
        done = subprocess.run([harness.Ours.binary, *options, "--wait", "--no-socket"], env=env, stdout=subprocess.PIPE,
                              text=True, timeout=harness.HANG, check=False)
        self.assertEqual(done.returncode, EX_UNAVAILABLE)
        other = self.start_bus(own="com.example.Other")
        for address, reason in (("unix:path=/nonexistent", "Could not connect: .*--no-dbus does without"),
                                (other.address, "uid %d may not have the name" % os.geteuid())):
            with self.subTest(address):
                self.daemon = self.start_daemon("libtpms", WithoutBus, options=["--wait", "--session"],
                                                env={"DBUS_SESSION_BUS_ADDRESS": address})
                self.assertSays("session bus: " + reason)
                self.assertIn("ready: socket %s, no bus" % self.daemon.socket, self.daemon.process.output())
                self.assertServes()
                self.daemon.stop()
                self.daemon.process.log.unlink()

    def test_name_that_may_not_be_had(self):
        bus = self.start_bus(own="com.example.Other")
        self.assertEnds(EX_UNAVAILABLE, "uid %d may not have the name %s: " % (os.geteuid(), harness.BUS_NAME),
                        self.second(bus=bus))

    def test_tpm_1_2(self):
        old = self.start_swtpm(proxied=False, version="1.2")
        self.assertRefuses(EX_UNAVAILABLE, "it is a TPM 1.2 .*TPM 2.0 is needed", "--tcti=" + old.conf)

    def test_failure_mode(self):
        chip = harness.FakeTpm(self.folder)
        self.addCleanup(chip.stop)
        chip.option("fail")
        self.assertRefuses(EX_UNAVAILABLE, "failure mode .*0x101.*switched off and on", "--tcti=" + chip.conf)

    def test_reasons_to_wait(self):
        """Each is told when it comes, and not again."""
        chip = self.folder / "chip"
        self.daemon = self.start_daemon("device:%s" % chip, options=["--wait"])
        self.assertSays("waiting for a TPM: .*No such file")
        chip.mkdir()
        self.assertSays("No such file", "waiting for a TPM: .*directory")
        time.sleep(1)
        self.assertSays("No such file", "waiting for a TPM: .*directory")

    def test_tpm_that_tests_itself(self):
        """One line for all the answers that say so, and nobody is kept out for longer than it lasts."""
        chip = harness.FakeTpm(self.folder, "fault=code=0x17a,kind=rc,rc=0x90a,count=always")
        self.addCleanup(chip.stop)
        self.daemon = self.start_daemon(chip.conf, ready=False)
        asked = chip.count(0x17A)
        self.assertSays("waiting for a TPM: it is testing itself .0x90a.")
        harness.wait_until(lambda: chip.count(0x17A) >= asked + 5, "it is asked again")
        chip.option("heal")
        harness.wait_until(lambda: "ready: " in self.daemon.process.output(), "it gets ready")
        self.assertServes(self.connect())
        self.assertSays("waiting for a TPM: it is testing itself")


@harness.by_socket_only
class Runs(TestCase):
    def test_quotas(self):
        self.start_subject(options=["--max-transients=1", "--max-sessions=1"])
        for _ in range(2):
            client = self.connect()
            for make, rc in ((tpm.create_primary(tpm.public_hmac_key(b"x")), 0xB0902),
                             (tpm.start_auth_session(tpm.SE_HMAC), 0xB0903)):
                client.run(make)
                for _ in range(3):
                    self.assertEqual(client.ask(make).rc, rc)
        once = [self.me() + "is answered 0xb0902: .*--max-transients",
                self.me() + "is answered 0xb0903: .*--max-sessions"]
        self.assertSays(*once, *once)

    def test_connections(self):
        self.start_subject(options=["--max-connections=1"])
        self.assertServes()
        for _ in range(30):
            self.assertEqual(tpm.connect_unix(self.daemon.socket).recv(1), b"")
        self.assertSays(*[self.me() + "is refused: the limit of 1 connections is reached .--max-connections"] * 10)

    def test_locality(self):
        bus = self.start_bus()
        self.start_subject(bus=bus)
        client = self.connect()
        for _ in range(3):
            self.assertEqual(client.ask(SET_LOCALITY).rc, 0xB0907)
        self.assertServes(client)
        self.assertSays(self.me() + "may not use locality 3; .*locality=.*--allow-locality")

    def test_what_is_no_command(self):
        self.start_subject()
        with self.daemon.stream() as stream:
            stream.sendall(b"GET / HTTP/1.0\r\n\r\n")
            self.assertEqual(tpm.Response(tpm.read_message(stream)).rc, 0xB0142)
        self.assertSays(self.me() + "sent HTTP on the socket of clients: its connection is closed")

    def test_tpm_that_is_slow(self):
        self.tpm = self.start_swtpm(proxied=False)
        self.daemon = self.start_daemon(self.tpm.conf, options=["--time-limit=1"])
        client = self.connect()
        self.assertServes(client)
        os.kill(self.tpm.process.pid, signal.SIGSTOP)
        self.assertEqual(client.ask(tpm.get_random()).rc, 0xB0101)
        os.kill(self.tpm.process.pid, signal.SIGCONT)
        harness.wait_until(lambda: client.ask(tpm.get_random()).rc == 0, "it is back")
        self.assertSays("is lost: no answer to command 0x17b of %swithin 1 s .--time-limit.; .*0xb0100" % self.me(),
                        "the TPM is back")

    def test_tpm_that_is_gone(self):
        self.tpm = self.start_swtpm(proxied=False)
        self.daemon = self.start_daemon(self.tpm.conf)
        client = self.connect()
        for _ in range(2):
            self.assertServes(client)
            self.tpm.process.end(signal.SIGKILL)
            time.sleep(1)
            self.tpm.start()
            harness.wait_until(lambda: client.ask(tpm.get_random()).rc == 0, "it is back")
        lines = [line for line in self.complaints() if "No such file" not in line]  # while it starts
        self.assertEqual(len(lines), 6, lines)
        for line, pattern in zip(lines, 2 * ["the TPM is lost: swtpm at %s: .*closed" % self.tpm.data,
                                             "the TPM is not back: .*refused", "the TPM is back"]):
            self.assertRegex(line, pattern)

    def test_tpm_that_fails(self):
        """It is told when it begins and when it ends, for all commands together."""
        self.tpm = harness.FakeTpm(self.folder)
        self.addCleanup(self.tpm.stop)
        self.daemon = self.start_daemon(self.tpm.conf)
        client = self.connect()
        for _ in range(2):
            self.assertServes(client)
            self.tpm.option("fail")
            for _ in range(5):
                self.assertEqual(client.ask(tpm.get_random()).rc, 0x101)
                client.run(GET_TEST_RESULT)
            self.tpm.option("heal")
        self.assertServes(client)
        self.assertSays(*2 * ["the TPM is in failure mode: .*0x101 .*switched off and on", "has left failure mode"])

    def test_failure_mode_that_is_waited_for(self):
        """It is there, and says itself what is wrong."""
        self.tpm = harness.FakeTpm(self.folder)
        self.addCleanup(self.tpm.stop)
        self.tpm.option("fail")
        self.daemon = self.start_daemon(self.tpm.conf, options=["--wait"])
        client = self.connect()
        for _ in range(2):
            self.assertEqual(client.ask(tpm.get_random()).rc, 0x101)
            client.run(GET_TEST_RESULT)
            client.run(tpm.get_capability(tpm.CAP_TPM_PROPERTIES, 0x100, 1))
        self.tpm.option("heal")
        self.tpm.reset()
        self.assertServes(client)
        self.assertSays("the TPM is in failure mode: .*0x101 .*switched off and on", "has left failure mode")

    def test_helper_that_crashes(self):
        self.daemon = self.start_daemon("libtpms")
        client = self.connect()
        os.kill(*harness.children(self.daemon.process.pid), signal.SIGABRT)
        harness.wait_until(lambda: client.ask(tpm.get_random()).rc == 0, "it is back")
        # How it ended; or what a command met that came before that was known.
        reason = "(: Broken pipe|: the connection was closed| ended: signal 6 )"
        self.assertSays("the TPM is lost: the helper program" + reason, "the TPM is back")

    @needs(*MOUNT)
    @unittest.skipIf(os.geteuid(), "as another user, the daemon would look into a user namespace")
    def test_full_disk(self):
        """The TPM's state cannot be written: libtpms says more than one line, the helper one."""
        full = self.folder / "full"
        full.mkdir()
        wrap = ["unshare", "-m", "--propagation", "private", "sh", "-ec",
                'mount -t tmpfs -o size=4k tmpfs "$0"; exec "$@"', full]
        daemon = self.second("libtpms:%s/state" % full, wrap=wrap)
        self.assertEqual(daemon.wait(), EX_UNAVAILABLE)
        lines = [line for line in self.complaints(daemon) if "No space left" in line]
        self.assertEqual(len(lines), 1, daemon.process.output())
        self.assertRegex(lines[0], "cannot be written")


@harness.by_socket_only
@unittest.skipIf(os.geteuid(), "as another user, the daemon would look into a user namespace")
class Syslog(TestCase):
    """A /dev/log of our own, on which nobody reads unless the test does."""

    @needs(*MOUNT)
    def test_syslog_daemon_that_is_stuck(self):
        folder = self.folder / "dev"
        folder.mkdir()
        stuck = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.addCleanup(stuck.close)
        stuck.bind(str(folder / "log"))
        wrap = ["unshare", "-m", "--propagation", "private", "sh", "-ec",
                'touch "$0/null"; mount --bind /dev/null "$0/null"; mount --rbind "$0" /dev; exec "$@"', folder]
        self.daemon = self.start_daemon("libtpms", wrap=wrap, options=["--logger=syslog"])
        client = self.connect()
        self.assertServes(client)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as filler, \
                contextlib.suppress(BlockingIOError):
            filler.connect(str(folder / "log"))
            while True:
                filler.send(b"filler")
        self.offend()
        self.assertServes(client)

        stuck.setblocking(False)
        self.said(stuck)
        self.offend()
        harness.wait_until(lambda: any(re.search(r"<28>.* tpm2-abrmd\[\d+\]: \d+ lines of the log were lost", line)
                                       for line in self.said(stuck)), "the loss is said")

    def offend(self):
        """One line for the log."""
        with tpm.connect_unix(self.daemon.socket) as other:
            other.sendall(b"GET / HTTP/1.0\r\n\r\n")
            other.recv(100)

    @staticmethod
    def said(listener):
        """-> lines"""
        lines = []
        with contextlib.suppress(BlockingIOError):
            while True:
                lines.append(listener.recv(2000).decode())
        return lines


if __name__ == "__main__":
    harness.main()
