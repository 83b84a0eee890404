# SPDX-License-Identifier: BSD-2-Clause
"""The client library of tpm2-abrmd 3.0 with the new daemon."""

import contextlib

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
