# SPDX-License-Identifier: BSD-2-Clause
"""How the daemon starts, ends, and starts again."""

import contextlib
import os
import pathlib
import signal
import socket
import subprocess
import time
import unittest

import harness
import proxy
import tpm

EX_USAGE, EX_UNAVAILABLE = 64, 69


class Ends(harness.TestCase):
    def test_signals_and_an_empty_tpm_afterwards(self):
        self.start_subject()
        for sig in (signal.SIGTERM, signal.SIGINT):
            holders = [self.connect() for _ in range(3)]
            for i, client in enumerate(holders):
                for n in range(3):
                    client.create_primary(tpm.public_hmac_key(b"%d %d" % (i, n)))
                client.start_session(tpm.SE_HMAC)
                client.start_session(tpm.SE_POLICY)
            self.assertEqual(self.daemon.stop(sig), 0)
            self.assertEqual(self.proxy.holdings(), ([], [], []))
            self.assertFalse(self.daemon.socket and os.path.exists(self.daemon.socket))
            for client in holders:
                self.assertIsNone(client.receive())
            self.daemon = self.start_daemon(self.tpm.conf)

    def test_signal_while_a_command_runs(self):
        self.start_subject()
        client = self.connect()
        self.proxy.hold()
        client.send(tpm.create_primary(tpm.public_hmac_key(b"x")))
        self.assertTrue(self.proxy.held.wait(harness.HANG))
        self.daemon.process.popen.send_signal(signal.SIGTERM)
        self.assertIsNone(client.receive(), "clients are let go at once")
        self.proxy.release()
        self.assertEqual(self.daemon.wait(), 0)
        self.assertEqual(self.proxy.holdings(), ([], [], []))

    def test_second_signal_means_now(self):
        self.start_subject()
        client = self.connect()
        self.proxy.hold()
        client.send(tpm.get_random())
        self.assertTrue(self.proxy.held.wait(harness.HANG))
        self.daemon.process.popen.send_signal(signal.SIGTERM)
        self.assertIsNone(client.receive())
        self.assertTrue(self.daemon.process.alive())
        self.assertEqual(self.daemon.stop(), 0)
        self.proxy.release()

    def test_tpm_goes_away(self):
        """Nobody is left without an answer, and the daemon ends well on a signal."""
        self.tpm = self.start_swtpm()
        self.daemon = self.start_daemon(self.tpm.conf)
        client = self.connect()
        self.assertServes(client)
        self.tpm.process.end(signal.SIGKILL)
        self.assertEqual(client.ask(tpm.get_random()).rc >> 16, 11)
        self.assertIdle()


