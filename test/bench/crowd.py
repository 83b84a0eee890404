# SPDX-License-Identifier: BSD-2-Clause
"""
Many at once, as counts and ratios: `make crowd`, as root, for users are told apart.

- one-shot programs of tpm2-tools, each a process with a session of its own: how many fail, and with tpm2-abrmd 3.0
- how long a user with one connection waits beside one with many, on a TPM that takes 5 ms for a command
- what share of the TPM's time a user of short commands has beside one of long ones
"""

import collections
import contextlib
import multiprocessing
import os
import shutil
import statistics
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import harness
import tpm

CROWDS = (20, 60, 100, 300)
BESIDE, OTHER_USER = 20, 65534
ROUNDS = 5
PACE_MS, LONG_MS, SHARE_SECONDS = 5, 45, 20
ASKING = 4
CONNECTIONS, TURNS = (1, 10, 100, 700), 40
PROMISED_WAIT, PROMISED_SHARE = 2.5, 0.1


def as_other(argv):
    return ["setpriv", "--reuid=%d" % OTHER_USER, "--clear-groups", *argv]


class Crowd:
    """Tools of one daemon, on a swtpm of its own."""

    def __init__(self, stack, subject):
        self.folder = harness.make_folder()
        stack.callback(shutil.rmtree, self.folder, ignore_errors=True)
        self.folder.chmod(0o777)
        bus = harness.Bus(self.folder) if subject is harness.Peer else None
        swtpm = harness.TcpSwtpm(self.folder / "swtpm")
        stack.callback(swtpm.stop)
        daemon = subject(self.folder, swtpm.conf, bus=bus)
        stack.callback(daemon.stop)
        if bus:
            stack.callback(bus.stop)
            os.chmod(self.folder / "bus", 0o666)
        else:
            os.chmod(daemon.socket, 0o666)
        conf = daemon.bus_conf if bus else daemon.socket_conf
        self.tools = harness.Tools(self.folder / "tools", conf, daemon.library, bus)
        self.folder.joinpath("tools").chmod(0o777)
        self.tools("tpm2_createprimary", "-Q", "-C", "o", "-G", "ecc", "-c", "parent.ctx")
        self.tools("tpm2_create", "-Q", "-C", "parent.ctx", "-G", "ecc:ecdsa", "-u", "key.pub", "-r", "key.priv")
        self.tools("tpm2_load", "-Q", "-C", "parent.ctx", "-u", "key.pub", "-r", "key.priv", "-c", "key.ctx")
        self.tools.path("message").write_bytes(bytes(99))
        for path in self.tools.folder.iterdir():
            path.chmod(0o644)

    def sign(self, i, wrap):
        return self.tools.attempt(*wrap(["tpm2_sign", "-Q", "-c", "key.ctx", "-g", "sha256", "-o", "signature%d" % i,
                                         "message"]))

    def script(self, i, wrap):
        """A session in a file, handed from tool to tool"""
        file = "session%d" % i
        for argv in (["tpm2_startauthsession", "--policy-session", "-S", file],
                     ["tpm2_policypcr", "-Q", "-S", file, "-l", "sha256:0"], ["tpm2_flushcontext", file]):
            done = self.tools.attempt(*wrap(argv))
            if done.returncode or b"ERROR" in done.stderr:
                break
        return done

    def run(self, what, n, beside):
        """n at once, and some of another user's with them. -> how many failed of each user"""
        jobs = [(i, lambda argv: argv) for i in range(n)] + [(n + i, as_other) for i in range(beside)]
        with ThreadPoolExecutor(len(jobs)) as pool:
            done = list(pool.map(lambda job: what(self, *job), jobs))
        failed = [bool(one.returncode) or b"ERROR" in one.stderr for one in done]
        self.tools.attempt("tpm2_flushcontext", "--saved-session")
        for path in self.tools.folder.glob("s[ei][sg]*"):
            path.unlink()
        return sum(failed[:n]), sum(failed[n:])


def crowds():
    """-> how many failed with ours"""
    failures = 0
    with contextlib.ExitStack() as stack:
        subjects = {"3.0": Crowd(stack, harness.Peer), "ours": Crowd(stack, harness.Ours)}
        print("%-10s%8s%8s   %s" % ("at once", "", "beside", "failed in each of %d rounds: of one user + of the other" %
                                    ROUNDS))
        for name, what in (("signers", Crowd.sign), ("scripts", Crowd.script)):
            for n in CROWDS:
                for beside in (0, BESIDE):
                    rounds = collections.defaultdict(list)
                    for _ in range(ROUNDS):
                        for subject, crowd in subjects.items():
                            rounds[subject].append(crowd.run(what, n, beside))
                    failures += sum(map(sum, rounds["ours"]))
                    print("%-10s%8d%8d   %s" % (name, n, beside, "   ".join(
                        "%s: %s" % (subject, " ".join("%d+%d" % pair for pair in pairs))
                        for subject, pairs in rounds.items())))
                    sys.stdout.flush()
    return failures


