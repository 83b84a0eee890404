# SPDX-License-Identifier: BSD-2-Clause
"""
The files in packaging/, for distributions other than Debian: version and dependencies are those of meson.build, and
each file works with its own tool, as far as Debian has that tool.
"""

import fnmatch
import json
import os
import pathlib
import re
import shutil
import tarfile

import harness
import install
from process import find_tool, run

ROOT = pathlib.Path(__file__).resolve().parents[2]
FOLDER = ROOT / "packaging"
SPEC, PKGBUILD, APKBUILD, NIX = (
    FOLDER / name for name in ("tpm2-abrmd.spec", "PKGBUILD", "APKBUILD", "tpm2-abrmd.nix"))
PROJECT = (ROOT / "meson.build").read_text()
VERSION = re.search(r"\bversion: '([\d.]+)'", PROJECT)[1]
MESON = re.search(r"meson_version: '>= ([\d.]+)'", PROJECT)[1]

# The packages of Arch Linux, Alpine Linux and nixpkgs that provide a name of pkg-config.
PACKAGES = {
    "cmocka": ("cmocka", "cmocka-dev", "cmocka"),
    "gio-unix-2.0": ("glib2", "glib-dev", "glib"),
    "glib-2.0": ("glib2", "glib-dev", "glib"),
    "json-glib-1.0": ("json-glib", "json-glib-dev", "json-glib"),
    "libcrypto": ("openssl", "openssl-dev", "openssl"),
    "libtpms": ("libtpms", "libtpms-dev", "libtpms"),
    "ncursesw": ("ncurses", "ncurses-dev", "ncurses"),
    "tss2-mu": ("tpm2-tss", "tpm2-tss-dev tpm2-tss-mu", "tpm2-tss"),
    "tss2-rc": ("tpm2-tss", "tpm2-tss-dev tpm2-tss-rc", "tpm2-tss"),
    "tss2-tctildr": ("tpm2-tss", "tpm2-tss-dev tpm2-tss-tctildr", "tpm2-tss"),
}
OF_LIBC = {"dl", "threads"}
OF_FREEBSD = {"epoll-shim-interpose"}

# The macros of Fedora that the spec uses, for an rpm without them. Those of systemd only show their arguments.
MACROS = r"""
%_docdir_fmt %%{NAME}
%_sysusersdir %{_prefix}/lib/sysusers.d
%_tmpfilesdir %{_prefix}/lib/tmpfiles.d
%_unitdir %{_prefix}/lib/systemd/system
%meson %{set_build_flags}\
    meson setup --buildtype=plain --auto-features=enabled --prefix=%{_prefix} --bindir=%{_bindir} \\\
        --sbindir=%{_sbindir} --libdir=%{_libdir} --libexecdir=%{_libexecdir} --includedir=%{_includedir} \\\
        --datadir=%{_datadir} --mandir=%{_mandir} . %{_target_platform}
%meson_build meson compile -C %{_target_platform}
%meson_install meson install -C %{_target_platform} --no-rebuild --destdir %{buildroot}
%meson_test meson test -C %{_target_platform}
%systemd_post() : enable %*
%systemd_preun() : stop %*
%systemd_postun_with_restart() : restart %*
"""

# The steps of abuild with an APKBUILD: APKBUILD SRCDIR PKGBASEDIR OPTIONS SPLIT..., where SPLIT is NAME:FUNCTION.
ABUILD = r"""
set -eu
. "$1"
srcdir=$2
base=$3
pkgdir=$base/$pkgname
_meson_options=$4
shift 4

amove() {
        for path; do
                mkdir -p "$subpkgdir/${path%/*}"
                mv "$pkgdir/$path" "$subpkgdir/${path%/*}"
        done
}

mkdir -p "$pkgdir"
cd "$srcdir/$pkgname-$pkgver"
build
cd "$srcdir/$pkgname-$pkgver"
package
for split; do
        subpkgname=${split%:*}
        subpkgdir=$base/$subpkgname
        (cd "$pkgdir" && "${split#*:}")
done
"""

