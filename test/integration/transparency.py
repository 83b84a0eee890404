# SPDX-License-Identifier: BSD-2-Clause
"""
A client that has the daemon to itself gets what it would get from the bare TPM: random programs, a quarter of their
commands damaged, and every command that the TPM lists with all kinds of handles, run on both, and every response
compared. differential.py does the same by way of ESYS.

Codes are compared in classes: one of layer 11 is the same of layer 0, and what is wrong with handle, session or
parameter n may be said as REFERENCE, HANDLE or VALUE. A response has the same length, since it is made of the same
parts.
"""

import os
import random
import struct

import harness
import tpm
from codes import class_of, is_about_handle

HANDLES = [0x80000000, 0x80000001, 0x80000002, 0x02000000, 0x02000001, 0x03000000, 0x03000001, 0x40000001, 0x40000007,
           0x81000001, 0, 16]


class Program:
    """A stream of commands from a seed; contexts that were saved are loaded again."""

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.contexts = []

    def whole(self):
        handle = self.random.choice(HANDLES)
        choice = self.random.choice
        return choice([
            lambda: tpm.create_primary(tpm.public_hmac_key(b"%d" % self.random.randrange(5)),
                                       choice([0x40000001, 0x40000007, 0x4000000C, handle])),
            tpm.hash_sequence_start,
            lambda: tpm.sequence_update(handle, b"abc"),
            lambda: tpm.sequence_complete(handle, b"", choice([0x40000007, 0x40000001, 5])),
            lambda: tpm.flush_context(handle),
            lambda: tpm.flush_context(handle),
            lambda: tpm.context_save(handle),
            lambda: tpm.read_public(handle),
            lambda: tpm.start_auth_session(choice([0, 1, 3]), bytes(16)),
            lambda: tpm.policy_pcr(handle),
            lambda: tpm.policy_get_digest(handle),
            lambda: tpm.get_random(4),
            lambda: tpm.get_capability(choice([0, 1, 2, 6, 9, 0x99]),
                                       choice([0x80000000, 0x02000000, 0, 0x100, 0x81000000]), choice([0, 1, 5, 300])),
            lambda: tpm.command(tpm.CC_GET_RANDOM, parameters=tpm.u16(4),
                                auths=[(choice([handle, tpm.RS_PW]), b"", choice([0x81, 1, 0, 0x80]), b"")]),
            lambda: tpm.sign(handle, bytes(32)),
        ])()

    def damaged(self, command):
        data = bytearray(command)
        kind = self.random.randrange(4)
        if kind == 0:
            data = data[:self.random.randrange(10, len(data) + 1)]
        elif kind == 1:
            data += bytes(self.random.randrange(1, 4))
        elif kind == 2 and len(data) > 10:
            data[self.random.randrange(10, len(data))] ^= 1 << self.random.randrange(8)
        else:
            data[0:2] = self.random.choice([b"\x80\x01", b"\x80\x02", b"\x00\xc1"])
        data[2:6] = struct.pack(">I", len(data))
        return bytes(data)

    def next(self):
        """-> the command for the bare TPM, and for the daemon: contexts differ, as they are encrypted"""
        if self.contexts and self.random.random() < 0.1:
            return tuple(tpm.context_load(c) for c in self.random.choice(self.contexts))
        command = self.whole()
        if self.random.random() < 0.25:
            command = self.damaged(command)
        return command, command


