# SPDX-License-Identifier: BSD-2-Clause
"""
`make install` below /usr/local, in a fresh root of the distribution that systemd boots, and what README.md says is to
be done after it: these commands, as they stand, and then tpm2-tools are served. And containers of systemd-nspawn, as
docs/CONTAINERS.md has them. It needs to be root, and once a day the network.

    local.py RELEASE BUILD DIR [CLASS[.TEST]...]

BUILD: a build folder, of prefix /usr/local; DIR: where a root of the release is kept between runs. In the root that
boots, the TPM is an swtpm, by the drop-in that is installed among the documentation.
"""

import functools
import pathlib
import shutil
import subprocess
import unittest

import examples
import harness
import root
from process import needs, run

BUILD = None
BASE = LAYERS = None
ROOT = pathlib.Path(__file__).parent.parent.parent
MARKER = "After `make install`, these commands"
RESULTS = "results"
UNITS = ["tpm2-abrmd.socket", "tpm2-abrmd-manager.socket", "tpm2-abrmd.service"]
DROP_IN = "etc/systemd/system/tpm2-abrmd.service.d/simulator.conf"
CONFS = {"name": "tabrmd", "socket": "tabrmd:socket=/run/tpm2-abrmd/tpm.sock", "bus": "tabrmd:bus_type=system"}

SWTPM = """[Service]
StateDirectory=swtpm
ExecStart=swtpm socket --tpm2 --tpmstate dir=/var/lib/swtpm --flags not-need-init,startup-clear \\
    --server type=tcp,bindaddr=127.0.0.1,port=2321 --ctrl type=tcp,bindaddr=127.0.0.1,port=2322
[Install]
WantedBy=multi-user.target
"""
# It runs when the machine is up, and ends it.
SCRIPT_UNIT = """[Unit]
After=swtpm.service dbus.service
[Service]
Type=oneshot
ExecStart=bash /script
ExecStopPost=systemctl --no-block poweroff
TimeoutStartSec=60
[Install]
WantedBy=multi-user.target
"""
# ask NAME COMMAND...: its exit status and output are kept.
ASK = r"""ask() { local name=$1; shift; "$@" >/results/$name.out 2>&1 </dev/null; echo $? >/results/$name.status; }
random() { ask $1 setpriv --reuid=$2 --regid=$2 --init-groups -- env TPM2TOOLS_TCTI=$3 tpm2_getrandom --hex 8; }
"""


CONTAINER = "tabrmd-container"
OWN_NUMBERS = 100000  # of docs/CONTAINERS.md


def readme_commands():
    text = (ROOT / "README.md").read_text()
    return examples.blocks_of_markdown(text[text.index(MARKER):])[0]


def container_block(beginning):
    blocks = examples.blocks_of_markdown((ROOT / "docs/CONTAINERS.md").read_text())
    return next(block for block in blocks if block.startswith(beginning))


class Machine:
    """A layer that systemd boots."""

    def __init__(self):
        self.place = root.Root(BASE, LAYERS)
        self.place("dpkg", "--purge", *root.PEER_PACKAGES)
        self.place("userdel", "tss")  # of another package; the commands have to make it
        self.place.unmount_kernel()
        self.write("etc/systemd/system/swtpm.service", SWTPM)
        self.write("etc/systemd/system/script.service", SCRIPT_UNIT)
        run("systemctl", "--root=%s" % self.place.path, "enable", "swtpm.service", "script.service")

    def write(self, name, text):
        path = self.place.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def boot(self, script):
        """Runs the script in there, until the machine is off. -> {name: (exit status, output)} of what it asked"""
        results = self.place.path / RESULTS
        shutil.rmtree(results, ignore_errors=True)
        results.mkdir()
        self.write("script", ASK + script)
        with root.make_cgroup() as inside:
            done = run(*inside, "systemd-nspawn", "--boot", "--quiet", "--register=no", "--keep-unit",
                       "--private-network", "--machine=tabrmd-local", "--directory=%s" % self.place.path,
                       stdin=subprocess.DEVNULL, timeout=harness.HANG * 3)
        found = {path.stem: (int(path.read_text()), path.with_suffix(".out").read_text())
                 for path in results.glob("*.status")}
        if not found:
            raise AssertionError("the machine has run nothing: " + done.stdout[-3000:] + done.stderr)
        return found