# The attributes of the expression, with a name in the place of each package and a few functions of nixpkgs' library.
EVALUATE = """
expression: doCheck:
let
  function = import expression;
  arguments = builtins.mapAttrs (name: _: name) (builtins.functionArgs function) // {
    lib = {
      cleanSource = toString;
      cleanSourceWith = { src, filter }: {
        inherit src;
        kept = builtins.filter (path: filter path "directory") [ "/x/build-check" "/x/src" ];
      };
      licenses.bsd2 = "BSD-2-Clause";
      mesonEnable = name: yes: "-D${name}=" + (if yes then "enabled" else "disabled");
      platforms.linux = [ "x86_64-linux" ];
    };
    stdenv.mkDerivation = attributes: attributes { finalPackage = { inherit doCheck; }; };
  };
in
{
  attributes = function arguments;
  out = placeholder "out";
}
"""


def dependencies():
    """-> {name of pkg-config that meson.build asks for: the least version, or ""}"""
    files = [ROOT / "meson.build", *(path for folder in ("data", "man", "src", "test")
                                     for path in (ROOT / folder).rglob("meson.build"))]
    pattern = re.compile(r"(?<!_)\bdependency\(\s*'([^']+)'(?:,\s*version: '>= ([\d.]+)')?")
    found = {}
    for path in files:
        for name, version in pattern.findall(path.read_text()):
            found[name] = max(found.get(name, ""), version, key=lambda text: [int(n) for n in text.split(".") if n])
    return {name: version for name, version in found.items() if name not in OF_LIBC | OF_FREEBSD}


def sourced(shell, path, *names):
    """-> {variable: its words} of a file for a shell"""
    script = '. "$0"; for name; do eval "set -- \\"\\$name\\" \\${$name%s}"; echo "$@"; done' % (
        "[*]" if shell == "bash" else "")
    lines = run(shell, "-c", script, path, *names).stdout.splitlines()
    return {line.split()[0]: line.split()[1:] for line in lines}


def nix_list(name):
    """-> the words of a list in the expression"""
    return re.search(r"\b%s = \[([^\]]*)\]" % name, NIX.read_text())[1].split()


class Files(harness.TestCase):
    """Versions and dependencies, which need no tool of a distribution."""

    def test_version(self):
        for path, pattern in ((SPEC, r"(?m)^Version:\s+(\S+)$"), (SPEC, r"(?m)^\* .* - ([\d.]+)-\d+$"),
                              (PKGBUILD, r"(?m)^pkgver=(\S+)$"), (APKBUILD, r"(?m)^pkgver=(\S+)$"),
                              (NIX, r'\bversion = "(\S+)";')):
            with self.subTest(path.name):
                self.assertEqual(re.findall(pattern, path.read_text())[:1], [VERSION])
        for path in SPEC, PKGBUILD, APKBUILD:
            with self.subTest(path.name + ": how to make the archive"):
                names = re.findall(r"tpm2-abrmd-[\d.]+(?:/|\.tar\.gz)", path.read_text())
                self.assertEqual(names, ["tpm2-abrmd-%s/" % VERSION, "tpm2-abrmd-%s.tar.gz" % VERSION])

    def test_packages_are_known(self):
        self.assertEqual(set(dependencies()), set(PACKAGES))

    def test_dependencies_of_fedora(self):
        found = dict(re.findall(r"(?m)^BuildRequires:\s+pkgconfig\((\S+)\)(?: >= (\S+))?$", SPEC.read_text()))
        self.assertEqual(found, dependencies())
        self.assertRegex(SPEC.read_text(), r"(?m)^BuildRequires:\s+meson >= %s$" % re.escape(MESON))

    def check(self, found, column):
        wanted = {package for name in dependencies() for package in PACKAGES[name][column].split()}
        self.assertEqual(wanted - set(found), set())

    def test_dependencies_of_arch(self):
        found = sourced("bash", PKGBUILD, "depends", "makedepends", "checkdepends")
        self.check(sum(found.values(), []), 0)
        self.assertIn("meson>=" + MESON, found["makedepends"])

    def test_dependencies_of_alpine(self):
        found = sourced("sh", APKBUILD, "makedepends", "checkdepends")
        self.check(sum(found.values(), []), 1)
        self.assertIn("meson>=" + MESON, found["makedepends"])

    def test_dependencies_of_nix(self):
        lists = ("nativeBuildInputs", "buildInputs", "nativeCheckInputs", "checkInputs")
        self.check(sum(map(nix_list, lists), []), 2)


