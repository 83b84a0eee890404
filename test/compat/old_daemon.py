# SPDX-License-Identifier: BSD-2-Clause
"""The new client library with the daemon of tpm2-abrmd 3.0."""

import harness
import tcti
import tpm
import workout


class OldDaemon(workout.Workout, harness.TestCase):
    # It keeps only the last four saved sessions of all clients together.
    workers = 4

    def setUp(self):
        super().setUp()
        self.bus = self.start_bus()
        self.tpm = self.start_swtpm(tcp=True)
        self.daemon = self.start_daemon(self.tpm.conf, harness.Peer, bus=self.bus)

    def door(self):
        return self.daemon.bus_conf, harness.LIBRARY, self.bus

    def test_bare_commands(self):
        with tpm.Client(tcti.connect_bus(harness.LIBRARY, self.bus.address)) as client:
            self.assertServes(client)
            client.run(tpm.read_public(client.create_primary(tpm.public_hmac_key(b"x"))))


if __name__ == "__main__":
    harness.main()
