# SPDX-License-Identifier: BSD-2-Clause
"""What our library makes of a daemon's errors on the bus is what that of tpm2-abrmd 3.0 makes of them."""

import json
import os
import subprocess
import sys

import harness
import tcti
import tpm

DAEMON = harness.BUILD / "test/compat/error-daemon"
PREFIX = "com.intel.tss2.Tabrmd.Error."
ERRORS = [PREFIX + name for name in ("General", "Internal", "Init", "NotImplemented", "NotPermitted")]
# Here theirs gives the numbers of GIO away; ours says that something failed.
OTHERS = [PREFIX + "Unknown", "org.example.Unknown", "org.freedesktop.DBus.Error.AccessDenied"]
GENERAL_FAILURE = 0xA0001


def codes(library):
    """In a process of its own. -> what cancel and setLocality return for each error"""
    context = tcti.Tcti(library, "bus_type=session")
    localities = [context.set_locality(1) for _ in ERRORS + OTHERS]
    context.transmit(tpm.get_random())
    return localities, [context.cancel() for _ in ERRORS + OTHERS]


class Errors(harness.TestCase):
    def measure(self, library):
        bus = self.start_bus()
        daemon = harness.Process("error-daemon", [DAEMON, *ERRORS, *OTHERS, *ERRORS, *OTHERS],
                                 self.folder / "daemon.log", harness.clean_env(DBUS_SESSION_BUS_ADDRESS=bus.address))
        harness.wait_until(lambda: "ready" in daemon.output(), "the daemon is on the bus", daemon.popen)
        env = dict(os.environ, DBUS_SESSION_BUS_ADDRESS=bus.address)
        done = subprocess.run([sys.executable, __file__, "codes", str(library)], env=env, capture_output=True,
                              text=True, timeout=harness.HANG, check=True)
        daemon.end()
        bus.stop()
        return json.loads(done.stdout)

    def test_codes(self):
        theirs = self.measure(harness.peer_library() / "libtss2-tcti-tabrmd.so.0")
        ours = self.measure(harness.LIBRARY / "libtss2-tcti-tabrmd.so.0")
        for their, our in zip(theirs, ours):
            n = len(ERRORS)
            self.assertEqual(our[:n], their[:n])
            self.assertEqual(our[n:], [GENERAL_FAILURE] * len(OTHERS))
            print("#", *("0x%x" % rc for rc in our[:n]))


if __name__ == "__main__":
    if sys.argv[1:2] == ["codes"]:
        print(json.dumps(codes(sys.argv[2])))
    else:
        harness.main()
