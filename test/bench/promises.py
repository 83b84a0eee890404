# SPDX-License-Identifier: BSD-2-Clause
"""What is promised, as ratios of one run, both sides by turns: each promise is (what, bound, promised, measured)."""

import contextlib
import functools
import multiprocessing
import random
import statistics
import subprocess
import time

import harness
import stand
import tpm
from stand import BARE, OURS, OURS_BUS, OURS_LIBRARY, PEER, PROXY

CHIP = "slb9670"  # for tools, with all of its time
AT_MOST, AT_LEAST = "at most", "at least"


class Plan:
    """How much is measured. Turns: of GetRandom, and of connections; tools: runs of each subject"""

    def __init__(self, rounds=20, turns=200, connect_turns=20, watched=12, tools=12, many=20):
        self.rounds, self.turns, self.connect_turns = rounds, turns, connect_turns
        self.watched, self.tools, self.many = watched, tools, many


FULL = Plan()
QUICK = Plan(10, 50, 5, 0, 3, 5)
WATCHED_TURNS = 8000  # a second or so, of ten looks


def run(mode, rounds, turns, place, names):
    """-> {name: (median, 99th percentile)} in us"""
    argv = [harness.BUILD / "test/bench/bench", mode, rounds, turns, *(place.subjects[name].wire for name in names)]
    env = harness.clean_env(DBUS_SESSION_BUS_ADDRESS=place.bus.address)
    with stand.pinned("client"):
        done = subprocess.run([str(a) for a in argv], env=env, stdout=subprocess.PIPE, text=True, check=True)
    lines = done.stdout.splitlines()
    return {name: tuple(int(ns) / 1000 for ns in line.split()) for name, line in zip(names, lines)}


def be_hostile(path, ready):
    """One client sends half a command, one never reads, one floods with garbage."""
    half = tpm.connect_unix(path)
    half.sendall(tpm.get_random()[:7])
    mute = tpm.connect_unix(path)
    mute.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while True:
            mute.send(tpm.get_random(32) * 50)
    source = random.Random(1)
    ready.set()
    while True:
        with contextlib.suppress(OSError), tpm.Client(tpm.connect_unix(path)) as flooder:
            garbage = [tpm.command(0x20000000 + i, parameters=source.randbytes(100)) for i in range(16)]
            flooder.send(b"".join(garbage))
            for _ in garbage:
                flooder.receive()
            flooder.send(source.randbytes(3000))


@contextlib.contextmanager
def hostile(path):
    ready = multiprocessing.Event()
    with stand.pinned(None):
        process = multiprocessing.Process(target=be_hostile, args=(path, ready), daemon=True)
        process.start()
    ready.wait(harness.HANG)
    try:
        yield
    finally:
        process.kill()
        process.join()


@contextlib.contextmanager
def watching(*arguments):
    argv = [str(a) for a in (harness.BUILD / "src/ctl/tabrmctl", *arguments)]
    with stand.pinned(None):
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.kill()
        process.wait()


def watched(place, plan, *arguments):
    """By turns, a second without and a second with somebody who looks. -> (alone, beside) as run() has it"""
    rounds = {"alone": [], "beside": []}
    arguments = ["--socket", place.folder / "ours-socket" / "manager.sock", *arguments]
    for _ in range(plan.watched):
        for name, results in rounds.items():
            with watching(*arguments) if name == "beside" else contextlib.nullcontext():
                results.append(run("latency", 1, WATCHED_TURNS, place, [OURS])[OURS])
    return [tuple(map(statistics.median, zip(*results))) for results in rounds.values()]


def latencies(plan):
    """On a swtpm for each. -> ({title: {name: (median, 99 %)}}, promises)"""
    tables = {}
    with contextlib.ExitStack() as stack:
        place = stand.Stand(stack, harness.TcpSwtpm)
        daemons = (PEER, OURS, OURS_LIBRARY, OURS_BUS)
        latency = tables["GetRandom"] = run("latency", plan.rounds, plan.turns, place, stand.SUBJECTS)
        connect = tables["connect, disconnect"] = run("connect", 10, plan.connect_turns, place, daemons)
        tables["connect, GetRandom, disconnect"] = run("use", 10, plan.connect_turns, place, daemons)
        alone = run("latency", 1, plan.rounds * plan.turns, place, [OURS])[OURS]
        with hostile(place.subjects[OURS].socket):
            beside = run("latency", 1, plan.rounds * plan.turns, place, [OURS])[OURS]
        tables["GetRandom, ours, socket"] = {"alone": alone, "beside three hostile clients": beside}

        promises = [
            ("GetRandom, socket, of 3.0's time", AT_MOST, 0.5, latency[OURS][0] / latency[PEER][0]),
            ("GetRandom, socket, of the bare proxy's time", AT_MOST, 1.25, latency[OURS][0] / latency[PROXY][0]),
            ("connect, library, of 3.0's time", AT_MOST, 0.1, connect[OURS_LIBRARY][0] / connect[PEER][0]),
            ("connect, D-Bus, of 3.0's time", AT_MOST, 1.1, connect[OURS_BUS][0] / connect[PEER][0]),
        ]
        if plan.watched:
            alone, beside = watched(place, plan, "--json", "top", "--delay=0.1")
            promises.append(("GetRandom, the manager asked ten times a second", AT_MOST, 1.05, beside[0] / alone[0]))
            tables["GetRandom, ours, socket"]["beside ten questions a second"] = beside
            tables["GetRandom, ours, socket"]["beside a trace of it all"] = watched(place, plan, "trace")[1]
    return tables, promises


