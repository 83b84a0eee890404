# SPDX-License-Identifier: BSD-2-Clause
"""
A root of the distribution with tpm2-abrmd 3.0 and programs that use a TPM in it, and layers over it that are thrown
away: in each, packages are installed and programs are run. Mounts and processes are in namespaces of our own, and end
with us.
"""

import contextlib
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time

import harness
from process import as_user, refusal, run

PEER_PACKAGES = ["libtss2-tcti-tabrmd-dev", "libtss2-tcti-tabrmd0", "tpm2-abrmd"]
APPLICATIONS = ["clevis", "clevis-tpm2", "dbus", "libtpm2-pkcs11-1", "libtpm2-pkcs11-tools", "opensc",
                "openssh-client", "openssl", "python3-tpm2-pytss", "systemd", "tpm2-openssl", "tpm2-tools"]
NEEDED = ["libjson-glib-1.0-0", "libncursesw6", "libtss2-rc0"]  # by our packages, where there is no network
BOOTED = ["dbus-daemon", "kmod", "swtpm", "systemd-sysv", "udev"]  # what test/vm/units.py needs besides
APT_OPTIONS = ["Acquire::http", "Acquire::https", "Acquire::Check-Valid-Until", "Acquire::Check-Date"]
CGROUPS = pathlib.Path("/sys/fs/cgroup")
MANAGER = "/run/tpm2-abrmd/manager.sock"
INSTALLED = PEER_PACKAGES + APPLICATIONS + NEEDED + BOOTED
DAY = 24 * 60 * 60
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
USERS = {"root": 0, "member": 1000, "outsider": 1001}  # the second is in group tss


NAMESPACES = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]


def namespaces_refused():
    """-> why roots and their mounts cannot be had here; "" when they can"""
    return refusal(*NAMESPACES, "sh", "-ec", "mount -t tmpfs tmpfs /mnt")


def enter_namespaces():
    """
    Begins the program anew in its own: what it mounts is seen by nobody else, what it starts ends with it.

    -> why it may not; "" when it is there
    """
    if os.getpid() == 1:
        return ""
    reason = namespaces_refused()
    if not reason:
        os.execvp("unshare", [*NAMESPACES, sys.executable, *sys.argv])
    return reason


def take_arguments(count):
    """
    How a module of tests in roots begins: in namespaces of its own, it takes the first COUNT arguments off its command
    line. Where the tests are only listed, or the namespaces cannot be had, it says so for each test and ends.
    """
    if sys.argv[1] == "--list":
        harness.main()
        sys.exit()
    reason = enter_namespaces()
    taken = sys.argv[1:1 + count]
    del sys.argv[1:1 + count]
    if reason:
        harness.main(skip=reason)
        sys.exit()
    return taken


def release_of(path):
    """-> the code name of the release in a root"""
    return re.search(r"(?m)^VERSION_CODENAME=(\w+)", pathlib.Path(path, "etc/os-release").read_text())[1]


def find_sources(release):
    """-> the distribution's own sources, as this machine has them, for that release, as lines of a sources.list"""
    ask = ["apt-get", "indextargets", "--format", "deb $(REPO_URI) $(RELEASE) $(COMPONENT)", "Created-By: Packages",
           "Origin: Debian"]
    lines = run(*ask).stdout
    if not lines:
        run("apt-get", "-q", "update")
        lines = run(*ask).stdout
    if not lines:
        raise RuntimeError("apt knows no source of Debian")
    own = release_of("/")
    return "".join(sorted({re.sub(r" %s(?=[-/ ])" % own, " " + release, line) for line in lines.splitlines(True)}))


def make_root(path, release, packages=(), hooks=()):
    """A minimal root of the release."""
    options = [line for line in run("apt-config", "dump", *APT_OPTIONS).stdout.splitlines()
               if not line.endswith(' "";')]
    run("mmdebstrap", "--mode=root", "--variant=minbase", "--skip=cleanup/apt/lists", "--dpkgopt=force-unsafe-io",
        *("--aptopt=" + option for option in options), *("--customize-hook=" + hook for hook in hooks),
        *["--include=" + ",".join(packages)] * bool(packages), "", path, "-", input=find_sources(release))
    if release_of(path) != release:  # where the sources of this machine say "stable"
        raise RuntimeError("%s is a root of %s, not of %s" % (path, release_of(path), release))


