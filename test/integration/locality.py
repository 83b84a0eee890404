# SPDX-License-Identifier: BSD-2-Clause
"""
Each client has a locality of its own: what it asks of the TPM is asked at that, as if it were alone at a bare one.
"""

import os
import socket
import struct

import harness
import tpm

CC_PCR_RESET, CC_POLICY_LOCALITY, CC_HMAC = 0x13D, 0x16F, 0x155
NOT_PERMITTED, NOT_PERMITTED_BUS = 0xA000C, 0xB000C
CTRL_SET_LOCALITY = 5


def pcr_reset(pcr):
    return tpm.command(CC_PCR_RESET, [pcr], b"", [tpm.PASSWORD])


def pcr_extend(pcr):
    return tpm.command(0x182, [pcr], tpm.u32(1) + tpm.u16(tpm.ALG_SHA256) + bytes(32), [tpm.PASSWORD])


class BareTpm:
    """swtpm itself, whose locality is set over its control channel."""

    def __init__(self, swtpm):
        self.client = tpm.Client(tpm.connect_unix(swtpm.data))
        self.ctrl = swtpm.ctrl

    def ask(self, command, locality):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as ctrl:
            ctrl.connect(self.ctrl)
            ctrl.sendall(struct.pack(">IB", CTRL_SET_LOCALITY, locality))
            if ctrl.recv(4) != bytes(4):
                raise OSError("swtpm does not take locality %d" % locality)
        return self.client.ask(command)


class Localities(harness.TestCase):
    def setUp(self):
        super().setUp()
        self.start_subject(bus=self.start_bus(), options=["--allow-locality"])

    def context(self, locality=0):
        context = self.daemon.context(by_bus=True)
        self.addCleanup(context.finalize)
        self.assertEqual(context.set_locality(locality), 0)
        return context

    def ask(self, context, command):
        self.assertEqual(context.transmit(command), 0)
        rc, response = context.receive()
        self.assertEqual(rc, 0)
        return tpm.Response(response)

    def test_pcrs_behave_as_on_a_bare_tpm(self):
        """The PCRs of the dynamic root of trust: what may be reset and extended depends on the locality."""
        bare = harness.Swtpm(self.folder / "bare", proxied=False)
        self.addCleanup(bare.stop)
        bare_tpm = BareTpm(bare)
        self.addCleanup(bare_tpm.client.close)
        contexts = [self.context(locality) for locality in range(5)]
        seen = set()
        for pcr in (0, 16, 17, 18, 19, 20, 21, 22, 23):
            for make in (pcr_reset, pcr_extend):
                for locality in (0, 1, 2, 3, 4, 2, 0):
                    alone = bare_tpm.ask(make(pcr), locality).rc
                    self.assertEqual(self.ask(contexts[locality], make(pcr)).rc, alone, (pcr, make, locality))
                    seen.add(alone)
        self.assertIn(0x907, seen)
        self.assertIn(0, seen)

    def test_policy_locality(self):
        """A key that may be used at locality 3 alone."""
        far, near = self.context(3), self.context(0)
        allowed = bytes([1 << 3])
        trial = self.ask(far, tpm.start_auth_session(3)).handle
        self.assertEqual(self.ask(far, tpm.command(CC_POLICY_LOCALITY, [trial], allowed)).rc, 0)
        policy = self.ask(far, tpm.policy_get_digest(trial)).body[2:]
        self.assertEqual(self.ask(far, tpm.flush_context(trial)).rc, 0)
        public = (struct.pack(">HHI", 0x0008, tpm.ALG_SHA256, 0x40032) + tpm.tpm2b(policy) +
                  struct.pack(">HH", 0x0005, tpm.ALG_SHA256) + tpm.tpm2b())
        for context, expected in ((far, 0), (near, 0x907)):
            key = self.ask(context, tpm.create_primary(public)).handle
            session = self.ask(context, tpm.start_auth_session(tpm.SE_POLICY)).handle
            self.assertEqual(self.ask(context, tpm.command(CC_POLICY_LOCALITY, [session], allowed)).rc, 0)
            hmac = tpm.command(CC_HMAC, [key], tpm.tpm2b(b"x") + tpm.u16(tpm.ALG_NULL), [(session, b"", 1, b"")])
            self.assertEqual(self.ask(context, hmac).rc, expected)

    def test_others_keep_theirs(self):
        """Whoever comes in between, at whatever locality, changes nothing for the next."""
        contexts = {locality: self.context(locality) for locality in (0, 2, 4)}
        plain = self.connect()
        for turn in range(30):
            locality = (0, 2, 4)[turn % 3]
            expected = 0 if locality == 2 else 0x907
            self.assertEqual(self.ask(contexts[locality], pcr_reset(20)).rc, expected)
            self.assertEqual(plain.ask(pcr_reset(20)).rc, 0x907)
            if turn % 7 == 0:
                plain.create_primary(tpm.public_hmac_key(b"%d" % turn))  # what comes and goes for it is at locality 0

    def test_none_beyond_four(self):
        context = self.context()
        for locality in (5, 31, 32, 255):
            self.assertEqual(context.set_locality(locality), NOT_PERMITTED_BUS)
        self.assertEqual(context.set_locality(4), 0)


class Permission(harness.TestCase):
    def test_who_may(self):
        """On the bus root alone, unless told otherwise; on the socket nobody, unless the socket says so."""
        self.start_subject(bus=self.start_bus())
        by_bus, by_socket = self.daemon.context(by_bus=True), self.daemon.context()
        self.assertEqual(by_bus.set_locality(0), 0)
        self.assertEqual(by_socket.set_locality(0), 0)
        self.assertEqual(by_bus.set_locality(3), 0 if os.geteuid() == 0 else NOT_PERMITTED_BUS)
        self.assertEqual(by_socket.set_locality(3), NOT_PERMITTED)
        by_bus.finalize()
        by_socket.finalize()


if __name__ == "__main__":
    harness.main()
