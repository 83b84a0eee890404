# SPDX-License-Identifier: BSD-2-Clause
"""
The examples of the manual pages, the README and docs/ work as they stand: every command in a block of theirs is run, or
stands in a table below with the reason why not. reference.py runs those of docs/MANAGER.md, the program in
Tss2_Tcti_Tabrmd_Init(3) of documents.py.

The paths below /run are those of the pages: the tests have a /run of their own, in a mount namespace.
"""

import grp
import os
import pathlib
import re
import shutil
import stat
import subprocess
import sys
import tempfile

import ctl
import harness
import tpm
from process import MOUNT, refusal, run

ROOT = pathlib.Path(__file__).parent.parent.parent
DOCS = [ROOT / "README.md", *(path for path in sorted((ROOT / "docs").glob("*.md")) if path.name != "MANAGER.md")]
PAGES = [ROOT / "man" / name for name in ("tabrmctl.1", "tpm2-abrmd.8", "tss2-tcti-tabrmd.7")]
FOLDER = "/run/tpm2-abrmd"
INSIDE = "inside"  # the first argument, in the mount namespace

# First lines of blocks without commands.
NOT_COMMANDS = {
    "tpm2-tools   openssl   pkcs11   ...": "a picture",
    "waiting     1, the first for 2.5 s": "output of tabrmctl status",
    "network inet stream,": "rules for the profile of AppArmor",
    "ERROR:tcti:": "a message of the client library",
    "[Exec]": "settings of systemd-nspawn, which test/install/local.py uses",
}
LOCAL = "test/install/local.py runs it, in a root of its own"
SYSTEMD = "it needs a machine that systemd has booted: test/vm/blocks.py and test/install/local.py have one"
EXTENSION = "it makes an image for another machine, and changes that machine"
WHOLE = "it builds the daemon or runs tests, such as this one"
# Since the tests are root, no other commands are run.
RUN = re.compile(r"(export )?TPM2TOOLS_TCTI=|tabrmctl |tpm2_getrandom |ls -l |systemd-analyze security --offline=true ")
OWN_TPM = re.compile(
    r"dir=\$\(mktemp -d\)$|swtpm |tpm2-abrmd --no-dbus |until tpm2_getrandom |"
    r"do kill -0 \$! \|\| break; sleep 0.1; done$|kill \$!$")
NOT_RUN = {
    r"\./(run|check) .*": WHOLE,
    r"make -C selinux .*": "profiles.py compiles the module",
    r"make( .*)?": WHOLE,
    r"(CC=\S+ )?meson .*": WHOLE,
    r"apt-get install build-essential .*": "it installs packages on this machine; check does so at its beginning",
    r"apt-get install .*\./build-deb/.*": "test/install/packages.py installs these packages, in a root of its own",
    r"apt-get install --allow-downgrades .*": "test/vm/blocks.py runs it under systemd",
    r"tpm2-abrmd --tcti=CONF .*": "CONF and PATH stand for something",
    r"(docker|podman) run .*": "it needs a container's runtime and an image",
    r"systemd-nspawn .*": LOCAL,
    r"journalctl .*": SYSTEMD,
    r"systemctl .*": SYSTEMD,
    r"groupadd .*": SYSTEMD,
    r"TABRMD_OPTIONS=.*": "a line of a file, as units.py has it",
    r"install .*simulator\.conf.*": LOCAL,
    r"rm /etc/systemd/system/.*": LOCAL,
    r"(ldconfig|systemd-sysusers tpm2|systemd-tmpfiles --create tpm2|ln -sf /usr/local/share/dbus-1/).*": LOCAL,
    r"(mkdir|cp) .*(stage|/run/extensions).*": EXTENSION,
    r"\( \. /etc/os-release.*": EXTENSION,
    r"(mksquashfs|systemd-sysext|systemd-sysusers|systemd-tmpfiles --create /usr/\S+)( .*)?": EXTENSION,
    r"(install|apparmor_parser) .*usr\.sbin\.tpm2-abrmd.*": "it loads the profile, which profiles.py compiles",
    r"(semodule|restorecon|semanage) .*": "it needs a machine with SELinux",
}


