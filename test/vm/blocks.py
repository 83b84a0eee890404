# SPDX-License-Identifier: BSD-2-Clause
"""
The blocks of commands of README.md and docs/ under a real systemd, as they stand, beside the tests of units.py, in the
same container. A block that is not run here stands in ELSEWHERE, with the reason. test/install/reference.py runs those
of docs/MANAGER.md.
"""

import grp
import hashlib
import os
import pathlib
import re

import examples
import units
from process import run
from units import BY_BUS, BY_SOCKET, EXAMPLE, SERVICE, SOCKET, UNIT_IN_ETC, Kernel, Systemd  # noqa: F401
from units import get_random, shown, state, systemctl, until_state

HERE = {  # how it begins: the test
    "systemd-analyze security": "test_exposure",
    "systemctl mask --now tpm2-abrmd-manager.socket": "test_no_manager",
    "install -D -m 644 simulator.conf": "test_simulator",
    "[Service]\nEnvironment=TABRMD_OPTIONS=--tcti=libtpms:": "test_helper_program_in_the_sandbox",
    "groupadd --gid 100033 tabrmd-web": "test_group_of_a_container",
    "[Socket]\nListenStream=/run/tpm2-abrmd-web/": "test_socket_of_a_container",
    "apt-get install ./build-deb/": "test_installing",
    "rm /etc/systemd/system/tpm2-abrmd.service": "test_copy_of_a_unit",
    "systemctl stop tpm2-abrmd.socket": "test_going_back",
    "journalctl -u tpm2-abrmd": "test_first_look",
}
EXAMPLES = "test/install/examples.py runs it: it needs no systemd"
LOCAL = "test/install/local.py runs it, in a container of its own"
NO_COMMAND = "it has no commands"
ELSEWHERE = {  # how it begins: why not here
    "./run ": "it builds the daemon, and runs tests such as this one",
    "tpm2-tools   openssl": NO_COMMAND,
    "export TPM2TOOLS_TCTI=": EXAMPLES,
    "tabrmctl ": EXAMPLES,
    "tpm2-abrmd --tcti=CONF": "CONF and PATH stand for something",
    "apt-get install build-essential": "it builds the daemon, from packages of the network",
    "ldconfig ": LOCAL,
    "make check": "it builds the daemon, and runs tests such as this one",
    "TPM2TOOLS_TCTI=": EXAMPLES,
    "docker run": "it needs Docker and an image",
    "podman run": "it needs Podman and an image",
    "systemd-nspawn ": LOCAL,
    "[Exec]": LOCAL,
    "make install prefix=/usr DESTDIR=stage": "it builds the daemon",
    "mkdir -p /run/extensions": "it needs the image that the block before it makes",
    "install -m 644 apparmor/": "no AppArmor in a container: Kernel.test_apparmor of units.py loads it in a machine",
    "network inet stream,": NO_COMMAND,
    "make -C selinux": "it needs a machine with SELinux; test/install/profiles.py compiles the module",
    "CC=musl-gcc meson setup": "it builds the daemon",
    "--socket ": EXAMPLES,
    "waiting     1,": NO_COMMAND,
}
DOWNGRADES = "/var/lib/tabrmd-peer"  # packages of 3.0, which test/install/root.py leaves there


def place_of(block):
    return [beginning for beginning in [*HERE, *ELSEWHERE] if block.startswith(beginning)]


def all_blocks():
    """-> (name of the file, block)"""
    for path in examples.DOCS:
        for block in examples.blocks_of_markdown(path.read_text()):
            yield path.name, block