@functools.cache
def installed():
    """-> a machine where `make install` was done, and the commands after it; and what was asked, as of boot()"""
    machine = Machine()
    stage = machine.place.path / "stage"
    run("make", "-C", ROOT, "install", "BUILD=%s" % BUILD, "DESTDIR=%s" % stage, "prefix=/usr/local")
    machine.write(DROP_IN, (stage / "usr/local/share/doc/tpm2-abrmd/simulator.conf").read_text())
    machine.write("readme", readme_commands())
    # The files come while the machine is up, as those of `make install` would.
    script = ["cp -a /stage/. /", "random before root tabrmd", "ask readme bash -ex /readme"]
    script += ["usermod --append --groups tss member"]
    for user in ("member", "outsider"):
        script += ["random %s-%s %s %s" % (user, door, user, conf) for door, conf in CONFS.items()]
    for what in ("active", "enabled"):
        script += ["ask %s-%s systemctl is-%s %s" % (what, unit, what, unit) for unit in UNITS]
    script += ["ask status tabrmctl status", "ask libraries ldconfig -p",
               "ask unit systemctl show --value --property=FragmentPath tpm2-abrmd.service"]
    for door in ("bus", "socket"):
        script += ["systemctl stop tpm2-abrmd.service", "ask stopped-%s systemctl is-active tpm2-abrmd.service" % door,
                   "random started-by-%s member %s" % (door, CONFS[door])]
    script += ["ask log journalctl --no-pager --unit=tpm2-abrmd.service"]
    return machine, machine.boot("\n".join(script))


class Local(unittest.TestCase):
    def setUp(self):
        self.machine, self.answers = installed()

    def assertServed(self, name, answers=None):
        self.assertRegex("%d %s" % (answers or self.answers)[name], r"\A0 [0-9a-f]{16}\Z", self.answers["log"][1])

    def test_commands_of_the_readme(self):
        self.assertNotEqual(self.answers["before"][0], 0, "nothing was there before")
        status, text = self.answers["readme"]
        self.assertEqual(status, 0, text)
        self.assertRegex(text, r"[0-9a-f]{16}\Z", "which end with a random number")

    def test_members_are_served_and_others_are_not(self):
        for door in CONFS:
            with self.subTest(door):
                self.assertServed("member-" + door)
                self.assertNotEqual(self.answers["outsider-" + door][0], 0)

    def test_units(self):
        for unit in UNITS:
            with self.subTest(unit):
                self.assertEqual(self.answers["active-" + unit], (0, "active\n"))
                self.assertEqual(self.answers["enabled-" + unit], (0, "enabled\n"))
        self.assertEqual(self.answers["unit"], (0, "/usr/local/lib/systemd/system/tpm2-abrmd.service\n"))

    def test_loader_knows_the_library(self):
        self.assertRegex(self.answers["libraries"][1], r"libtss2-tcti-tabrmd\.so\.0 \(.*\) => /usr/local/lib\S*/")

    def test_manager(self):
        status, text = self.answers["status"]
        self.assertEqual(status, 0, text)
        self.assertIn(": ready", text)

    def test_bus_and_socket_start_the_daemon(self):
        for door in ("bus", "socket"):
            with self.subTest(door):
                self.assertEqual(self.answers["stopped-" + door][1], "inactive\n")
                self.assertServed("started-by-" + door)

    def test_it_is_there_after_the_next_boot(self):
        answers = self.machine.boot("\n".join("random %s member %s" % pair for pair in CONFS.items()))
        for door in CONFS:
            with self.subTest(door):
                self.assertServed(door, answers)


class Simulator(unittest.TestCase):
    """One that was set up for 3.0, by a copy of its unit, as docs/MIGRATING.md has it."""

    def test_copy_of_the_unit_of_3_0(self):
        machine = installed()[0]
        unit = (BASE / "lib/systemd/system/tpm2-abrmd.service").read_text()
        needs = "Requires=dev-tpm0.device\n"
        self.assertIn(needs, unit)
        machine.write("as-it-is", unit)
        program = "/usr/local/sbin/tpm2-abrmd --tcti=swtpm:host=127.0.0.1,port=2321"
        simulated = unit.replace(needs, "").replace("After=dev-tpm0.device\n", "")
        machine.write("simulated", simulated.replace("/usr/sbin/tpm2-abrmd", program))
        blocks = examples.blocks_of_markdown((ROOT / "docs/MIGRATING.md").read_text())
        commands = next(block for block in blocks if block.startswith("rm /etc/systemd/system/tpm2-abrmd.service\n"))
        examples_here = "/usr/local/share/doc/tpm2-abrmd/"
        machine.write("migrate", commands.replace("/usr/share/doc/tpm2-abrmd/examples/", examples_here))
        show = "ask %s systemctl show --value --property=%s tpm2-abrmd.service"
        answers = machine.boot("\n".join([
            "cd /etc/systemd/system",
            "cp /as-it-is tpm2-abrmd.service; printf '[Unit]\\nRequires=\\n' >tpm2-abrmd.service.d/simulator.conf",
            "systemctl daemon-reload", show % ("requires", "Requires"),
            "rm -r tpm2-abrmd.service.d; cp /simulated tpm2-abrmd.service; systemctl daemon-reload",
            "systemctl restart tpm2-abrmd.service", "random copy member tabrmd",
            show % ("copy-sandbox", "ProtectSystem"), "ask migrate bash -ex /migrate",
            "random dropin member tabrmd", show % ("dropin-sandbox", "ProtectSystem"),
        ]))
        self.assertIn("dev-tpm0.device", answers["requires"][1], "a drop-in does not take it out")
        self.assertEqual(answers["copy-sandbox"][1], "no\n")
        self.assertEqual(answers["migrate"][0], 0, answers["migrate"][1])
        self.assertEqual(answers["dropin-sandbox"][1], "strict\n")
        for name in ("copy", "dropin"):
            self.assertRegex("%d %s" % answers[name], r"\A0 [0-9a-f]{16}\Z")