class Lone(harness.TestCase):
    n_programs = 15 if harness.IS_DEVICE else 60  # it is emulated, and slow

    def compare(self, seed, n_commands):
        folder = self.folder / str(seed)
        (folder / "bare").mkdir(parents=True)
        (folder / "under").mkdir()
        bare = harness.Swtpm(folder / "bare")
        self.addCleanup(bare.stop)
        under = harness.Device() if harness.IS_DEVICE else harness.Swtpm(folder / "under")
        self.addCleanup(under.stop)
        if harness.IS_DEVICE:  # its firmware has locked the platform hierarchy
            bare.proxy.ask(tpm.hierarchy_change_auth(tpm.RH_PLATFORM, os.urandom(20)))
        daemon = harness.Ours(folder, under.conf)
        self.addCleanup(self._end_daemon, daemon)
        total = self.compare_with(bare, daemon, seed, n_commands)
        self._end_daemon(daemon)
        return total

    def compare_with(self, bare, daemon, seed, n_commands):
        program = Program(seed)
        with daemon.client() as client:
            for step in range(n_commands):
                for_bare, for_daemon = program.next()
                expected, got = bare.proxy.ask(for_bare), client.ask(for_daemon)
                if expected.rc == 0x922:  # the first authorization after a start; the daemon asks again by itself
                    expected = bare.proxy.ask(for_bare)
                if expected.rc in (0x902, 0x903):
                    # No room, there. Here there is, and what was made goes again, so that both hold the same.
                    if for_bare[6:10] == tpm.u32(tpm.CC_CONTEXT_LOAD):
                        return step
                    if got.rc == 0 and len(got.raw) >= 14:
                        client.run(tpm.flush_context(got.handle))
                    continue
                if for_bare[6:10] == tpm.u32(tpm.CC_CONTEXT_SAVE) and expected.rc == got.rc == 0:
                    program.contexts.append((expected.raw[10:], got.raw[10:]))
                where = "seed %d, step %d: %s: 0x%x, not 0x%x" % (seed, step, for_daemon.hex(), got.rc, expected.rc)
                self.assertEqual(class_of(got.rc), class_of(expected.rc), where)
                self.assertEqual(len(got.raw), len(expected.raw), where)
        return n_commands

    def test_random_programs(self):
        total = sum(self.compare(seed, 400) for seed in range(self.n_programs))
        print("# %d commands compared" % total)
        self.assertGreater(total, 65 * self.n_programs)


KEY, SEQUENCE, HMAC_SESSION, POLICY_SESSION = 0x80000000, 0x80000001, 0x02000000, 0x03000001
KINDS = [
    KEY, SEQUENCE, 0x80000002, 0x80000003, 0x80FFFFFE, 0x80FFFFFF, HMAC_SESSION, 0x02000001, 0x02FFFFFF, 0x03000000,
    POLICY_SESSION, 0x03000002, 0x03FFFFFF, 0x40000001, 0x40000006, 0x40000007, 0x40000009, 0x4000000A, 0x4000000B,
    0x4000000C, 0x4000000D, 0x40000010, 0x400000FF, 0x40000110, 0x81000001, 0x81FFFFFF, 0x01000001, 0x01FFFFFF, 0, 16,
    23, 24, 0xFF, 0x00FFFFFF, 0x7FFFFFFF, 0x82000000, 0x90000000, 0xAC000000, 0xC0000000, 0xFFFFFFFF]
PROPERTIES = [0x100, 0x105, 0x11F, 0x17A, 0x200, 0x214, 0x215, 0x300, 0x2000, 0x20000000]
# What cannot be undone between two commands: Clear, seeds, hierarchies, policies, banks of PCRs, clocks, power, audit
LEFT_OUT = {0x121, 0x124, 0x125, 0x126, 0x127, 0x128, 0x129, 0x12A, 0x12B, 0x12C, 0x12D, 0x12E, 0x130, 0x139, 0x13F,
            0x140, 0x144, 0x145}
LISTS_UNDER_SESSION = 0xB0145
SEED = int(os.environ.get("TRANSPARENCY_SEED", "1"))
N_RAW = 1000 if harness.IS_DEVICE else 10000


