#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""Compares REPAIRS in resmgr/repair.c with the table in docs/ARCHITECTURE.md, row by row: repairs.py [ROOT]"""

import pathlib
import re
import sys

ROW = re.compile(r"\{ TPM2_RC_(\w+), (\w+), ([^,]+), ([^,]+), (\w+) \}")
LINE = re.compile(r"(?m)^\| ([A-Z0-9_, to]*[A-Z0-9]) \| [^|]+ \| ([\w, ]+) \|$")
RANGE = re.compile(r"(\w+?_[A-Z])0 to [A-Z]\d")


def of_code(text):
    """-> {code: what is done}"""
    rows = {}
    for code, n, _, evicts, function in ROW.findall(text):
        if n != "1":
            code = code.rstrip("0")
        rows[code] = evicts.replace(" | ", ", ") if function == "NULL" else function
    return rows


def of_document(text):
    rows = {}
    for codes, done in LINE.findall(text.partition("| the TPM says |")[2]):
        for code in RANGE.sub(r"\1", codes).split(", "):
            rows[code] = done
    return rows


def main():
    root = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parents[2])
    code = of_code((root / "src/resmgr/repair.c").read_text())
    document = of_document((root / "docs/ARCHITECTURE.md").read_text())
    wrong = sorted(set(code.items()) ^ set(document.items()))
    for name, done in wrong:
        print("%s: %s, says %s alone" % (name, done, "the code" if code.get(name) == done else "the document"))
    print("repairs: %d codes, %d differences" % (len(code), len(wrong)))
    sys.exit(1 if wrong or not code else 0)


if __name__ == "__main__":
    main()
