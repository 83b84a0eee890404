# SPDX-License-Identifier: BSD-2-Clause
"""
The profiles below data/: that they compile, and that what the daemon and its helper do is in them.

Nothing is in force here, neither AppArmor nor SELinux. The daemon runs below strace, and what it opens, makes, executes
and connects to is compared with the rules of the AppArmor profile, by the names that all this has once it is installed.
"""

import os
import pathlib
import re
import shutil
import subprocess

import harness
import tcti
import tpm
from process import TRACE, needs

DATA = pathlib.Path(__file__).parents[2] / "data"
PROFILE = DATA / "apparmor/usr.sbin.tpm2-abrmd"
PARSER = ["apparmor_parser", "--skip-kernel-load", "--skip-cache", "--skip-read-cache"]
FEATURES = "/etc/apparmor.d/abi/3.0"  # a kernel's, since ours may have none
ENV = {**os.environ, "PATH": os.environ["PATH"] + ":/usr/sbin:/sbin"}
DAEMON, HELPER = "tpm2-abrmd", "tpm2-abrmd-helper"

CLIENT = """policy_module(client, 1.0)
type client_t;
domain_type(client_t)
tabrmd_stream_connect(client_t)
tabrmd_dbus_chat(client_t)
"""


def run(*argv, cwd=None):
    """-> all that it said"""
    done = subprocess.run([str(a) for a in argv], env=ENV, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True, timeout=harness.HANG * 2, check=False)
    if done.returncode:
        raise AssertionError("%s: %d\n%s" % (" ".join(map(str, argv)), done.returncode, done.stdout))
    return done.stdout


def regex_of(glob):
    """-> the regular expression of a path of AppArmor, whose variables are replaced"""
    out, depth, i = "", 0, 0
    while i < len(glob):
        c = glob[i]
        if c == "*":
            whole = glob[i:i + 2] == "**"
            i += whole
            # Behind a slash, something must be.
            out += ("." if whole else "[^/]") + ("+" if out.endswith("/") else "*")
        elif c == "[":
            end = glob.index("]", i)
            out += glob[i:end + 1]
            i = end
        elif c == "{" or c == "}":
            out += "(?:" if c == "{" else ")"
            depth += 1 if c == "{" else -1
        else:
            out += "|" if c == "," and depth else "[^/]" if c == "?" else re.escape(c)
        i += 1
    return out


class Rules:
    """The rules for files of each profile in a file, and its other ones as text."""

    FILE = re.compile(r'(deny\s+)?([/{]\S*)\s+([rwamklixpcuPCU]+)(\s+->\s+\S+)?,')

    def __init__(self, path):
        self.profiles, self.attached, variables, profile = {}, {}, {}, None
        text = run(*PARSER, "--preprocess", path)
        for line in re.sub(r"(?m)^\s*#.*$", "", text).splitlines():
            line = line.strip()
            if match := re.fullmatch(r"(@\{\w+\})\s*=\s*(.*)", line):
                values = [value.rstrip("/") for value in match[2].split()]
                variables[match[1]] = "{%s}" % ",".join(values)
                continue
            if match := re.fullmatch(r"profile (\S+)(?: (/\S+))? \{", line):
                profile = self.profiles[match[1]] = []
                if match[2]:
                    self.attached[match[1]] = re.compile(regex_of(match[2]))
                continue
            while line.startswith(("@", "/", "{")) and (names := re.findall(r"@\{\w+\}", line)):
                for name in names:
                    line = line.replace(name, variables[name])
            if match := self.FILE.fullmatch(line):
                profile.append((bool(match[1]), re.compile(regex_of(match[2])), match[3].lower()))
            elif match := re.fullmatch(r"network (\w+) (\w+),", line):
                profile.append((False, re.compile(re.escape("%s %s" % match.groups())), "c"))

    def lacks(self, profile, path, permissions):
        """-> those of the permissions that no rule gives"""
        given = set()
        for deny, pattern, letters in self.profiles[profile]:
            if pattern.fullmatch(path):
                given = given - set(letters) if deny else given | set(letters)
        return set(permissions) - given


