# SPDX-License-Identifier: BSD-2-Clause
"""Several clients share one TPM: what each did, and how many of their commands it took."""

import concurrent.futures
import contextlib
import hashlib
import os
import shutil
import signal
import sys
import tempfile
import time

import harness
import proxy

HASHED_MIB = 2


def random_numbers(tools):
    numbers = {tools("tpm2_getrandom", "--hex", "16").decode() for _ in range(3)}
    return "3 random numbers, such as %s" % numbers.pop()


def sign_and_verify(tools):
    tools.path("message").write_bytes(b"the message")
    tools("tpm2_createprimary", "-Q", "-C", "o", "-G", "ecc", "-c", "parent.ctx")
    tools("tpm2_create", "-Q", "-C", "parent.ctx", "-G", "ecc:ecdsa", "-u", "key.pub", "-r", "key.priv")
    tools("tpm2_load", "-Q", "-C", "parent.ctx", "-u", "key.pub", "-r", "key.priv", "-c", "key.ctx")
    for _ in range(5):
        tools("tpm2_sign", "-Q", "-c", "key.ctx", "-g", "sha256", "-o", "signature", "message")
        tools("tpm2_verifysignature", "-Q", "-c", "key.ctx", "-g", "sha256", "-s", "signature", "-m", "message")
    return "a primary key, a key below it, and 5 signatures made and verified"


def seal_and_unseal(tools):
    secret = b"secret of %d" % os.getpid()
    tools.path("secret").write_bytes(secret)
    tools("tpm2_startauthsession", "-S", "trial.ctx")
    tools("tpm2_policypcr", "-Q", "-S", "trial.ctx", "-l", "sha256:0,7", "-L", "policy")
    tools("tpm2_flushcontext", "trial.ctx")
    tools("tpm2_createprimary", "-Q", "-C", "o", "-G", "ecc", "-c", "parent.ctx")
    tools("tpm2_create", "-Q", "-C", "parent.ctx", "-L", "policy", "-i", "secret", "-u", "seal.pub", "-r", "seal.priv")
    tools("tpm2_load", "-Q", "-C", "parent.ctx", "-u", "seal.pub", "-r", "seal.priv", "-c", "seal.ctx")
    if tools("tpm2_unseal", "-c", "seal.ctx", "-p", "pcr:sha256:0,7") != secret:
        raise AssertionError("what was unsealed is not what was sealed")
    return "sealed a secret to the state of PCR 0 and 7, and unsealed it"


def hash_a_file(tools):
    data = os.urandom(HASHED_MIB << 20)
    tools.path("file").write_bytes(data)
    tools("tpm2_hash", "-C", "n", "-g", "sha256", "-o", "digest", "file")
    if tools.path("digest").read_bytes() != hashlib.sha256(data).digest():
        raise AssertionError("the digest is wrong")
    return "hashed a file of %d MiB in one sequence; the digest is right" % HASHED_MIB


def session_in_a_file(tools):
    tools("tpm2_startauthsession", "-S", "session.ctx", "--policy-session")
    for pcr in (0, 1, 2):
        tools("tpm2_policypcr", "-Q", "-S", "session.ctx", "-l", "sha256:%d" % pcr)
    tools("tpm2_flushcontext", "session.ctx")
    return "a policy session, handed from process to process in a file"


CLIENTS = [random_numbers, sign_and_verify, seal_and_unseal, hash_a_file, session_in_a_file, sign_and_verify]


def show(swtpm, daemon, folder):
    counted = str(folder / "counted.sock")
    counter = proxy.StreamCounter(counted, daemon.socket)
    swtpm.proxy.reset()

    def work(client):
        tools = harness.Tools(tempfile.mkdtemp(dir=folder), "tabrmd:socket=" + counted, daemon.library)
        return client(tools)

    print("%d clients at once, each of them several processes:" % len(CLIENTS))
    with concurrent.futures.ThreadPoolExecutor(len(CLIENTS)) as pool:
        for number, done in enumerate(pool.map(work, CLIENTS), 1):
            print("  client %d: %s" % (number, done), flush=True)
    harness.wait_until(lambda: swtpm.proxy.holdings() == ([], [], []), "the TPM is left empty")
    asked, reached = counter.count(), swtpm.proxy.count()
    counter.close()
    print("The clients sent %d commands; %d reached the TPM (%.2f for each). Nothing of theirs is left in it." %
          (asked, reached, reached / asked))


def stay_up(daemon):
    print("\nThe daemon stays up. In another terminal:\n")
    print("  export LD_LIBRARY_PATH=%s" % daemon.library)
    print("  export TPM2TOOLS_TCTI=tabrmd:socket=%s" % daemon.socket)
    print("  tpm2_getrandom --hex 16\n")
    print("Ctrl-C ends it.", flush=True)
    with contextlib.suppress(KeyboardInterrupt):
        while daemon.process.alive():
            time.sleep(0.5)


def main():
    for sig in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(sig, signal.default_int_handler)
    folder = harness.make_folder()
    swtpm = daemon = None
    try:
        swtpm = harness.Swtpm(folder / "swtpm")
        daemon = harness.Ours(folder, swtpm.conf)
        print("tpm2-abrmd (process %d) serves a software TPM on %s" % (daemon.process.pid, daemon.socket), flush=True)
        show(swtpm, daemon, folder)
        if sys.stdin.isatty():
            stay_up(daemon)
        status = daemon.stop()
        print("tpm2-abrmd ended with %d." % status)
        return status
    finally:
        if daemon and daemon.process.alive():
            print(daemon.process.output(), file=sys.stderr)
            daemon.stop()
        if swtpm:
            swtpm.stop()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