def ratio_of(first, second, rounds, key):
    """Runs of two, by turns. -> median of the first's key, of that of the second"""
    values = [(key(first()), key(second())) for _ in range(rounds)]
    one, other = (statistics.median(column) for column in zip(*values))
    return one / other


def many_clients(plan):
    """Clients of two daemons of ours, so that one alone is not beside a thousand. -> promises"""
    with contextlib.ExitStack() as stack:
        place = stand.Stand(stack, stand.ChipTpm, (PROXY, PEER, OURS, OURS_LIBRARY))
        place.subjects[OURS_LIBRARY].wire = "unix:" + place.subjects[OURS_LIBRARY].socket

        def start(name, clients):
            load = place.load(name, "random", clients)
            stack.callback(load.end)
            return load

        one, thousand = start(OURS_LIBRARY, 1), start(OURS, 1000)
        active = ratio_of(functools.partial(thousand.run, 100, 1), functools.partial(one.run, 100, 1), plan.many,
                          lambda result: result[4])
        # So many sockets cost the client and the kernel something, too: what the proxy loses is not the daemon's.
        through_proxy = start(PROXY, 1000)
        rate, proxy_rate = (ratio_of(functools.partial(load.run, 100, 256), functools.partial(load.run, 100, 4),
                                     plan.many, lambda result: result[0] / result[3])
                            for load in (thousand, through_proxy))

        peer = start(PEER, 1)

        def cpu(name, load):
            before = stand.cpu_ns(place.subjects[name].pid)
            commands = load.run(200, 1)[2]
            return (stand.cpu_ns(place.subjects[name].pid) - before) / commands

        share = ratio_of(lambda: cpu(OURS_LIBRARY, one), lambda: cpu(PEER, peer), max(3, plan.many // 2), float)
    return [
        ("GetRandom, CPU for a command, of 3.0's", AT_MOST, 0.4, share),
        ("GetRandom, one of 1,000 clients asks, of one alone", AT_MOST, 1.1, active),
        ("GetRandom, rate while 256 of them ask, of that with 4; the same ratio of the proxy is 1", AT_LEAST, 0.95,
         rate / proxy_rate),
        ("... and as it is, without the proxy", AT_LEAST, 0.9, rate),
    ]


class ToolsRun:
    """tpm2_load of a key and tpm2_sign with it; both are in files."""

    def __init__(self, place, name):
        daemon = place.daemons.get(name)
        if daemon:
            self.tools = harness.Tools(place.folder / (name + "-tools"), daemon.bus_conf if name == PEER else
                                       daemon.socket_conf, daemon.library, place.bus)
        else:
            self.tools = harness.Tools(place.folder / (name + "-tools"), place.subjects[name].tpm.conf)
        self.flushes = not daemon
        self.tools.path("message").write_bytes(bytes(99))
        self.do("tpm2_createprimary", "-Q", "-C", "o", "-G", "ecc", "-c", "parent")
        self.do("tpm2_create", "-Q", "-C", "parent", "-G", "ecc:ecdsa", "-u", "key.pub", "-r", "key.priv")

    def do(self, *argv):
        """-> seconds, without those of flushing, which is not what others need the time for"""
        began = time.monotonic()
        self.tools(*argv)
        took = time.monotonic() - began
        if self.flushes:
            self.tools("tpm2_flushcontext", "-t")
        return took

    def __call__(self):
        return (self.do("tpm2_load", "-Q", "-C", "parent", "-u", "key.pub", "-r", "key.priv", "-c", "key") +
                self.do("tpm2_sign", "-Q", "-c", "key", "-g", "sha256", "-o", "signature", "message"))


def tools(plan):
    """-> promises"""
    with contextlib.ExitStack() as stack:
        make = functools.partial(stand.ChipTpm, chip=CHIP, percent=100)
        place = stand.Stand(stack, make, (BARE, PEER, OURS))
        with stand.pinned("client"):
            runs = {name: ToolsRun(place, name) for name in place.subjects}
            times = [{name: one() for name, one in runs.items()} for _ in range(plan.tools)]
    bare, peer, ours = (statistics.median(row[name] for row in times) for name in (BARE, PEER, OURS))
    title = "tpm2_load and tpm2_sign, paced as " + CHIP
    return [(title + ", of 3.0's time", AT_MOST, 0.5, ours / peer), (title + ", of the bare TPM's", AT_MOST, 1.3,
                                                                     ours / bare)]


def kept(promise):
    _, bound, promised, measured = promise
    return measured <= promised if bound == AT_MOST else measured >= promised
