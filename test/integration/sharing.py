# SPDX-License-Identifier: BSD-2-Clause
"""That a client cannot tell it shares the TPM, at the sizes where it would show."""

import concurrent.futures
import os
import signal
import struct
import threading
import unittest

import harness
import tpm


def sequence_of(context):
    return struct.unpack(">Q", context[:8])[0]


@harness.by_socket_only
class Gap(harness.TestCase):
    """swtpm's context gap is 65,535 saves of sessions."""

    def setUp(self):
        super().setUp()
        self.tpm = self.start_swtpm(proxied=False)
        self.daemon = self.start_daemon(self.tpm.conf)

    def busy(self, n_sessions=4):
        """Clients whose sessions take turns in three slots, and what they say in their turn."""
        clients = [self.connect() for _ in range(n_sessions)]
        return [(c, tpm.policy_get_digest(c.start_session(tpm.SE_POLICY))) for c in clients]

    def saves_so_far(self, client):
        """Read off a session of one's own: its context has the number of the save."""
        session = client.start_session(tpm.SE_POLICY)
        context = client.context_save(session)
        client.run(tpm.context_load(context))
        client.run(tpm.flush_context(session))
        return sequence_of(context)

    def test_idle_session_survives_two_gaps(self):
        idle, probe = self.connect(), self.connect()
        session = idle.start_session(tpm.SE_POLICY)
        idle.run(tpm.policy_pcr(session))
        digest = idle.run(tpm.policy_get_digest(session)).parameters()
        saved = idle.context_save(idle.start_session(tpm.SE_HMAC))
        wanted = 5000 if harness.IS_SANITIZED else 140000
        busy = self.busy()
        first = self.saves_so_far(probe)
        while self.saves_so_far(probe) - first < wanted:
            for _ in range(500):
                for client, command in busy:
                    client.run(command)
        self.assertEqual(idle.run(tpm.policy_get_digest(session)).parameters(), digest)
        idle.run(tpm.context_load(saved))


@unittest.skipIf(harness.CHIP, "contexts of a chip have sizes of their own")
class Memory(harness.TestCase):
    def test_1000_idle_clients_with_4_saved_keys_each(self):
        # Users but root get three quarters of the connections.
        self.start_subject(options=[] if os.geteuid() == 0 else ["--max-connections=1400"])
        owner = self.connect()
        key = owner.create_primary(tpm.PUBLIC_ECC_SIGN)
        context = owner.context_save(key)
        load = tpm.context_load(context)
        clients = []
        for _ in range(999):
            client = self.connect()
            for _ in range(4):
                client.run(load)
            clients.append(client)
        used = self.daemon.process.memory_kib()
        print("# %d KiB resident with %d clients of 4 keys each" % (used, len(clients)))
        if not harness.IS_SANITIZED:
            self.assertLess(used, 25 * 1024)
        digest = bytes(32)
        for client in clients[::100]:
            client.run(tpm.sign(0x80000003, digest))


class Files(harness.TestCase):
    @harness.needs_cryptography
    def test_20_session_files_at_once(self):
        self.start_subject()
        tools = harness.Tools(self.folder / "tools", self.daemon.conf, self.daemon.library, self.daemon.bus)
        for i in range(20):
            tools("tpm2_startauthsession", "-S", "session%d" % i, "--policy-session")
        for i in range(20):
            tools("tpm2_policypcr", "-Q", "-S", "session%d" % i, "-l", "sha256:%d" % i)
        for i in reversed(range(20)):
            tools("tpm2_policycommandcode", "-Q", "-S", "session%d" % i, "-L", "policy%d" % i, "TPM2_CC_Unseal")
        for i in range(20):
            tools("tpm2_flushcontext", "session%d" % i)
        policies = {(tools.folder / ("policy%d" % i)).read_bytes() for i in range(20)}
        self.assertEqual(len(policies), 20)
        self.assertTpmEmpty()


