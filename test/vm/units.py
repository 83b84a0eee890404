# SPDX-License-Identifier: BSD-2-Clause
"""
The installed daemon under a real systemd, in a root that began with the distribution's tpm2-abrmd 3.0.

Systemd runs in a container (test/install/boot.py), with software TPMs. Kernel needs a virtual machine: its chip is
/dev/tpm0, and further ones are made by the kernel's tpm_vtpm_proxy. TABRMD_DEBS is the folder with our packages. All
that is done here is lost with the container or machine.
"""

import contextlib
import json
import os
import pathlib
import pwd
import re
import signal
import subprocess
import threading
import time

import harness
import tpm
from process import as_user, run

SERVICE, SOCKET = "tpm2-abrmd.service", "tpm2-abrmd.socket"
PATH = "/run/tpm2-abrmd/tpm.sock"
MANAGER = "/run/tpm2-abrmd/manager.sock"
NAME, OBJECT, INTERFACE = "com.intel.tss2.Tabrmd", "/com/intel/tss2/Tabrmd/Tcti", "com.intel.tss2.TctiTabrmd"
BY_SOCKET, BY_BUS = "tabrmd:socket=" + PATH, "tabrmd:bus_type=system"
CHIP = "/dev/tpm0"
UNIT_IN_ETC = pathlib.Path("/etc/systemd/system", SERVICE)
EXAMPLE = pathlib.Path("/usr/share/doc/tpm2-abrmd/examples/simulator.conf")
OPTIONS = pathlib.Path("/etc/default/tpm2-abrmd")
BEFORE = {}


def systemctl(*argv, check=True):
    done = run("systemctl", *argv, check=False)
    if check and done.returncode:
        run("journalctl", "--sync")
        raise AssertionError("systemctl %s: %s%s" % (" ".join(argv), done.stderr, run(
            "journalctl", "--no-pager", "--lines=30", "_PID=1", "+", "_COMM=tpm2-abrmd").stdout))
    return done.stdout.strip()


def shown(unit, name):
    return systemctl("show", "--value", "--property=" + name, unit)


def state(unit):
    return shown(unit, "ActiveState")


def until_state(unit, wanted):
    harness.wait_until(lambda: state(unit) == wanted, "%s is %s" % (unit, wanted))


def journal(unit):
    """-> what it said since it was started last"""
    run("journalctl", "--sync")
    return run("journalctl", "--no-pager", "--output=cat",
               "_SYSTEMD_INVOCATION_ID=" + shown(unit, "InvocationID")).stdout


def get_random(conf, user="alice", check=True):
    return run("tpm2_getrandom", "--hex", "8", "-T", conf, user=user, check=check)


def create_connection(name, check=True):
    return run("busctl", "call", name, OBJECT, INTERFACE, "CreateConnection", check=check)


def setUpModule():
    for user, groups in (("alice", "tss"), ("bob", "tss"), ("eve", "")):
        run("useradd", "--no-create-home", "--groups", groups, user)


def run_swtpm(unit, server, ctrl):
    """As a service, by user tss."""
    run("systemd-run", "--unit=" + unit, "--uid=tss", "--property=RuntimeDirectory=" + unit, "swtpm", "socket",
        "--tpm2", "--tpmstate", "dir=/run/" + unit, "--flags", "not-need-init,startup-clear", "--server", server,
        "--ctrl", ctrl)


def set_options(*options):
    """For the next start, as an administrator does."""
    OPTIONS.unlink(missing_ok=True)
    if options:
        OPTIONS.write_text('TABRMD_OPTIONS="%s"\n' % " ".join(options))


def install():
    """Ours. -> how it ended"""
    debs = pathlib.Path(os.environ["TABRMD_DEBS"])
    return run("dpkg", "--install", *debs.glob("tpm2-abrmd_*.deb"), *debs.glob("libtss2-tcti-tabrmd0_*.deb"),
               check=False)


def upgrade():
    """From a running tpm2-abrmd 3.0 to ours."""
    until_state(SERVICE, "active")
    BEFORE["version"] = run("tpm2-abrmd", "--version").stdout
    BEFORE["random"] = get_random(BY_BUS, check=False)
    BEFORE["upgrade"] = install()


