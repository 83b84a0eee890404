# SPDX-License-Identifier: BSD-2-Clause
"""
Builds the packages in a fresh root of a release, with the unit tests, and lets lintian there look at them: what another
release needs is seen without a machine that has it.

    build.py RELEASE DEBS DIR    DEBS: the folder for them; DIR: where the root is kept between runs
"""

import pathlib
import shutil
import sys

import root

ROOT = pathlib.Path(__file__).parents[2]
TOOLS = ["build-essential", "debhelper", "lintian"]
# What debian/control asks for, and nothing else, for a missing line there to be noticed.
HOOKS = ['mkdir -p "$1/build/needs/debian"', 'copy-in "%s/debian/control" /build/needs/debian' % ROOT,
         'chroot "$1" apt-get -q build-dep -y --no-install-recommends /build/needs']


def main(release, debs, folder):
    reason = root.enter_namespaces()
    if reason:
        sys.exit(reason)
    debs = pathlib.Path(debs).absolute()
    control = (ROOT / "debian/control").read_text().partition("\n\n")[0]
    base = root.make_base(pathlib.Path(folder).absolute(), release, TOOLS, "-build", HOOKS, control)
    with root.make_layers() as layers:
        place = root.Layer(base, layers)
        root.run(ROOT / "debian/make-deb.sh", "--source", place.path / "build/tree")
        source, = (path for path in (place.path / "build/tree").iterdir() if path.is_dir())
        print(root.run(*place.argv("dpkg-buildpackage", "--no-sign", cwd="/build/tree/" + source.name)).stdout)
        changes, = (place.path / "build/tree").glob("*.changes")
        print(root.run(*place.argv("lintian", "--fail-on", "error", "--allow-root", changes.name,
                                   cwd="/build/tree")).stdout)
        shutil.rmtree(debs, ignore_errors=True)
        shutil.copytree(place.path / "build/tree", debs, ignore=shutil.ignore_patterns(source.name))


if __name__ == "__main__":
    main(*sys.argv[1:])
