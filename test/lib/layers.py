#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""
Fails on an #include that goes the wrong way, on what is only for one system, and on a different table in
docs/ARCHITECTURE.md: layers.py [ROOT]
"""

import pathlib
import re
import sys

# made by gdbus-codegen while building
GENERATED = "manager-interface.h"

# folder: what its files may include, of our own: folders, or single headers of one
LAYERS = {
    "util": ["util"],
    "tpm": ["tpm"],
    "resmgr": ["resmgr", "tpm"],
    "backend": ["backend", "util", "tpm"],
    "broker": ["broker", "resmgr", "tpm", "util", "backend/backend.h"],
    "helper": ["helper", "tpm", "util/fd.h", "util/platform.h", "util/protocol.h", "backend/helper-protocol.h"],
    "door": ["door", "broker", "util"],
    "frontend": ["frontend", "door", "broker", "tpm", "util"],
    "manager": ["manager", GENERATED, "door", "broker", "resmgr", "tpm", "util"],
    "daemon": ["daemon", "manager", "frontend", "door", "broker", "backend", "resmgr", "tpm", "util"],
    "ctl": ["ctl", "manager/record.h", "tpm", "util/fd.h", "util/names.h"],
    "tcti": ["tcti", "tpm", "util/fd.h", "util/names.h", "util/platform.h", "util/protocol.h"],
}

# folder: what its files may not include, of others
FORBIDDEN = {
    "tpm": r"glib|gio|stdio|time|sys/time|unistd|pthread|syslog|sys/socket|poll|fcntl|signal",
    "resmgr": r"glib|gio|stdio|time|sys/time|unistd|pthread|syslog|sys/socket|poll|fcntl|signal",
    "tcti": r"glib|gio|pthread|syslog",
    "helper": r"glib|gio",
}

# other headers that need what FORBIDDEN says
NEEDS_GLIB = {"util/log.h", "util/loop.h"}

# the one file that is conditional on the system, and what is for it alone
PLATFORM = "util/platform.c"
OF_PLATFORM = re.compile(r"\s*#\s*(el)?if.*__(linux|FreeBSD)(__)?\b|"
                         r"\s*#\s*include\s*<sys/(inotify|prctl|procctl|sysctl|ucred)\.h>")

# A client's socket is closed by util/foreign.h, since closing it may take long; here stands what is no client's.
FOREIGN_FOLDERS = {"door", "frontend", "manager"}
CLOSES = re.compile(r"(?<![\w>])(?:fd_)?close\(([^()]*)\)")
NOT_FOREIGN = {"client->end.fd", "fds[1]", "listener->fd", "listener->lock", "listener->reserve"}

# Within a callback of util/loop.c nothing may run a main loop, since its source recurses; these run none within one.
RUNS_LOOP = re.compile(r"\bg_(main_loop_run|main_context_(iteration|dispatch)|application_run)\b")
LOOPLESS = {"ctl"}
RUNS = {"daemon/daemon.c", "backend/backend-helper.c"}  # the loop itself; the end of the helpers, after the loop

# headers of one layer that another may use besides, for tests
TESTS_TOO = {"test/lib"}
# tests may start the layers below their own to have something to test against
TEST_LAYERS = {"helper": ["backend", "util"], "frontend": ["backend", "resmgr"], "broker": ["backend"]}


def allowed(include, rules):
    return any(include == rule or include.startswith(rule + "/") for rule in rules)


def name_of(path, root):
    return str(path.relative_to(root / "src"))


def check(path, root):
    folder = path.relative_to(root / "src").parts[0]
    if folder not in LAYERS:
        yield "%s: a folder that is in no layer" % path.relative_to(root)
        return
    is_test = path.name.startswith("test-")
    own = LAYERS[folder] + (TEST_LAYERS.get(folder, []) + list(TESTS_TOO) if is_test else [])
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if OF_PLATFORM.match(line) and not is_test and path != root / "src" / PLATFORM:
            yield "%s:%d: what depends on the system is in %s" % (path.relative_to(root), number, PLATFORM)
        if RUNS_LOOP.search(line) and not is_test and folder not in LOOPLESS and name_of(path, root) not in RUNS:
            yield "%s:%d: only daemon/daemon.c runs the main loop" % (path.relative_to(root), number)
        for closed in CLOSES.findall(line) if folder in FOREIGN_FOLDERS and not is_test else []:
            if closed not in NOT_FOREIGN:
                yield "%s:%d: util/foreign.h closes a client's socket, which %s may be" % (
                    path.relative_to(root), number, closed)
        match = re.match(r'\s*#\s*include\s*([<"])([^>"]+)[>"]', line)
        if not match:
            continue
        where = "%s:%d: " % (path.relative_to(root), number)
        kind, name = match.groups()
        if kind == '"':
            if not allowed(name, own):
                yield where + '%s may not use "%s"' % (folder, name)
            elif folder in FORBIDDEN and name in NEEDS_GLIB and not is_test:
                yield where + '%s may not use "%s", which needs GLib' % (folder, name)
        elif not is_test and re.fullmatch(r"(%s)([-./].*)?" % FORBIDDEN.get(folder, "$^"), name.removesuffix(".h")):
            yield where + "%s may not use <%s>" % (folder, name)


def check_document(text):
    rows = dict(re.findall(r"^\| `src/(\w+)` \|.*\| ?([^|]*?) ?\|$", text, re.M))
    for folder in sorted(rows.keys() | LAYERS.keys()):
        told = set(re.findall(r"[\w./-]+", rows.get(folder, "")))
        if folder not in rows or folder not in LAYERS or told != set(LAYERS[folder]) - {folder, GENERATED}:
            yield "docs/ARCHITECTURE.md: what src/%s may use is told otherwise" % folder


def main():
    root = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parents[2]).resolve()
    files = sorted((root / "src").rglob("*.[ch]"))
    complaints = [complaint for path in files for complaint in check(path, root)]
    complaints += check_document((root / "docs/ARCHITECTURE.md").read_text())
    print("\n".join(complaints + ["layers: %d files, %d wrong lines" % (len(files), len(complaints))]))
    sys.exit(1 if complaints or not files else 0)


if __name__ == "__main__":
    main()