class Containers(harness.TestCase):
    """A daemon outside, and clients in a container, whose root is one more layer."""

    def setUp(self):
        super().setUp()
        stage = installed()[0].place.path / "stage"
        self.place = root.Root(BASE, LAYERS)
        self.place("dpkg", "--purge", *root.PEER_PACKAGES)
        run("cp", "-a", "%s/." % stage, self.place.path)
        self.place("ldconfig")
        self.group = int(self.place("getent", "group", "tss").split(":")[2])
        self.place.unmount_kernel()
        self.settings = pathlib.Path("/run/systemd/nspawn/%s.nspawn" % CONTAINER)
        self.settings.parent.mkdir(parents=True, exist_ok=True)
        self.addCleanup(self.settings.unlink, missing_ok=True)
        tpm = self.start_swtpm(proxied=False)
        argv = [stage / "usr/local/sbin/tpm2-abrmd", "--no-dbus", "--allow-root", "--tcti=" + tpm.conf]
        for name, group in (("", self.group), ("-own", OWN_NUMBERS + self.group)):
            pathlib.Path("/run/tpm2-abrmd" + name).mkdir(exist_ok=True)
            argv.append("--socket=/run/tpm2-abrmd%s/tpm.sock,group=%d" % (name, group))
        daemon = harness.Process("tpm2-abrmd", argv, self.folder / "daemon.log", harness.clean_env())
        self.addCleanup(daemon.end)
        harness.wait_until(lambda: "ready: " in daemon.output(), "the daemon gets ready", daemon.popen)

    def serves(self, user, *options, command=None, name=""):
        """-> whether tpm2_getrandom is served in the container"""
        command = command or "systemd-nspawn %s --directory=ROOT --setenv=TPM2TOOLS_TCTI=tabrmd:socket=%s %s" % (
            " ".join(options), "/run/tpm2-abrmd%s/tpm.sock" % name, "tpm2_getrandom --hex 8")
        ours = "systemd-nspawn --quiet --register=no --keep-unit --machine=%s --user=%s" % (CONTAINER, user)
        command = command.replace("ROOT", str(self.place.path)).replace("systemd-nspawn", ours)
        with root.make_cgroup() as inside:
            done = run(*inside, "sh", "-c", command, check=False, stdin=subprocess.DEVNULL)
        if done.returncode:
            self.assertIn("Could not load tcti", done.stdout + done.stderr)
            return False
        self.assertRegex(done.stdout, r"\A[0-9a-f]{16}\s*\Z")
        return True

    def test_command(self):
        command = container_block("systemd-nspawn ")
        self.assertTrue(self.serves("member", command=command))
        self.assertTrue(self.serves("root", command=command))
        self.assertFalse(self.serves("outsider", command=command))

    @needs("unshare", "--user", "--map-root-user", "true")
    def test_numbers_of_its_own(self):
        """The options are those of systemd-nspawn@.service; the owners of the files do not matter here."""
        unit = ["-U", "--settings=override", "--private-users-ownership=off"]
        bind = "--bind-ro=/run/tpm2-abrmd"
        for user in ("root", "member"):
            self.assertFalse(self.serves(user, *unit, bind))
        self.settings.write_text(container_block("[Exec]"))
        self.assertTrue(self.serves("member", *unit))
        self.assertFalse(self.serves("outsider", *unit))
        known = "PrivateUsers=%d:65536" % OWN_NUMBERS
        self.assertIn("`%s`" % known, (ROOT / "docs/CONTAINERS.md").read_text())
        text = container_block("[Exec]").replace("PrivateUsers=no", known)
        self.settings.write_text(text.replace("/run/tpm2-abrmd", "/run/tpm2-abrmd-own"))
        self.assertTrue(self.serves("member", *unit, name="-own"))
        for user in ("root", "outsider"):
            self.assertFalse(self.serves(user, *unit, name="-own"))


def main():
    global BUILD, BASE, LAYERS
    release, build, folder = root.take_arguments(3)
    BUILD = pathlib.Path(build).absolute()
    BASE = root.installed_base(folder, release)
    root.prepare_containers()
    with root.make_layers() as LAYERS:
        harness.main()


if __name__ == "__main__":
    main()
