# SPDX-License-Identifier: BSD-2-Clause
"""
The pictures of the documentation, of a daemon that runs: pictures.py [FOLDER]. It writes status.svg and top.svg there,
by default into docs/. TABRMD_BUILD as in harness.py; as root, and with tmux.
"""

import contextlib
import html
import os
import pathlib
import re
import shutil
import subprocess
import sys
import time

import harness

ROOT = pathlib.Path(__file__).parents[2]
SIZE = {"status": (92, 26), "top": (112, 20)}
CELL, LINE, MARGIN = 8.4, 19, 14
INK, PAPER = "#d6d9dc", "#14181d"
COLOURS = {"31": "#ff6b68", "32": "#7ac86b", "33": "#e0b040"}

# name, user, keys that it takes turns with, seconds between two commands, whether it keeps a session
CLIENTS = [("ssh-agent", "root", 1, 0.02, False), ("webserver", "www-data", 3, 0.004, True),
           ("attestation", "tss", 1, 0.05, True), ("backup", "backup", 2, 0.01, True),
           ("mailer", "mail", 1, 0.1, False), ("monitor", "nobody", 0, 0.03, False)]
CLIENT = """
import ctypes, sys, time
sys.path.insert(0, sys.argv[1])
import tpm
ctypes.CDLL(None).prctl(15, sys.argv[3].encode(), 0, 0, 0)
client = tpm.Client(tpm.connect_unix(sys.argv[2]))
keys = [client.create_primary(tpm.public_hmac_key(b"%s%d" % (sys.argv[3].encode(), i)))
        for i in range(int(sys.argv[4]))]
if sys.argv[6] == "True":
    session = client.start_session(tpm.SE_POLICY)
    client.context_save(client.start_session(tpm.SE_POLICY))
n = 0
while True:
    n += 1
    client.run(tpm.sign(keys[n % len(keys)], b"%032d" % n) if keys else tpm.get_random())
    if n % 50 == 0:
        client.ask(tpm.read_public(0x80000055))
    time.sleep(float(sys.argv[5]))
"""

# name, user, seconds between two of them: each lives for one command
TOOLS = [("tpm2_pcrread", "root", 0.05), ("tpm2_getrandom", "nobody", 0.03)]
TOOL = """
import ctypes, sys, time
sys.path.insert(0, sys.argv[1])
import tpm
ctypes.CDLL(None).prctl(15, sys.argv[3].encode(), 0, 0, 0)
while True:
    client = tpm.Client(tpm.connect_unix(sys.argv[2]))
    client.run(tpm.get_random())
    client.close()
    time.sleep(float(sys.argv[4]))
"""


class Style:
    """Of a cell, as escape sequences have it."""

    def __init__(self):
        self.colour, self.bold, self.reverse, self.dim = INK, False, False, False

    def change(self, codes):
        for code in codes.split(";"):
            if code in ("", "0"):
                self.__init__()
            elif code == "1":
                self.bold = True
            elif code == "2":
                self.dim = True
            elif code == "7":
                self.reverse = True
            elif code == "39":
                self.colour = INK
            elif code in COLOURS:
                self.colour = COLOURS[code]

    def copy(self):
        return self.colour, self.bold, self.reverse, self.dim


def runs(line, style):
    """-> [(column, text, style)] of a line"""
    found, column = [], 0
    for codes, text in re.findall(r"\033\[([\d;]*)m|([^\033]+)", line):
        if text:
            found.append((column, text, style.copy()))
            column += len(text)
        else:
            style.change(codes)
    return found


def draw_run(column, text, style, y):
    colour, bold, reverse, dim = style
    x, width = MARGIN + column * CELL, len(text) * CELL
    drawn = []
    if reverse:
        drawn.append('<rect x="%.1f" y="%d" width="%.1f" height="%d" fill="%s"/>' % (x, y - LINE + 5, width, LINE, INK))
        colour = PAPER
    shown = text.strip(" ")
    if shown:
        x += (len(text) - len(text.lstrip(" "))) * CELL
        drawn.append('<text x="%.1f" y="%d" textLength="%.1f" fill="%s"%s%s>%s</text>' % (
            x, y, len(shown) * CELL, colour, ' font-weight="bold"' * bold, ' opacity="0.6"' * dim,
            html.escape(shown).replace(" ", "\u00a0")))
    return drawn


