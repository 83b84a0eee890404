# SPDX-License-Identifier: BSD-2-Clause
"""
Tables and picture of what bench.py has measured: report.py FOLDER makes README.md and bench.svg of bench.json, and with
docs/bench puts the figures of one client into docs/COMPARISON.md, too.
"""

import html
import json
import math
import pathlib
import re
import sys
import textwrap

DOCS = pathlib.Path(__file__).parents[2].resolve() / "docs"
CLIENTS = (1, 4, 16, 64, 256, 1000)
WORKLOADS = {
    "random": ("GetRandom", "GetRandom of 8 bytes."),
    "sign": ("Sign", "Sign with a loaded key; each client has its own."),
    "keys": ("five keys in turn", "Sign with five loaded keys in turn; each client has its own five."),
    "policy": ("policy session", "A policy session: start, PolicyPCR, PolicyGetDigest, flush."),
    "oneshot": ("one-shot", "Connect, ContextLoad of a key, Sign, disconnect. On the bare TPM and the proxy the client "
                            "flushes the key, too, since nobody does it for it."),
}
SUBJECTS = {"bare TPM": "#888888", "bare proxy": "#222222", "3.0": "#d1495b", "ours, socket": "#00798c",
            "ours, library": "#66a182", "ours, D-Bus": "#edae49"}
PEER, OURS = "3.0", "ours, socket"

WIDTH, HEIGHT, GAP, LEFT, TOP = 200, 130, 26, 66, 112
STEP_X, STEP_Y = WIDTH + GAP, HEIGHT + 62


def title_of(tpm, percent):
    return "%s, %d %% of its time" % (tpm.upper(), percent) if tpm else "Not paced"


def time_text(us):
    for unit, size in (("s", 1e6), ("ms", 1e3)):
        if us >= size:
            return "%.3g %s" % (us / size, unit) if us < 1000 * size else "%.0f %s" % (us / size, unit)
    return "%.0f us" % us


# The tables

def wrapped(paragraph):
    return textwrap.fill(paragraph, 120, break_on_hyphens=False)


def table(heads, rows):
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| %s |" % " | ".join(map(str, line)) for line in lines)


def cell_text(cell):
    if not cell:
        return ""
    refused = ", %.0f %% refused" % (100 * cell["refused"] / cell["runs"]) if cell["refused"] else ""
    return "%s / %s%s" % (time_text(cell["median_us"]), time_text(cell["high_us"]), refused)


def workload_table(cells):
    """cells: {(subject, clients): cell} of one workload on one TPM"""
    names = [name for name in SUBJECTS if any(subject == name for subject, _ in cells)]
    pairs = [name for name in (PEER, OURS) if name in names]
    heads = ["clients", *names]
    for what in ("TPM commands", "CPU us", "KiB"):
        heads += ["%s, %s" % (what, name.split(",")[0]) for name in pairs]
    rows = []
    for clients in sorted({n for _, n in cells}):
        row = [clients] + [cell_text(cells.get((name, clients))) for name in names]
        for key, form in (("tpm_commands", "%.2f"), ("cpu_us", "%.0f"), ("pss_kib", "%d")):
            found = [cells.get((name, clients)) for name in pairs]
            row += [form % cell[key] if cell and cell[key] is not None else "" for cell in found]
        rows.append(row)
    return table(heads, rows)


def promise_rows(promises):
    return [(what, "%s %g" % (bound, promised), "%.2f" % measured,
             "yes" if (measured <= promised) == (bound == "at most") or measured == promised else "**no**")
            for what, bound, promised, measured in promises]


def machine_text(machine):
    return ("%(date)s, on %(cpu)s (%(processors)d processors), Linux %(kernel)s; client, TPM and daemon on processors "
            "%(pinned)s; load %(load).1f before. Built as %(build)s: %(versions)s." % machine)


def promises_table(results):
    return table(["what", "promised", "measured", "kept"], promise_rows(results["promises"]))


def way_tables(results):
    """-> tables of one client and a swtpm"""
    for title, rows in results["tables"].items():
        base = PEER if PEER in rows else next(iter(rows))
        yield table([title, "median", "99 %", "of %s" % base],
                    [(name, time_text(median), time_text(high), "%.2g" % (median / rows[base][0]))
                     for name, (median, high) in rows.items()])


