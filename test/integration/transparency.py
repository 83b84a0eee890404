# SPDX-License-Identifier: BSD-2-Clause
"""
A client that has the daemon to itself gets what it would get from the bare TPM: random programs, a quarter of their
commands damaged, run on both, and every response compared.

Codes are compared in classes: one of layer 11 is the same of layer 0, and what is wrong with handle, session or
parameter n may be said as REFERENCE, HANDLE or VALUE. A response has the same length, since it is made of the same
parts.
"""

import os
import random
import struct

import harness
import tpm

HANDLES = [0x80000000, 0x80000001, 0x80000002, 0x02000000, 0x02000001, 0x03000000, 0x03000001, 0x40000001, 0x40000007,
           0x81000001, 0, 16]
HANDLE, VALUE = 0x0B, 0x04


def class_of(rc):
    if rc >> 16 == 0xB:
        rc &= 0xFFFF
    if 0x910 <= rc <= 0x916:
        return "handle %d" % (rc - 0x910)
    if 0x918 <= rc <= 0x91E:
        return "session %d" % (rc - 0x918)
    if rc & 0x80 and rc & 0x3F in (HANDLE, VALUE):
        number = rc >> 8 & 0xF
        if rc & 0x40:
            return "parameter %d" % number
        return "session %d" % (number - 9) if number > 8 else "handle %d" % (number - 1)
    return rc


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


if __name__ == "__main__":
    harness.main()