class EveryCommand(harness.TestCase):
    """Its handles, sessions and parameters are right by chance only, which shows what is looked at first."""

    def prepare(self, ask):
        """Both have the same: a key, a sequence, a session of each kind."""
        for first in (0x80000000, 0x02000000):
            for handle in range(first, first + 3):
                ask(tpm.flush_context(handle))
        self.assertEqual(ask(tpm.create_primary(tpm.public_hmac_key(b"1"))).handle, KEY)
        self.assertEqual(ask(tpm.hash_sequence_start()).handle, SEQUENCE)
        self.assertEqual(ask(tpm.start_auth_session(tpm.SE_HMAC)).handle, HMAC_SESSION)
        self.assertEqual(ask(tpm.start_auth_session(tpm.SE_POLICY)).handle, POLICY_SESSION)

    def draw_parameters(self, rng, code):
        choice = rng.choice
        if code == tpm.CC_GET_CAPABILITY and rng.random() < 0.9:
            return struct.pack(">III", choice([0, 1, 1, 1, 1, *range(2, 12), 0x100, 0xFFFFFFFF]),
                               choice(KINDS + PROPERTIES), choice([0, 1, 2, 3, 10, 127, 254, 255, 1000, 0xFFFFFFFF]))
        if code == tpm.CC_FLUSH_CONTEXT and rng.random() < 0.9:
            return tpm.u32(choice(KINDS))
        if rng.random() < 0.3:
            return b""
        return bytes(choice([0, 0, 0, 1, 4, 8, 0x0B, 0x10, rng.randrange(256)]) for _ in range(rng.randrange(40)))

    def draw(self, rng, commands):
        code = rng.choice(commands if rng.random() < 0.7 else [
            tpm.CC_FLUSH_CONTEXT, tpm.CC_CONTEXT_SAVE, tpm.CC_CONTEXT_LOAD, tpm.CC_GET_CAPABILITY])
        n_auths = rng.choice([None, None, 0, 1, 2, 3])
        auths = None if n_auths is None else [
            (rng.choice([tpm.RS_PW] * 6 + KINDS), rng.choice([b"", bytes(16)]),
             rng.choice([0, 1, 1, 0x81, 0x83, 0x20, 0x40, 0x1F, 0xFF]), rng.choice([b"", b"", b"x"]))
            for _ in range(n_auths)]
        handles = [rng.choice(KINDS) for _ in range(self.n_handles[code])]
        command = tpm.command(code, handles, self.draw_parameters(rng, code), auths)
        if rng.random() < 0.05:
            # Behind the handles: of those, the TPM has room for fewer than a client of the daemon.
            command = command[:rng.randrange(10 + 4 * len(handles), len(command) + 1)]
            command = command[:2] + tpm.u32(len(command)) + command[6:]
        return code, auths, command

    @staticmethod
    def is_documented(bare, ours):
        """See docs/PROTOCOL.md: what is not the client's, and lists of its own handles under a session."""
        if tpm.RM + tpm.RC_REFERENCE_S0 <= ours.rc <= tpm.RM + tpm.RC_REFERENCE_S0 + 6:
            return bare.rc >> 8 == 9 + ours.rc - tpm.RM - tpm.RC_REFERENCE_S0 and bare.rc & 0x80
        return ours.rc == LISTS_UNDER_SESSION or (is_about_handle(bare.rc) and len(ours.raw) == 10 and
                tpm.RM + tpm.RC_REFERENCE_H0 <= ours.rc <= tpm.RM + tpm.RC_REFERENCE_H0 + 6)

    def test_all_kinds_of_handles(self):
        bare = harness.Swtpm(self.folder / "bare")
        self.addCleanup(bare.stop)
        if harness.IS_DEVICE:
            bare.proxy.ask(tpm.hierarchy_change_auth(tpm.RH_PLATFORM, os.urandom(20)))
        self.start_subject()
        client = self.connect()
        listed = bare.proxy.ask(tpm.get_capability(2, 0, 254)).body
        attributes = struct.unpack(">%dI" % int.from_bytes(listed[5:9], "big"), listed[9:])
        self.n_handles = {a & 0x2000FFFF: a >> 25 & 7 for a in attributes}
        commands = [code for code in self.n_handles if code not in LEFT_OUT]
        self.assertGreater(len(commands), 80)
        rng, n_succeeded, n_documented = random.Random(SEED), 0, 0
        for side in (bare.proxy.ask, client.ask):
            self.prepare(side)
        for step in range(N_RAW):
            code, auths, command = self.draw(rng, commands)
            expected, got = bare.proxy.ask(command), client.ask(command)
            if expected.rc == tpm.RC_RETRY:
                expected = bare.proxy.ask(command)
            where = "step %d: %s: 0x%x, not 0x%x" % (step, command.hex(), got.rc, expected.rc)
            if self.is_documented(expected, got):
                n_documented += class_of(expected.rc) != class_of(got.rc)
            elif expected.rc not in (0x902, 0x903):
                self.assertEqual(class_of(got.rc), class_of(expected.rc), where)
                self.assertEqual(len(got.raw), len(expected.raw), where)
            if code == tpm.CC_GET_CAPABILITY and expected.body[1:5] == tpm.u32(tpm.CAP_HANDLES) and not auths:
                self.assertEqual(got.body, expected.body, where)
            n_succeeded += expected.rc == 0
            if expected.rc in (0, 0x902, 0x903) or got.rc == 0:
                for side in (bare.proxy.ask, client.ask):
                    self.prepare(side)
        print("# %d commands, %d succeeded, %d differ as documented" % (N_RAW, n_succeeded, n_documented))
        self.assertGreater(n_succeeded, N_RAW // 100)


if __name__ == "__main__":
    harness.main()
