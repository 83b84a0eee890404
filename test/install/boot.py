# SPDX-License-Identifier: BSD-2-Clause
"""
Boots a root of a release with its systemd in a container, and runs test/vm/blocks.py there: the units of the packages
under a real service manager, and what the documents say about them.

    boot.py RELEASE DEBS DIR    DEBS: our packages; DIR: where the root is kept between runs

The container has a root, processes and a network of its own, and the kernel of this machine; it ends with us.
"""

import contextlib
import os
import pathlib
import subprocess
import sys

import root

ROOT = pathlib.Path(__file__).parents[2]
SECONDS = 900  # more than inside-systemd.sh has
# As in test/vm/init: once everything else is started.
UNIT = """[Service]
Type=idle
Environment=TABRMD_DEBS=/host/debs
ExecStart=/bin/sh -c '/bin/bash /host/tree/test/vm/inside-systemd.sh </dev/null >/host/out/log 2>&1; \
echo $$? >/host/out/status; systemctl poweroff -ff'
"""


def boot(place, debs, out):
    """-> how it ended"""
    place.unmount_kernel()
    (place.path / "usr/sbin/policy-rc.d").unlink()  # services are started here
    (place.path / "etc/machine-id").unlink(missing_ok=True)
    units = place.path / "etc/systemd/system"
    (units / "tabrmd-test.service").write_text(UNIT)
    (units / "multi-user.target.wants").mkdir(exist_ok=True)
    (units / "multi-user.target.wants/tabrmd-test.service").symlink_to("../tabrmd-test.service")
    argv = ["systemd-nspawn", "--quiet", "--register=no", "--keep-unit", "--boot", "--private-network",
            "--machine=tabrmd-units", "--directory", place.path, "--bind-ro=%s:/host/tree" % ROOT,
            "--bind-ro=%s:/host/debs" % debs, "--bind=%s:/host/out" % out]
    with open(out / "console", "wb") as console, contextlib.suppress(subprocess.TimeoutExpired), \
            root.make_cgroup() as inside:
        return root.run(*inside, *argv, stdin=subprocess.DEVNULL, stdout=console, stderr=subprocess.STDOUT,
                        timeout=SECONDS, check=False).returncode
    return 124


def main(release, debs, folder):
    reason = root.enter_namespaces()
    if reason:
        os.execv(sys.executable, [sys.executable, ROOT / "test/vm/blocks.py", "--skip", reason, "Systemd", "Blocks"])
    base = root.installed_base(folder, release)
    root.prepare_containers()
    with root.make_layers() as layers:
        out = layers / "out"
        out.mkdir()
        ended = boot(root.Layer(base, layers), pathlib.Path(debs).absolute(), out)
        log, status = out / "log", out / "status"
        print(log.read_text(errors="replace") if log.exists() else "")
        if not status.exists() or status.read_text() != "0\n":
            print("--- the console:", *(out / "console").read_text(errors="replace").splitlines()[-40:], sep="\n")
            sys.exit("systemd-nspawn ended with %d, the tests with %s" % (
                ended, status.read_text().strip() if status.exists() else "nothing"))


if __name__ == "__main__":
    main(*sys.argv[1:])