def parts(results):
    """-> the document, without its head, by paragraphs"""
    found = ["## Promised and measured", promises_table(results)] if results["promises"] else []
    if results["tables"]:
        found += ["## One client, and a swtpm for each subject", *way_tables(results)]
    for tpm in dict.fromkeys(cell["tpm"] for cell in results["cells"]):
        found.append("## " + title_of(tpm, results["percent"]))
        for workload, (_, what) in WORKLOADS.items():
            cells = {(cell["subject"], cell["clients"]): cell for cell in results["cells"]
                     if cell["tpm"] == tpm and cell["workload"] == workload}
            if cells:
                found += [wrapped(what), workload_table(cells)]
    return found


HEAD = """# Side by side

`make bench` measures, and writes `bench.json`; this page and the picture are made of it, and again by `make pictures`.

%s

Each subject has a TPM of its own (libtpms behind a socket, `test/bench/chip.c`), and the subjects take turns, round by
round. A time is that of one run of the workload, median / 99th percentile, with so many clients that ask again as soon
as they are answered, all of one process (`test/bench/load.c`). Paced, a command takes %d %% of what it takes on that
chip (`test/lib/fake-chips.c`). TPM commands and the daemon's CPU, without that of the bus, are for one run; KiB is the
daemon's memory (Pss), of which some stays from the tables before. A cell is empty where a subject cannot do it, or
where one turn of all clients would take longer than %g s. 3.0 takes at most 100 clients, and the bare TPM one; the
proxy swaps nothing. On a chip the doors do not differ, so the socket stands for all.

![Times by workload, TPM and clients](bench.svg)

%s
"""


def document(results):
    return HEAD % (wrapped(machine_text(results["machine"])), results["percent"], results["turn_s"],
                   "\n\n".join(parts(results)))


# The picture

def text(x, y, what, anchor="start", size=11, more=""):
    return '<text x="%.1f" y="%.1f" text-anchor="%s" font-size="%d"%s>%s</text>' % (
        x, y, anchor, size, more, html.escape(what))


class Panel:
    """One diagram: clients to the right, a value upwards."""

    def __init__(self, column, row, low, high, log=True):
        self.x, self.y = LEFT + column * STEP_X, TOP + row * STEP_Y
        self.low, self.high, self.log = low, high, log

    def at(self, clients, value):
        if self.log:
            part = math.log(value / self.low) / math.log(self.high / self.low)
        else:
            part = (value - self.low) / (self.high - self.low)
        return (self.x + 15 + CLIENTS.index(clients) * (WIDTH - 34) / (len(CLIENTS) - 1),
                self.y + HEIGHT - max(0, min(1, part)) * HEIGHT)

    def frame(self, ticks, has_labels):
        """ticks: [(value, label)]"""
        drawn = ['<rect x="%.1f" y="%.1f" width="%d" height="%d" fill="none" stroke="#999"/>' % (
            self.x, self.y, WIDTH, HEIGHT)]
        for value, label in ticks:
            y = self.at(CLIENTS[0], value)[1]
            drawn.append('<path d="M%.1f %.1fh%d" stroke="#ddd"/>' % (self.x, y, WIDTH))
            if has_labels:
                drawn.append(text(self.x - 6, y + 4, label, "end"))
        for clients in CLIENTS:
            drawn.append(text(self.at(clients, self.high)[0], self.y + HEIGHT + 17, "{:,}".format(clients), "middle",
                              10))
        return drawn

    def line(self, points, colour, aside):
        """points: [(clients, value, highest value or None)]; aside: shifts it, so that lines can be told apart"""
        places = [(x + aside, y) for x, y in (self.at(clients, value) for clients, value, _ in points)]
        drawn = []
        for (x, low_y), (clients, _, high) in zip(places, points):
            if high:
                high_y = self.at(clients, high)[1]
                drawn.append('<path d="M%.1f %.1fV%.1f" stroke="%s" stroke-opacity="0.5"/>' % (
                    x, low_y, high_y, colour))
        drawn.append('<polyline points="%s" fill="none" stroke="%s" stroke-width="1.6"/>' % (
            " ".join("%.1f,%.1f" % place for place in places), colour))
        drawn += ['<circle cx="%.1f" cy="%.1f" r="2.4" fill="%s"/>' % (*place, colour) for place in places]
        return drawn