class Units(harness.TestCase):
    tcti = ""  # the option, where the TPM is not /dev/tpm0

    def setUp(self):
        super().setUp()
        self.addCleanup(self._show_journal)
        self.start_clean()

    def _show_journal(self):
        result = getattr(self._outcome, "result", None)
        if result and any(test is self for test, _ in result.failures + result.errors):
            print(run("journalctl", "--no-pager", "--lines=60").stdout)

    def start_clean(self):
        systemctl("stop", SERVICE, SOCKET)
        systemctl("reset-failed", SERVICE, SOCKET, check=False)
        systemctl("start", SERVICE)

    def drop_in(self, unit, text):
        folder = pathlib.Path("/run/systemd/system/%s.d" % unit)
        folder.mkdir(parents=True)
        (folder / "test.conf").write_text(text)
        systemctl("daemon-reload")

        def remove():
            (folder / "test.conf").unlink()
            folder.rmdir()
            systemctl("daemon-reload")

        self.addCleanup(remove)

    def command_line(self, options=""):
        """-> the text of a drop-in"""
        return "[Service]\nExecStart=\nExecStart=/usr/sbin/tpm2-abrmd --wait %s %s\n" % (self.tcti, options)

    @staticmethod
    def command():
        """-> the daemon's command line"""
        return pathlib.Path("/proc/%s/cmdline" % shown(SERVICE, "MainPID")).read_text()

    def client(self, path=PATH):
        client = tpm.Client(tpm.connect_unix(path), hello=True)
        self.addCleanup(client.close)
        return client

    @staticmethod
    def clients(*where, options=(), user=None):
        return json.loads(run("tabrmctl", "--json", *where, "clients", *options, user=user).stdout)

    def assertUpgraded(self):
        self.assertIn("3.0", BEFORE["version"])
        self.assertEqual(BEFORE["random"].returncode, 0, BEFORE["random"].stderr)
        self.assertEqual(BEFORE["upgrade"].returncode, 0, BEFORE["upgrade"].stdout + BEFORE["upgrade"].stderr)
        self.assertIn("4.0", run("tpm2-abrmd", "--version").stdout)
        self.assertEqual(systemctl("is-enabled", SERVICE, SOCKET).split(), ["enabled", "enabled"])
        self.assertEqual(systemctl("--failed", "--plain", "--no-legend"), "")
        self.assertFalse(os.path.exists("/etc/dbus-1/system.d/tpm2-abrmd.conf"))


