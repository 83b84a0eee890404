# SPDX-License-Identifier: BSD-2-Clause
"""Workloads by subjects by clients, on a TPM that is not paced and on three that are paced as chips."""

import contextlib
import functools
import statistics
import sys
import time

import stand
from stand import BARE, OURS, PEER, PROXY

CLIENTS = (1, 4, 16, 64, 256, 1000)
CHIPS = ("slb9670", "st33tphf", "slb9673-i2c")
PERCENT = 10  # of a chip's time: with all of it, a turn of many clients would take minutes
WORKLOADS = {
    "random": "GetRandom of 8 bytes",
    "sign": "Sign with a loaded key, each client with its own",
    "keys": "Sign with five loaded keys in turn, each client with its own",
    "policy": "a policy session: start, PolicyPCR, PolicyGetDigest, flush",
    "oneshot": "connect, ContextLoad of a key, Sign, disconnect",
}
MOST = {"keys": 64, "oneshot": 64}  # clients
TURN_S = 2.5  # a cell is left out where one turn of all its clients takes longer
ROUNDS_S = 6  # what took longer so far has no further round


class Plan:
    """How much is measured."""

    def __init__(self, chips=CHIPS, clients=CLIENTS, workloads=tuple(WORKLOADS), rounds=3, ms=150, paced_ms=300):
        self.chips, self.clients, self.workloads, self.rounds = chips, clients, workloads, rounds
        self.ms, self.paced_ms = ms, paced_ms


FULL = Plan()
QUICK = Plan(CHIPS[:1], (1, 16, 256), ("random", "sign"), 2, 60, 60)
SMALLEST = Plan((), (1, 4), ("random", "sign"), 1, 20)


def can(name, workload, clients, paced):
    """Whether that subject can do it; by which door clients come does not matter on a chip."""
    if name == BARE:
        return clients == 1 and workload != "keys"
    if name == PROXY:
        return workload == "random" or (clients == 1 and workload != "keys")
    if name == PEER:
        return clients <= stand.PEER_CLIENTS
    return name == OURS or not paced


class Cell:
    """Clients of one subject that run one workload; rounds of several cells take turns."""

    def __init__(self, place, name, workload, clients):
        self.subject, self.workload, self.clients = place.subjects[name], workload, clients
        self.load = place.load(name, workload, clients)
        self.before = self._used()
        self.rounds = []

    def _used(self):
        pid = self.subject.pid
        return self.subject.tpm.count(), stand.cpu_ns(pid) if pid else None

    def round(self, ms):
        self.rounds.append(self.load.run(ms, self.clients))

    def seconds(self):
        """-> of one turn of all clients"""
        runs, _, _, ns = (sum(numbers) for numbers in list(zip(*self.rounds))[:4])
        return ns / 1e9 / runs * self.clients

    def result(self, tpm):
        """Ends it. -> what is kept of it"""
        count, cpu = self._used()
        pid = self.subject.pid
        memory = stand.pss_kib(pid) if pid else None
        self.load.end()
        runs, refused, commands, ns = (sum(numbers) for numbers in list(zip(*self.rounds))[:4])
        return {
            "tpm": tpm, "workload": self.workload, "clients": self.clients, "subject": self.subject.name,
            "median_us": statistics.median_low(one[4] for one in self.rounds) / 1000,
            "high_us": statistics.median_low(one[5] for one in self.rounds) / 1000,
            "longest_us": max(one[6] for one in self.rounds) / 1000,
            "runs": runs, "refused": refused, "commands": commands, "per_s": runs * 1e9 / ns,
            "tpm_commands": (count - self.before[0]) / runs,
            "cpu_us": (cpu - self.before[1]) / runs / 1000 if pid else None, "pss_kib": memory,
        }


def measure_cells(place, names, workload, clients, rounds, ms):
    """-> cells of all these subjects, whose rounds took turns"""
    cells = []
    try:
        for name in names:
            cells.append(Cell(place, name, workload, clients))
        began = time.monotonic()
        for n in range(rounds):
            if time.monotonic() - began > ROUNDS_S:
                break
            for i in range(len(cells)):
                cells[(i + n) % len(cells)].round(ms)
        return cells
    except Exception:
        for cell in cells:
            cell.load.popen.kill()
        raise


def measure_tpm(tpm, plan):
    """One TPM, paced or not. -> results, one by one"""
    make = functools.partial(stand.ChipTpm, chip=tpm, percent=PERCENT)
    with contextlib.ExitStack() as stack:
        place = stand.Stand(stack, make, [name for name in stand.SUBJECTS if can(name, "random", 1, tpm)])
        for workload in plan.workloads:
            slowest = {}  # of a subject: seconds that a turn of one client takes
            for clients in plan.clients:
                if clients > MOST.get(workload, clients):
                    continue
                names = [name for name in place.subjects if can(name, workload, clients, tpm) and
                         slowest.get(name, 0) * clients <= TURN_S]
                began = time.monotonic()
                cells = measure_cells(place, names, workload, clients, plan.rounds,
                                      plan.paced_ms if tpm else plan.ms)
                slowest.update((cell.subject.name, cell.seconds() / clients) for cell in cells)
                yield from [cell.result(tpm) for cell in cells]
                print("%s, %s, %d clients: %.1f s" % (tpm or "not paced", workload, clients,
                                                      time.monotonic() - began), file=sys.stderr)


def measure(plan):
    """-> results"""
    return [result for tpm in (None, *plan.chips) for result in measure_tpm(tpm, plan)]