@harness.by_socket_only
class Waits(harness.TestCase):
    """--wait: the daemon is there before its TPM."""

    def create_connection(self, bus):
        return bus.call(harness.BUS_NAME, "/com/intel/tss2/Tabrmd/Tcti", "com.intel.tss2.TctiTabrmd.CreateConnection")

    def test_tpm_that_comes_later(self):
        bus = self.start_bus()
        self.daemon = self.start_daemon("swtpm:path=%s" % (self.folder / "swtpm/data"), bus=bus, options=["--wait"])
        client = self.connect()
        self.assertEqual(client.ask(tpm.get_random()).rc, 0xB0100)
        refused = self.create_connection(bus)
        self.assertIn("com.intel.tss2.Tabrmd.Error.Init", refused.stderr)
        self.assertIdle()

        self.start_swtpm(proxied=False)
        harness.wait_until(lambda: client.ask(tpm.get_random()).rc == 0, "the TPM is found")
        self.assertEqual(self.create_connection(bus).returncode, 0)
        client.create_primary(tpm.public_hmac_key(b"x"))

    @harness.by_socket_only
    def test_tpm_that_is_slow_to_say_whether_it_is_there(self):
        """Who comes first must not be told that there is none, only because it is not yet known."""
        swtpm = self.start_swtpm()
        for patient in (True, False):
            swtpm.proxy.hold()
            self.daemon = self.start_daemon(swtpm.conf, options=["--wait"], ready=False)
            self.assertTrue(swtpm.proxy.held.wait(harness.HANG))
            self.assertFalse(harness.can_connect(self.daemon.socket))
            if patient:
                swtpm.proxy.release()
            harness.wait_until(lambda: harness.can_connect(self.daemon.socket), "the doors open",
                               self.daemon.process.popen)
            client = self.connect()
            self.assertEqual(client.ask(tpm.get_random()).rc, 0 if patient else 0xB0100)
            swtpm.proxy.release()
            harness.wait_until(lambda: client.ask(tpm.get_random()).rc == 0, "the TPM is found")
            self.assertEqual(self.daemon.stop(), 0)

    @harness.by_socket_only
    def test_signal_before_the_doors_are_open(self):
        swtpm = self.start_swtpm()
        swtpm.proxy.hold()
        self.daemon = self.start_daemon(swtpm.conf, options=["--wait"], ready=False)
        self.assertTrue(swtpm.proxy.held.wait(harness.HANG))
        self.assertEqual(self.daemon.stop(), 0)

    def test_signal_while_it_waits(self):
        self.daemon = self.start_daemon("device:/nonexistent", options=["--wait"])
        client = self.connect()
        self.assertEqual(client.ask(tpm.get_random()).rc, 0xB0100)
        self.assertEqual(self.daemon.stop(), 0)
        self.assertIsNone(client.receive())


@harness.by_socket_only
class Watchdog(harness.TestCase):
    """What the service manager hears: see sd_notify(3)."""

    def test_fed_while_the_loop_turns(self):
        path = str(self.folder / "manager")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.bind(path)
            manager.settimeout(harness.HANG)
            mine = ["sh", "-c", 'WATCHDOG_PID=$$ exec "$@"', "sh"]
            self.daemon = self.start_daemon("libtpms", ready=False, wrap=mine,
                                            env={"NOTIFY_SOCKET": path, "WATCHDOG_USEC": "40000"})
            heard = []
            while heard.count(b"WATCHDOG=1") < 5 or b"READY=1" not in heard:
                heard.append(manager.recv(1000))
            self.assertEqual(set(heard), {b"WATCHDOG=1", b"READY=1"})

            self.daemon.process.popen.send_signal(signal.SIGSTOP)
            harness.wait_until(lambda: self.state() == "T", "it stands")
            manager.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                while True:
                    manager.recv(1000)
            time.sleep(0.5)
            self.assertRaises(BlockingIOError, manager.recv, 1000)
            self.daemon.process.popen.send_signal(signal.SIGCONT)
            manager.settimeout(harness.HANG)
            self.assertEqual(manager.recv(1000), b"WATCHDOG=1")

    def state(self):
        return pathlib.Path("/proc/%d/stat" % self.daemon.process.pid).read_text().rpartition(")")[2].split()[0]


class Starter(harness.TestCase):
    def run_daemon(self, *options):
        """-> exit status, lines of output"""
        argv = [harness.Ours.binary, *options, "--no-dbus", "--socket", str(self.folder / "tpm.sock")]
        env = harness.clean_env(TABRMD_HELPER=str(harness.HELPER))
        done = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=harness.HANG, check=False)
        return done.returncode, [line for line in (done.stdout + done.stderr).splitlines()
                                 if not harness.SANITIZER_NOISE.match(line)]