class Trace:
    """What strace saw: .needs is {(profile, path): permissions}, with a network as a path."""

    CALL = re.compile(r"(\w+)\((.*)\)\s+= (-?\d+)(?:<(.*?)>)?(?: (E\w+).*)?")
    PATH = re.compile(r'(?:(?:AT_FDCWD|\d+)<([^>]*)>, )?"((?:[^"\\]|\\.)*)"')
    CHANGES = {"chmod", "fchmodat", "chown", "lchown", "fchownat", "unlink", "unlinkat", "rename", "renameat",
               "renameat2"}
    NETWORKS = {"AF_INET": "inet", "AF_INET6": "inet6", "AF_NETLINK": "netlink"}
    TYPES = {"SOCK_STREAM": "stream", "SOCK_DGRAM": "dgram", "SOCK_RAW": "raw"}

    def __init__(self, prefix, rename):
        """prefix: of files by process, as strace -ff -y makes them; rename: path -> that when installed"""
        self.prefix, self.rename, self.needs = prefix, rename, {}
        first = min(prefix.parent.glob(prefix.name + ".*"), key=lambda path: int(path.suffix[1:]))
        self._process(first, [])

    def _need(self, profiles, path, permissions):
        for profile in profiles:
            self.needs.setdefault((profile, self.rename(path)), set()).update(permissions)

    def _process(self, file, profiles):
        for line in file.read_text(errors="replace").splitlines():
            match = self.CALL.fullmatch(line)
            if match:
                name, arguments, result, opened, error = match.groups()
                profiles = self._call(profiles, name, arguments, int(result), opened, error)

    def _call(self, profiles, name, arguments, result, opened, error):
        """-> the profiles that hold then"""
        paths = [os.path.normpath(os.path.join(at, path)) for at, path in self.PATH.findall(arguments)]
        words = set(re.findall(r"[A-Z_]{4,}[A-Z0-9_]*", arguments))
        if name in ("clone", "clone3", "fork", "vfork") and result > 0:
            self._process(self.prefix.with_name("%s.%d" % (self.prefix.name, result)), profiles)
        elif name == "execve" and not error:
            # The daemon's is no matter of its profile. For the helper, its own one holds as well.
            self._need(profiles, paths[0], "x")
            profiles = [DAEMON, HELPER] if profiles else [DAEMON]
            self._need(profiles, paths[0], "mr")
        elif name in ("open", "openat"):
            path = opened or paths[0]
            letters = "rw" if "O_RDWR" in words else "w" if words & {"O_WRONLY", "O_CREAT"} else "r"
            self._need(profiles, path + "/" * (os.path.isdir(path) or "O_DIRECTORY" in words), letters)
        elif name == "mmap" and "PROT_EXEC" in words and (match := re.search(r"\d+<(/[^>]*)>", arguments)):
            self._need(profiles, match[1], "m")
        elif name == "flock" and (match := re.match(r"\d+<(/[^>]*)>", arguments)):
            self._need(profiles, match[1] + "/" * os.path.isdir(match[1]), "k")
        elif name in ("mkdir", "mkdirat"):
            self._need(profiles, paths[0] + "/", "w")
        elif name in self.CHANGES and error != "ENOENT":
            for path in paths:
                self._need(profiles, path, "w")
        elif name in ("bind", "connect", "sendto") and (match := re.search(r'sun_path="([^"]*)"', arguments)):
            self._need(profiles, match[1], "rw" if name == "connect" else "w")
        elif name == "socket" and words & self.NETWORKS.keys():
            family, kind = (table[(words & table.keys()).pop()] for table in (self.NETWORKS, self.TYPES))
            self._need(profiles, "%s %s" % (family, kind), "c")
        return profiles


class Compile(harness.TestCase):
    def test_apparmor(self):
        """The distribution's own parts of it may be written for a newer ABI than ours."""
        self.assertEqual(run(*PARSER, "--warn=all", "--warn=no-abi", "--features-file=" + FEATURES, PROFILE), "")

    def test_selinux(self):
        """The module, and one of a client, which needs the interfaces."""
        shutil.copytree(DATA / "selinux", self.folder, dirs_exist_ok=True)
        (self.folder / "client.te").write_text(CLIENT)
        said = run("make", "-f", "/usr/share/selinux/devel/Makefile", "tabrmd.pp", "client.pp", cwd=self.folder)
        self.assertNotRegex(said, "(?i)warning|error|duplicate|already")
        for name in ("tabrmd", "client"):
            self.assertGreater((self.folder / (name + ".pp")).stat().st_size, 1000)

    def test_labels_of_what_is_installed(self):
        contexts = re.findall(r"(?m)^(/\S+)\s.*object_r:(\w+),", (DATA / "selinux/tabrmd.fc").read_text())
        for prefix in ("/usr", "/usr/local"):
            for path, wanted in ((prefix + "/sbin/tpm2-abrmd", "tabrmd_exec_t"),
                                 (prefix + "/libexec/tpm2-abrmd/tpm2-abrmd-helper", "tabrmd_helper_exec_t"),
                                 ("/run/tpm2-abrmd", "tabrmd_var_run_t"),
                                 ("/run/tpm2-abrmd/tpm.sock", "tabrmd_var_run_t"),
                                 ("/run/tpm2-abrmd/manager.sock", "tabrmd_var_run_t"),
                                 ("/run/tpm2-abrmd-tpm1/tpm.sock", "tabrmd_var_run_t")):
                self.assertEqual([label for pattern, label in contexts if re.fullmatch(pattern, path)], [wanted], path)


