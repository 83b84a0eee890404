# SPDX-License-Identifier: BSD-2-Clause
"""
The packages in a fresh root of the distribution, over its own tpm2-abrmd 3.0 and alone, and programs of the
distribution that use a TPM, unchanged, with them. It needs to be root, and once a day the network.

    packages.py RELEASE DEBS DIR [CLASS[.TEST]...]

DEBS: a folder with them; DIR: where a root of the release is kept between runs
"""

import functools
import pathlib
import subprocess
import unittest

import applications
import harness
import root
import tpm
import workout

DEBS = []
BASE = LAYERS = None
NO_PERMISSION = 77
OLD_POLICY = "etc/dbus-1/system.d/tpm2-abrmd.conf"


def new_root():
    return root.Root(BASE, LAYERS)


@functools.cache
def upgraded():
    """-> a root where ours were installed over those of 3.0, and what files those had"""
    place = new_root()
    before = place.files_of(*root.PEER_PACKAGES)
    if not harness.IS_PEER:
        place.install(DEBS)
    return place, before


def fields(deb):
    """-> name and version of a package"""
    return root.run("dpkg-deb", "--show", "--showformat=${Package} ${Version}", deb).stdout.split()


class Packages(unittest.TestCase):
    def setUp(self):
        self.names = [fields(deb)[0] for deb in DEBS]

    def assertInstalled(self, place):
        for name, version in map(fields, DEBS):
            status = place("dpkg-query", "--show", "--showformat=${db:Status-Abbrev}${Version}", name)
            self.assertEqual(status, "ii " + version, name)
        self.assertEqual(place("dpkg", "--verify", *self.names), "")
        self.assertEqual(place("dpkg", "--audit"), "")

    def test_they_replace_those_of_3_0(self):
        place, before = upgraded()
        self.assertLessEqual(set(root.PEER_PACKAGES), set(self.names))
        self.assertInstalled(place)
        self.assertEqual({name for name in before - place.files_of(*self.names) if place.has(name)}, set())
        self.assertNotIn("obsolete", place("dpkg-query", "--show", "--showformat=${Conffiles}", *self.names))
        self.assertEqual(place.find("-xtype", "l", "-name", "*abrmd*"), set(), "links to what is gone")

    def test_what_the_admin_changed_is_kept(self):
        place = new_root()
        policy = place.path / OLD_POLICY
        policy.write_text(policy.read_text().replace("</busconfig>", "<!-- mine --></busconfig>"))
        place.install(DEBS)
        self.assertInstalled(place)
        self.assertEqual(len([path for path in policy.parent.iterdir() if "<!-- mine -->" in path.read_text()]), 1)

    def test_they_install_alone_and_leave_nothing(self):
        place = new_root()
        place("dpkg", "--purge", *root.PEER_PACKAGES)
        before = place.find("-name", "*abrmd*")
        place.install(DEBS)
        self.assertInstalled(place)
        self.assertEqual(place("tpm2-abrmd", "--version").split()[:2], ["tpm2-abrmd", "version"])
        files = place.files_of(*self.names)
        place("dpkg", "--remove", *self.names)
        place("dpkg", "--purge", *self.names)
        self.assertEqual({name for name in files if place.has(name)}, set())
        self.assertEqual(place.find("-name", "*abrmd*") - before, set())


class InRoot(harness.TestCase):
    """A TPM and the daemon in the root where ours were installed over those of 3.0."""

    conf, has_bus = "tabrmd:", True

    def setUp(self):
        super().setUp()
        self.place = upgraded()[0]
        self.tpm = self.start_swtpm(tcp=True)
        self.proxy = self.tpm.proxy
        if self.has_bus:
            self.bus = root.Bus(self.folder, self.place)
            self.addCleanup(self.bus.stop)
        self.start()

    def start(self):
        self.daemon = self.start_daemon(self.tpm.conf, root.Installed, root=self.place, system_bus=self.bus)
        self.addCleanup(self.assertTpmEmpty)

    def make_tools(self, user="member", conf=None):
        return root.Tools(self.place, user, conf or self.conf)


class OverSocket(InRoot, applications.Applications, workout.Workout):
    has_bus = False  # so that it can be nothing else


class OverBus(InRoot, applications.Applications, workout.Workout):
    conf = "tabrmd:bus_type=system"


class Users(InRoot):
    def test_who_names_no_tcti_finds_it(self):
        tools = self.make_tools()
        tools.variables.clear()
        done = tools.attempt("tpm2_getrandom", "--hex", "16")  # it may say which others it has tried
        self.assertEqual((done.returncode, len(done.stdout)), (0, 32))
        self.assertIn(tpm.CC_GET_RANDOM, self.proxy.commands)

    def test_who_is_not_in_the_group_is_refused(self):
        for conf in ("tabrmd:", "tabrmd:socket=/run/tpm2-abrmd/tpm.sock", "tabrmd:bus_type=system"):
            with self.subTest(conf):
                self.assertEqual(len(self.make_tools("member", conf)("tpm2_getrandom", "16")), 16)
                commands = self.proxy.count()
                refused = self.make_tools("outsider", conf).attempt("tpm2_getrandom", "16")
                self.assertNotEqual(refused.returncode, 0)
                self.assertEqual(refused.stdout, b"")
                self.assertEqual(self.proxy.count(), commands, "nothing of it reached the TPM")