def decades(low, high):
    """-> [(us, label)] of the powers of ten from low to high"""
    return [(10 ** n, time_text(10 ** n).replace("us", "µs"))
            for n in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)]


def row_ticks(cells, key, log):
    values = [cell[key] for cell in cells if cell[key]]
    if not log:
        top = 2 * math.ceil(max(values) / 2)
        return [(n, str(n)) for n in range(0, top + 1, 2)]
    return decades(min(values), max([*values, *(cell["high_us"] for cell in cells if key == "median_us")]))


def draw_row(number, title, cells, key, log):
    """One row of panels, one for each workload"""
    ticks = row_ticks(cells, key, log)
    drawn = [text(10, TOP + number * STEP_Y - 9, title, size=12, more=' font-weight="bold"')]
    for column, workload in enumerate(WORKLOADS):
        panel = Panel(column, number, ticks[0][0], ticks[-1][0], log)
        drawn += panel.frame(ticks, column == 0)
        for i, (subject, colour) in enumerate(SUBJECTS.items()):
            points = sorted((cell["clients"], cell[key], cell["high_us"] if key == "median_us" else None)
                            for cell in cells
                            if (cell["workload"], cell["subject"]) == (workload, subject) and cell[key])
            if points:
                drawn += panel.line(points, colour, 2.4 * (i - 2.5))
    return drawn


def picture(results):
    cells, percent = results["cells"], results["percent"]
    tpms = list(dict.fromkeys(cell["tpm"] for cell in cells))
    rows = [("Time of a run, " + (title_of(tpm, percent) if tpm else "TPM not paced"),
             [cell for cell in cells if cell["tpm"] == tpm], "median_us", True) for tpm in tpms]
    plain = [cell for cell in cells if not cell["tpm"]]
    rows += [("TPM commands for a run, TPM not paced", plain, "tpm_commands", False),
             ("CPU of the daemon or proxy for a run, TPM not paced", plain, "cpu_us", True)]
    width, height = LEFT + len(WORKLOADS) * STEP_X, TOP + len(rows) * STEP_Y + 4
    drawn = [text(10, 22, "By workload, TPM and number of clients that ask without a pause. Times: dot, median; upper "
                  "end of its line, 99th percentile.", size=13)]
    for i, (subject, colour) in enumerate(SUBJECTS.items()):
        x = LEFT + i * 140
        drawn += ['<path d="M%d 42h22" stroke="%s" stroke-width="3"/>' % (x, colour), text(x + 28, 46, subject)]
    for column, (short, _) in enumerate(WORKLOADS.values()):
        drawn.append(text(LEFT + column * STEP_X + WIDTH / 2, TOP - 34, short, "middle", 12, ' font-weight="bold"'))
    for number, row in enumerate(rows):
        drawn += draw_row(number, *row)
        drawn.append(text(LEFT - 6, TOP + number * STEP_Y + HEIGHT + 17, "clients", "end", 10, ' fill="#666"'))
    return ('<!-- SPDX-License-Identifier: BSD-2-Clause; made by test/bench/report.py -->\n'
            '<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d"\n'
            '     font-family="DejaVu Sans, Verdana, sans-serif" fill="#222">\n'
            '<rect width="100%%" height="100%%" rx="6" fill="#ffffff"/>\n%s\n</svg>\n' % (
                width, height, width, height, "\n".join(drawn)))


BLOCK = re.compile(r"(<!-- made by test/bench/report.py -->\n).*?(<!-- end of it -->\n)", re.DOTALL)


def put_into(path, results):
    block = "\n\n".join([wrapped(machine_text(results["machine"])), *way_tables(results), promises_table(results)])
    path.write_text(BLOCK.sub(lambda match: match[1] + "\n" + block + "\n\n" + match[2], path.read_text()))


def write(folder):
    results = json.loads((folder / "bench.json").read_text())
    if folder.resolve() == DOCS / "bench":
        put_into(DOCS / "COMPARISON.md", results)
    (folder / "README.md").write_text(document(results))
    (folder / "bench.svg").write_text(picture(results))


if __name__ == "__main__":
    write(pathlib.Path(sys.argv[1]))
