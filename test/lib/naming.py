#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""
Fails when two tests have one name, or when a test is not named or grouped by the folder of its source: naming.py BUILD

A unit test is FOLDER or FOLDER-..., such as broker and broker-outage of src/broker. Of other tests the suite begins so.
"""

import collections
import json
import pathlib
import sys


def read(build, what):
    return json.loads((build / "meson-info" / ("intro-%s.json" % what)).read_text())


def folder_of(test, sources):
    """-> the name of the folder of its program's first source file, or of its script"""
    paths = [sources.get(argument, argument) for argument in test["cmd"]]
    return next((path.parent.name for path in map(pathlib.Path, paths) if path.suffix in (".c", ".py", ".sh")), None)


def complaints(build):
    tests = read(build, "tests")
    programs = [target for target in read(build, "targets") if target["type"] == "executable"]
    sources = {program["filename"][0]: next(path for group in program["target_sources"]
                                            for path in group.get("sources", [])) for program in programs}
    for name, n in collections.Counter(test["name"] for test in tests).items():
        if n > 1:
            yield "%d tests have the name %s" % (n, name)
    for test in tests:
        folder = folder_of(test, sources)
        suites = [suite.rpartition(":")[2] for suite in test["suite"]]
        named = [test["name"]] if "unit" in suites else suites
        if not folder or not any(name == folder or name.startswith(folder + "-") for name in named):
            yield "%s of %s: the source is in the folder %s" % (test["name"], ", ".join(suites), folder)
    if not tests:
        yield "there are no tests"


def main():
    found = list(complaints(pathlib.Path(sys.argv[1])))
    print("\n".join(found) or "every test has a name of its own")
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