class Starts(Starter):
    def assertRefuses(self, status, *options):
        code, lines = self.run_daemon(*options)
        self.assertEqual(code, status, lines)
        self.assertEqual(len(lines), 1, lines)
        return lines[0]

    def test_tpm_that_cannot_be_opened(self):
        root = harness.Ours.root_option()
        for conf in ("swtpm:host=127.0.0.1,port=1", "device:/nonexistent", "/dev/nonexistent",
                     "pcap:device:/nonexistent", "nonexistent", "libtpms:/nonexistent/folder/of/state"):
            with self.subTest(conf):
                print("#", self.assertRefuses(EX_UNAVAILABLE, *root, "--tcti", conf))

    if harness.IS_DEVICE:

        def test_device_that_somebody_has(self):
            self.start_subject()
            line = self.assertRefuses(EX_UNAVAILABLE, *harness.Ours.root_option(), "--tcti", "device:/dev/tpm0")
            self.assertIn("busy, by tpm2-abrmd (pid %d)" % self.daemon.process.pid, line)

    def test_bad_options(self):
        root = harness.Ours.root_option()
        for bad in (["--nonsense"], ["--max-connections", "0"], ["--max-connections", "x"], ["--logger", "paper"],
                    ["--dbus-name", "no name"], ["--tcti", ""], ["--tcti", "tabrmd"], ["argument"]):
            with self.subTest(bad):
                code, lines = self.run_daemon(*root, *bad)
                self.assertEqual(code, EX_USAGE, lines)

    def test_options_of_tpm2_abrmd_3(self):
        self.start_subject(options=["-m", "27", "-e", "4", "-r", "28", "-f", "-l", "stdout", "-g", "/dev/urandom", "-n",
                                    "com.intel.tss2.Tabrmd"])
        self.assertServes()
        version = subprocess.check_output([harness.Ours.binary, "-v"], text=True, timeout=harness.HANG)
        self.assertIn("version", version)

    @unittest.skipIf(os.geteuid(), "only root is refused")
    def test_refuses_root(self):
        code, lines = self.run_daemon("--tcti", "libtpms")
        self.assertNotEqual(code, 0)
        self.assertEqual(len(lines), 1, lines)
        self.assertIn("--allow-root", lines[0])

    def test_start_flushes_what_others_left_loaded(self):
        """F20, and F9 as far as loaded sessions go."""
        chip = self.start_tpm()
        for i in range(3):
            self.assertEqual(chip.proxy.ask(tpm.create_primary(tpm.public_hmac_key(b"%d" % i))).rc, 0)
            self.assertEqual(chip.proxy.ask(tpm.start_auth_session(tpm.SE_HMAC)).rc, 0)
        self.daemon = self.start_daemon(chip.conf)
        self.assertServes()
        self.assertEqual(chip.proxy.holdings(), ([], [], []))

    def test_flush_all_flushes_saved_sessions_too(self):
        chip = self.start_tpm()
        session = chip.proxy.ask(tpm.start_auth_session(tpm.SE_HMAC)).handle
        self.assertEqual(chip.proxy.ask(tpm.context_save(session)).rc, 0)
        self.daemon = self.start_daemon(chip.conf, options=["--flush-all"])
        self.assertServes()
        self.assertEqual(chip.proxy.holdings(), ([], [], []))

    def test_a_tpm_that_was_not_started(self):
        swtpm = self.start_swtpm(started=False)
        self.assertEqual(swtpm.proxy.ask(tpm.get_random()).rc, 0x100)
        self.daemon = self.start_daemon(swtpm.conf)
        self.assertServes()


@harness.by_socket_only
class Sockets(Starter):
    def test_socket_of_another_daemon_is_left_alone(self):
        self.start_subject()
        code, lines = self.run_daemon(*harness.Ours.root_option(), "--tcti", "libtpms")
        self.assertEqual(code, EX_UNAVAILABLE, lines)
        self.assertServes()

    def test_left_over_socket_is_replaced(self):
        self.start_subject()
        self.daemon.stop(signal.SIGKILL)
        self.assertTrue(os.path.exists(self.daemon.socket))
        self.daemon = self.start_daemon(self.tpm.conf)
        self.assertServes()


