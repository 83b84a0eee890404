# SPDX-License-Identifier: BSD-2-Clause
"""A TPM of our own, --tcti=libtpms:FOLDER: what is left of it when daemon or helper end, and begin again."""

import os
import pathlib
import signal
import struct

import harness
import tpm
from process import PID_NAMESPACE, needs

CC_NV_DEFINE, CC_NV_INCREMENT, CC_NV_READ, CC_NV_WRITE = 0x12A, 0x134, 0x14E, 0x137
CC_SHUTDOWN, CC_READ_CLOCK = 0x145, 0x181
SU_CLEAR, SU_STATE = 0, 1
PT_STARTUP_CLEAR, PT_LOCKOUT_COUNTER = 0x201, 0x20E
ORDERLY = 1 << 31  # TPMA_STARTUP_CLEAR
COUNTER, BYTES = 0x1500051, 0x1500052
NV_ORDERLY, NV_COUNTER, NV_OWNER = 1 << 26, 1 << 4, 1 << 1 | 1 << 17  # ownerwrite, ownerread


def property_value(client, prop):
    body = client.run(tpm.get_capability(tpm.CAP_TPM_PROPERTIES, prop, 1)).body
    found, value = struct.unpack(">II", body[9:17])
    assert found == prop
    return value


def clock(client):
    """-> resets, restarts, safe"""
    return struct.unpack(">16xII?", client.run(tpm.command(CC_READ_CLOCK)).body)


def shutdown(kind):
    return tpm.command(CC_SHUTDOWN, parameters=tpm.u16(kind))


def define(index, size, attributes):
    public = tpm.u32(index) + tpm.u16(tpm.ALG_SHA256) + tpm.u32(attributes) + tpm.tpm2b() + tpm.u16(size)
    return tpm.command(CC_NV_DEFINE, [tpm.RH_OWNER], tpm.tpm2b() + tpm.tpm2b(public), [tpm.PASSWORD])


def on_nv(code, index, parameters=b""):
    return tpm.command(code, [tpm.RH_OWNER, index], parameters, [tpm.PASSWORD])


