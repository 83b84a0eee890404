# SPDX-License-Identifier: BSD-2-Clause
"""
Many clients with a key each, as ratios of one run: `make bench-turns`; or turns.py [CLIENTS [MS]].

Each subject has a swtpm of its own that takes MS more for each command: tpm2-abrmd 3.0, ours, and another build of
ours, if TABRMD_OTHER is its folder. They take turns. What the order of commands alone does, without noise, is in
`make bench-schedule`.
"""

import contextlib
import os
import pathlib
import selectors
import shutil
import statistics
import sys
import time

import harness
import proxy
import tpm

CLIENTS, PACE_MS = 10, 5
ROUNDS, EACH, WARM = 3, 150, 10
PROMISED = 2.4  # signatures in a second, of tpm2-abrmd 3.0
DIGEST = bytes(32)


class Paced(proxy.SwtpmProxy):
    pace = 0

    def _exchange(self, command):
        time.sleep(self.pace)
        return super()._exchange(command)


class Other(harness.Ours):
    binary = pathlib.Path(os.environ.get("TABRMD_OTHER", "")) / "src/daemon/tpm2-abrmd"


class Signer:
    def __init__(self, client):
        self.client = client
        self.command = tpm.sign(client.create_primary(tpm.PUBLIC_ECC_SIGN), DIGEST)
        client.ask(self.command)  # a fresh TPM answers RETRY to the first authorization
        self.sent, self.waits = 0, []

    def ask(self):
        self.sent = time.monotonic()
        self.client.send(self.command)

    def take(self, counts):
        if self.client.receive().rc:
            raise RuntimeError("a signature is refused")
        if counts:
            self.waits.append(time.monotonic() - self.sent)


class Subject:
    def __init__(self, stack, name, kind, n_clients, pace):
        folder = harness.make_folder()
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        bus = harness.Bus(folder) if kind is harness.Peer else None
        if bus:
            stack.callback(bus.stop)
        swtpm = harness.Swtpm(folder / "swtpm", proxied=False)
        stack.callback(swtpm.stop)
        self.proxy = Paced(swtpm.data, swtpm.ctrl, None if bus else str(folder / "proxy"))
        stack.callback(self.proxy.close)
        daemon = kind(folder, self.proxy.conf, bus=bus, options=[] if bus else ["--reserve=0", "--idle-evict=0"])
        stack.callback(daemon.stop)
        self.name = name
        self.signers = [Signer(daemon.client()) for _ in range(n_clients)]
        self.selector = stack.enter_context(selectors.DefaultSelector())
        for signer in self.signers:
            self.selector.register(signer.client.sock, selectors.EVENT_READ, signer)
        self.proxy.pace = pace
        self.n, self.seconds, self.n_commands = 0, 0, 0

    def run(self, n_each, counts=True):
        """Each asks again as soon as it is answered."""
        n_left = n_each * len(self.signers)
        n_out, begin, before = len(self.signers), time.monotonic(), self.proxy.count()
        for signer in self.signers:
            signer.ask()
        while n_out:
            for key, _ in self.selector.select(harness.HANG):
                key.data.take(counts)
                n_left -= 1
                if n_left >= n_out:
                    key.data.ask()
                else:
                    n_out -= 1
        if counts:
            self.n += n_each * len(self.signers)
            self.seconds += time.monotonic() - begin
            self.n_commands += self.proxy.count() - before

    def figures(self):
        waits = [sorted(signer.waits) for signer in self.signers]
        longest = max(each[len(each) * 99 // 100] for each in waits)
        return self.n_commands / self.n, self.n / self.seconds, statistics.mean(sum(waits, [])), longest


def main():
    n_clients = int(sys.argv[1]) if len(sys.argv) > 1 else CLIENTS
    pace = (float(sys.argv[2]) if len(sys.argv) > 2 else PACE_MS) / 1000
    kinds = {"tpm2-abrmd 3.0": harness.Peer, "ours": harness.Ours}
    if "TABRMD_OTHER" in os.environ:
        kinds["other"] = Other
    with contextlib.ExitStack() as stack:
        subjects = {name: Subject(stack, name, kind, n_clients, pace) for name, kind in kinds.items()}
        for subject in subjects.values():
            subject.run(WARM, counts=False)
        for _ in range(ROUNDS):
            for subject in subjects.values():
                subject.run(EACH)
        figures = {name: subject.figures() for name, subject in subjects.items()}
    print("%d clients with a key each, %.1f ms for each command" % (n_clients, 1000 * pace))
    print("%-16s %10s %12s %12s %18s" % ("", "commands", "each second", "mean wait", "99 %, worst client"))
    for name, (commands, rate, mean, longest) in figures.items():
        print("%-16s %10.3f %12.1f %9.1f ms %15.1f ms" % (name, commands, rate, 1000 * mean, 1000 * longest))
    for name in figures:
        if name != "ours":
            print("ours, of %s: %.2f times as many, mean wait %.2f, 99 %% of the worst client %.2f" % (
                name, *(figures["ours"][i] / figures[name][i] for i in (1, 2, 3))))
    return 0 if figures["ours"][1] >= PROMISED * figures["tpm2-abrmd 3.0"][1] else 1


if __name__ == "__main__":
    sys.exit(main())
