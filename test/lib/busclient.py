# SPDX-License-Identifier: BSD-2-Clause
"""A program on the bus that sends whatever it likes, with GLib's bindings."""

from process import MissingTool

try:
    from gi.repository import Gio, GLib
except ImportError:
    Gio = GLib = None

PATH, INTERFACE = "/com/intel/tss2/Tabrmd/Tcti", "com.intel.tss2.TctiTabrmd"
NAME = "com.intel.tss2.Tabrmd"


class BusClient:
    def __init__(self, address):
        if not Gio:
            raise MissingTool("there is no python3-gi")
        flags = Gio.DBusConnectionFlags
        self._bus = Gio.DBusConnection.new_for_address_sync(
            address, flags.AUTHENTICATION_CLIENT | flags.MESSAGE_BUS_CONNECTION, None, None)
        self._bus.set_exit_on_close(False)

    def _send(self, message, descriptors, wants_reply=True):
        if descriptors:
            message.set_unix_fd_list(Gio.UnixFDList.new_from_array(descriptors))
            message.set_body(GLib.Variant.new_tuple(*[GLib.Variant("h", i) for i in range(len(descriptors))]))
        if not wants_reply:
            message.set_flags(Gio.DBusMessageFlags.NO_REPLY_EXPECTED)
        self._bus.send_message(message, Gio.DBusSendMessageFlags.NONE)

    def signal(self, descriptors=(), to=NAME):
        """Sent to one name alone. GLib closes the descriptors."""
        message = Gio.DBusMessage.new_signal(PATH, INTERFACE, "Hello")
        message.set_destination(to)
        self._send(message, list(descriptors))

    def call(self, member, descriptors=(), wants_reply=True, interface=INTERFACE):
        self._send(Gio.DBusMessage.new_method_call(NAME, PATH, interface, member), list(descriptors), wants_reply)

    def ask(self, member, descriptors=()):
        """-> the answer of a call, as a Gio.DBusMessage"""
        message = Gio.DBusMessage.new_method_call(NAME, PATH, INTERFACE, member)
        if descriptors:
            message.set_unix_fd_list(Gio.UnixFDList.new_from_array(list(descriptors)))
            message.set_body(GLib.Variant("(h)", (0,)))
        return self._bus.send_message_with_reply_sync(message, Gio.DBusSendMessageFlags.NONE, 60000, None)[0]

    def ask_bus(self, method="GetId", name=None):
        """-> what the bus itself answers"""
        bus = "org.freedesktop.DBus"
        return self._bus.call_sync(bus, "/org/freedesktop/DBus", bus, method, name and GLib.Variant("(s)", (name,)),
                                   None, Gio.DBusCallFlags.NONE, 60000).unpack()[0]

    def owner(self):
        return self.ask_bus("GetNameOwner", NAME)

    def names_of(self, pid):
        """-> the names of a process that the bus has made up, one of each connection"""
        names = {name for name in self.ask_bus("ListNames") if name.startswith(":")}
        return {name for name in names if self.ask_bus("GetConnectionUnixProcessID", name) == pid}

    def flush(self):
        self._bus.flush_sync(None)

    def close(self):
        if not self._bus.is_closed():
            self._bus.close_sync(None)