@harness.by_socket_only
class Short(harness.TestCase):
    """More clients at once than the TPM has session handles, each of which needs one for a moment."""

    def setUp(self):
        super().setUp()
        self.start_subject()

    def at_once(self, n, steps):
        """n threads run the steps, each in a connection of its own, and begin together. -> failures, by their words"""
        together = threading.Barrier(n)

        def run(_):
            held = None
            together.wait()
            for step in steps:
                with self.daemon.client() as client:
                    held = step(client, held)

        with concurrent.futures.ThreadPoolExecutor(n) as pool:
            failures = [future.exception() for future in [pool.submit(run, i) for i in range(n)]]
        return [str(failure) for failure in failures if failure]

    @staticmethod
    def use_a_session(client, _):
        session = client.start_session(tpm.SE_POLICY)
        client.run(tpm.policy_pcr(session))
        client.run(tpm.flush_context(session))

    @staticmethod
    def save_a_session(client, _):
        return client.context_save(client.start_session(tpm.SE_POLICY))

    @staticmethod
    def use_a_file(client, context):
        session = client.run(tpm.context_load(context)).handle
        client.run(tpm.policy_pcr(session))
        return client.context_save(session)

    @staticmethod
    def flush_a_file(client, context):
        client.run(tpm.flush_context(client.run(tpm.context_load(context)).handle))

    def test_sessions(self):
        for n in (20, 100, 300):
            self.assertEqual(self.at_once(n, [self.use_a_session]), [])

    def test_session_files(self):
        for n in (20, 100):
            self.assertEqual(self.at_once(n, [self.save_a_session, self.use_a_file, self.flush_a_file]), [])
        self.assertNotIn("was flushed", self.daemon.process.output())


class Together(harness.TestCase):
    def setUp(self):
        super().setUp()
        self.start_subject()

    def test_X3_twenty_clients_hammer(self):
        """Each has a key of its own under the same handle; every answer is about its own."""
        clients, names = [], []
        for i in range(20):
            client = self.connect()
            key = client.create_primary(tpm.public_hmac_key(b"%d" % i))
            clients.append(client)
            names.append((key, client.run(tpm.read_public(key)).raw))
        self.assertEqual(len({name for _, name in names}), 20)
        for _ in range(10):
            for client, (key, _) in zip(clients, names):
                client.send(tpm.read_public(key))
                client.send(tpm.get_random(4))
            for client, (_, name) in zip(clients, names):
                self.assertEqual(client.receive().raw, name)
                self.assertEqual(len(client.receive().raw), 16)

    @harness.needs_cryptography
    def test_X13_pcrs_are_everybodys(self):
        a, b = self.connect(), self.connect()
        before = b.run(tpm.pcr_read(16)).raw
        a.run(tpm.pcr_extend(16, bytes(range(32))))
        self.assertNotEqual(b.run(tpm.pcr_read(16)).raw, before)

    def test_F21_no_secret_in_the_log(self):
        client = self.connect()
        secret = b"open sesame, and do not write it down"
        client.ask(tpm.sign(0x80000000, secret[:32]))
        client.ask(tpm.sequence_complete(0x80000000, auth=(tpm.RS_PW, b"", 0, secret)))
        client.ask(tpm.command(tpm.CC_GET_RANDOM, parameters=secret))
        self.assertEqual(self.daemon.stop(), 0)
        log = self.daemon.process.output()
        self.assertNotIn(secret.decode(), log)
        self.assertNotIn(secret.hex(), log.lower())


class Abandoned(harness.TestCase):
    def test_oldest_goes_first_and_the_log_says_so(self):
        self.start_subject(options=["--max-abandoned=2"])
        contexts = []
        for n in range(4):
            with self.daemon.client() as client:
                contexts.append(client.context_save(client.start_session(tpm.SE_POLICY)))
            harness.wait_until(lambda n=n: len(self.proxy.holdings()[2]) == min(n + 1, 2), "two are kept")
        client = self.connect()
        for context, kept in zip(contexts, [False, False, True, True]):
            self.assertEqual(client.ask(tpm.context_load(context)).rc == 0, kept)
        self.assertEqual(self.daemon.process.output().count("of a client that is gone was flushed"), 2)