@needs(*TRACE)
class Covers(harness.TestCase):
    """The AppArmor profile against what happens."""

    @classmethod
    def setUpClass(cls):
        cls.rules = Rules(PROFILE)

    def installed(self, path):
        names = {str(harness.Ours.binary): "/usr/sbin/tpm2-abrmd",
                 str(harness.HELPER): "/usr/libexec/tpm2-abrmd/tpm2-abrmd-helper",
                 str(self.folder / "bus"): "/run/dbus/system_bus_socket",
                 str(self.folder / "notify"): "/run/systemd/notify"}
        return names.get(path) or path.replace(str(self.folder), "/run/tpm2-abrmd", 1)

    def trace(self, conf, *options, clients=True):
        """Starts the daemon, has clients by either door, and ends it. -> Trace"""
        prefix = self.folder / "trace"
        strace = ["strace", "-D", "-ff", "-y", "-q", "-s", "4096", "-o", prefix, "-e",
                  "trace=%file,%process,bind,connect,flock,mmap,sendto,socket"]
        manager = self.folder / "manager.sock"
        self.daemon = self.start_daemon(conf, bus=self.start_bus(), wrap=strace,
                                        options=["--manager=%s" % manager, *options])
        run(harness.built("src/ctl/tabrmctl"), "--socket", manager, "clients")
        if clients:
            self.assertServes()
            with tcti.connect_bus(self.daemon.library, self.bus.address) as stream:
                self.assertServes(tpm.Client(stream, harness.HANG))
        self.assertEqual(self.daemon.stop(), 0)
        files = list(self.folder.glob("trace.*"))
        harness.wait_until(lambda: all("+++ " in path.read_text(errors="replace") for path in files),
                           "strace has seen all of it")
        trace = Trace(prefix, self.installed)
        for name in ("tpm", "manager"):
            self.assertIn((DAEMON, "/run/tpm2-abrmd/%s.sock" % name), trace.needs)
        return trace

    def lacks(self, trace):
        found = {key: "".join(sorted(self.rules.lacks(*key, needs))) for key, needs in trace.needs.items()}
        return {key: lacks for key, lacks in found.items() if lacks}

    def test_profile_is_that_of_the_daemon(self):
        for prefix in ("/usr", "/usr/local"):
            self.assertTrue(self.rules.attached[DAEMON].fullmatch(prefix + "/sbin/tpm2-abrmd"))
        self.assertNotIn(HELPER, self.rules.attached, "it is the daemon that confines it")

    def test_device(self):
        """A TPM that is not there, waited for."""
        trace = self.trace("device:/dev/tpm99", "--wait", clients=False)
        self.assertEqual(trace.needs[DAEMON, "/dev/tpm99"], set("rw"))
        self.assertEqual(self.lacks(trace), {})

    def test_helper_with_a_tpm(self):
        trace = self.trace("libtpms")
        self.assertIn((HELPER, "/etc/ssl/openssl.cnf"), trace.needs)
        self.assertEqual(self.lacks(trace), {})

    def test_helper_with_a_library(self):
        trace = self.trace("libtss2-tcti-device.so.0:/dev/tpm99", "--wait", clients=False)
        self.assertEqual(trace.needs[HELPER, "/dev/tpm99"], set("rw"))
        self.assertEqual(self.lacks(trace), {})

    def test_simulator_needs_the_network(self):
        """And nothing else that the profile has not."""
        self.assertEqual(self.lacks(self.trace(self.start_swtpm(tcp=True).conf)), {(DAEMON, "inet stream"): "c"})


if __name__ == "__main__":
    harness.main()
