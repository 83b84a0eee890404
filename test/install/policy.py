# SPDX-License-Identifier: BSD-2-Clause
"""
The policy of the bus, in force in a dbus-daemon with the distribution's own rules for a system bus: who may send what
to the daemon's name is what the table of docs/HARDENING.md says, row by row.
"""

import os
import pathlib
import re
import struct
import unittest

import bus
import harness
from process import MOUNT, needs

ROOT = pathlib.Path(__file__).parents[2]
SYSTEM = pathlib.Path("/usr/share/dbus-1/system.conf")
TCTI, MANAGER = "/com/intel/tss2/Tabrmd/Tcti", "/com/intel/tss2/Tabrmd/Manager"
PROPERTIES, MANAGER1 = "org.freedesktop.DBus.Properties", "com.intel.tss2.Tabrmd.Manager1"
# The accounts that the bus knows: numbers, and the groups of a process.
TSS = 7101
USERS = {"others": (65534, 65534, []), "group `tss`": (7102, 7102, [TSS]), "user `tss`": (TSS, TSS, [TSS]),
         "root": (0, 0, [0])}
PASSWD = ("root:x:0:0::/:/bin/sh\ntss:x:%d:%d::/:/bin/sh\nmember:x:7102:7102::/:/bin/sh\n"
          "nobody:x:65534:65534::/:/bin/sh\n")
GROUP = "root:x:0:\ntss:x:%d:member\nmember:x:7102:\nnogroup:x:65534:\n"


def call(path, interface, *members):
    """-> calls of methods, as header fields"""
    more = {bus.INTERFACE: interface} if interface else {}
    return [(bus.METHOD_CALL, {bus.PATH: path, bus.MEMBER: member, **more}) for member in members]


def signal(path, interface, member):
    return bus.SIGNAL, {bus.PATH: path, bus.INTERFACE: interface, bus.MEMBER: member}


# What stands for each row of the table.
ROWS = {
    "`com.intel.tss2.TctiTabrmd`": call(TCTI, "com.intel.tss2.TctiTabrmd", "CreateConnection", "Cancel", "SetLocality"),
    "`org.freedesktop.DBus.Introspectable`": call(TCTI, "org.freedesktop.DBus.Introspectable", "Introspect"),
    "`org.freedesktop.DBus.Peer`": call(MANAGER, "org.freedesktop.DBus.Peer", "Ping", "GetMachineId"),
    "`org.freedesktop.DBus.Properties` of `%s`" % TCTI: call(TCTI, PROPERTIES, "Get", "GetAll", "Set"),
    "`Get` and `GetAll` of `%s`" % MANAGER: call(MANAGER, PROPERTIES, "Get", "GetAll"),
    "`Set` of `%s`" % MANAGER: call(MANAGER, PROPERTIES, "Set"),
    "`ListClients`, `ListPrograms` and `ListSessions` of the manager":
        call(MANAGER, MANAGER1, "ListClients", "ListPrograms", "ListSessions"),
    "all other methods of the manager": call(MANAGER, MANAGER1, "Flush", "Trace", "SetLogLevel", "Nonsense"),
    "calls of another interface, or of none": call(TCTI, "org.example.Other", "Foo") + call(
        TCTI, None, "CreateConnection", "Foo"),
    "signals": [signal("/x", "x.y.Z", "Boo"), signal(TCTI, "com.intel.tss2.TctiTabrmd", "CreateConnection"),
                signal(MANAGER, PROPERTIES, "PropertiesChanged")],
    "replies that it has not asked for": [(bus.METHOD_RETURN, {bus.REPLY_SERIAL: 4711}),
                                          (bus.ERROR, {bus.REPLY_SERIAL: 4711, 4: "org.example.Error"})],
}
DESCRIPTORS = "any of these with a descriptor"
OWN = "the name itself (`RequestName`)"


def table():
    """-> {row: {column: whether it may}}"""
    text = (ROOT / "docs/HARDENING.md").read_text()
    lines = re.search(r"^\| sent to the daemon's name \|.*\n(?:\|.*\n)+", text, re.M)[0].splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]
    assert cells[0][1:] == list(USERS), cells[0]
    return {row[0]: {user: {"yes": True, "no": False}[cell] for user, cell in zip(USERS, row[1:])}
            for row in cells[2:]}


