# SPDX-License-Identifier: BSD-2-Clause
"""tpm2-tools of the distribution, unchanged, over the socket and over the session bus."""

import harness
import workout


class OverSocket(workout.Workout, harness.TestCase):
    def setUp(self):
        super().setUp()
        self.start_subject()
        self.addCleanup(self.assertTpmEmpty)

    def door(self):
        return self.daemon.socket_conf, self.daemon.library, None


class OverBus(workout.Workout, harness.TestCase):
    def setUp(self):
        super().setUp()
        self.bus = self.start_bus()
        self.start_subject(bus=self.bus)
        self.addCleanup(self.assertTpmEmpty)

    def door(self):
        return self.daemon.bus_conf, self.daemon.library, self.bus


if __name__ == "__main__":
    harness.main()