class Systemd(Units):
    """What is the same with every TPM: here it is an swtpm with a Unix socket."""

    tcti = "--tcti=swtpm:path=/run/chip/data"

    @classmethod
    def setUpClass(cls):
        """
        An administrator who uses 3.0 with a simulator has a copy of its unit, since no drop-in takes Requires= out. The
        copy hides our unit; docs/MIGRATING.md says to remove it, and to use our drop-in.
        """
        run_swtpm("simulator", "type=tcp,port=2321,bindaddr=127.0.0.1", "type=tcp,port=2322,bindaddr=127.0.0.1")
        run_swtpm("chip", "type=unixio,path=/run/chip/data", "type=unixio,path=/run/chip/data.ctrl")
        systemctl("stop", SERVICE, check=False)  # which waits for its device
        unit = pathlib.Path(shown(SERVICE, "FragmentPath")).read_text()
        unit = re.sub("(?m)^(After|Requires)=dev-tpm0.device\n", "", unit)
        BEFORE["unit"] = re.sub("(?m)^(ExecStart=.*)$", r"\1 --tcti=swtpm:host=127.0.0.1,port=2321", unit)
        UNIT_IN_ETC.write_text(BEFORE["unit"])
        systemctl("daemon-reload")
        systemctl("start", SERVICE)
        upgrade()
        BEFORE["copied"] = shown(SERVICE, "FragmentPath"), get_random(BY_BUS, check=False)
        UNIT_IN_ETC.unlink()
        folder = pathlib.Path("/etc/systemd/system/%s.d" % SERVICE)
        folder.mkdir()
        run("cp", EXAMPLE, folder)
        systemctl("daemon-reload")
        systemctl("restart", SERVICE)  # as that page says; it brings the socket, which did not listen beside the copy
        BEFORE["simulator"] = get_random(BY_SOCKET, check=False)
        (folder / EXAMPLE.name).unlink()
        set_options(cls.tcti)
        systemctl("daemon-reload")

    # From 3.0 to ours

    def test_upgrade_over_a_running_tpm2_abrmd_3(self):
        self.assertUpgraded()
        path, random = BEFORE["copied"]
        self.assertEqual((path, random.returncode), (str(UNIT_IN_ETC), 0), random.stderr)
        self.assertEqual(BEFORE["simulator"].returncode, 0, BEFORE["simulator"].stderr)

    def test_installed_anew_the_socket_stays(self):
        inode, pid = os.stat(PATH).st_ino, shown(SERVICE, "MainPID")
        run("dpkg", "--install", *pathlib.Path(os.environ["TABRMD_DEBS"]).glob("tpm2-abrmd_*.deb"))
        self.assertNotEqual(shown(SERVICE, "MainPID"), pid, "the daemon is the new one")
        self.assertEqual(os.stat(PATH).st_ino, inode)
        get_random(BY_SOCKET)

    # By whom and under what it runs

    def test_both_doors_for_those_of_the_group(self):
        for conf in (BY_SOCKET, BY_BUS, "tabrmd"):
            with self.subTest(conf):
                self.assertEqual(len(get_random(conf).stdout.strip()), 16)
                self.assertNotEqual(get_random(conf, "eve", check=False).returncode, 0)

    def test_manager(self):
        """
        Root may ask for all, of the private socket and of the bus; a member of tss for what is its own, on the bus.
        """
        found = os.stat(MANAGER)
        self.assertEqual((found.st_mode & 0o7777, found.st_uid, found.st_gid), (0o600, 0, 0))
        self.assertEqual(shown("tpm2-abrmd-manager.socket", "ActiveState"), "active")
        get_random(BY_SOCKET)
        hold = "import socket, time\ns = socket.socket(socket.AF_UNIX)\ns.connect('%s')\ntime.sleep(600)" % PATH
        run("systemd-run", "--unit=holder", "--uid=bob", "python3", "-c", hold)
        self.addCleanup(systemctl, "stop", "holder.service")
        bob = pwd.getpwnam("bob").pw_uid
        for where in (["--socket", MANAGER], ["--bus"], []):
            with self.subTest(where):
                self.assertIn(": ready", run("tabrmctl", *where, "status").stdout)
                harness.wait_until(lambda: ["holder.service"] == [  # noqa: B023
                    row["unit"] for row in self.clients(*where, options=["--user", "bob"])], "its unit is told")
        self.assertEqual([row["uid"] for row in self.clients(user="bob")], [bob])
        self.assertEqual(self.clients(user="alice"), [])
        self.assertIn(": ready", run("tabrmctl", "--bus", "status", user="alice").stdout)
        for arguments in (["--bus", "metrics"], ["--socket", MANAGER, "clients"]):
            self.assertEqual(run("tabrmctl", *arguments, user="alice", check=False).returncode, 77, arguments)
        self.assertEqual(run("tabrmctl", "--bus", "clients", user="eve", check=False).returncode, 77)

    def test_sandbox(self):
        pid = int(shown(SERVICE, "MainPID"))
        status = dict(line.split(":\t", 1) for line in pathlib.Path("/proc/%d/status" % pid).read_text().splitlines()
                      if ":\t" in line)
        self.assertEqual({int(uid) for uid in status["Uid"].split()}, {pwd.getpwnam("tss").pw_uid})
        for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
            self.assertEqual(int(status[name], 16), 0, name)
        self.assertEqual((status["NoNewPrivs"], status["Seccomp"]), ("1", "2"))
        self.assertNotEqual(os.readlink("/proc/%d/ns/net" % pid), os.readlink("/proc/1/ns/net"))
        self.assertEqual(os.readlink("/proc/%d/ns/user" % pid), os.readlink("/proc/1/ns/user"))
        for path in ("/etc", "/usr", "/var", "/run"):
            touched = run("nsenter", "-t", pid, "-m", "touch", path + "/tabrmd-test", check=False)
            self.assertIn("Read-only", touched.stderr, "%s of %s" % (
                path, run("nsenter", "-t", pid, "-m", "cat", "/proc/self/mountinfo").stdout))
        exposure = run("systemd-analyze", "security", "--no-pager", SERVICE).stdout
        self.assertLessEqual(float(re.search(r"exposure level for \S+ ([\d.]+)", exposure).group(1)), 1.0)
        for folder in ("/run/tpm2-abrmd", PATH, MANAGER):
            self.assertEqual(os.stat(folder).st_uid, 0, folder)
        units = [str(path) for path in pathlib.Path(shown(SERVICE, "FragmentPath")).parent.glob("tpm2-abrmd*")]
        verified = run("systemd-analyze", "verify", "--man=no", *[unit.replace("@", "@tpm1") for unit in units])
        self.assertEqual((len(units), verified.stdout, verified.stderr), (6, "", ""))

    def test_tells_two_users_apart(self):
        self.drop_in(SERVICE, self.command_line("--max-connections=8"))
        self.start_clean()
        hold = "import socket, sys\nall = [socket.socket(socket.AF_UNIX) for _ in range(7)]\n" \
               "[s.connect('%s') for s in all]\nprint(all[-1].recv(1), flush=True)\nsys.stdin.read()\n" % PATH
        with contextlib.ExitStack() as stack:
            for user in ("alice", "bob"):
                holder = subprocess.Popen([*as_user(user), "python3", "-c", hold], stdin=subprocess.PIPE,
                                          stdout=subprocess.PIPE)
                stack.callback(holder.communicate)
                self.assertEqual(holder.stdout.readline(), b"b''\n", "the seventh of %s is let out again" % user)
                if user == "alice":
                    get_random(BY_SOCKET, "bob")
        log = journal(SERVICE)
        alice = pwd.getpwnam("alice").pw_uid
        self.assertRegex(log, r"uid %d pid \d+ \(python3\) is refused: uid %d has its share" % (alice, alice))
        self.assertRegex(log, r"uid %d pid \d+ \(python3\) is refused: the limit" % pwd.getpwnam("bob").pw_uid)

    # Who starts it

    def test_started_by_a_client_of_the_socket(self):
        systemctl("stop", SERVICE)
        self.assertEqual(state(SOCKET), "active")
        get_random(BY_SOCKET)
        until_state(SERVICE, "active")  # systemd may hear of it after the client

    def test_disabled_it_stays_away(self):
        """And its sockets with it, which would start it; enabled, all come back."""
        all_units = [SERVICE, SOCKET, "tpm2-abrmd-manager.socket"]
        self.addCleanup(systemctl, "enable", "--now", SERVICE)
        systemctl("disable", "--now", SERVICE)
        self.assertEqual([state(unit) for unit in all_units], ["inactive"] * 3)
        self.assertEqual(run("systemctl", "is-enabled", *all_units, check=False).stdout.split(), ["disabled"] * 3)
        for path in (PATH, MANAGER):
            self.assertFalse(harness.can_connect(path))
        self.assertNotEqual(get_random(BY_SOCKET, check=False).returncode, 0)
        self.assertEqual(state(SERVICE), "inactive")
        systemctl("enable", "--now", SERVICE)
        self.assertEqual([state(unit) for unit in all_units], ["active"] * 3)
        self.assertEqual(systemctl("is-enabled", *all_units).split(), ["enabled"] * 3)
        get_random(BY_SOCKET)

    def test_main_loop_that_stands(self):
        self.drop_in(SERVICE, "[Service]\nWatchdogSec=2\nTimeoutAbortSec=1\nRestartSec=1\n")
        self.start_clean()
        for unit in (SERVICE, "tpm2-abrmd@tpm9.service"):
            self.assertIn("\nWatchdogSec=30\n", systemctl("cat", unit))
        pid = int(shown(SERVICE, "MainPID"))
        inode = os.stat(PATH).st_ino
        os.kill(pid, signal.SIGSTOP)
        harness.wait_until(lambda: state(SERVICE) == "active" and shown(SERVICE, "MainPID") not in (str(pid), "0"),
                           "the service is started anew")
        self.assertEqual(os.stat(PATH).st_ino, inode)
        get_random(BY_SOCKET)

    def test_started_by_a_client_of_the_bus(self):
        systemctl("stop", SERVICE, SOCKET)
        get_random(BY_BUS)
        until_state(SERVICE, "active")
        self.assertEqual(state(SOCKET), "active")

    def test_restarts_while_clients_come(self):
        inode = os.stat(PATH).st_ino
        done, results = threading.Event(), []

        def work():
            while not done.is_set():
                results.append(get_random("tabrmd:socket=" + PATH, check=False).returncode)

        worker = threading.Thread(target=work)
        worker.start()
        for _ in range(3):
            systemctl("restart", SERVICE)
            time.sleep(1)
        done.set()
        worker.join()
        # Who is at work when it is restarted loses that connection; whoever comes meanwhile waits at the socket.
        self.assertLessEqual(len([rc for rc in results if rc]), 3, results)
        self.assertEqual(os.stat(PATH).st_ino, inode)
        get_random(BY_SOCKET)

    def test_killed_it_comes_back(self):
        """The sockets have stayed open: clients wait there meanwhile."""
        pid, inode = shown(SERVICE, "MainPID"), os.stat(PATH).st_ino
        systemctl("kill", "--signal=KILL", "--kill-whom=main", SERVICE)
        harness.wait_until(lambda: state(SERVICE) == "active" and shown(SERVICE, "MainPID") not in (pid, "0"),
                           "the service is started anew")
        get_random(BY_SOCKET)
        self.assertEqual(os.stat(PATH).st_ino, inode)

    # Start and end without fuss

    def test_ends_in_time_while_a_command_runs(self):
        self.drop_in(SERVICE, EXAMPLE.read_text())
        swtpm = harness.Process("swtpm", [
            "swtpm", "socket", "--tpm2", "--tpmstate", "dir=%s" % self.folder, "--flags", "not-need-init,startup-clear",
            "--server", "type=tcp,port=2321,bindaddr=127.0.0.1", "--ctrl", "type=tcp,port=2322,bindaddr=127.0.0.1"],
            self.folder / "swtpm.log")
        self.addCleanup(swtpm.end, signal.SIGKILL)
        self.start_clean()
        client = self.client()
        harness.wait_until(lambda: client.ask(tpm.get_random()).rc == 0, "the simulator is found")
        swtpm.popen.send_signal(signal.SIGSTOP)
        client.send(tpm.get_random())
        systemctl("stop", SERVICE)
        self.assertEqual(shown(SERVICE, "Result"), "success", "not killed, and not out of time")
        self.assertEqual(shown(SERVICE, "ExecMainStatus"), "0")

    def test_sandbox_keeps_it_off_the_network(self):
        self.drop_in(SERVICE, "[Service]\nExecStart=\n"
                              "ExecStart=/usr/sbin/tpm2-abrmd --tcti=swtpm:host=127.0.0.1,port=2321\n")
        systemctl("stop", SERVICE)
        self.assertNotEqual(run("systemctl", "start", SERVICE, check=False).returncode, 0)
        self.assertIn("Address family not supported", journal(SERVICE))
        systemctl("stop", SERVICE)