def blocks_of_markdown(text):
    """-> the text of each block that is indented by four columns more than what is around it"""
    found = []
    for block in re.findall(r"\n\n((?: {4}.*\n|\n)+)", "\n" + text):
        lines = block.strip("\n").split("\n")
        depth = min(len(line) - len(line.lstrip()) for line in lines if line)
        found.append("\n".join(line[depth:] for line in lines))
    return found


def blocks_of_manual(text):
    """-> the text of each display, outside the parts where it is no example"""
    found = re.findall(r"^\.Bd -literal.*\n((?:.*\n)*?)\.Ed|^\.Dl (.*)", text, re.M)
    return [(display or line).replace("\\e", "\\").strip("\n") for display, line in found]


def commands(block):
    """-> its commands, each with the lines that continue it"""
    found = re.findall(r"^(?! )(?:.*\\\n)*.*(?:\n +\S.*)*", block, re.M)
    return [command.rstrip() for command in found if command.strip()]


def all_blocks():
    """-> (name of the file, block)"""
    for path in DOCS:
        for block in blocks_of_markdown(path.read_text()):
            yield path.name, block
    for path in PAGES:
        for block in blocks_of_manual(path.read_text()):
            yield path.name, block


def reason(command):
    """-> why it is not run, or None"""
    return next((why for pattern, why in NOT_RUN.items() if re.fullmatch(pattern, command, re.S)), None)


def is_unit(block):
    return re.match(r"\[(Unit|Service|Socket)\]\n", block)


def is_daemon(command):
    """One that serves until it is ended, alone: its options, or all of it."""
    return re.match(r"(tpm2-abrmd )?--socket", command)


def is_setting(command):
    return re.match(r"(export )?TPM2TOOLS_TCTI=", command)


def is_runnable(command):
    return RUN.match(command) or OWN_TPM.match(command)


def classify():
    """-> blocks of commands that are run: (name of the file, [command]); daemons; units"""
    scripts, daemons, units = [], [], []
    for name, block in all_blocks():
        if block.startswith(tuple(NOT_COMMANDS)):
            continue
        if is_unit(block):
            units.append((name, block))
            continue
        left = [command for command in commands(block) if not reason(command)]
        daemons += [(name, command) for command in left if is_daemon(command)]
        left = [command for command in left if is_runnable(command)]
        if left:
            scripts.append((name, left))
    return scripts, daemons, units


def has_own_tpm(script):
    """An example that starts a TPM and a daemon."""
    return any(command.startswith("swtpm ") for command in script)


def make_programs(folder):
    """-> PATH: with our programs, where another user can read them, too"""
    (folder / "bin").mkdir()
    for program in ("src/daemon/tpm2-abrmd", "src/ctl/tabrmctl"):
        shutil.copy(harness.BUILD / program, folder / "bin")
    shutil.copy(harness.LIBRARY / "libtss2-tcti-tabrmd.so.0", folder / "bin")
    return "%s/bin:%s" % (folder, os.environ["PATH"])


class Tables(harness.TestCase):
    def test_nothing_stands_there_in_vain(self):
        blocks = [block for _, block in all_blocks()]
        found = [command for block in blocks for command in commands(block)]
        for pattern in NOT_RUN:
            with self.subTest(pattern):
                self.assertTrue(any(re.fullmatch(pattern, command, re.S) for command in found))
        for beginning in NOT_COMMANDS:
            with self.subTest(beginning):
                self.assertTrue(any(block.startswith(beginning) for block in blocks))

    def test_every_command_is_run_or_has_a_reason(self):
        for name, block in all_blocks():
            if not block.startswith(tuple(NOT_COMMANDS)) and not is_unit(block):
                for command in commands(block):
                    with self.subTest(name, command=command):
                        kinds = [is_runnable(command), is_daemon(command), reason(command)]
                        self.assertEqual(sum(map(bool, kinds)), 1, command)

    def test_there_are_examples(self):
        scripts, daemons, units = classify()
        names = {name for name, _ in scripts}
        self.assertLessEqual({path.name for path in PAGES} | {"README.md", "TROUBLESHOOTING.md"}, names)
        self.assertGreater(len(scripts), 12)
        self.assertEqual({name for name, _ in daemons}, {"tpm2-abrmd.8", "PROTOCOL.md"})
        self.assertEqual({name for name, _ in units}, {"CONTAINERS.md", "HARDENING.md"})
        for name, script in scripts:
            print("#", name, *(command.replace("\\\n", "") for command in script), sep=" | ")