class Blocks(units.Units):
    tcti = Systemd.tcti

    def setUp(self):
        super().setUp()
        self.yes = self.folder / "apt.conf"  # there is nobody to be asked
        self.yes.write_text('APT::Get::Assume-Yes "true";\n')

    def block(self):
        """-> the one whose test this is"""
        name = self.id().rpartition(".")[2]
        return next(block for _, block in all_blocks() for begin, test in HERE.items()
                    if test == name and block.startswith(begin))

    def run_block(self, cwd="/", check=True):
        """As root, in one shell. -> standard output"""
        env = {**os.environ, "APT_CONFIG": str(self.yes)}
        return run("bash", "-ec", self.block(), cwd=cwd, check=check, env=env).stdout

    def put(self, path, text):
        """Until the test ends."""
        path = pathlib.Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        self.addCleanup(systemctl, "daemon-reload")
        self.addCleanup(path.unlink, missing_ok=True)
        systemctl("daemon-reload")

    def test_every_block_has_a_place(self):
        blocks = list(all_blocks())
        for name, block in blocks:
            with self.subTest(name=name, block=block):
                self.assertEqual(len(place_of(block)), 1, place_of(block))
        for beginning in [*HERE, *ELSEWHERE]:
            self.assertTrue(any(block.startswith(beginning) for _, block in blocks), beginning)
        for test in HERE.values():
            self.assertTrue(callable(getattr(self, test)), test)

    # README.md, docs/TROUBLESHOOTING.md

    def test_first_look(self):
        chip = pathlib.Path("/dev/tpm0")
        self.assertFalse(chip.exists())
        chip.touch()  # the block lists it
        self.addCleanup(chip.unlink)
        shown_all = self.run_block()
        self.assertIn("ready: socket /run/tpm2-abrmd/tpm.sock, bus name com.intel.tss2.Tabrmd", shown_all)
        self.assertRegex(shown_all, "(?m)^[0-9a-f]{16}")

    def test_without_a_bus(self):
        """One door is enough, and the sockets are not taken along by restarts."""
        self.drop_in(SERVICE, "[Service]\nEnvironment=DBUS_SYSTEM_BUS_ADDRESS=unix:path=/nonexistent\n")
        self.start_clean()
        get_random(BY_SOCKET)
        self.assertEqual((shown(SERVICE, "NRestarts"), state(SERVICE), state(SOCKET)), ("0", "active", "active"))
        self.assertIn("system bus: Could not connect: ", units.journal(SERVICE))

    # docs/HARDENING.md

    def test_exposure(self):
        self.assertLessEqual(float(re.search(r"exposure level for \S+ ([\d.]+)", self.run_block()).group(1)), 1.0)

    def test_no_manager(self):
        self.run_block()
        self.addCleanup(self.start_clean)
        self.addCleanup(systemctl, "unmask", "tpm2-abrmd-manager.socket")
        self.start_clean()
        get_random(BY_SOCKET)
        self.assertNotEqual(run("tabrmctl", "--socket", units.MANAGER, "status", check=False).returncode, 0)

    def test_simulator(self):
        folder = pathlib.Path("/etc/systemd/system/%s.d" % SERVICE)
        self.addCleanup(self.start_clean)
        self.addCleanup(systemctl, "daemon-reload")
        self.addCleanup((folder / EXAMPLE.name).unlink)
        self.addCleanup(systemctl, "stop", "simulator.service")
        systemctl("stop", "simulator.service", check=False)
        units.run_swtpm("simulator", "type=tcp,port=2321,bindaddr=127.0.0.1", "type=tcp,port=2322,bindaddr=127.0.0.1")
        units.set_options()
        self.addCleanup(units.set_options, self.tcti)
        self.run_block(cwd=EXAMPLE.parent)
        get_random(BY_SOCKET)
        self.assertIn("port=2321", self.command())

    def test_helper_program_in_the_sandbox(self):
        units.set_options()
        self.addCleanup(self.start_clean)
        self.addCleanup(units.set_options, self.tcti)
        self.drop_in(SERVICE, self.block())
        self.start_clean()
        run("tpm2_createprimary", "-T", BY_SOCKET, "-c", "/dev/null", user="alice")
        self.assertTrue(os.listdir("/var/lib/tpm2-abrmd"))

    # docs/CONTAINERS.md

    def test_group_of_a_container(self):
        self.run_block()
        self.assertEqual(grp.getgrnam("tabrmd-web").gr_gid, 100033)
        run("groupdel", "tabrmd-web")

    def test_socket_of_a_container(self):
        run("groupadd", "--gid", "100033", "tabrmd-web")
        self.addCleanup(run, "groupdel", "tabrmd-web")
        self.put("/etc/systemd/system/tpm2-abrmd-web.socket", self.block())
        self.addCleanup(systemctl, "stop", "tpm2-abrmd-web.socket")
        systemctl("stop", SERVICE)  # a socket is handed to a service that starts
        systemctl("start", "tpm2-abrmd-web.socket")
        path = "/run/tpm2-abrmd-web/tpm.sock"
        self.assertEqual((os.stat(path).st_gid, os.stat(path).st_mode & 0o777), (100033, 0o660))
        self.assertEqual(self.client(path).ask(units.tpm.get_random()).rc, 0)

    # docs/MIGRATING.md

    def test_options_of_the_administrator(self):
        units.set_options(self.tcti, "--max-connections=77")
        self.addCleanup(units.set_options, self.tcti)
        self.start_clean()
        self.assertIn("--wait\0%s\0--max-connections=77\0" % self.tcti, self.command())
        get_random(BY_SOCKET)

    def test_installing(self):
        run("dpkg", "--remove", "libtss2-tcti-tabrmd-dev", check=False)  # of 3.0, in the root for other tests
        folder = self.folder / "build-deb"
        folder.symlink_to(os.environ["TABRMD_DEBS"])
        self.folder.chmod(0o755)
        self.run_block(cwd=self.folder)
        self.assertEqual(systemctl("is-enabled", SERVICE, SOCKET).split(), ["enabled", "enabled"])

    def copy_unit(self, text):
        """Where an administrator has one of 3.0's."""
        self.put(UNIT_IN_ETC, text)
        self.assertEqual(shown(SERVICE, "FragmentPath"), str(UNIT_IN_ETC))

    def test_copy_of_a_unit(self):
        self.addCleanup(self.start_clean)
        self.addCleanup(systemctl, "daemon-reload")
        self.addCleanup(pathlib.Path("/etc/systemd/system/%s.d" % SERVICE, EXAMPLE.name).unlink)
        self.copy_unit(units.BEFORE["unit"])
        self.run_block()
        self.assertNotEqual(shown(SERVICE, "FragmentPath"), str(UNIT_IN_ETC))
        self.assertIn("ReadOnlyPaths=/run", systemctl("cat", SERVICE))

    def serve_downgrades(self):
        """What apt has from the network elsewhere."""
        packages = ""
        for deb in sorted(pathlib.Path(DOWNGRADES).glob("*.deb")):
            data = deb.read_bytes()
            packages += run("dpkg-deb", "--field", deb).stdout + "Filename: ./%s\nSize: %d\nSHA256: %s\n\n" % (
                deb.name, len(data), hashlib.sha256(data).hexdigest())
        self.assertTrue(packages, "the root was made without packages of 3.0")
        pathlib.Path(DOWNGRADES, "Packages").write_text(packages)
        self.put("/etc/apt/sources.list.d/peer.list", "deb [trusted=yes] file:%s ./\n" % DOWNGRADES)
        run("apt-get", "-q", "update", "-o", "Dir::Etc::SourceList=/etc/apt/sources.list.d/peer.list", "-o",
            "Dir::Etc::SourceParts=/dev/null", "-o", "APT::Get::List-Cleanup=0")

    def test_going_back(self):
        """3.0 is there then, and after the next boot, and so is the new one once it is installed again."""
        systemctl("is-enabled", SERVICE)
        self.serve_downgrades()
        self.addCleanup(units.install)
        # 3.0 needs a device, which there is none of here.
        self.copy_unit(units.BEFORE["unit"])
        self.run_block()
        self.assertIn("3.0", run("tpm2-abrmd", "--version").stdout)
        until_state(SERVICE, "active")
        get_random(BY_BUS)
        self.assertEqual(systemctl("is-enabled", SERVICE), "enabled")
        for socket in (SOCKET, "tpm2-abrmd-manager.socket"):
            self.assertNotEqual(state(socket), "active")
        UNIT_IN_ETC.unlink()
        units.install()
        systemctl("daemon-reload")
        self.assertEqual(systemctl("is-enabled", SERVICE, SOCKET).split(), ["enabled", "enabled"])
        self.start_clean()
        get_random(BY_SOCKET)


if __name__ == "__main__":
    units.harness.main()