class Kernel(Units):
    """What needs a kernel with a chip, or with AppArmor."""

    @classmethod
    def setUpClass(cls):
        upgrade()
        os.makedirs("/lib/modules", exist_ok=True)
        run("mount", "--bind", os.environ["TABRMD_VM"] + "/kernel/lib/modules", "/lib/modules")
        run("modprobe", "tpm_vtpm_proxy")

    def start_vtpm(self, number):
        """A further TPM: /dev/tpm<number>, which must be the next that is free."""
        device = pathlib.Path("/dev/tpm%d" % number)
        self.assertFalse(device.exists())
        folder = self.folder / device.name
        folder.mkdir()
        swtpm = harness.Process("swtpm", ["swtpm", "chardev", "--tpm2", "--vtpm-proxy", "--tpmstate",
                                          "dir=%s" % folder], folder / "swtpm.log")
        self.addCleanup(swtpm.end, signal.SIGKILL)
        harness.wait_until(device.exists, "%s is there" % device, swtpm.popen)

    def test_upgrade_over_a_running_tpm2_abrmd_3(self):
        self.assertUpgraded()

    def test_chip(self):
        for conf in (BY_SOCKET, BY_BUS, "tabrmd"):
            with self.subTest(conf):
                self.assertEqual(len(get_random(conf).stdout.strip()), 16)

    def assertNeighboursAreSeen(self):
        def reason():
            return json.loads(run("tabrmctl", "--json", "status").stdout)["reserve-reason"]

        get_random(BY_SOCKET)
        self.assertIn(reason(), ("start", "nobody", "kernel", "recent"))
        with open("/dev/tpmrm0", "r+b", buffering=0):
            harness.wait_until(lambda: reason() == "open", "who has opened the node is seen")
        harness.wait_until(lambda: reason() in ("start", "recent"), "who has closed it is gone")

    def test_neighbours_are_seen_from_within_the_sandbox(self):
        self.assertNeighboursAreSeen()

    def test_tpm_that_comes_after_the_daemon(self):
        systemctl("stop", SERVICE)
        node = os.stat(CHIP)
        os.unlink(CHIP)
        try:
            systemctl("start", SERVICE)
            self.assertEqual(state(SERVICE), "active")
            self.assertIn(NAME, run("busctl", "list", "--acquired").stdout)
            self.assertEqual(self.client().ask(tpm.get_random()).rc, tpm.NO_TPM)
            refused = create_connection(NAME, check=False)
            self.assertNotEqual(refused.returncode, 0)
            self.assertNotRegex(refused.stderr, "(?i)timed out|timeout")
        finally:
            os.mknod(CHIP, node.st_mode, node.st_rdev)
            os.chown(CHIP, node.st_uid, node.st_gid)
        client = self.client()
        harness.wait_until(lambda: client.ask(tpm.get_random()).rc == 0, "the TPM is found, once there is one")
        create_connection(NAME)
        self.assertEqual(shown(SERVICE, "NRestarts"), "0")

    def test_apparmor(self):
        """The host has the tools."""
        profile = pathlib.Path(__file__).parents[2] / "data/apparmor/usr.sbin.tpm2-abrmd"
        for path in ("/usr/sbin/apparmor_parser", "/usr/share/apparmor-features", "/etc/apparmor", "/etc/apparmor.d"):
            run("cp", "--archive", "--no-target-directory", "/host" + path, path)
        local = pathlib.Path("/etc/apparmor.d/local", profile.name)
        run("apparmor_parser", "--replace", "--skip-cache", profile)
        self.addCleanup(run, "apparmor_parser", "--remove", profile)
        conf = self.folder / "conf"
        self.drop_in(SERVICE, "[Service]\nExecStart=\nExecStart=/usr/sbin/tpm2-abrmd --wait --tcti=${TCTI}\n"
                              "EnvironmentFile=%s\n" % conf)

        def labels(tcti):
            conf.write_text("TCTI=%s\n" % tcti)
            self.start_clean()
            pid = int(shown(SERVICE, "MainPID"))
            return [pathlib.Path("/proc/%d/attr/current" % one).read_text().strip() for one in
                    [pid, *harness.children(pid)]]

        # Not without being asked
        self.assertEqual(labels("libtpms:/tmp/state")[0], "tpm2-abrmd (enforce)")
        self.assertNotEqual(get_random(BY_SOCKET, check=False).returncode, 0)
        self.assertIn("cannot make the directory: Permission denied", journal(SERVICE))

        local.write_text("owner /tmp/state/{,**} rwk,\n")
        run("apparmor_parser", "--replace", "--skip-cache", profile)
        run("dmesg", "--clear")
        helper = "tpm2-abrmd//&tpm2-abrmd-helper (enforce)"
        for tcti, further in (("device:" + CHIP, []), ("libtss2-tcti-device.so.0:" + CHIP, [helper]),
                              ("libtpms:/tmp/state", [helper])):
            with self.subTest(tcti):
                self.assertEqual(labels(tcti), ["tpm2-abrmd (enforce)", *further])
                for door in (BY_SOCKET, BY_BUS):
                    get_random(door)
                if CHIP in tcti:
                    self.assertNeighboursAreSeen()
        systemctl("stop", SERVICE)
        self.assertEqual([line for line in run("dmesg").stdout.splitlines() if 'apparmor="DENIED"' in line], [])

    def test_instances(self):
        service, socket, path = "tpm2-abrmd@tpm1.service", "tpm2-abrmd@tpm1.socket", "/run/tpm2-abrmd-tpm1/tpm.sock"
        self.addCleanup(systemctl, "disable", "--now", service, socket)
        systemctl("enable", "--now", socket, service)
        self.assertEqual(state(service), "active")
        client = self.client(path)
        self.assertEqual(client.ask(tpm.get_random()).rc, tpm.NO_TPM)
        self.start_vtpm(1)
        harness.wait_until(lambda: client.ask(tpm.get_random()).rc == 0, "its TPM is found")
        self.assertEqual(shown(service, "NRestarts"), "0")

        # Each has a TPM of its own, by either door.
        further = {"tabrmd:socket=" + path, "tabrmd:bus_type=system,bus_name=%s.tpm1" % NAME}
        run("tpm2_nvdefine", "-T", BY_SOCKET, "-C", "o", "-s", "8", "0x1500017", user="alice")
        self.addCleanup(run, "tpm2_nvundefine", "-T", BY_SOCKET, "-C", "o", "0x1500017", user="alice")
        for conf in {BY_SOCKET, BY_BUS} | further:
            listed = run("tpm2_getcap", "-T", conf, "handles-nv-index", user="alice").stdout
            self.assertEqual("0x1500017" in listed, conf not in further, conf)
            self.assertNotEqual(get_random(conf, "eve", check=False).returncode, 0, conf)
        systemctl("stop", service)
        get_random("tabrmd:bus_type=system,bus_name=%s.tpm1" % NAME)
        self.assertEqual(state(service), "active", "started by the bus")


if __name__ == "__main__":
    harness.main()
