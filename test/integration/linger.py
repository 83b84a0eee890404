# SPDX-License-Identifier: BSD-2-Clause
"""--socket PATH,linger=SECONDS: clients that connect anew for each command, as go-tpm and wolfTPM do it with swtpm."""

import subprocess
import sys

import harness
import tpm

# For each command on standard input, in hexadecimal, its answer, each over a connection of its own.
PROGRAM = """
import sys, tpm
for line in sys.stdin:
    with tpm.Client(tpm.connect_unix(sys.argv[1])) as client:
        print(client.ask(bytes.fromhex(line)).raw.hex(), flush=True)
"""


class Lingering(harness.Ours):
    seconds = 30

    def argv(self, conf, unix, options):
        return [arg + ",linger=%d" % self.seconds if str(arg).startswith("--socket=") else arg
                for arg in super().argv(conf, unix, options)]


class Briefly(Lingering):
    seconds = 1


class Program:
    """Another process."""

    def __init__(self, path):
        self.process = subprocess.Popen([sys.executable, "-c", PROGRAM, path], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True)

    def ask(self, command):
        self.process.stdin.write(command.hex() + "\n")
        self.process.stdin.flush()
        return tpm.Response(bytes.fromhex(self.process.stdout.readline()))

    def end(self):
        with self.process:
            self.process.stdin.close()


class Linger(harness.TestCase):
    def start(self, subject=Lingering, options=()):
        self.tpm = self.start_tpm()
        self.proxy = self.tpm.proxy
        self.daemon = self.start_daemon(self.tpm.conf, subject, options=options)

    def connect(self):
        client = tpm.Client(tpm.connect_unix(self.daemon.socket))
        self.addCleanup(client.close)
        return client

    def ask(self, command):
        with tpm.Client(tpm.connect_unix(self.daemon.socket)) as client:
            return client.ask(command)

    def run_one(self, command):
        response = self.ask(command)
        self.assertEqual(response.rc, 0, command.hex())
        return response

    def program(self):
        program = Program(self.daemon.socket)
        self.addCleanup(program.end)
        return program

    def test_keys_and_sessions_stay(self):
        self.start()
        key = self.run_one(tpm.create_primary(tpm.public_hmac_key(b"k"))).handle
        session = self.run_one(tpm.start_auth_session(tpm.SE_POLICY)).handle
        for _ in range(200):
            self.run_one(tpm.read_public(key))
            self.run_one(tpm.policy_get_digest(session))
        self.run_one(tpm.flush_context(key))
        self.run_one(tpm.flush_context(session))
        self.assertEqual(self.ask(tpm.read_public(key)).rc, tpm.RC_REFERENCE_H0)

    def test_without_the_option_nothing_stays(self):
        self.start(harness.Ours)
        key = self.run_one(tpm.create_primary(tpm.public_hmac_key(b"k"))).handle
        self.assertEqual(self.ask(tpm.read_public(key)).rc, tpm.RC_REFERENCE_H0)

    def test_answer_that_nobody_waited_for(self):
        """The command is carried to its end; the next connection's waits for that."""
        self.start()
        self.run_one(tpm.get_random())
        self.proxy.hold()
        with tpm.Client(tpm.connect_unix(self.daemon.socket)) as client:
            client.send(tpm.create_primary(tpm.public_hmac_key(b"k")))
            self.assertTrue(self.proxy.held.wait(harness.HANG))
        client = self.connect()
        client.send(tpm.read_public(0x80000000))
        self.proxy.release()
        self.assertEqual(client.receive().rc, 0)

    def test_each_process_has_its_own(self):
        self.start()
        key = self.run_one(tpm.create_primary(tpm.public_hmac_key(b"k"))).handle
        other = self.program()
        self.assertEqual(other.ask(tpm.read_public(key)).rc, tpm.RC_REFERENCE_H0)
        mine = self.run_one(tpm.read_public(key)).body
        self.assertEqual(other.ask(tpm.create_primary(tpm.public_hmac_key(b"o"))).handle, key)
        self.assertNotEqual(other.ask(tpm.read_public(key)).body, mine)
        self.assertEqual(self.run_one(tpm.read_public(key)).body, mine)

    def test_one_at_a_time(self):
        """While a connection has it, another of the same process has one of its own, which ends with it."""
        self.start()
        first, second = self.connect(), None
        key = first.create_primary(tpm.public_hmac_key(b"k"))
        second = self.connect()
        self.assertEqual(second.ask(tpm.read_public(key)).rc, tpm.RC_REFERENCE_H0)
        self.assertEqual(second.create_primary(tpm.public_hmac_key(b"2")), key)
        mine = first.run(tpm.read_public(key)).body
        first.close()
        third = self.connect()
        self.assertEqual(third.run(tpm.read_public(key)).body, mine)
        second.close()
        third.close()
        self.assertEqual(self.run_one(tpm.read_public(key)).body, mine)

    def test_end_of_the_process(self):
        self.start()
        other = self.program()
        other.ask(tpm.create_primary(tpm.public_hmac_key(b"o")))
        other.ask(tpm.start_auth_session(tpm.SE_HMAC))
        self.assertNotEqual(self.proxy.holdings()[:2], ([], []))
        other.end()
        harness.wait_until(lambda: self.proxy.holdings() == ([], [], []), "what it had is flushed")

    def test_time_is_up(self):
        self.start(Briefly)
        key = self.run_one(tpm.create_primary(tpm.public_hmac_key(b"k"))).handle
        harness.wait_until(lambda: self.proxy.holdings() == ([], [], []), "what it had is flushed")
        self.assertEqual(self.ask(tpm.read_public(key)).rc, tpm.RC_REFERENCE_H0)

    def test_those_who_linger_make_room(self):
        """They are connections of their user, and the one that has waited longest goes first."""
        self.start(options=["--max-connections=4"])
        programs = [self.program() for _ in range(8)]
        keys = [program.ask(tpm.create_primary(tpm.public_hmac_key(b"%d" % i))).handle
                for i, program in enumerate(programs)]
        codes = [program.ask(tpm.read_public(key)).rc for program, key in zip(programs[::-1], keys[::-1])]
        self.assertEqual(codes[0], 0)
        self.assertEqual(codes[-1], tpm.RC_REFERENCE_H0)
        self.assertEqual(self.ask(tpm.get_random()).rc, 0)

    def test_stop(self):
        self.start()
        self.run_one(tpm.create_primary(tpm.public_hmac_key(b"k")))
        self.run_one(tpm.start_auth_session(tpm.SE_HMAC))
        self.assertEqual(self.daemon.stop(), 0)
        self.assertEqual(self.proxy.holdings(), ([], [], []))


if __name__ == "__main__":
    harness.main()