class Packages(harness.TestCase):
    """Built of an archive of the files that git knows, as they are in the work tree."""

    def make_archive(self):
        listed = run("git", "-C", ROOT, "ls-files", "-z", check=False)
        if listed.returncode or not listed.stdout:
            self.skipTest("git lists no files: " + (listed.stderr.splitlines() or ["no checkout"])[0])
        top = "tpm2-abrmd-" + VERSION
        path = self.folder / (top + ".tar.gz")
        with tarfile.open(path, "w:gz", compresslevel=1) as archive:
            for name in filter(None, listed.stdout.split("\0")):
                if (ROOT / name).exists():  # a file may be removed, and not yet in the index
                    archive.add(ROOT / name, "%s/%s" % (top, name))
        return path

    def assertComplete(self, names, without=()):
        """names: of files below /usr"""
        for pattern in install.FILES:
            if pattern not in without:
                with self.subTest(pattern):
                    found = [name for name in names if re.fullmatch(pattern + r"(\.gz)?", name)]
                    self.assertEqual(len(found), 1, "%s of %s" % (found, sorted(names)))


def debian_package(name):
    """-> the package of Debian that has a file, given by its name below /usr"""
    name = "usr/" + re.sub(r"^lib(64)?/(?=lib|pkgconfig)", "lib/triplet/", name)
    for path in sorted((ROOT / "debian").glob("*.install")):
        for pattern in (line.split()[0] for line in path.read_text().splitlines()):
            pattern = pattern.replace("${env:UNIT_DIR}", "usr/lib/systemd/system")
            if fnmatch.fnmatchcase(name, pattern) or fnmatch.fnmatchcase(name, pattern + "/*"):
                return path.stem
    return None


class Fedora(Packages):
    AS_IN_DEBIAN = {"tpm2-abrmd": "tpm2-abrmd", "tpm2-abrmd-libs": "libtss2-tcti-tabrmd0",
                    "tpm2-abrmd-devel": "libtss2-tcti-tabrmd-dev"}
    NOT_COMPARED = r"lib/\.build-id/.*|share/(doc|licenses)/.*"

    def setUp(self):
        super().setUp()
        find_tool("rpmbuild")
        archive = self.make_archive()
        macros = self.folder / "macros"
        macros.write_text(MACROS)
        has_own = run("rpm", "--eval", "%{?meson}").stdout.strip()
        run("rpmbuild", *(() if has_own else ("--load=%s" % macros,)), "-ba", "--nodeps", "--without", "check",
            "--define", "_topdir %s" % self.folder, "--define", "_sourcedir %s" % archive.parent,
            "--define", "_dbpath %s" % (self.folder / "db"), SPEC)
        self.rpms = {self.query(path, "%{NAME}"): path for path in self.folder.glob("RPMS/*/*.rpm")}

    @staticmethod
    def query(path, form):
        return run("rpm", "--query", "--package", "--queryformat", form, path).stdout

    def files(self, package):
        """-> names below /usr, without folders"""
        lines = self.query(self.rpms[package], r"[%{FILEMODES:perms} %{FILENAMES}\n]").splitlines()
        return {line.partition(" /usr/")[2] for line in lines if not line.startswith("d")}

    def test_packages(self):
        self.assertLessEqual(set(self.AS_IN_DEBIAN), set(self.rpms))
        self.assertEqual(len(list(self.folder.glob("SRPMS/*.src.rpm"))), 1)
        self.assertComplete(set().union(*map(self.files, self.AS_IN_DEBIAN)), {r"lib/sysusers\.d/tpm2-abrmd\.conf"})
        for name, of_debian in self.AS_IN_DEBIAN.items():
            with self.subTest(name):
                self.assertEqual(self.query(self.rpms[name], "%{VERSION}"), VERSION)
                compared = {file for file in self.files(name) if not re.fullmatch(self.NOT_COMPARED, file)}
                self.assertEqual({file: debian_package(file) for file in compared}, dict.fromkeys(compared, of_debian))
        with self.subTest("units that scriptlets name"):
            units = set(re.findall(r"\S+\.(?:service|socket)\b", run("rpm", "-qp", "--scripts",
                                                                     self.rpms["tpm2-abrmd"]).stdout))
            self.assertEqual(units, {"tpm2-abrmd.service", "tpm2-abrmd.socket", "tpm2-abrmd-manager.socket"})
            self.assertLessEqual({"lib/systemd/system/" + unit for unit in units}, self.files("tpm2-abrmd"))
        with self.subTest("libraries that the client library needs"):
            needed = set(re.findall(r"(?m)^(lib\S+?\.so)\b", run("rpm", "-qp", "--requires",
                                                                 self.rpms["tpm2-abrmd-libs"]).stdout))
            self.assertEqual(needed, {"libc.so"})


