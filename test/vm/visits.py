# SPDX-License-Identifier: BSD-2-Clause
"""
The reserve of the default, on evidence: nothing is kept free as long as nobody is there, and what he needs once
somebody opens /dev/tpmrm0. To be run before the kernel has trusted keys, for which slots stay free at any time.
"""

import contextlib
import multiprocessing
import os
import statistics
import time

import device
import harness
import neighbours
import tpm

VISITS = int(os.environ.get("TABRMD_NEIGHBOUR_VISITS", "1"))
ROUNDS = 40
NOBODY = "0 for objects, 0 for sessions (nobody)"
SOMEBODY = "2 for objects, 2 for sessions (open)"
NODE = "/dev/tpmrm0"


def kept_free(daemon):
    """-> what the log said last; those before it may be of an earlier daemon, as long as this one had nothing to do"""
    return [line for line in daemon.process.output().splitlines() if "stay free for others: " in line][-1]


def until_alone(daemon, client):
    """Who was there before the daemon would have been heard by now. It looks when there is something to do."""
    harness.wait_until(lambda: client.run(tpm.get_random()) and NOBODY in kept_free(daemon), "nobody is there")


class Alone(harness.TestCase):
    """As much as with --reserve=0, that is."""

    def cost(self, daemon, n_clients, alone):
        """-> commands of the TPM for each signature: the clients have a key each, and take turns"""
        clients = [daemon.client() for _ in range(n_clients)]
        keys = [(client, tpm.sign(client.create_primary(tpm.PUBLIC_ECC_SIGN), bytes(32))) for client in clients]
        if alone:
            until_alone(daemon, clients[0])
        for client, command in keys:
            client.run(command)
        device.chip().reset()
        for _ in range(ROUNDS):
            for client, command in keys:
                client.run(command)
        n = device.chip().count()
        for client in clients:
            client.close()
        return n / (ROUNDS * n_clients)

    def test_keys_in_turn(self):
        costs = {}
        for options in ([], ["--reserve=0"], ["--reserve=2"]):
            daemon = self.start_daemon(device.CONF, options=options)
            for n in (2, 3, 10):
                costs[" ".join(options) or "the default", n] = self.cost(daemon, n, not options)
            self.assertEqual(daemon.stop(), 0)
        for (name, n), cost in costs.items():
            print("# %s, %d clients with a key each: %.3f commands of the TPM for a signature" % (name, n, cost))
        self.assertLessEqual(costs["the default", 2], 1.05)
        self.assertLessEqual(costs["the default", 3], 1.1)
        self.assertLessEqual(costs["the default", 10], costs["--reserve=0", 10] * 1.02)


class Visits(harness.TestCase):
    """Somebody comes while the daemon's clients are busy with all slots."""

    def setUp(self):
        super().setUp()
        self.bus = self.start_bus()

    @contextlib.contextmanager
    def busy(self, subject, options):
        """-> the daemon, whose clients are busy, and which has all slots for them if it is ours"""
        daemon = self.start_daemon(device.CONF, subject, bus=self.bus, options=options)
        clients = []
        for _ in range(neighbours.CLIENTS):
            client = neighbours.connect_to(daemon)
            clients.append((client, [client.create_primary(tpm.PUBLIC_ECC_SIGN)],
                            [client.start_session(tpm.SE_POLICY)]))
        if subject is harness.Ours and not options:
            until_alone(daemon, clients[0][0])
        stop, results = multiprocessing.Event(), multiprocessing.Queue()
        program = multiprocessing.Process(target=neighbours.be_busy, args=(clients, stop, results), daemon=True)
        program.start()
        try:
            time.sleep(0.5)
            yield daemon
        finally:
            stop.set()
            done = [results.get(timeout=harness.HANG) for _ in clients]
            program.join()
        self.assertEqual(sum(bad for _, bad in done), 0)
        for client, _, _ in clients:
            client.close()
        self.assertEqual(daemon.stop(), 0)

    def test_slots_are_free_soon(self):
        tools = neighbours.make_parent(self.folder)
        public, private = tools.path("key.pub").read_bytes(), tools.path("key.priv").read_bytes()
        times, counts = [], []
        for _ in range(VISITS):
            with self.busy(harness.Ours, []) as daemon:
                chip = device.chip()
                chip.reset()
                start = time.monotonic()
                visitor = device.connect(NODE)
                harness.wait_until(lambda: max(map(len, chip.holdings()[:2])) <= harness.SLOTS - 2, "slots are free")
                times.append(time.monotonic() - start)
                counts.append(chip.count())
                self.assertIn(SOMEBODY, kept_free(daemon))
                for _ in range(10):
                    handle = visitor.run(tpm.command(tpm.CC_LOAD, [neighbours.PARENT], private + public,
                                                     [tpm.PASSWORD])).handle
                    session = visitor.run(tpm.start_auth_session(tpm.SE_POLICY)).handle
                    visitor.run(tpm.sign(handle, bytes(32)))
                    for made in (handle, session):
                        visitor.run(tpm.flush_context(made))
                visitor.close()
        print("# slots were free %.1f ms and %d commands of the TPM after open(), at most %.1f and %d; %d times" % (
            statistics.median(times) * 1e3, statistics.median(counts), max(times) * 1e3, max(counts), VISITS))

    def test_first_commands(self):
        """Whose first command follows on open() at once is faster than we are; programs have others before that."""
        tools = neighbours.make_parent(self.folder)
        subjects = [("3.0", harness.Peer, []), ("--reserve=2", harness.Ours, ["--reserve=2"]),
                    ("the default", harness.Ours, [])]
        lines = {}
        for name, subject, options in subjects:
            for kind in ("at once", "tpm2_load"):
                failed = 0
                for _ in range(VISITS):
                    with self.busy(subject, options):
                        users = neighbours.Users(tools, open_now=False)
                        (users.load_and_sign_with_tools if kind == "tpm2_load" else users.visit)()
                    failed += bool(sum(users.failures.values()))
                    for failure in users.failures:
                        print("# beside %s: %s" % (name, failure))
                lines[name, kind] = failed
        for (name, kind), failed in lines.items():
            print("# visits that failed beside %s, %s: %d of %d" % (name, kind, failed, VISITS))


if __name__ == "__main__":
    harness.main()
