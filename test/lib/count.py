#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""
Counts what a list of steps says, and prints the sum as the last line: "N passed, N failed, N skipped".

    count.py STEPS [TAP]    TAP: a file for all results, one line each

A line of STEPS is one of

    ok NAME
    not ok NAME
    ok NAME # SKIP REASON
    log KIND LOG LIST NAME    LOG has results of its own; LIST has the names that it should have; by tabs

KIND is "tap", or "meson" for meson's testlog.json. A name of LIST without a result counts as failed: the program ended
before, or was never started. So does a LIST that is missing.
"""

import json
import pathlib
import re
import sys

PASSED, FAILED, SKIPPED = "passed", "failed", "skipped"
TAP = re.compile(r"^(not )?ok\b(?: \d+)?(?: - | )?([^#\n]*)(?:# *(.*))?$", re.M)
CMOCKA = re.compile(r"\[ +(RUN|OK|FAILED|SKIPPED|ERROR) +\] (\S+)")


def tap_cases(text):
    """-> [(name, result, reason)]"""
    found = []
    for bad, name, directive in TAP.findall(text):
        skip = re.match(r"SKIP\S*\s*(.*)", directive, re.I)
        found.append((name.strip(), FAILED if bad else SKIPPED if skip else PASSED, skip[1] if skip else ""))
    return found


def cmocka_cases(text):
    """The reason for a skip is the line before it."""
    results, running, before = {}, None, ""
    for line in text.splitlines():
        match = CMOCKA.match(line)
        word, name = (match[1], match[2]) if match else ("", "")
        if word == "RUN":
            running = name
            results[name] = FAILED, ""  # until it says otherwise
        elif word and name == running:
            result = {"OK": PASSED, "SKIPPED": SKIPPED}.get(word, FAILED)
            results[name] = result, before if result == SKIPPED else ""
            running = None
        before = line.strip()
    return [(name, *result) for name, result in results.items()]


def meson_cases(text, wanted):
    """-> the same, of each test that meson has run"""
    seen = set()
    for line in text.splitlines():
        try:
            test = json.loads(line)
        except ValueError:
            yield "a line of the log is cut off", FAILED, ""
            continue
        name = test["name"].rpartition(" / ")[2]
        seen.add(name)
        output = test.get("stdout") or ""
        cases = cmocka_cases(output + "\n" + (test.get("stderr") or "")) or tap_cases(output)
        yield from (("%s: %s" % (name, case), result, reason) for case, result, reason in cases)
        if test["result"] == "SKIP" and not cases:
            yield name, SKIPPED, (output.strip().splitlines() or ["no reason"])[-1]
        elif not cases or (test["result"] not in ("OK", "SKIP") and all(case[1] != FAILED for case in cases)):
            yield "%s: %s" % (name, test["result"]), PASSED if test["result"] == "OK" else FAILED, ""
    yield from ((name + ": did not run", FAILED, "") for name in wanted if name not in seen)


def log_cases(kind, log, names):
    text = pathlib.Path(log).read_text(errors="replace") if pathlib.Path(log).exists() else ""
    if not pathlib.Path(names).exists():
        return [("its tests cannot be listed", FAILED, "")]
    lines = pathlib.Path(names).read_text().splitlines()
    wanted = [line.rpartition(" / ")[2].strip() for line in lines if line.strip()]
    if kind == "meson":
        cases = list(meson_cases(text, wanted))
    else:
        cases = tap_cases(text)
        seen = {name for name, _, _ in cases}
        cases += [(name + ": did not run", FAILED, "") for name in wanted if name not in seen]
    return cases or [("nothing ran", FAILED, "")]


def all_cases(steps):
    for line in pathlib.Path(steps).read_text().splitlines():
        if line.startswith("log\t"):
            _, kind, log, names, name = line.split("\t")
            yield from (("%s: %s" % (name, case), result, reason)
                        for case, result, reason in log_cases(kind, log, names))
        else:
            yield from tap_cases(line)


def main(steps, tap=None):
    cases = list(all_cases(steps))
    if tap:
        marks = {PASSED: "ok", FAILED: "not ok", SKIPPED: "ok"}
        pathlib.Path(tap).write_text("".join("%s - %s%s\n" % (
            marks[result], name.replace("#", "no. "), " # SKIP " + reason if result == SKIPPED else "")
            for name, result, reason in cases))
    for name, result, reason in cases:
        if result != PASSED:
            print("%s: %s%s" % (result, name, " (%s)" % reason if reason else ""))
    count = {wanted: sum(result == wanted for _, result, _ in cases) for wanted in (PASSED, FAILED, SKIPPED)}
    print("%d passed, %d failed, %d skipped" % tuple(count.values()))
    sys.exit(1 if count[FAILED] or not cases else 0)


if __name__ == "__main__":
    main(*sys.argv[1:])