class Arch(Packages):
    def setUp(self):
        super().setUp()
        for program in "makepkg", "bsdtar", "fakeroot":
            find_tool(program)
        archive = self.make_archive()
        self.place = self.folder / "arch"
        self.place.mkdir()
        shutil.move(archive, self.place)
        shutil.copy(PKGBUILD, self.place)
        self.user = None
        if os.geteuid() == 0:  # makepkg refuses to run as root
            self.user = "nobody"
            self.folder.chmod(0o711)
            for path in self.place, *self.place.iterdir():
                shutil.chown(path, self.user)

    def makepkg(self, *options):
        """true takes the place of pacman, which would only be asked about dependencies."""
        env = {**os.environ, "LC_ALL": "C", "HOME": str(self.place), "PACMAN": "true", "PKGEXT": ".pkg.tar.gz",
               **{name: str(self.place) for name in ("BUILDDIR", "PKGDEST", "SRCDEST", "SRCPKGDEST", "LOGDEST")}}
        if self.user:
            group = run("id", "--group", "--name", self.user).stdout.strip()
            wrap = ("setpriv", "--reuid=" + self.user, "--regid=" + group, "--clear-groups", "--")
        else:
            wrap = ()
        return run(*wrap, "makepkg", *options, env=env, cwd=self.place)

    def test_package(self):
        fields = re.findall(r"(?m)^\s*(\w+) = (.*)$", self.makepkg("--printsrcinfo").stdout)
        self.assertLessEqual({("pkgbase", "tpm2-abrmd"), ("pkgver", VERSION)}, set(fields))
        self.makepkg("--nodeps", "--nocheck", "--noprogressbar", "--nocolor")
        with tarfile.open(next(self.place.glob("*.pkg.tar.gz"))) as package:
            names = {member.name[len("usr/"):] for member in package if not member.isdir()}
            info = package.extractfile(".PKGINFO").read().decode()
        self.assertIn("pkgver = %s-" % VERSION, info)
        # Arch has one folder for programs, and helpers in lib. makepkg.conf decides about static libraries.
        spelled = {re.sub("^lib/tpm2-abrmd/", "libexec/tpm2-abrmd/", name) for name in names - {"bin/tpm2-abrmd"}}
        spelled |= {"s" + name for name in names & {"bin/tpm2-abrmd"}}
        self.assertComplete(spelled, {r"lib(64)?/(\S+/)?libtss2-tcti-tabrmd\.a"})
        self.assertIn("share/licenses/tpm2-abrmd/LICENSE", names)


class Alpine(Packages):
    def test_syntax(self):
        run("busybox", "ash", "-n", APKBUILD)
        fields = sourced("sh", APKBUILD, "pkgname", "pkgver", "source")
        self.assertEqual(fields, {"pkgname": ["tpm2-abrmd"], "pkgver": [VERSION],
                                  "source": ["tpm2-abrmd-%s.tar.gz" % VERSION]})

    def test_client_library(self):
        """Debian has no GLib for musl, so this is all of it that can be built."""
        find_tool("musl-gcc")
        find_tool("busybox")
        include = self.folder / "include"
        include.mkdir()
        (include / "tss2").symlink_to(run("pkg-config", "--variable=includedir", "tss2-mu").stdout.strip() + "/tss2")
        run("tar", "-C", self.folder, "-xf", self.make_archive())
        base = self.folder / "pkg"
        run("busybox", "ash", "-c", ABUILD, "abuild", APKBUILD, self.folder, base,
            "-Dclient_only=true -Dc_args=-isystem%s" % include, "libtss2-tcti-tabrmd:client",
            env={**os.environ, "CC": "musl-gcc"})
        client = {str(path.relative_to(base / "libtss2-tcti-tabrmd/usr")) for path in base.glob("libtss2*/**/*.so*")}
        self.assertEqual(client, {"lib/libtss2-tcti-tabrmd.so.0", "lib/libtss2-tcti-tabrmd.so.0.0.0"})
        library = base / "libtss2-tcti-tabrmd/usr/lib/libtss2-tcti-tabrmd.so.0"
        needed = re.findall(r"\(NEEDED\).*\[(.*)\]", run("readelf", "--dynamic", library).stdout)
        self.assertEqual(needed, ["libc.so"])
        left = {str(path.relative_to(base / "tpm2-abrmd")) for path in base.glob("tpm2-abrmd/**/*")
                if not path.is_dir()}
        self.assertEqual(left, {"etc/init.d/tpm2-abrmd", "usr/include/tss2/tss2-tcti-tabrmd.h",
                                "usr/lib/libtss2-tcti-tabrmd.a", "usr/lib/libtss2-tcti-tabrmd.so",
                                "usr/lib/pkgconfig/tss2-tcti-tabrmd.pc", "usr/share/licenses/tpm2-abrmd/LICENSE"})
        self.check_service(base / "tpm2-abrmd/etc/init.d/tpm2-abrmd")

    def check_service(self, path):
        """path: of the script for OpenRC"""
        self.assertTrue(path.read_text().startswith("#!/sbin/openrc-run\n"))
        self.assertTrue(os.access(path, os.X_OK))
        run("busybox", "ash", "-n", path)
        options = set(re.findall(r"--[\w-]+", " ".join(sourced("sh", path, "command_args")["command_args"])))
        known = set(re.findall(r"--[\w-]+", run(harness.Ours.binary, "--help").stdout))
        self.assertTrue(options)
        self.assertLessEqual(options, known)