class Sessions(harness.TestCase):
    def test_saved_session_outlives_its_client(self):
        self.start_subject()
        with self.daemon.client() as client:
            session = client.start_session(tpm.SE_POLICY)
            client.run(tpm.policy_pcr(session))
            digest = client.run(tpm.policy_get_digest(session)).body
            context = client.context_save(session)
        heir = self.connect()
        self.assertEqual(heir.run(tpm.context_load(context)).handle, session)
        self.assertEqual(heir.run(tpm.policy_get_digest(session)).body, digest)
        heir.close()
        self.assertTpmEmpty()

    def test_twenty_saved_sessions_outlive_their_clients(self):
        """F13: not only the last four."""
        self.start_subject()
        contexts = []
        for _ in range(20):
            with self.daemon.client() as client:
                contexts.append(client.context_save(client.start_session(tpm.SE_POLICY)))
        for context in contexts:
            with self.daemon.client() as client:
                client.run(tpm.policy_get_digest(client.run(tpm.context_load(context)).handle))
        self.assertTpmEmpty()

    def test_session_file_works_after_a_clean_restart(self):
        self.start_subject()
        with self.daemon.client() as client:
            session = client.start_session(tpm.SE_POLICY)
            client.run(tpm.policy_pcr(session))
            digest = client.run(tpm.policy_get_digest(session)).body
            context = client.context_save(session)
        self.assertEqual(self.daemon.stop(), 0)
        self.daemon = self.start_daemon(self.tpm.conf)
        client = self.connect()
        self.assertEqual(client.run(tpm.context_load(context)).handle, session)
        self.assertEqual(client.run(tpm.policy_get_digest(session)).body, digest)
        client.close()
        self.assertTpmEmpty()


class Backends(harness.TestCase):
    def check(self, conf):
        self.daemon = self.start_daemon(conf)
        first, second = self.connect(), self.connect()
        for client in (first, second):
            keys = [client.create_primary(tpm.public_hmac_key(b"%d" % i)) for i in range(5)]
            for key in keys:
                client.run(tpm.read_public(key))
        return first

    def test_libtpms(self):
        self.check("libtpms")

    def test_libtpms_keeps_its_state_in_a_folder(self):
        state = self.folder / "state"
        state.mkdir()
        names = []
        for _ in range(2):
            client = self.check("libtpms:%s" % state)
            names.append(client.run(tpm.read_public(client.create_primary(tpm.PUBLIC_ECC_PARENT))).body)
            client.close()
            self.assertEqual(self.daemon.stop(), 0)
        self.assertEqual(*names)
        fresh = self.check("libtpms")
        self.assertNotEqual(names[0], fresh.run(tpm.read_public(fresh.create_primary(tpm.PUBLIC_ECC_PARENT))).body)

    def test_any_tcti_through_the_helper(self):
        chip = self.start_tpm(tcp=True)
        client = self.check("pcap:" + chip.conf)
        self.assertGreater(chip.proxy.count(), 10)
        client.close()
        self.assertEqual(self.daemon.stop(), 0)
        self.assertEqual(chip.proxy.holdings(), ([], [], []))

    def test_helper_ends_with_the_daemon(self):
        self.check("libtpms")
        helpers = harness.children(self.daemon.process.pid)
        self.assertTrue(helpers)
        self.assertEqual(self.daemon.stop(signal.SIGKILL), -signal.SIGKILL)
        harness.wait_until(lambda: not any(harness.runs(pid) for pid in helpers), "the helper ends", timeout=20)

    def test_helper_that_hangs_while_it_opens(self):
        """A TCTI that connects, and waits for an answer that never comes."""
        for sig in (signal.SIGTERM, signal.SIGKILL):
            silent = proxy.bind_pair()
            for sock in silent:
                self.addCleanup(sock.close)
            host, port = silent[0].getsockname()
            daemon = self.start_daemon("pcap:swtpm:host=%s,port=%d" % (host, port), options=["--wait"])
            helpers = harness.children(daemon.process.pid)
            self.assertTrue(helpers)
            self.assertEqual(daemon.stop(sig), 0 if sig == signal.SIGTERM else -sig)
            harness.wait_until(lambda: not any(harness.runs(pid) for pid in helpers), "the helper ends", timeout=30)


if __name__ == "__main__":
    harness.main()
