#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""
Counts the cases of meson's test logs and of a list of steps ("ok NAME" or "not ok NAME"), and says so in one last line.

    count.py STEPS TESTLOG...

A skipped case counts as failed: where this runs, everything has to be there.
"""

import json
import pathlib
import re
import sys


def cases_of(test):
    """-> (name of the case, passed) of a program that speaks TAP or is made with cmocka"""
    text = (test.get("stdout") or "") + "\n" + (test.get("stderr") or "")
    tap = re.findall(r"^(not )?ok \d+(?: - )?([^#\n]*)(#.*)?$", text, re.M)
    if tap:
        return [(name.strip(), not bad and "SKIP" not in directive.upper()) for bad, name, directive in tap]
    started = re.findall(r"^\[ RUN      \] (\S+)", text, re.M)
    passed = set(re.findall(r"^\[       OK \] (\S+)", text, re.M))
    return [(name, name in passed) for name in started]


def read(path):
    build = pathlib.Path(path).parent.parent.name
    try:
        lines = pathlib.Path(path).read_text().splitlines()
    except OSError as error:
        yield "%s: %s" % (path, error), False
        return
    for line in lines:
        test = json.loads(line)
        name = "%s: %s" % (build, test["name"])
        cases = cases_of(test)
        yield from (("%s: %s" % (name, case), passed) for case, passed in cases)
        if not cases or (test["result"] != "OK" and all(passed for _, passed in cases)):
            yield "%s: %s" % (name, test["result"]), test["result"] == "OK"
    if not lines:
        yield "%s: nothing ran" % path, False


def main(steps, *logs):
    results = [(line.removeprefix("not ").removeprefix("ok "), line.startswith("ok "))
               for line in pathlib.Path(steps).read_text().splitlines()]
    for log in logs:
        results.extend(read(log))
    failed = [name for name, passed in results if not passed]
    for name in failed:
        print("failed: " + name)
    print("%d passed, %d failed" % (len(results) - len(failed), len(failed)))
    sys.exit(1 if failed or not results else 0)


if __name__ == "__main__":
    main(*sys.argv[1:])
