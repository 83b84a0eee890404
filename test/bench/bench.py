# SPDX-License-Identifier: BSD-2-Clause
"""
Latencies, as ratios of one run: `make bench`. Shared machines differ and vary: trust the ratios.

Each subject has a swtpm of its own. Fails when the ratio that is promised is not kept.
"""

import contextlib
import multiprocessing
import os
import random
import shutil
import statistics
import subprocess
import sys

import harness
import tpm

ROUNDS, TURNS = 20, 200
WATCHED_ROUNDS, WATCHED_TURNS = 12, 8000  # each a second or so, of ten looks
CONNECT_ROUNDS, CONNECT_TURNS = 10, 20
PROMISED = 0.5  # GetRandom over the socket, of tpm2-abrmd 3.0
PROMISED_CONNECT, PROMISED_CONNECT_BUS = 0.1, 1.1  # connect and disconnect, over the socket and over D-Bus

PROMISED_WATCHED = 1.05  # GetRandom while the manager is asked ten times a second, of that while it is not

OURS_NAME = "com.intel.tss2.TabrmdBench"


def run(mode, rounds, turns, subjects, bus):
    """-> {name: (median, 99th percentile)} in us"""
    argv = [harness.BUILD / "test/bench/bench", mode, rounds, turns, *subjects.values()]
    env = harness.clean_env(DBUS_SESSION_BUS_ADDRESS=bus.address)
    done = subprocess.run([str(a) for a in argv], env=env, stdout=subprocess.PIPE, text=True, check=True)
    lines = done.stdout.splitlines()
    return {name: tuple(int(ns) / 1000 for ns in line.split()) for name, line in zip(subjects, lines)}


def table(title, results, *references):
    heads = ["/ " + reference for reference in references]
    print("\n%-46s %9s %9s  %s" % (title, "median", "99 %", "  ".join(heads)))
    for name, (median, high) in results.items():
        ratios = "".join("  %-*.2f" % (len(head), median / results[head[2:]][0]) for head in heads)
        print("%-46s %6.0f us %6.0f us%s" % (name, median, high, ratios))


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
    argv = [harness.BUILD / "src/ctl/tabrmctl", *arguments]
    with subprocess.Popen([str(a) for a in argv], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as process:
        try:
            yield
        finally:
            process.kill()


def measure_watched(s, title, *arguments):
    """By turns, a second without and a second with somebody who looks. -> ratio of the medians of the rounds"""
    results = {"alone": [], "beside " + title: []}
    for _ in range(WATCHED_ROUNDS):
        for name in results:
            with watching(*arguments) if name != "alone" else contextlib.nullcontext():
                results[name].append(run("latency", 1, WATCHED_TURNS, {name: s.ours}, s.bus)[name])
    table("ours, socket: beside " + title, {name: tuple(map(statistics.median, zip(*rounds)))
                                            for name, rounds in results.items()}, "alone")
    alone, beside = (statistics.median(median for median, _ in rounds) for rounds in results.values())
    return beside / alone


class Subjects:
    def __init__(self, stack):
        folder = harness.make_folder()
        stack.callback(shutil.rmtree, folder, ignore_errors=True)

        def swtpm(name):
            started = harness.TcpSwtpm(folder / name)
            stack.callback(started.stop)
            return started

        self.bus = harness.Bus(folder)
        stack.callback(self.bus.stop)
        self.bare = "tcp:" + swtpm("bare").address

        socket = str(folder / "forwarder.sock")
        argv = [harness.BUILD / "test/bench/forwarder", socket, swtpm("forwarder-tpm").address]
        forwarder = harness.Process("forwarder", argv, folder / "forwarder.log")
        stack.callback(forwarder.end)
        harness.wait_until(lambda: os.path.exists(socket), "the forwarder starts", forwarder.popen)
        self.forwarder = "unix:" + socket

        peer = harness.Peer(folder, swtpm("peer-tpm").conf, bus=self.bus)
        stack.callback(peer.stop)
        self.peer = "%s/libtss2-tcti-tabrmd.so.0:bus_type=session" % peer.library

        self.manager = "%s/manager.sock" % folder
        ours = harness.Ours(folder, swtpm("ours-tpm").conf, bus=self.bus,
                            options=["--dbus-name", OURS_NAME, "--manager=" + self.manager])
        stack.callback(ours.stop)
        self.path = ours.socket
        self.ours = "unix:" + ours.socket
        library = ours.library / "libtss2-tcti-tabrmd.so.0"
        self.ours_library = "%s:socket=%s" % (library, ours.socket)
        self.ours_bus = "%s:bus_type=session,bus_name=%s" % (library, OURS_NAME)


BARE, FORWARDER, PEER = "bare swtpm", "bare forwarding proxy", "tpm2-abrmd 3.0, D-Bus"
OURS, OURS_LIBRARY, OURS_BUS = "ours, socket", "ours, socket, client library", "ours, D-Bus, client library"


def main():
    with contextlib.ExitStack() as stack:
        s = Subjects(stack)
        latency = run("latency", ROUNDS, TURNS,
                      {BARE: s.bare, FORWARDER: s.forwarder, PEER: s.peer, OURS: s.ours,
                       OURS_LIBRARY: s.ours_library, OURS_BUS: s.ours_bus}, s.bus)
        table("GetRandom", latency, BARE, FORWARDER, PEER)
        doors = {PEER: s.peer, OURS: s.ours, OURS_LIBRARY: s.ours_library, OURS_BUS: s.ours_bus}
        connect = run("connect", CONNECT_ROUNDS, CONNECT_TURNS, doors, s.bus)
        table("connect, disconnect", connect, PEER)
        use = run("use", CONNECT_ROUNDS, CONNECT_TURNS, doors, s.bus)
        table("connect, GetRandom, disconnect", use, PEER)

        alone = run("latency", 1, ROUNDS * TURNS, {"alone": s.ours}, s.bus)
        with hostile(s.path):
            beside = run("latency", 1, ROUNDS * TURNS, {"beside": s.ours}, s.bus)
        table("ours, socket: beside three hostile clients", alone | beside, "alone")

        watched = measure_watched(s, "ten questions a second to the manager",
                                  "--json", "--socket", s.manager, "top", "--delay=0.1")
        measure_watched(s, "a trace of all that it sends", "--socket", s.manager, "trace")

    kept = True
    print("\nof the median of tpm2-abrmd 3.0:")
    for what, results, name, promised in (("GetRandom", latency, OURS, PROMISED),
                                          ("connect, disconnect", connect, OURS_LIBRARY, PROMISED_CONNECT),
                                          ("connect, disconnect", connect, OURS_BUS, PROMISED_CONNECT_BUS)):
        ratio = results[name][0] / results[PEER][0]
        print("%s, %s: %.2f; promised: at most %.2f" % (name, what, ratio, promised))
        kept = kept and ratio <= promised
    print("beside ten questions a second, GetRandom: %.3f; promised: at most %.2f" % (watched, PROMISED_WATCHED))
    return 0 if kept and watched <= PROMISED_WATCHED else 1


if __name__ == "__main__":
    sys.exit(main())
