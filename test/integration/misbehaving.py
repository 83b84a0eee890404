# SPDX-License-Identifier: BSD-2-Clause
"""The daemon on a TPM that misbehaves as no simulator can: see test/lib/fake-tpm.h."""

import threading

import harness
import tpm

RM = 0xB0000
FAILURE, RETRY = 0x101, 0x922


class Misbehaving(harness.TestCase):
    def start(self, *options):
        self.tpm = harness.FakeTpm(self.folder, *options)
        self.addCleanup(self.tpm.stop)
        self.daemon = self.start_daemon(self.tpm.conf)

    def key(self, client, name=b"key"):
        return client.create_primary(tpm.public_hmac_key(name))

    def test_two_slots_of_each_kind(self):
        self.start("object-slots=2", "session-slots=2", "page=20")
        clients = [self.connect() for _ in range(4)]
        names = []
        for client in clients:
            keys = [self.key(client) for _ in range(3)]
            session = client.start_session(tpm.SE_POLICY)
            names.append([(client, key, client.run(tpm.read_public(key)).raw, session) for key in keys])
        for client, key, name, session in [row for rows in zip(*names) for row in rows]:
            self.assertEqual(client.run(tpm.read_public(key)).raw, name)
            client.run(tpm.policy_get_digest(session))

    def test_idle_session_survives_a_gap_of_255(self):
        self.start("gap=255")
        idle = self.connect()
        session = idle.start_session(tpm.SE_POLICY)
        saved = idle.context_save(idle.start_session(tpm.SE_POLICY))
        busy = [(c, tpm.policy_get_digest(c.start_session(tpm.SE_POLICY))) for c in (self.connect() for _ in range(5))]
        while self.tpm.count(tpm.CC_CONTEXT_SAVE) < 1500:
            for client, command in busy:
                client.run(command)
        idle.run(tpm.policy_get_digest(session))
        idle.run(tpm.context_load(saved))

    def test_retries_are_not_seen(self):
        self.start()
        client = self.connect()
        key = self.key(client)
        name = client.run(tpm.read_public(key)).raw
        for rc in ("0x922", "0x908", "0x90a"):
            self.tpm.option("fault=kind=rc,rc=%s,count=4" % rc)
            self.assertEqual(client.run(tpm.read_public(key)).raw, name)

    def test_one_that_is_told_to_wait_does_not_hold_others_up(self):
        self.start()
        waiting, other = self.connect(), self.connect()
        key = self.key(waiting)
        self.tpm.option("fault=code=0x173,kind=rc,rc=0x922,count=always")
        waiting.send(tpm.read_public(key))
        served = 0
        answer = []
        thread = threading.Thread(target=lambda: answer.append(waiting.receive()))
        thread.start()
        while thread.is_alive():
            other.run(tpm.get_random())
            served += 1
        thread.join()
        self.assertEqual(answer[0].rc, RETRY)
        self.assertGreater(served, 20)
        self.tpm.option("heal")
        waiting.run(tpm.read_public(key))

    def test_malformed_answers_cost_one_command(self):
        self.start()
        client, other = self.connect(), self.connect()
        key = self.key(client)
        for kind in ("truncated", "trailing"):
            self.tpm.option("fault=code=0x131,kind=%s" % kind)
            self.assertEqual(client.ask(tpm.create_primary(tpm.public_hmac_key(b"x"))).rc, RM | FAILURE)
            client.run(tpm.read_public(key))
            other.run(tpm.get_random())
        self.assertEqual(client.handles(0x80000000), [key])

    def test_late_answers_reach_whom_they_are_for(self):
        self.start()
        slow, quick = self.connect(), self.connect()
        self.tpm.option("fault=code=0x17b,kind=late,ms=500")
        slow.send(tpm.get_random(7))
        quick.send(tpm.get_random(9))
        self.assertEqual(len(slow.receive().raw), 19)
        self.assertEqual(len(quick.receive().raw), 21)

    def test_failure_mode_is_passed_on_and_ends(self):
        self.start()
        client = self.connect()
        key = self.key(client)
        self.tpm.option("fail")
        self.assertEqual(client.ask(tpm.read_public(key)).rc, FAILURE)
        self.assertEqual(client.ask(tpm.get_random()).rc, FAILURE)
        self.tpm.option("heal")
        client.run(tpm.read_public(key))

    def test_reset_that_nobody_announced(self):
        self.start()
        client, other = self.connect(), self.connect()
        key = self.key(client)
        client.context_save(client.start_session(tpm.SE_POLICY))
        self.tpm.reset()
        other.ask(tpm.get_random())
        self.assertEqual(other.ask(tpm.command(0x144, parameters=tpm.u16(0))).rc, 0)  # Startup
        theirs = self.key(other, b"another")
        self.assertEqual(client.ask(tpm.read_public(key)).rc, RM | 0x910)
        other.run(tpm.read_public(theirs))


if __name__ == "__main__":
    harness.main()
