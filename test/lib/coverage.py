#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""Fails when a row of docs/REQUIREMENTS-COVERAGE.md has no test that exists: coverage.py [ROOT]"""

import pathlib
import re
import sys

ROWS = {"H": 17, "S": 18, "C": 10, "X": 14, "P": 11, "D": 20, "N": 14, "B": 17, "F": 26}
ELSEWHERE = {"P5": "restart and suspend", "F26": "product"}


def complaints(root):
    rows = {}
    for line in (root / "docs/REQUIREMENTS-COVERAGE.md").read_text().splitlines():
        match = re.fullmatch(r"\| ([HSCXPDNBF]\d+) \| (.+) \| (.+) \|", line)
        if match:
            rows.setdefault(match[1], []).append(match[3])
    wanted = ["%s%d" % (letter, n) for letter, last in ROWS.items() for n in range(1, last + 1)]
    yield from ("%s is in no row" % row for row in wanted if row not in rows)
    yield from ("%s is no rule" % row for row in rows if row not in wanted)
    for row, tests in rows.items():
        for test in tests:
            if test == ELSEWHERE.get(row):
                continue
            match = re.fullmatch(r"`([^`]+)` (\w+)", test)
            if not match:
                yield "%s names no test: %s" % (row, test)
                continue
            path = root / match[1]
            text = path.read_text() if path.is_file() else ""
            defined = r"(static void|def) %s\(" % match[2]
            used = r"\bdef %s\(" % match[2] if path.suffix == ".py" else r"TEST\(%s\)|\(%s[,)]" % (match[2], match[2])
            if not re.search(defined, text) or not re.search(used, text):
                yield "%s names a test that is not there: %s" % (row, test)
            elif row[0] not in "DNB" and match[1].endswith(".c") and not re.search(r"(?i)(^|_)%s(_|$)" % row, match[2]):
                yield "%s: the name of the test does not say so: %s" % (row, match[2])


def main():
    root = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parents[2])
    found = list(complaints(root))
    print("\n".join(found) or "every row has its test")
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