class Nix(Packages):
    OUTPUTS = {"out": "/nix/store/0-tpm2-abrmd", "lib": "/nix/store/0-tpm2-abrmd-lib",
               "dev": "/nix/store/0-tpm2-abrmd-dev", "man": "/nix/store/0-tpm2-abrmd-man"}

    def instantiate(self, *options):
        env = {**os.environ, "HOME": str(self.folder), "NIX_CONF_DIR": str(self.folder),
               "NIX_STATE_DIR": str(self.folder / "nix"), "NIX_LOG_DIR": str(self.folder / "nix-log")}
        return run("nix-instantiate", "--store", "dummy://", *options, env=env).stdout

    def evaluate(self, check):
        text = "(%s) %s %s" % (EVALUATE, NIX, "true" if check else "false")
        result = json.loads(self.instantiate("--eval", "--strict", "--json", "--expr", text))
        attributes = result["attributes"]
        flags = [flag.replace(result["out"], self.OUTPUTS["out"]) for flag in attributes["mesonFlags"]]
        return attributes, flags

    def test_attributes(self):
        attributes, flags = self.evaluate(check=False)
        self.assertEqual((attributes["pname"], attributes["version"]), ("tpm2-abrmd", VERSION))
        self.assertEqual(attributes["src"], {"src": str(ROOT), "kept": ["/x/src"]})
        self.assertEqual(attributes["outputs"], list(self.OUTPUTS))
        self.assertIn("-Dtests=disabled", flags)
        self.assertIn("-Dtests=enabled", self.evaluate(check=True)[1])

    def test_where_meson_puts_files(self):
        """Into the outputs, with the options that nixpkgs gives meson for them. Nothing is built."""
        out, lib, dev, man = self.OUTPUTS.values()
        build = self.folder / "build"
        run("meson", "setup", "--prefix=" + out, "--bindir=%s/bin" % out, "--sbindir=%s/sbin" % out,
            "--libdir=%s/lib" % lib, "--libexecdir=%s/libexec" % lib, "--includedir=%s/include" % dev,
            "--mandir=%s/share/man" % man, *self.evaluate(check=False)[1], build, ROOT)
        installed = set(json.loads(run("meson", "introspect", "--installed", build).stdout).values())
        self.assertLessEqual({
            out + "/sbin/tpm2-abrmd", out + "/bin/tabrmctl", out + "/libexec/tpm2-abrmd/tpm2-abrmd-helper",
            out + "/lib/systemd/system/tpm2-abrmd.service", out + "/share/dbus-1/system.d/tpm2-abrmd.conf",
            dev + "/include/tss2/tss2-tcti-tabrmd.h", man + "/share/man/man8/tpm2-abrmd.8"}, installed)
        of_lib = {pathlib.Path(path).name for path in installed if path.startswith(lib + "/")}
        others = {name for name in of_lib if not name.startswith("libtss2-tcti-tabrmd.")}
        self.assertEqual(others, {"tss2-tcti-tabrmd.pc"})  # nixpkgs moves it into dev


if __name__ == "__main__":
    harness.main()