class Manager(InRoot):
    """tabrmctl, by the policy of the bus and the mode of the private socket."""

    def ctl(self, *arguments, user="root"):
        """-> exit status, standard output"""
        done = subprocess.run(self.place.argv("tabrmctl", *arguments, user=user), stdin=subprocess.DEVNULL,
                              capture_output=True, text=True, timeout=harness.HANG, check=False)
        return done.returncode, done.stdout

    def test_root_may_all_by_either_door(self):
        for where in (["--bus"], ["--socket", root.MANAGER], []):
            for arguments in (["status"], ["clients"], ["sessions"], ["metrics"], ["log-level", "info"],
                              ["top", "--count=1"], ["flush", "--abandoned"]):
                with self.subTest(where=where, arguments=arguments):
                    self.assertEqual(self.ctl(*where, *arguments)[0], 0)

    def test_members_see_their_own(self):
        for arguments in (["status"], ["clients"], ["clients", "--recent"], ["sessions"], ["top", "--count=1"]):
            with self.subTest(arguments):
                self.assertEqual(self.ctl("--bus", *arguments, user="member")[0], 0)
                self.assertEqual(self.ctl(*arguments, user="member")[0], 0,
                                 "of the bus, since the socket is not theirs")
        self.assertIn("The rest is for root.", self.ctl("--bus", "status", user="member")[1])
        for arguments in (["metrics"], ["log-level"], ["log-level", "debug"], ["flush", "--abandoned"], ["trace"]):
            with self.subTest(arguments):
                self.assertEqual(self.ctl("--bus", *arguments, user="member"), (NO_PERMISSION, ""))
        self.assertEqual(self.ctl("--socket", root.MANAGER, "clients", user="member"), (NO_PERMISSION, ""))

    def test_others_see_nothing(self):
        for arguments in (["clients"], ["sessions"], ["status"]):
            with self.subTest(arguments):
                self.assertEqual(self.ctl("--bus", *arguments, user="outsider"), (NO_PERMISSION, ""))

    def monitor(self, user):
        """-> a process whose output has the signals that the user may hear"""
        argv = self.place.argv("dbus-monitor", "--system", "type='signal'", user=user)
        process = harness.Process("monitor", argv, self.folder / (user + ".log"))
        self.addCleanup(process.end)
        harness.wait_until(lambda: "signal" in process.output(), "it listens", process.popen)
        return process

    def test_changes_are_for_root(self):
        heard = {user: self.monitor(user) for user in ("root", "member", "outsider")}
        for level in ("debug", "warning"):
            self.ctl("log-level", level)
            harness.wait_until(lambda: '"%s"' % level in heard["root"].output(), "root hears of it")  # noqa: B023
        for user in ("member", "outsider"):
            self.assertNotIn("LogLevel", heard[user].output())


class InitScript(InRoot):
    """Where there is no systemd."""

    script = "/etc/init.d/tpm2-abrmd"

    def start(self):
        defaults = self.place.path / "etc/default/tpm2-abrmd"
        defaults.write_text('TABRMD_OPTIONS="--tcti=%s --max-connections=77"\n' % self.tpm.conf)
        self.addCleanup(defaults.unlink)
        self.place(self.script, "start")
        self.addCleanup(self.place.succeeds, self.script, "stop")

    def test_starts_and_stops_it(self):
        for action in ("status", "restart"):
            self.place(self.script, action)
            harness.wait_until(lambda: self.bus.has_owner(harness.BUS_NAME), "the daemon starts")
            self.assertEqual(len(self.make_tools()("tpm2_getrandom", "16")), 16)
            pid = (self.place.path / "run/tpm2-abrmd.pid").read_text().strip()
            command = pathlib.Path("/proc/%s/cmdline" % pid).read_text()
            self.assertIn("--wait\0--logger=syslog\0", command)
            self.assertIn("--max-connections=77\0", command)
        self.place(self.script, "stop")
        self.assertFalse(self.place.succeeds(self.script, "status"))
        harness.wait_until(lambda: not self.bus.has_owner(harness.BUS_NAME), "the bus has noticed")


if harness.IS_PEER:  # it has no socket, and its packages are those of the root
    del OverSocket, Packages, InitScript, Manager


def main():
    global BASE, LAYERS
    release, debs, folder = root.take_arguments(3)
    DEBS.extend(sorted(pathlib.Path(debs).absolute().glob("*.deb")))
    BASE = root.installed_base(folder, release)
    with root.make_layers() as LAYERS:
        harness.main()


if __name__ == "__main__":
    main()