def svg_of(screen, columns):
    lines = screen.rstrip("\n").split("\n")
    width, height = 2 * MARGIN + columns * CELL, 2 * MARGIN + len(lines) * LINE
    drawn, style = [], Style()
    for i, line in enumerate(lines):
        for column, text, look in runs(line, style):
            # The terminal leaves spaces at the end out.
            whole = text.ljust(columns - column) if look[2] and line.endswith(text) else text
            drawn += draw_run(column, whole, look, MARGIN + (i + 1) * LINE - 5)
    return ('<!-- SPDX-License-Identifier: BSD-2-Clause; made by test/lib/pictures.py -->\n'
            '<svg xmlns="http://www.w3.org/2000/svg" width="%.0f" height="%d" viewBox="0 0 %.0f %d"\n'
            '     font-family="DejaVu Sans Mono, Menlo, Consolas, monospace" font-size="14">\n'
            '<rect width="100%%" height="100%%" rx="6" fill="%s"/>\n%s\n</svg>\n' %
            (width, height, width, height, PAPER, "\n".join(drawn)))


def capture(folder, name, argv, ready):
    """-> the screen of a terminal, with its escape sequences"""
    server = "tabrmd-%s-%d" % (name, os.getpid())
    env = harness.clean_env(LC_ALL="C.UTF-8", TERM="xterm-256color")

    def tmux(*arguments):
        return subprocess.run(["tmux", "-L", server, "-f", "/dev/null", *map(str, arguments)], env=env,
                              capture_output=True, text=True, timeout=harness.HANG, check=True).stdout
    columns, lines = SIZE[name]
    tmux("new-session", "-d", "-x", columns, "-y", lines, " ".join(argv) + "; cat")
    try:
        harness.wait_until(lambda: ready in tmux("capture-pane", "-p"), name)
        time.sleep(2.5)  # until rates are those of some seconds
        if name == "top":
            tmux("send-keys", "Down", "Down")
            time.sleep(1.5)
        return tmux("capture-pane", "-p", "-e")
    finally:
        tmux("kill-server")


def start_clients(stack, folder, path):
    # The checkout may lie where other users cannot read it.
    library = folder / "lib"
    library.mkdir()
    shutil.copy(ROOT / "test/lib/tpm.py", library)
    programs = [(name, user, [CLIENT, library, path, name, *rest]) for name, user, *rest in CLIENTS]
    programs += [(name, user, [TOOL, library, path, name, pause]) for name, user, pause in TOOLS]
    for name, user, arguments in programs:
        argv = ["/usr/bin/python3", "-c", *arguments]
        who = ["setpriv", "--reuid=" + user, "--regid=tss", "--clear-groups", "--"] if user != "root" else []
        process = harness.Process(name, [*who, *argv], folder / (name + ".log"))
        stack.callback(process.end)


def main(folder):
    with contextlib.ExitStack() as stack:
        place = harness.make_folder()
        stack.callback(shutil.rmtree, place, ignore_errors=True)
        place.chmod(0o755)
        swtpm = harness.Swtpm(place / "swtpm")
        stack.callback(swtpm.stop)
        manager = str(place / "manager.sock")
        daemon = harness.Ours(place, swtpm.conf, options=["--manager=" + manager])
        stack.callback(daemon.stop)
        os.chmod(daemon.socket, 0o666)
        start_clients(stack, place, daemon.socket)
        program = [str(harness.built("src/ctl/tabrmctl")), "--socket", manager]
        time.sleep(8)
        for name, verb, ready in (("status", ["status"], "log level"), ("top", ["top"], "q quit")):
            screen = capture(place, name, program + verb, ready)
            (folder / (name + ".svg")).write_text(svg_of(screen, SIZE[name][0]))


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs")