def in_process(function, uid, *arguments):
    """Runs it as that user. -> a function that waits for what it returns"""
    results = multiprocessing.Queue()

    def run():
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
        results.put(function(*arguments))

    process = multiprocessing.Process(target=run, daemon=True)
    process.start()

    def wait():
        result = results.get(timeout=harness.HANG * 5)
        process.join()
        return result

    return wait


def always(function, path, stop):
    """In some connections at once, so that there is always one that waits. -> the sum of what the function returns"""
    with ThreadPoolExecutor(ASKING) as pool:
        return sum(pool.map(lambda _: function(path, stop), range(ASKING)))


def ask(path, stop):
    """-> how many commands"""
    n = 0
    with tpm.Client(tpm.connect_unix(path), hello=True) as client:
        while not stop.is_set():
            client.run(tpm.get_random(4))
            n += 1
    return n


def ask_with_many(path, n, ready, stop):
    clients = [tpm.Client(tpm.connect_unix(path), hello=True) for _ in range(n)]
    for client in clients:
        client.send(tpm.get_random(4))
    ready.set()
    while not stop.is_set():
        for client in clients:
            client.receive()
            client.send(tpm.get_random(4))
            if stop.is_set():
                break


def waits(path):
    """-> the median of one connection's, in s"""
    times = []
    with tpm.Client(tpm.connect_unix(path), hello=True) as client:
        for _ in range(TURNS):
            begin = time.monotonic()
            client.run(tpm.get_random(4))
            times.append(time.monotonic() - begin)
    return statistics.median(times)


@contextlib.contextmanager
def paced():
    folder = harness.make_folder()
    folder.chmod(0o755)
    chip = harness.FakeTpm(folder, "pace=%d" % PACE_MS)
    daemon = harness.Ours(folder, chip.conf)
    os.chmod(daemon.socket, 0o666)
    try:
        yield daemon.socket, chip
    finally:
        daemon.stop()
        chip.stop()
        shutil.rmtree(folder, ignore_errors=True)


def fairness():
    """-> the longest wait beside many connections, of that beside one"""
    medians = {}
    with paced() as (path, _):
        for n in CONNECTIONS:
            ready, stop = multiprocessing.Event(), multiprocessing.Event()
            many = multiprocessing.Process(target=ask_with_many, args=(path, n, ready, stop), daemon=True)
            many.start()
            ready.wait(harness.HANG)
            medians[n] = in_process(waits, OTHER_USER, path)()
            stop.set()
            many.kill()
            many.join()
            print("beside %4d connections of root another user waits %.1f ms, %.2f times as long as beside 1" % (
                n, 1000 * medians[n], medians[n] / medians[CONNECTIONS[0]]))
            sys.stdout.flush()
    return max(medians.values()) / medians[CONNECTIONS[0]]


def make_keys(path, stop):
    """-> how many"""
    n = 0
    with tpm.Client(tpm.connect_unix(path), hello=True) as client:
        while not stop.is_set():
            client.run(tpm.flush_context(client.create_primary(tpm.public_hmac_key(b"x"))))
            n += 1
    return n


def shares():
    """Short commands beside ones that make keys, both always. -> how far each is from half of the time, of half"""
    with paced() as (path, chip):
        chip.option("fault=code=0x131,kind=late,ms=%d,count=100000" % LONG_MS)
        stop = multiprocessing.Event()
        users = [in_process(always, 2001, ask, path, stop), in_process(always, 2002, make_keys, path, stop)]
        time.sleep(SHARE_SECONDS)
        stop.set()
        n_short, n_keys = [wait() for wait in users]
    short_ms, long_ms = n_short * PACE_MS, n_keys * (2 * PACE_MS + LONG_MS)
    share = short_ms / (short_ms + long_ms)
    print("%d short commands of %d ms each, %d keys of %d ms each: short ones had %.1f %% of the TPM's time" % (
        n_short, PACE_MS, n_keys, 2 * PACE_MS + LONG_MS, 100 * share))
    return abs(share - 0.5) / 0.5


def main():
    wait, share = fairness(), shares()
    failures = crowds()
    print("waits: %.2f, promised: at most %.1f; share: %.0f %% off, promised: at most %.0f; failed: %d" % (
        wait, PROMISED_WAIT, 100 * share, 100 * PROMISED_SHARE, failures))
    return 0 if wait <= PROMISED_WAIT and share <= PROMISED_SHARE and failures == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