class Shared(harness.TestCase):
    """What is the default on a device, where others use the chip too."""

    def test_slots_are_left_free_for_others(self):
        self.start_subject(options=["--reserve=2", "--idle-evict=0"])
        clients = [self.connect() for _ in range(3)]
        keys = [(c, c.create_primary(tpm.public_hmac_key(b"%d" % i)), c.start_session(tpm.SE_POLICY))
                for i, c in enumerate(clients)]
        for client, key, session in keys * 3:
            client.run(tpm.read_public(key))
            client.run(tpm.policy_get_digest(session))
            harness.wait_until(lambda: max(map(len, self.proxy.holdings()[:2])) <= harness.SLOTS - 2,
                               "two slots are free")

    def test_slots_are_left_free_for_others_while_clients_wait(self):
        """A neighbour finds room for two things at any time, though clients never rest."""
        self.start_subject(options=["--reserve=2", "--idle-evict=0"])
        clients = [self.connect() for _ in range(4)]
        turns = [(c, c.create_primary(tpm.public_hmac_key(b"%d" % i)), c.start_session(tpm.SE_POLICY))
                 for i, c in enumerate(clients)]
        stop = threading.Event()

        def work(client, key, session):
            while not stop.is_set():
                client.run(tpm.read_public(key))
                client.run(tpm.policy_get_digest(session))

        with concurrent.futures.ThreadPoolExecutor(len(clients)) as pool:
            done = [pool.submit(work, *turn) for turn in turns]
            answers = []
            for _ in range(100):
                for command in (tpm.hash_sequence_start(), tpm.start_auth_session(tpm.SE_POLICY)):
                    made = [self.proxy.ask(command) for _ in range(2)]
                    answers += [response.rc for response in made]
                    for response in made:
                        if response.rc == 0:
                            self.proxy.ask(tpm.flush_context(response.handle))
            stop.set()
            for future in done:
                future.result()
        self.assertEqual([hex(rc) for rc in answers if rc], [])

    def test_the_tpm_is_emptied_when_idle(self):
        self.start_subject(options=["--reserve=0", "--idle-evict=50"])
        client = self.connect()
        key, session = client.create_primary(tpm.public_hmac_key(b"idle")), client.start_session(tpm.SE_POLICY)
        name = client.run(tpm.read_public(key)).raw
        for _ in range(3):
            harness.wait_until(lambda: self.proxy.holdings()[:2] == ([], []), "the TPM is emptied")
            self.assertEqual(client.run(tpm.read_public(key)).raw, name)
            client.run(tpm.policy_get_digest(session))


class Killed(harness.TestCase):
    def test_F9_sessions_of_killed_daemons_make_room(self):
        """kill -9 leaves four saved and two loaded sessions in the TPM, twenty times over; it has room for 64."""
        self.tpm = self.start_tpm()
        self.proxy = self.tpm.proxy
        for _ in range(20):
            daemon = harness.Ours(self.folder, self.tpm.conf)
            daemon.stopped = True
            with daemon.client() as client:
                for _ in range(4):
                    client.context_save(client.start_session(tpm.SE_POLICY))
                client.start_session(tpm.SE_HMAC)
                client.create_primary(tpm.public_hmac_key(b"left behind"))
                daemon.process.end(signal.SIGKILL)
        self.daemon = self.start_daemon(self.tpm.conf)
        clients = [self.connect() for _ in range(2)]
        for client in clients:
            for _ in range(20):
                client.start_session(tpm.SE_POLICY)
            for i in range(4):
                client.create_primary(tpm.public_hmac_key(b"%d" % i))


if __name__ == "__main__":
    harness.main()