def make_base(folder, release, packages, kind="", hooks=(), made_for=""):
    """-> a root of the release, which is never changed but lies below layers. It is made anew every day."""
    base, stamp = folder / (release + kind), folder / (release + kind + ".made-of")
    made_of = "\n".join([find_sources(release), *packages, *hooks, made_for])
    if stamp.exists() and stamp.read_text() == made_of and time.time() - stamp.stat().st_mtime < DAY:
        return base
    stamp.unlink(missing_ok=True)
    shutil.rmtree(base, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    make_root(base, release, packages, hooks)
    stamp.write_text(made_of)
    return base


def installed_base(folder, release):
    """-> the one with tpm2-abrmd 3.0 and programs, and the packages of 3.0, for "Going back" in docs/MIGRATING.md"""
    keep = 'chroot "$1" sh -ec "mkdir /var/lib/tabrmd-peer; cd /var/lib/tabrmd-peer; apt-get -q download %s"' % (
        " ".join(PEER_PACKAGES))
    return make_base(pathlib.Path(folder).absolute(), release, INSTALLED, hooks=[keep])


def mount_terminals(path):
    """And nothing else of this machine's /dev, where its own TPM would be."""
    run("mount", "-t", "devpts", "-o", "newinstance,ptmxmode=666", "devpts", path / "dev/pts")


@contextlib.contextmanager
def make_layers():
    """-> a folder in memory for them"""
    with tempfile.TemporaryDirectory(prefix="tabrmd-") as folder:
        run("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", folder)
        try:
            yield pathlib.Path(folder)
        finally:
            run("umount", "--lazy", folder)  # with all that is mounted below


def prepare_containers():
    """For systemd-nspawn, in our mount namespace: what it keeps is ours alone, and cgroups are those of version 2."""
    run("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", "/run")
    run("mount", "-t", "cgroup2", "cgroup2", CGROUPS)


@contextlib.contextmanager
def make_cgroup():
    """-> a command that runs another one in a cgroup of its own, which ends with the context"""
    path = pathlib.Path(tempfile.mkdtemp(prefix="tabrmd-", dir=CGROUPS))
    try:
        yield ["sh", "-c", 'echo $$ >"$0/cgroup.procs" && exec "$@"', path]
    finally:
        for folder, _, _ in os.walk(path, topdown=False):
            os.rmdir(folder)


class Layer:
    """A root over the base."""

    def __init__(self, base, layers):
        folder = pathlib.Path(tempfile.mkdtemp(dir=layers))
        self.path, upper, work = folder / "root", folder / "upper", folder / "work"
        for path in (self.path, upper, work):
            path.mkdir()
        options = "lowerdir=%s,upperdir=%s,workdir=%s" % (base, upper, work)
        run("mount", "-t", "overlay", "-o", options, "overlay", self.path)
        run("mount", "-t", "proc", "proc", self.path / "proc")
        mount_terminals(self.path)
        policy = self.path / "usr/sbin/policy-rc.d"
        policy.write_text("#!/bin/sh\nexit 101\n")  # packages start no services
        policy.chmod(0o755)

    def unmount_kernel(self):
        """What a container has of its own."""
        for mount in ("dev/pts", "proc"):
            run("umount", self.path / mount)

    def argv(self, *argv, user="root", cwd="/", env=()):
        """-> the command that runs it in there, by that user, with nothing of our environment"""
        env = {"PATH": PATH, "LC_ALL": "C.UTF-8", "HOME": "/root" if user == "root" else "/home/" + user, **dict(env)}
        identity = as_user(user if user != "root" else None)
        return ["chroot", self.path, "env", "-i", "--chdir=%s" % cwd, *("%s=%s" % pair for pair in env.items()),
                *identity, *argv]

    def __call__(self, *argv):
        """Runs it as root. -> what it said"""
        return run(*self.argv(*argv, env={"DEBIAN_FRONTEND": "noninteractive"}), stdin=subprocess.DEVNULL).stdout

    def succeeds(self, *argv):
        """As root."""
        return subprocess.run(self.argv(*argv), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                              timeout=harness.HANG, check=False).returncode == 0

    def has(self, name):
        return os.path.lexists(self.path / name[1:])


class Root(Layer):
    """One with tpm2-abrmd 3.0 and programs that use a TPM in it, and users."""

    def __init__(self, base, layers):
        super().__init__(base, layers)
        for user, uid in list(USERS.items())[1:]:
            self("useradd", "--uid", uid, "--create-home", user)
        self("usermod", "--append", "--groups", "tss", "member")

    def install(self, debs):
        """As one does with packages that one has as files."""
        folder = self.path / "tmp/debs"
        folder.mkdir()
        for deb in debs:
            shutil.copy(deb, folder)
        self("apt-get", "-q", "install", "-y", "--no-install-recommends", *("/tmp/debs/" + deb.name for deb in debs))
        shutil.rmtree(folder)

    def files_of(self, *packages):
        """-> paths of the files, not folders, that belong to them"""
        names = {name for name in self("dpkg", "-L", *packages).splitlines() if name.startswith("/")}
        return {name for name in names if not (self.path / name[1:]).is_dir()}

    def find(self, *conditions):
        """-> paths"""
        return set(self("find", "/", "-xdev", *conditions).splitlines())


class Bus:
    """The system bus of a root, with the policies that are installed there."""

    def __init__(self, folder, root):
        self.root = root
        path = root.path / "run/dbus/system_bus_socket"
        path.parent.mkdir(exist_ok=True)
        path.unlink(missing_ok=True)
        self.process = harness.Process("dbus-daemon", root.argv("dbus-daemon", "--system", "--nofork", "--nopidfile",
                                                                "--nosyslog"), folder / "bus.log")
        harness.wait_until(lambda: harness.can_connect(str(path)), "the system bus starts", self.process.popen)

    def has_owner(self, name):
        return self.root.succeeds("dbus-send", "--system", "--print-reply", "--dest=org.freedesktop.DBus", "/",
                                  "org.freedesktop.DBus.GetNameOwner", "string:" + name)

    def stop(self):
        self.process.end()


class Installed(harness.Broker):
    """The daemon of a root, as its service would be: user tss, and all but the TPM as it is by default."""

    name = "tpm2-abrmd"

    def __init__(self, folder, conf, root, system_bus=None):
        self.root = root
        self.system_bus = system_bus
        self.socket_path = root.path / "run/tpm2-abrmd/tpm.sock"
        root("install", "-d", "-o", "tss", "-g", "tss", "/run/tpm2-abrmd")
        super().__init__(folder, conf, options=[] if system_bus else ["--no-dbus"])

    def argv(self, conf, unix, options):
        if not harness.IS_PEER:
            options = [*options, "--manager=" + MANAGER]
        return self.root.argv("tpm2-abrmd", "--tcti=" + conf, *options, user="tss")

    def is_ready(self):
        return (harness.IS_PEER or harness.can_connect(str(self.socket_path))) and \
            (not self.system_bus or self.system_bus.has_owner(harness.BUS_NAME))


class Tools(harness.Tools):
    """Programs in a root, run by one of its users in a folder of their own. conf is for all that ask for a TCTI."""

    def __init__(self, root, user, conf):
        home = "/root" if user == "root" else "/home/" + user
        super().__init__(tempfile.mkdtemp(dir=root.path / home[1:]), conf)
        os.chown(self.folder, USERS[user], USERS[user])
        self.root, self.user = root, user
        self.cwd = "%s/%s" % (home, self.folder.name)
        self.variables = {name: conf for name in ("TPM2TOOLS_TCTI", "TPM2OPENSSL_TCTI", "TPM2_PKCS11_TCTI")}

    def argv(self, *argv):
        return self.root.argv(*argv, user=self.user, cwd=self.cwd, env=self.variables)

    def attempt(self, *argv, **keywords):
        return super().attempt(*self.argv(*argv), **keywords)


if __name__ == "__main__":
    sys.exit(namespaces_refused() or None)
