#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""
Compares the tables of states in comments with the lists that the code goes by: transitions.py [ROOT]

A table is a comment in src/**/X.h whose rows read

     *      FROM, FROM --cause--> TO, and what else there is to say

It stands directly above the enum of the states, or above the declaration of the list: an array in X.c whose name ends
in _transitions, of pairs { PREFIX_FROM, PREFIX_TO }. Several rows may have the same pair, for different causes. A list
without a table is a failure, too. A table above neither, or of a header with no source beside it, is counted.
"""

import os.path
import pathlib
import re
import sys

COMMENT = re.compile(r"/\*(.*?)\*/[ \t]*\n", re.S)
ROW = re.compile(r"^([\w, ]+?)\s*--\S(?:.*\S)?--> *(\w+)")
BEGIN = re.compile(r"^[A-Z][A-Z_0-9, ]*--\S")
ENUM = re.compile(r"(?:typedef )?enum (\w+) \{(.*?)\}", re.S)
DECLARED = re.compile(r"extern const \w+ (\w+_transitions)\[")
LIST = re.compile(r"\b(\w+_transitions)\[\](?:\[2\])? = \{(.*?)\};", re.S)
PAIR = re.compile(r"\{\s*(\w+)\s*,\s*(\w+)\s*,?\s*\}")


def rows_of(comment):
    """Each row of a comment on one line; what is no row is left out."""
    lines = [line.strip().lstrip("*").strip() for line in comment.splitlines()]
    rows = []
    for line in lines:
        if rows and BEGIN.match(rows[-1]) and "-->" not in rows[-1]:
            rows[-1] += " " + line
        elif "-->" in line or BEGIN.match(line):
            rows.append(line)
    return [row for row in rows if "-->" in row]


def without_comments(text):
    return re.sub(r"/\*.*?\*/", "", text, flags=re.S)


def pairs_of_rows(rows, states, say):
    """The pairs that a table says, with the names of the code."""
    prefix = re.match(r".*_|", os.path.commonprefix(sorted(states))).group()
    pairs = set()
    for row in rows:
        match = ROW.match(row)
        if not match:
            say("not a row: %s" % row)
            continue
        for name in match[1].split(","):
            pair = tuple(prefix + state.strip() for state in (name, match[2]))
            pairs.add(pair)
            for state in set(pair) - states:
                say("no such state: %s" % state.removeprefix(prefix))
    return pairs


def pairs_of_list(text, say):
    pairs = PAIR.findall(text)
    for pair in {pair for pair in pairs if pairs.count(pair) > 1}:
        say("listed twice: %s to %s" % pair)
    return set(pairs)


class Header:
    """The tables of a header, and the lists of the source beside it."""

    def __init__(self, path, root):
        self.path, self.name = path, path.relative_to(root).with_suffix("")
        source = path.with_suffix(".c")
        self.has_source = source.exists()
        text = without_comments(source.read_text()) if self.has_source else ""
        self.lists = dict(LIST.findall(text))
        self.complaints, self.n_pairs, self.n_tables, self.n_strangers = [], 0, 0, 0

    def complain(self, list_name):
        return lambda what: self.complaints.append("%s: %s: %s" % (self.name, list_name, what))

    def list_for(self, following):
        """The list that belongs to what stands below a table, and the states if that is an enum."""
        enum = ENUM.match(following)
        if not enum:
            declared = DECLARED.match(following)
            return declared and declared[1], None
        states = set(re.findall(r"\b([A-Z]\w*)\b", without_comments(enum[2])))
        found = [name for name, pairs in self.lists.items() if states & set(sum(PAIR.findall(pairs), ()))]
        return found[0] if found else "a list for enum %s" % enum[1], states

    def check_table(self, rows, following):
        name, states = self.list_for(following)
        if not name or not self.has_source:
            self.n_strangers += 1
            return
        say = self.complain(name)
        self.n_tables += 1
        if name not in self.lists:
            say("is missing")
            return
        listed = pairs_of_list(self.lists.pop(name), say)
        told = pairs_of_rows(rows, states or set(sum(listed, ())), say)
        self.n_pairs += len(listed)
        for pair in sorted(listed - told):
            say("%s to %s has no row in the comment" % pair)
        for pair in sorted(told - listed):
            say("%s to %s has a row, and is not listed" % pair)
        for state in sorted((states or set()) - set(sum(listed, ()))):
            say("nothing leads to %s, or from it" % state)

    def check(self):
        text = self.path.read_text()
        for comment in COMMENT.finditer(text):
            rows = rows_of(comment[1])
            if rows:
                self.check_table(rows, text[comment.end():])
        for name in self.lists:
            self.complain(name)("has no table above it")
        return self


def main():
    root = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parents[2]).resolve() / "src"
    headers = [Header(path, root).check() for path in sorted(root.rglob("*.h"))]
    complaints = [complaint for header in headers for complaint in header.complaints]
    n_tables, n_pairs, n_strangers = (sum(getattr(header, what) for header in headers)
                                      for what in ("n_tables", "n_pairs", "n_strangers"))
    print("\n".join(complaints + ["transitions: %d tables, %d pairs, %d tables without a list, %d differences"
                                  % (n_tables, n_pairs, n_strangers, len(complaints))]))
    sys.exit(1 if complaints or n_tables == 0 else 0)


if __name__ == "__main__":
    main()
