# SPDX-License-Identifier: BSD-2-Clause
"""
The two commands of README.md in a root of a release with nothing in it, below its /root: ./run, and a quick ./check.

    fresh.py RELEASE ROOT [TAP]    ROOT: where the root is made, and removed in the end; TAP: a file for the results

What is committed is cloned; what is not is left out.
"""

import os
import pathlib
import shutil
import subprocess
import sys
import time

import root

TREE = pathlib.Path(__file__).parents[2]
PLACE = "/root/tpm2-abrmd"
SECONDS = 2400
ENV = {"HOME": "/root", "PATH": root.PATH, "CHECK": "quick"}


def enter(path):
    """Mounts in it what a machine has. The root is a mount point of its own, as that of a machine is."""
    root.run("mount", "--bind", path, path)
    root.run("mount", "-t", "proc", "proc", path / "proc")
    root.run("mount", "-t", "sysfs", "-o", "ro", "sysfs", path / "sys")
    root.run("mount", "-t", "tmpfs", "-o", "mode=1777", "tmpfs", path / "dev/shm")
    root.mount_terminals(path)


# From a chroot, no user namespace could be made.
ENTER = 'cd "$0"; pivot_root . .; umount --lazy .; cd /; exec "$@"'


def run_there(path, command):
    """-> exit status"""
    start = time.monotonic()
    there = ["env", "-i", "--chdir=" + PLACE, *("%s=%s" % pair for pair in ENV.items()), command]
    done = subprocess.run(["unshare", "--mount", "sh", "-ec", ENTER, path, *there], stdin=subprocess.DEVNULL,
                          timeout=SECONDS, check=False)
    print("# %s in a fresh root ends with %d after %.1f minutes"
          % (command, done.returncode, (time.monotonic() - start) / 60), flush=True)
    return done.returncode


def main(release, path, tap=None):
    reason = root.enter_namespaces()
    if reason:
        sys.exit(reason)
    path = pathlib.Path(path).absolute()
    if path.exists() and not (path / "root/tpm2-abrmd/check").exists():
        sys.exit("%s is there, and not made by this program" % path)
    shutil.rmtree(path, ignore_errors=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    root.make_root(path, release)
    shutil.copy("/etc/resolv.conf", path / "etc")
    shutil.copy("/etc/hosts", path / "etc")
    root.run("git", "-c", "safe.directory=*", "clone", "--quiet", TREE, str(path) + PLACE)
    enter(path)
    failed = [command for command in ("./run", "./check") if run_there(path, command)]
    results = pathlib.Path(str(path) + PLACE, "build-check/results.tap")
    if tap and results.exists():
        shutil.copy(results, tap)
    os.chdir("/")
    for mount in ("dev/pts", "dev/shm", "sys", "proc", "."):
        root.run("umount", "--lazy", path / mount)
    shutil.rmtree(path)
    sys.exit("failed: " + ", ".join(failed) if failed else 0)


if __name__ == "__main__":
    main(*sys.argv[1:])
