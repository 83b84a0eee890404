#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""
Fails on an #include or a call that goes up the floors of a folder, which docs/ARCHITECTURE.md lists: floors.py [ROOT]

A module is X.c with X.h and X-internal.h; "a+b" is one of several files. It may use what stands before it in the list.
A header that the folder shows to others is no module: its functions count where they are defined. Only a module of its
own writes the fields in OWNERS.
"""

import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).parents[2]
TABLE_ROW = re.compile(r"(?m)^\| `src/(\w+)/` \| ([a-z0-9+, -]+) \| ([a-z., `-]*) ?\|$")
COMMENT = re.compile(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\])*"', re.DOTALL)
# A definition begins in the first column, and its parameters may go on in further lines.
DEFINITION = re.compile(r"(?m)^(?!static (?!inline)|typedef|#|extern)[A-Za-z_][\w *]*?[ *](\w+)\([^;{}]*\)\s*\{")
PROTOTYPE = re.compile(r"(?m)^[A-Za-z_][\w *]*?[ *]\w+\([^;{}]*\);")
# file that may: field that is written
OWNERS = {"src/resmgr/entry.c": r"(->|\.)(residency|was_resident)\s*=(?!=)|\b(entry|object|session)->state\s*=(?!=)"}


def read_table(root):
    """-> {folder: ([module: [stem...]] in order, {public header})}"""
    text = (root / "docs/ARCHITECTURE.md").read_text()
    return {folder: ([module.split("+") for module in modules.replace(" ", "").split(",")],
                     set(re.findall(r"`(\S+?\.h)`", public)))
            for folder, modules, public in TABLE_ROW.findall(text)}


def module_of(path):
    return path.stem.removesuffix("-internal")


def check_folder(folder, modules, public, counts):
    """-> lines of what is wrong"""
    floor_of = {stem: n for n, module in enumerate(modules) for stem in module}
    files = [path for path in sorted(folder.glob("*.[ch]")) if not path.name.startswith("test-")]
    texts = {path: PROTOTYPE.sub("", COMMENT.sub('""', path.read_text())) for path in files}
    for stem in {module_of(path) for path in files if path.name not in public} - set(floor_of):
        yield "%s: docs/ARCHITECTURE.md has no floor for it" % (folder / stem)
    for stem in set(floor_of) - {module_of(path) for path in files}:
        yield "%s: it is in docs/ARCHITECTURE.md, and not there" % (folder / stem)
    defined = {name: module_of(path) for path, text in texts.items() for name in DEFINITION.findall(text)}
    for path, text in texts.items():
        floor = floor_of.get(module_of(path))
        if floor is None or path.name in public:
            continue
        includes = re.findall(r'#\s*include "%s/([\w-]+)\.h"' % folder.name, path.read_text())
        for stem in includes:
            counts["includes"] += 1
            if stem + ".h" not in public and floor_of.get(stem.removesuffix("-internal"), -1) > floor:
                yield "%s includes %s.h, which stands above it" % (path, stem)
        for name in sorted(set(re.findall(r"\b\w+\b", text)) & set(defined)):
            if defined[name] == module_of(path):
                continue
            counts["calls"] += 1
            if floor_of.get(defined[name], -1) > floor:
                yield "%s uses %s() of %s.c, which stands above it" % (path, name, defined[name])


def check_owners(root):
    for owner, written in OWNERS.items():
        for path in sorted((root / owner).parent.glob("*.[ch]")):
            if path == root / owner or path.name.startswith("test-"):
                continue
            for number, line in enumerate(path.read_text().splitlines(), 1):
                if re.search(written, line):
                    yield "%s:%d: only %s writes this" % (path, number, owner)


def main():
    root = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else ROOT).resolve()
    table, wrong = read_table(root), list(check_owners(root))
    for folder, (modules, public) in table.items():
        counts = {"includes": 0, "calls": 0}
        found = list(check_folder(root / "src" / folder, modules, public, counts))
        wrong += found
        print("src/%s: %d modules, %d includes and %d uses of functions between them, %d the wrong way" % (
            folder, len(modules), counts["includes"], counts["calls"], len(found)))
    print("\n".join(wrong))
    sys.exit(1 if wrong or not table else 0)


if __name__ == "__main__":
    main()
