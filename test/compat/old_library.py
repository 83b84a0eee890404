# SPDX-License-Identifier: BSD-2-Clause
"""The client library of tpm2-abrmd 3.0 with the new daemon."""

import contextlib
import os
import subprocess
import sys

import harness
import tcti
import tpm
import workout


class OldLibrary(workout.Workout, harness.TestCase):
    def setUp(self):
        super().setUp()
        self.bus = self.start_bus()
        self.start_subject(bus=self.bus)
        self.addCleanup(self.assertTpmEmpty)

    def door(self):
        return self.daemon.bus_conf, harness.peer_library(), self.bus

    def connect_bus(self):
        return tpm.Client(tcti.connect_bus(harness.peer_library(), self.bus.address))

    def test_a_client_that_vanishes_leaves_nothing(self):
        with self.connect_bus() as client:
            client.create_primary(tpm.public_hmac_key(b"x"))
            client.start_session(tpm.SE_HMAC)
        self.assertTpmEmpty()


class Configurations(harness.TestCase):
    """What the library of 3.0 takes, ours takes."""

    STRINGS = ["", ",", ",,", "bus_type=session", "bus_type=session,", ",bus_type=session", "bus_type=session,,",
               "bus_type=session,bus_type=session", "bus_type=system,bus_type=session", "bus_type==session",
               "=bus_type=session", "bus_type=session=x", "bus_type=session=", "bus_type", "bus_type=", "=", "=session",
               "bus_name=x.y,bus_name=com.intel.tss2.Tabrmd,bus_type=session", "bus_name==", "bus_type=foo",
               "bus_type=foo,bus_type=session", "bus_type=session, bus_name=a.b", " bus_type=session", "socket"]

    def code(self, library, conf):
        """-> what Init returns, in a process of its own"""
        program = "import sys, tcti\ntry: tcti.Tcti(*sys.argv[1:])\nexcept ConnectionError as e: print(str(e)[-7:])"
        env = dict(harness.clean_env(DBUS_SESSION_BUS_ADDRESS=self.bus.address, TSS2_LOG="all+none",
                                     DBUS_SYSTEM_BUS_ADDRESS=self.bus.address), PYTHONPATH=os.environ["PYTHONPATH"])
        done = subprocess.run([sys.executable, "-c", program, str(library / "libtss2-tcti-tabrmd.so.0"), conf], env=env,
                              capture_output=True, text=True, timeout=harness.HANG, check=False)
        return done.stdout.strip()

    def test_strings(self):
        self.start_subject(bus=self.start_bus())
        taken = 0
        for conf in self.STRINGS:
            with self.subTest(conf):
                theirs = self.code(harness.peer_library(), conf)
                self.assertEqual(self.code(self.daemon.library, conf), theirs)
                taken += theirs == ""
        self.assertEqual(taken, 14)


class Limits(harness.TestCase):
    def test_connection_limit(self):
        bus = self.start_bus()
        self.start_subject(bus=bus, options=["--max-connections", "2"])
        clients = [tpm.Client(tcti.connect_bus(harness.peer_library(), bus.address)) for _ in range(2)]
        with self.assertRaisesRegex(ConnectionError, "0xa0008"):
            tcti.connect_bus(harness.peer_library(), bus.address)
        for client in clients:
            self.assertServes(client)
            client.close()

        def free():
            with contextlib.suppress(ConnectionError):
                with tpm.Client(tcti.connect_bus(harness.peer_library(), bus.address)) as client:
                    return client.ask(tpm.get_random()).rc == 0
            return False

        harness.wait_until(free, "a place becomes free")


if __name__ == "__main__":
    harness.main()