class OwnTpm(harness.TestCase):
    """As an ordinary user, in a home of their own."""

    def test_examples(self):
        path = make_programs(self.folder)
        self.folder.chmod(0o755)
        home = pathlib.Path(tempfile.mkdtemp(dir=self.folder))
        identity = []
        if os.geteuid() == 0:
            home.chmod(0o777)
            identity = ["setpriv", "--reuid=%d" % ctl.NOBODY, "--regid=%d" % ctl.NOBODY, "--clear-groups", "--"]
        examples = [script for _, script in classify()[0] if has_own_tpm(script)]
        self.assertEqual(len(examples), 1)
        env = harness.clean_env(PATH=path, LD_LIBRARY_PATH=str(self.folder / "bin"), TMPDIR=str(home), HOME=str(home))
        for script in examples:
            # The programs that it leaves in the background have ended when their output has.
            done = run(*identity, "timeout", harness.HANG, "bash", "-ec", "\n".join(script), env=env, cwd=home)
            self.assertRegex(done.stdout, r"(?m)^[0-9a-f]{16}")
            self.assertIn("stopped\n", done.stdout)
            self.assertEqual(done.stderr, "")


class Examples(ctl.TestCase):
    """A daemon where the pages have it, others by the names that they use, and work that these do."""

    def setUp(self):
        super().setUp()
        self.bus = self.start_bus()
        self.env.update(PATH=make_programs(self.folder), LD_LIBRARY_PATH=str(self.folder / "bin"))
        pathlib.Path(FOLDER).mkdir(exist_ok=True)
        for name in ("com.example.Tabrmd", "com.intel.tss2.Tabrmd.tpm1"):
            swtpm = harness.Swtpm(self.folder / name, proxied=False)
            self.addCleanup(swtpm.stop)
            self.start_other_daemon(self.folder / name, swtpm.conf, ["--no-socket", "--dbus-name=" + name])
        self.tpm = self.start_tpm()

    def start_other_daemon(self, folder, conf, options):
        """-> the process; it is on the bus, which is that of the system and of the session"""
        argv = [self.folder / "bin/tpm2-abrmd", "--tcti=" + conf, "--allow-root", *options]
        daemon = harness.Process("tpm2-abrmd", argv, folder / "daemon.log",
                                 {**harness.clean_env(), **self.env, "TABRMD_HELPER": str(harness.HELPER)})
        self.addCleanup(daemon.end)
        harness.wait_until(lambda: "ready: " in daemon.output(), "the daemon gets ready", daemon.popen)
        return daemon

    def start_where_it_is_expected(self):
        self.manager = FOLDER + "/manager.sock"
        self.daemon = self.start_daemon(self.tpm.conf, InRun, bus=self.bus, options=["--manager=" + self.manager])

    def replaced(self, command, client):
        """-> the command, where what it names is here"""
        command = command.replace("--client=12", "--client=%d" % client).replace("/root/", "%s/" % self.folder)
        command = command.replace("/dev/tpm0", "/dev/null")
        command = command.replace("/lib/systemd/system/", "%s/data/" % harness.BUILD)
        if command.startswith("tabrmctl trace") and "--count" not in command:  # it ends when it is interrupted
            command = "timeout --foreground --preserve-status --signal=INT 1 " + command
        return command

    def test_commands(self):
        self.start_where_it_is_expected()
        end = self.work()
        client = self.json("clients", where=["--session"])[-1]["id"]
        try:
            for name, script in classify()[0]:
                if has_own_tpm(script):
                    continue
                settings = [command for command in script if is_setting(command)]
                others = [command for command in script if not is_setting(command)] or ["tpm2_getrandom --hex 16"]
                for setting in settings or [""]:
                    with self.subTest(name, script=script, setting=setting):
                        before = [setting if setting.startswith("export") else "export " + setting] if setting else []
                        self.check([*before, *(self.replaced(command, client) for command in others)])
        finally:
            end()

    def check(self, script):
        done = run("bash", "-e", "-o", "pipefail", "-c", "\n".join(script), env=self.env, cwd=self.folder,
                   stdin=subprocess.DEVNULL, timeout=harness.HANG)
        self.assertNotIn("ERROR", done.stderr)
        self.assertTrue(done.stdout or done.stderr)

    def test_daemons(self):
        for name, command in classify()[1]:
            with self.subTest(name):
                folder = pathlib.Path(tempfile.mkdtemp(dir=self.folder))
                options = command.removeprefix("tpm2-abrmd ").replace("\\\n", "").replace("group=libvirt", "group=tss")
                daemon = self.start_other_daemon(folder, self.tpm.conf, options.split())
                for path, *rights in (option.split(",") for option in re.findall(r"--socket[= ](\S+)", options)):
                    if "mode=0660" in rights:
                        status = os.stat(path)
                        self.assertEqual((stat.S_IMODE(status.st_mode), status.st_gid),
                                         (0o660, grp.getgrnam("tss").gr_gid))
                    with tpm.Client(tpm.connect_unix(path)) as client:
                        self.assertServes(client)
                self.assertEqual(daemon.end(), 0)

    def test_units(self):
        """systemd knows what the units of the pages say."""
        for name, block in classify()[2]:
            with self.subTest(name):
                folder = pathlib.Path(tempfile.mkdtemp(dir=self.folder))
                service = (harness.BUILD / "data/tpm2-abrmd.service").read_text()
                for file in ("tpm2-abrmd.socket", "tpm2-abrmd-manager.socket"):
                    shutil.copy(ROOT / "data" / file, folder)
                program = str(self.folder / "bin/tpm2-abrmd")
                service, block = (re.sub(r"(?m)^(ExecStart=)/\S+/tpm2-abrmd", r"\g<1>" + program, text)
                                  for text in (service, block))
                (folder / "tpm2-abrmd.service").write_text(service)
                if block.startswith("[Socket]"):
                    unit = folder / "tpm2-abrmd-web.socket"
                    unit.write_text(block)
                else:
                    unit = folder / "tpm2-abrmd.service"
                    (folder / "tpm2-abrmd.service.d").mkdir()
                    (folder / "tpm2-abrmd.service.d/own.conf").write_text(block)
                done = run("systemd-analyze", "verify", "--man=no", unit)
                self.assertNotIn("tpm2-abrmd", done.stdout + done.stderr)


class InRun(harness.Ours):
    """Its socket is where the library looks for it."""

    def argv(self, conf, unix, options):
        self.socket = FOLDER + "/tpm.sock"
        return [self.binary, "--tcti=" + conf, *self.root_option(), *options]

    def __init__(self, folder, conf, bus=None, env=None, **keywords):
        address = {"DBUS_SYSTEM_BUS_ADDRESS": bus.address}
        super().__init__(folder, conf, bus=bus, env={**address, **(env or {})}, **keywords)


if __name__ == "__main__":
    why_not = None
    if sys.argv[1:2] == [INSIDE]:
        del sys.argv[1]
        run("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", "/run")
    elif os.geteuid() == 0:
        why_not = refusal(*MOUNT)
        if not why_not:
            os.execvp("unshare", ["unshare", "--mount", sys.executable, __file__, INSIDE, *sys.argv[1:]])
    harness.main(skip=why_not)