class Policy(harness.TestCase):
    maxDiff = None

    def start_system_bus(self, policy):
        """With accounts of its own."""
        path = self.folder / policy.stem
        text = re.sub(r"(?s)<(user|listen|servicehelper|pidfile)>.*?</\1>|<(fork|standard_system_servicedirs|syslog)/>"
                      r"|<include.*?</include(dir)?>", "", SYSTEM.read_text())
        text = text.replace("</busconfig>", "<listen>unix:path=%s</listen><include>%s</include></busconfig>" % (
            path, policy))
        (self.folder / "system.conf").write_text(text)
        for name, lines in (("passwd", PASSWD % (TSS, TSS)), ("group", GROUP % TSS)):
            (self.folder / name).write_text(lines)
        self.folder.chmod(0o755)
        process = harness.Process("dbus-daemon", [
            "unshare", "-m", "--propagation", "private", "sh", "-ec",
            'mount --bind "$0/passwd" /etc/passwd; mount --bind "$0/group" /etc/group; exec "$@"', self.folder,
            "dbus-daemon", "--nofork", "--nosyslog", "--config-file", self.folder / "system.conf"],
            self.folder / "bus.log")
        self.addCleanup(process.end)
        harness.wait_until(lambda: harness.can_connect(str(path)), "the bus starts", process.popen)
        return str(path)

    def connect_as(self, path, user):
        with bus.identity(*USERS[user]):
            connection = bus.Connection(path, harness.HANG)
        self.addCleanup(connection.close)
        return connection

    def request(self, connection, name):
        """-> whether it has the name now"""
        kind, body, _ = connection.ask("RequestName", "su", bus.align(bus.string(name), 4) + struct.pack("<I", 4))
        return kind == bus.METHOD_RETURN and struct.unpack("<I", body)[0] == 1

    def arrives(self, sender, daemon, kind, fields, name, fds=()):
        """The bus has dealt with what it was sent before it answers what it is asked then."""
        more = {bus.SIGNATURE: "h" * len(fds)} if fds else {}
        sender.send(kind, {bus.DESTINATION: name, **fields, **more}, struct.pack("<I", 0) * len(fds),
                    bus.NO_AUTO_START, fds)
        sender.ask("GetId")
        return any(fields.get(bus.MEMBER) or bus.REPLY_SERIAL in fields for fields in daemon.ask("GetId")[2])

    def check(self, name, policy):
        path = self.start_system_bus(policy)
        found = {row: {} for row in [*ROWS, DESCRIPTORS, OWN]}
        for user in USERS:
            self.assertFalse(self.request(self.connect_as(path, user), "org.example.Other"))
            claimant = self.connect_as(path, user)
            found[OWN][user] = self.request(claimant, name)
            claimant.close()
        daemon = self.connect_as(path, "user `tss`")
        harness.wait_until(lambda: self.request(daemon, name), "nobody else has the name")
        for user in USERS:
            sender = self.connect_as(path, user)
            for row, messages in ROWS.items():
                arrived = {self.arrives(sender, daemon, *one, name) for one in messages}
                self.assertEqual(len(arrived), 1, (row, user))
                found[row][user] = arrived.pop()
            found[DESCRIPTORS][user] = any(
                self.arrives(sender, daemon, *one, name, fds=[0] * n)
                for messages in ROWS.values() for one in messages for n in (1, 2))
            # By the number that the bus has given the daemon it is no other.
            self.assertEqual(daemon.ask("GetId")[2], [])
        self.assertEqual(found, table())

    @needs(*MOUNT)
    @unittest.skipIf(os.geteuid(), "only root can be other users")
    def test_table(self):
        for name, conf in (("com.intel.tss2.Tabrmd", "tpm2-abrmd.conf"),
                           ("com.intel.tss2.Tabrmd.tpm1", "tpm2-abrmd-tpm1.conf")):
            with self.subTest(name):
                self.check(name, harness.BUILD / "data" / conf)


if __name__ == "__main__":
    harness.main()
