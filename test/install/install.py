# SPDX-License-Identifier: BSD-2-Clause
"""
What `make install` puts where, and that a program can be built with what is there.

lib64 is meson's choice where dpkg-dev is missing.
"""

import os
import pathlib
import re

import harness
from process import run

PROGRAM = """
#include <stdio.h>
#include <string.h>
#include <tss2/tss2-tcti-tabrmd.h>

const TSS2_TCTI_INFO *Tss2_Tcti_Info(void);

int main(int argc, char **argv) {
        size_t size = 0;
        TSS2_RC rc = Tss2_Tcti_Tabrmd_Init(NULL, &size, NULL);

        printf("%s %u %d\\n", Tss2_Tcti_Info()->name, (unsigned)rc, size >= sizeof(TSS2_TCTI_CONTEXT_COMMON_V2));
        return 0;
}
"""

# Below the prefix, as patterns; packaging.py looks for them in the packages of other distributions, too.
FILES = (
    r"bin/tabrmctl",
    r"include/tss2/tss2-tcti-tabrmd\.h",
    r"lib(64)?/(\S+/)?libtss2-tcti-tabrmd\.a",
    r"lib(64)?/(\S+/)?libtss2-tcti-tabrmd\.so",
    r"lib(64)?/(\S+/)?libtss2-tcti-tabrmd\.so\.0",
    r"lib(64)?/(\S+/)?pkgconfig/tss2-tcti-tabrmd\.pc",
    r"lib/systemd/system/tpm2-abrmd-manager\.socket",
    r"lib/systemd/system/tpm2-abrmd-manager@\.socket",
    r"lib/systemd/system/tpm2-abrmd\.service",
    r"lib/systemd/system/tpm2-abrmd\.socket",
    r"lib/systemd/system/tpm2-abrmd@\.service",
    r"lib/systemd/system/tpm2-abrmd@\.socket",
    r"lib/sysusers\.d/tpm2-abrmd\.conf",
    r"lib/tmpfiles\.d/tpm2-abrmd\.conf",
    r"libexec/tpm2-abrmd/tpm2-abrmd-helper",
    r"sbin/tpm2-abrmd",
    r"share/bash-completion/completions/tabrmctl",
    r"share/bash-completion/completions/tpm2-abrmd",
    r"share/dbus-1/interfaces/com\.intel\.tss2\.Tabrmd\.Manager1\.xml",
    r"share/dbus-1/system-services/com\.intel\.tss2\.Tabrmd\.service",
    r"share/dbus-1/system-services/com\.intel\.tss2\.Tabrmd\.tpm1\.service",
    r"share/dbus-1/system\.d/tpm2-abrmd-tpm1\.conf",
    r"share/dbus-1/system\.d/tpm2-abrmd\.conf",
    r"share/doc/tpm2-abrmd/apparmor/usr\.sbin\.tpm2-abrmd",
    r"share/doc/tpm2-abrmd/selinux/tabrmd\.fc",
    r"share/doc/tpm2-abrmd/selinux/tabrmd\.if",
    r"share/doc/tpm2-abrmd/selinux/tabrmd\.te",
    r"share/fish/vendor_completions\.d/tabrmctl\.fish",
    r"share/fish/vendor_completions\.d/tpm2-abrmd\.fish",
    r"share/man/man1/tabrmctl\.1",
    r"share/man/man3/Tss2_Tcti_Tabrmd_Init\.3",
    r"share/man/man7/tss2-tcti-tabrmd\.7",
    r"share/man/man8/tpm2-abrmd\.8",
    r"share/zsh/site-functions/_tabrmctl",
    r"share/zsh/site-functions/_tpm2-abrmd",
)


class Install(harness.TestCase):
    def setUp(self):
        super().setUp()
        run("meson", "install", "-C", harness.BUILD, "--no-rebuild", "--quiet", "--destdir", self.folder)
        self.files = {str(path.relative_to(self.folder)) for path in self.folder.rglob("*") if not path.is_dir()}

    def find(self, pattern):
        found = [name for name in self.files if re.fullmatch("(usr/local|usr)/" + pattern, name)]
        self.assertEqual(len(found), 1, "%s: %s of %s" % (pattern, found, sorted(self.files)))
        return self.folder / found[0]

    def test_files(self):
        for pattern in FILES:
            with self.subTest(pattern):
                self.find(pattern)

    def test_units_are_locked_down(self):
        for name in ("tpm2-abrmd", "tpm2-abrmd@"):
            with self.subTest(name):
                unit = self.find(r"lib/systemd/system/%s\.service" % name)
                done = run("systemd-analyze", "security", "--offline=true", "--threshold=10", "--no-pager", unit).stdout
                self.assertRegex(done, r"exposure level for \S+: \d")
                for option in ("PrivateUsers", "ProtectProc"):
                    self.assertNotRegex(unit.read_text(), "(?m)^%s=" % option, "it would hide who the clients are")

    def test_bus_knows_each_instance(self):
        for name, unit in (("", "tpm2-abrmd"), (".tpm1", "tpm2-abrmd@tpm1"), (".tpm3", "tpm2-abrmd@tpm3")):
            with self.subTest(name):
                service = self.find(r"share/dbus-1/system-services/com\.intel\.tss2\.Tabrmd%s\.service" % name)
                self.assertIn("SystemdService=%s.service\n" % unit, service.read_text())
                policy = self.find(r"share/dbus-1/system\.d/%s\.conf" % unit.replace("@", "-")).read_text()
                names = re.findall(r'(?:own|send_destination|receive_sender)="(\S+)"', policy)
                self.assertEqual(set(names), {"com.intel.tss2.Tabrmd" + name})

    def test_installed_daemon_finds_its_version(self):
        self.assertIn("version", run(self.find("sbin/tpm2-abrmd"), "--version").stdout)

    def test_a_program_is_built_with_the_installed_library_alone(self):
        (self.folder / "program.c").write_text(PROGRAM)
        env = {**os.environ,
               "PKG_CONFIG_PATH": str(self.find(r"lib(64)?/(\S+/)?pkgconfig/tss2-tcti-tabrmd\.pc").parent),
               "PKG_CONFIG_SYSROOT_DIR": str(self.folder)}
        library = self.find(r"lib(64)?/(\S+/)?libtss2-tcti-tabrmd\.so").parent
        flags = run("pkg-config", "--cflags", "--libs", "tss2-tcti-tabrmd", env=env).stdout.split()
        # headers of tpm2-tss are where they always were; ours in the folder
        flags = [flag for flag in flags if not flag.startswith("-L")] + ["-L%s" % library]
        flags += ["-I%s" % self.find(r"include/tss2/tss2-tcti-tabrmd\.h").parent.parent]
        program = pathlib.Path(self.folder / "program")
        run("cc", "-Wall", "-Werror", self.folder / "program.c", "-o", program, *flags)
        done = run(program, env={**os.environ, "LD_LIBRARY_PATH": str(library)})
        self.assertEqual(done.stdout.split(), ["tcti-abrmd", "0", "1"])


if __name__ == "__main__":
    harness.main()
