# SPDX-License-Identifier: BSD-2-Clause
"""docs/MIGRATING.md about command lines, exit codes and the client library: what it says of 3.0 and of this daemon."""

import json
import os
import pathlib
import re
import subprocess
import sys

import harness
import tcti
import tpm

PAGE = pathlib.Path(__file__).parent.parent.parent / "docs/MIGRATING.md"
NO_TPM = "--tcti=device:/nonexistent"
BAD_VALUE = 0xA000B
TRY_AGAIN = 0xA0009
SUBJECTS = (harness.Peer, harness.Ours)


def table(first_cell):
    """-> {first cell: the other cells} of the table that begins so"""
    rows = re.search(r"^\| %s \|.*\n\|---.*\n((?:\|.*\n)+)" % re.escape(first_cell), PAGE.read_text(), re.M).group(1)
    return {row[0]: row[1:] for row in (line.strip("| ").split(" | ") for line in rows.splitlines())}


def answers(library):
    """In a process of its own. -> [what transmit and receive return, or None], for commands of wrong sizes"""
    found = []
    for command in (tpm.get_random() + b"xx", tpm.get_random()[:-1], tpm.get_random()[:3]):
        context = tcti.Tcti(library, "bus_type=session")
        rc = context.transmit(command)
        found.append((rc, context.receive(500)[0] if rc == 0 else None))
    return found


class CommandLines(harness.TestCase):
    def ends(self, subject, *options, bus=None):
        """-> exit status of a daemon that ends by itself. 3.0 may hang or crash instead: then it is tried again."""
        env = harness.clean_env(DBUS_SESSION_BUS_ADDRESS=bus.address if bus else "unix:path=/nonexistent")
        door = ["--no-socket"] if subject is harness.Ours else []
        if subject is harness.Peer:
            harness.peer_library()  # or it is skipped
        for _ in range(30):
            try:
                status = subprocess.run([subject.binary, "--session", *door, *options], capture_output=True, env=env,
                                        timeout=2 if subject is harness.Peer else harness.HANG, check=False).returncode
                if status >= 0 or subject is not harness.Peer:
                    return status
            except subprocess.TimeoutExpired:
                self.assertIs(subject, harness.Peer)
        raise TimeoutError("3.0 never ends")

    def measure(self, subject):
        """-> {what the page calls it: exit status}"""
        root = harness.Ours.root_option()
        daemon = self.start_daemon(self.tpm.conf, subject, bus=self.bus)
        found = {
            "SIGTERM or SIGINT ended it": daemon.stop(),
            "its options are wrong": self.ends(subject, *root, "--nonsense", bus=self.bus),
            "there is no TPM, and no `--wait`": self.ends(subject, *root, NO_TPM, bus=self.bus),
            "there is no bus, and no socket": self.ends(subject, *root, "--tcti=" + self.tpm.conf),
        }
        if os.geteuid() == 0:
            found["it is run as root, without `--allow-root`"] = self.ends(subject, NO_TPM, bus=self.bus)
        return found

    def test_exit_codes(self):
        self.start_bus()
        self.tpm = self.start_swtpm(proxied=False)
        rows = table("the daemon ends because")
        for column, subject in enumerate(SUBJECTS):
            with self.subTest(subject.name):
                found = self.measure(subject)
                self.assertEqual(found, {text: int(rows[text][column]) for text in found})
                self.assertLessEqual(len(rows) - len(found), int(os.geteuid() != 0))

    def test_arguments_and_nameless_tctis(self):
        """3.0 is not asked about a TCTI without a name: it would take whatever TPM this machine has."""
        bus = self.start_bus()
        root = harness.Ours.root_option()
        self.assertEqual(self.ends(harness.Peer, *root, NO_TPM, "stray", bus=bus), 74)
        self.assertEqual(self.ends(harness.Ours, *root, NO_TPM, "stray", bus=bus), 64)
        for option in ("--tcti=:port=1", "--tcti="):
            self.assertEqual(self.ends(harness.Ours, *root, option, bus=bus), 64)


class Sizes(harness.TestCase):
    def measure(self, library):
        env = dict(os.environ, DBUS_SESSION_BUS_ADDRESS=self.bus.address)
        done = subprocess.run([sys.executable, __file__, "answers", str(library / "libtss2-tcti-tabrmd.so.0")], env=env,
                              capture_output=True, text=True, timeout=harness.HANG, check=True)
        return json.loads(done.stdout)

    def test_transmit_of_a_size_that_is_not_the_header_s(self):
        self.start_bus()
        self.start_subject(bus=self.bus)
        self.assertEqual(self.measure(harness.LIBRARY), [[BAD_VALUE, None]] * 3)
        self.assertEqual(self.measure(harness.peer_library()), [[0, 0], [0, TRY_AGAIN], [0, TRY_AGAIN]])


if __name__ == "__main__":
    if sys.argv[1:2] == ["answers"]:
        print(json.dumps(answers(sys.argv[2])))
    else:
        harness.main()