class Power(harness.TestCase):
    def setUp(self):
        super().setUp()
        self.state = self.folder / "state"
        self.state.mkdir()
        self.begin()

    def begin(self):
        self.daemon = self.start_daemon("libtpms:%s" % self.state, options=["--time-limit=1"])
        self.helpers = harness.children(self.daemon.process.pid)
        self.client = self.connect()

    def again(self, sig=signal.SIGTERM):
        self.client.close()
        self.assertEqual(self.daemon.stop(sig), 0 if sig == signal.SIGTERM else -sig)
        self.begin()

    def use_protected_key(self, auth=b"pw"):
        """One authorization that is subject to dictionary attack protection, and is correct."""
        sensitive = tpm.tpm2b(tpm.tpm2b(b"pw") + tpm.tpm2b())
        key = self.client.run(tpm.command(tpm.CC_CREATE_PRIMARY, [tpm.RH_OWNER], sensitive +
                                          tpm.tpm2b(tpm.public_hmac_key(b"")) + tpm.tpm2b() + tpm.u32(0),
                                          [tpm.PASSWORD])).handle
        parameters = tpm.tpm2b(b"data") + tpm.u16(tpm.ALG_NULL)
        response = self.client.ask(tpm.command(0x155, [key], parameters, [(tpm.RS_PW, b"", 0, auth)]))
        self.assertEqual(response.rc == 0, auth == b"pw")
        self.client.run(tpm.flush_context(key))

    def test_correct_authorizations_lock_nobody_out(self):
        for sig in (signal.SIGTERM, signal.SIGKILL) * 2:
            self.use_protected_key()
            self.again(sig)
            self.assertOrderly(sig)

    @needs(*PID_NAMESPACE)
    def test_daemon_that_is_process_1(self):
        """With it, the kernel ends all processes of its namespace: the helper has to be done before."""
        for _ in range(2):
            self.client.close()
            self.daemon.stop()
            self.daemon = self.start_daemon("libtpms:%s" % self.state, wrap=[*PID_NAMESPACE[:-2], "--mount-proc"])
            self.client = self.connect()
            self.assertOrderly()
            self.use_protected_key()
            for pid in harness.children(self.daemon.process.pid):
                os.kill(pid, signal.SIGTERM)
            self.assertEqual(self.daemon.wait(), 0)
            self.begin()
            self.assertOrderly()

    def test_helper_that_is_replaced(self):
        """It was given up as late; its end is in order all the same."""
        self.use_protected_key()
        os.kill(*self.helpers, signal.SIGSTOP)
        self.addCleanup(lambda: harness.runs(*self.helpers) and os.kill(*self.helpers, signal.SIGKILL))
        self.assertEqual(self.client.ask(tpm.get_random()).rc, tpm.LOST)
        harness.wait_until(lambda: len(harness.children(self.daemon.process.pid)) > 1, "another one is started")
        os.kill(*self.helpers, signal.SIGCONT)
        harness.wait_until(lambda: self.client.ask(tpm.get_random()).rc == 0, "it is back")
        self.assertFalse(harness.runs(*self.helpers))
        self.assertOrderly()

    def test_helper_that_is_killed_is_an_end_without_order(self):
        """What no order of ours can mend counts, as it does for a bare TPM: else the test above would say nothing."""
        self.use_protected_key()
        self.client.close()
        for pid in self.helpers:
            os.kill(pid, signal.SIGKILL)
        self.daemon.stop()
        self.begin()
        self.assertEqual(property_value(self.client, PT_LOCKOUT_COUNTER), 1)
        self.assertFalse(property_value(self.client, PT_STARTUP_CLEAR) & ORDERLY)

    def test_orderly_data_is_kept(self):
        self.client.run(define(COUNTER, 8, NV_ORDERLY | NV_COUNTER | NV_OWNER))
        self.client.run(define(BYTES, 4, NV_ORDERLY | NV_OWNER))
        self.client.run(on_nv(CC_NV_WRITE, BYTES, tpm.tpm2b(b"abcd") + tpm.u16(0)))
        count = None
        for sig in (signal.SIGTERM, signal.SIGKILL) * 2:
            self.client.run(on_nv(CC_NV_INCREMENT, COUNTER))
            value = self.client.run(on_nv(CC_NV_READ, COUNTER, tpm.u16(8) + tpm.u16(0))).parameters()
            value = int.from_bytes(value[2:], "big")
            if count is not None:
                self.assertEqual(value, count + 1, sig)
            count = value
            self.again(sig)
            self.assertEqual(self.client.run(on_nv(CC_NV_READ, BYTES, tpm.u16(4) + tpm.u16(0))).parameters(),
                             tpm.tpm2b(b"abcd"), sig)
            self.assertTrue(clock(self.client)[2], sig)

    def save_something(self):
        session = self.client.start_session(tpm.SE_POLICY)
        key = self.client.create_primary(tpm.public_hmac_key(b"k"))
        self.client.run(tpm.policy_pcr(session))
        for pcr in (8, 16):
            self.client.run(tpm.pcr_extend(pcr, b"\1" * 32))
        return (session, self.client.run(tpm.policy_get_digest(session)).body,
                self.client.run(tpm.context_save(session)).body, self.client.run(tpm.context_save(key)).body)

    def is_extended(self, pcr):
        return self.client.run(tpm.pcr_read(pcr)).body[-32:] != bytes(32)

    def assertOrderly(self, what=None):
        self.assertTrue(property_value(self.client, PT_STARTUP_CLEAR) & ORDERLY, what)
        self.assertEqual(property_value(self.client, PT_LOCKOUT_COUNTER), 0, what)
        self.assertTrue(clock(self.client)[2], what)

    def assertContextsLive(self, saved):
        session, digest, session_context, key_context = saved
        self.assertEqual(self.client.run(tpm.context_load(session_context)).handle, session)
        self.assertEqual(self.client.run(tpm.policy_get_digest(session)).body, digest)
        self.client.run(tpm.flush_context(session))
        key = self.client.run(tpm.context_load(key_context)).handle
        self.client.run(tpm.read_public(key))
        self.client.run(tpm.flush_context(key))

    def assertGoesOn(self, saved, before, what=None):
        self.assertOrderly(what)
        self.assertEqual(clock(self.client)[0], before[0], "no reset")
        self.assertContextsLive(saved)
        self.assertTrue(self.is_extended(8))
        self.assertFalse(self.is_extended(16), "it is not one of those that Startup(STATE) keeps")

    def boot(self):
        """The machine is booted; the daemon is started anew."""
        self.client.close()
        self.assertEqual(self.daemon.stop(), 0)
        note = self.state / "resume"
        boot = pathlib.Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        self.assertTrue(note.read_text().startswith(boot), "the helper has ended before the daemon")
        note.write_text(note.read_text().replace(boot, "another"))
        self.begin()
        self.assertFalse(note.exists())

    def test_contexts_live_on_while_the_machine_runs(self):
        """Like those of a chip that stays powered."""
        for sig in (signal.SIGTERM, signal.SIGKILL):
            saved, before = self.save_something(), clock(self.client)
            self.again(sig)
            self.assertGoesOn(saved, before, sig)

    def test_another_boot_is_a_reset(self):
        self.use_protected_key()
        saved, before = self.save_something(), clock(self.client)
        self.boot()
        self.assertOrderly()
        self.assertGreater(clock(self.client)[0], before[0])
        self.assertFalse(self.is_extended(8))
        for context in saved[2:]:
            self.assertNotEqual(self.client.ask(tpm.context_load(context)).rc, 0)
        self.use_protected_key()
        self.again()
        self.assertOrderly()

    def test_what_a_client_asked_for_last(self):
        """It makes no difference while the machine runs; Shutdown(STATE) and another boot are a restart."""
        for kind in (SU_STATE, SU_CLEAR):
            saved, before = self.save_something(), clock(self.client)
            self.client.run(shutdown(kind))
            self.again()
            self.assertGoesOn(saved, before, kind)
        saved, before = self.save_something(), clock(self.client)
        self.client.run(shutdown(SU_STATE))
        self.boot()
        self.assertOrderly()
        self.assertEqual(clock(self.client)[:2], (before[0], before[1] + 1))
        self.assertFalse(self.is_extended(8))
        self.assertContextsLive(saved)
        saved, before = self.save_something(), clock(self.client)
        self.client.run(shutdown(SU_STATE))
        self.client.run(tpm.get_random())  # it counts: the client goes on
        self.boot()
        self.assertGreater(clock(self.client)[0], before[0])

    def test_what_undoes_a_shutdown(self):
        """A TPM forgets that it was shut down when it has to, and the helper shuts it down once more."""
        saved = self.save_something()
        for undo in (lambda: self.client.run(tpm.flush_context(self.client.run(tpm.context_load(saved[3])).handle)),
                     lambda: self.client.run(tpm.context_load(saved[2])),
                     lambda: self.use_protected_key(b"wrong")):
            self.client.run(shutdown(SU_STATE))
            undo()
            self.again()
            self.assertTrue(property_value(self.client, PT_STARTUP_CLEAR) & ORDERLY)
            self.assertTrue(clock(self.client)[2])
        self.assertEqual(property_value(self.client, PT_LOCKOUT_COUNTER), 1, "the wrong one, and no other")


if __name__ == "__main__":
    harness.main()
