# SPDX-License-Identifier: BSD-2-Clause
"""The client library: what it needs and exports, what it says, and what it does when the daemon is restarted."""

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading

import harness
import tpm
from process import OTHER_USER, needs, run

# Prints the code of a GetRandom for each line that it reads.
ESYS = r"""
#include <stdio.h>
#include <tss2/tss2_esys.h>
#include <tss2/tss2_tctildr.h>
int main(int argc, char **argv) {
    TSS2_TCTI_CONTEXT *tcti;
    ESYS_CONTEXT *esys;
    TPM2B_DIGEST *bytes;
    if (Tss2_TctiLdr_Initialize(argv[1], &tcti) || Esys_Initialize(&esys, tcti, NULL))
        return 1;
    while (getchar() != EOF) {
        printf("0x%x\n", Esys_GetRandom(esys, ESYS_TR_NONE, ESYS_TR_NONE, ESYS_TR_NONE, 8, &bytes));
        fflush(stdout);
    }
    return 0;
}
"""

# Fails to connect, and says so.
NO_DAEMON = r"""
#include <stdlib.h>
#include <tss2/tss2_tcti.h>
TSS2_RC Tss2_Tcti_Tabrmd_Init(TSS2_TCTI_CONTEXT *context, size_t *size, const char *conf);
int main(void) {
    size_t size;
    Tss2_Tcti_Tabrmd_Init(NULL, &size, NULL);
    return Tss2_Tcti_Tabrmd_Init(calloc(1, size), &size, "socket=/nonexistent") == 0;
}
"""

PATH = harness.LIBRARY / "libtss2-tcti-tabrmd.so.0"


def readelf(*options):
    return subprocess.run(["readelf", "--wide", *options, str(PATH)], capture_output=True, text=True,
                          timeout=harness.HANG, check=True).stdout


class Library(harness.TestCase):
    def test_needs_libc_and_nothing_else(self):
        needed = re.findall(r"\(NEEDED\).*\[(.*)\]", readelf("--dynamic"))
        self.assertEqual([name for name in needed if not name.startswith("ld-linux")], ["libc.so.6"])

    def test_name(self):
        self.assertEqual(re.findall(r"\(SONAME\).*\[(.*)\]", readelf("--dynamic")), ["libtss2-tcti-tabrmd.so.0"])

    def test_exports_two_functions_alone(self):
        lines = [line.split() for line in readelf("--dyn-syms").splitlines() if re.match(r"\s*\d+:", line)]
        exported = {line[7].partition("@")[0] for line in lines if len(line) > 7 and line[6] not in ("UND", "ABS")}
        self.assertEqual(exported, {"Tss2_Tcti_Tabrmd_Init", "Tss2_Tcti_Info"})

    def test_has_no_writable_globals_worth_the_name(self):
        """No state of the process: contexts are all there is. (.bss holds a byte or two of the compiler's own.)"""
        sizes = {fields[0]: int(fields[4], 16) for fields in
                 (re.sub(r"^\s*\[\s*\d+\]\s*", "", line).split() for line in readelf("--sections").splitlines()
                  if re.match(r"\s*\[\s*\d+\]\s+\.(data|bss)\s", line))}
        self.assertLessEqual(sizes.get(".data", 0) + sizes.get(".bss", 0), 64, sizes)


class Absence(harness.TestCase):
    """No daemon: that is said at once."""

    def init(self, conf, env=None):
        """-> response code of Init, in a process of its own"""
        code = "import sys, tcti\ntry: tcti.Tcti(*sys.argv[1:])\nexcept ConnectionError as e: sys.exit(str(e)[-7:])"
        env = dict(harness.clean_env(**(env or {})), PYTHONPATH=os.environ["PYTHONPATH"])
        done = subprocess.run([sys.executable, "-c", code, str(PATH), conf], env=env, capture_output=True, text=True,
                              timeout=harness.HANG, check=False)
        self.assertEqual(done.stdout, "")
        return done.stderr.strip()[-7:]

    def assertAbsent(self, *arguments):
        self.assertEqual(self.init(*arguments), "0xa0008")

    def test_no_socket(self):
        self.assertAbsent("socket=" + str(self.folder / "nothing"))

    def test_neither_socket_nor_bus(self):
        self.assertAbsent("")

    def test_nobody_on_the_bus(self):
        """The answer of the bus is not waited for in vain: there is nothing to start."""
        bus = self.start_bus()
        self.assertAbsent("bus_type=session", {"DBUS_SESSION_BUS_ADDRESS": bus.address})

    def test_what_cannot_be_started(self):
        bus = self.start_bus(services={harness.BUS_NAME: "/bin/false"})
        self.assertAbsent("bus_type=session", {"DBUS_SESSION_BUS_ADDRESS": bus.address})

    def test_what_can_be_started(self):
        """The bus starts the daemon for the first who asks."""
        swtpm = self.start_swtpm()
        argv = [harness.Ours.binary, "--tcti=" + swtpm.conf, "--session", "--no-socket", *harness.Ours.root_option()]
        bus = self.start_bus(services={harness.BUS_NAME: " ".join(map(str, argv))})
        self.assertEqual(self.init("bus_type=session", {"DBUS_SESSION_BUS_ADDRESS": bus.address}), "")


class Reasons(harness.TestCase):
    """Each failure is one line for whoever runs a tool: the thing, the reason, the next step."""

    def lines_of(self, conf, as_nobody=False, **env):
        """-> what the library writes on standard error while tpm2_getrandom runs"""
        library = self.folder / "library" / PATH.name
        if not library.exists():
            self.folder.chmod(0o755)
            library.parent.mkdir()
            shutil.copy(PATH, library)
        argv = ["tpm2_getrandom", "-T", "%s%s" % (library, conf and ":" + conf), "8"]
        if as_nobody:
            argv = [*OTHER_USER[:-1], *argv]
        done = subprocess.run(argv, env=harness.clean_env(**env), capture_output=True, text=True,
                              timeout=harness.HANG, check=False)
        self.assertNotEqual(done.returncode, 0)
        return [line for line in done.stderr.splitlines() if ":src/tcti/" in line]

    def assertSays(self, text, conf, level="ERROR", **keywords):
        lines = self.lines_of(conf, **keywords)
        self.assertEqual(len(lines), 1, lines)
        self.assertRegex(lines[0], r"^%s:tcti:src/tcti/[a-z]+\.c:\d+:\w+\(\) tabrmd: %s" % (level, text))

    def test_no_daemon(self):
        path = self.folder / "nothing"
        self.assertSays(r"%s: No such file or directory \(is tpm2-abrmd running\? systemctl start" % path,
                        "socket=%s" % path)

    def test_nobody_listens(self):
        path = self.folder / "left"
        with socket.socket(socket.AF_UNIX) as left:
            left.bind(str(path))
        self.assertSays(r"%s: Connection refused \(is tpm2-abrmd running" % path, "socket=%s" % path)

    def test_not_named(self):
        """The loader of tpm2-tss may only be looking for a TCTI that works: a warning."""
        self.assertSays(r"/run/tpm2-abrmd/tpm\.sock: .*; system bus: unix:path=/nonexistent: No such file", "",
                        level="WARNING")
        self.assertEqual(self.lines_of("", TSS2_LOG="tcti+error"), [])

    @needs(*OTHER_USER)
    def test_no_rights(self):
        path = self.folder / "tpm.sock"
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(path))
            listener.listen()
            path.chmod(0o660)
            self.assertSays(r"%s: Permission denied \(is this user in group tss\?\)" % path, "socket=%s" % path,
                            as_nobody=True)

    def test_nobody_on_the_bus(self):
        bus = self.start_bus()
        self.assertSays(r"session bus: com\.intel\.tss2\.Tabrmd: nobody has that name \(is tpm2-abrmd running",
                        "bus_type=session", DBUS_SESSION_BUS_ADDRESS=bus.address)

    def test_limit(self):
        self.start_subject(bus=self.start_bus(), options=["--max-connections=1"])
        client = self.connect()
        self.assertSays("%s: the connection was closed before the first response .*limit" % self.daemon.socket,
                        "socket=" + self.daemon.socket)
        self.assertSays(r"session bus: com\.intel\.tss2\.Tabrmd: the limit of 1 connections is reached.*\(its log",
                        "bus_type=session", DBUS_SESSION_BUS_ADDRESS=self.bus.address)
        self.assertServes(client)

    def test_configuration(self):
        for conf, text in (("sokcet=/x", '"sokcet": no such key .socket=PATH, or bus_type='),
                           ("/run/x", '"/run/x": no key with a value'),
                           ("bus_type=both", "bus_type=both: no such bus .system or session"),
                           ("socket=" + "x" * 200, "socket: the value has 200 bytes; at most 107"),
                           ("socket=/x,bus_name=a.b", "a socket and a bus at once")):
            with self.subTest(conf):
                self.assertSays("configuration: " + text, conf)

    def test_sockets_of_others(self):
        bus = self.start_bus()
        path = bus.address.partition("=")[2]
        self.assertSays("%s: the connection was closed before the first response .*is it the daemon's socket" % path,
                        "socket=" + path)
        path = str(self.folder / "http")
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(path)
            listener.listen()

            def serve():
                with listener.accept()[0] as stream:
                    stream.recv(100)
                    stream.sendall(b"HTTP/1.0 400 Bad Request\r\n\r\n")
                    with contextlib.suppress(ConnectionResetError):
                        stream.recv(100)  # until the client has read that

            thread = threading.Thread(target=serve)
            thread.start()
            self.addCleanup(thread.join)
            self.assertSays("%s: what answers there is not tpm2-abrmd .*socket=PATH" % path, "socket=" + path)

    def test_level_and_file(self):
        conf = "socket=%s" % (self.folder / "nothing")
        log = self.folder / "log"
        for level in ("all+none", "tcti+NONE", "all+trace,tcti+none"):
            self.assertEqual(self.lines_of(conf, TSS2_LOG=level), [])
        self.assertEqual(len(self.lines_of(conf, TSS2_LOG="all+none,tcti+error")), 1)
        for n in (1, 2):
            self.assertEqual(self.lines_of(conf, TSS2_LOGFILE=str(log)), [])
            self.assertEqual(log.read_text().count(":src/tcti/"), n)

    @needs(*OTHER_USER)
    def test_set_uid(self):
        """Who starts a program of another user's names no file for it to write to, and does not silence it."""
        if os.statvfs(self.folder).f_flag & os.ST_NOSUID:
            self.skipTest("programs here do not get the rights of their owner")
        self.folder.chmod(0o777)
        program, log = self.folder / "program", self.folder / "log"
        shutil.copy(PATH, self.folder)
        run("cc", "-w", "-x", "c", "-", "-x", "none", "-o", program, "-Wl,-rpath," + str(self.folder),
            self.folder / PATH.name, input=NO_DAEMON)
        for mode, n_lines, written in ((0o4755, 1, False), (0o755, 0, True)):
            program.chmod(mode)
            done = subprocess.run([*OTHER_USER[:-1], program], capture_output=True, text=True, timeout=harness.HANG,
                                  env=harness.clean_env(TSS2_LOGFILE=str(log)), check=True)
            self.assertEqual(len(done.stderr.splitlines()), n_lines, done.stderr)
            self.assertEqual(log.exists(), written)


@harness.by_socket_only
class Restart(harness.TestCase):
    """A program goes on with the context that it has; what it had in the daemon before is gone, and that is said."""

    def restart(self):
        self.assertEqual(self.daemon.stop(), 0)
        return self.start_daemon(self.tpm.conf, bus=self.bus)

    def ask(self, context, command):
        self.assertEqual(context.transmit(command), 0)
        rc, response = context.receive()
        self.assertEqual(rc, 0)
        return tpm.Response(response)

    def test_both_doors(self):
        self.start_subject(bus=self.start_bus())
        for by_bus in (False, True):
            with self.subTest(by_bus=by_bus):
                context = self.daemon.context(by_bus)
                fd = context.fileno()
                key = self.ask(context, tpm.create_primary(tpm.public_hmac_key(b"x"))).handle
                self.daemon = self.restart()
                sent = self.proxy.count()
                self.assertEqual(self.ask(context, tpm.get_random()).rc, 0xB0100)
                self.assertEqual(self.proxy.count(), sent, "it was not executed")
                self.assertEqual(self.ask(context, tpm.read_public(key)).rc, 0xB0910)
                self.assertEqual(self.ask(context, tpm.get_random()).rc, 0)
                self.assertEqual(context.fileno(), fd)
                context.finalize()

    def test_command_that_runs(self):
        """Its response is lost, and it is not sent again."""
        self.start_subject(bus=self.start_bus())
        context = self.daemon.context()
        self.assertEqual(self.ask(context, tpm.get_random()).rc, 0)
        self.proxy.hold()
        self.assertEqual(context.transmit(tpm.get_random()), 0)
        self.assertTrue(self.proxy.held.wait(harness.HANG))
        self.daemon.stop(signal.SIGKILL)
        rc, response = context.receive()
        self.assertEqual((rc, tpm.Response(response).rc), (0, 0xB0101))
        self.assertEqual(self.ask(context, tpm.get_random()).rc, 0xB0100)
        self.proxy.release()
        self.daemon = self.start_daemon(self.tpm.conf, bus=self.bus)
        before = self.proxy.by_code()["0x17b"]
        self.assertEqual(self.ask(context, tpm.get_random()).rc, 0)
        self.assertEqual(self.proxy.by_code()["0x17b"], before + 1)
        context.finalize()

    def test_a_bus_that_is_restarted(self):
        """Who came by it keeps the stream, and the daemon knows who sets a locality by the bus that is gone."""
        bus = self.start_bus()
        self.start_subject(bus=bus)
        context = self.daemon.context(True)
        self.assertEqual(context.set_locality(0), 0)
        bus.stop()
        self.assertEqual(self.ask(context, tpm.get_random()).rc, 0)
        self.assertEqual(context.set_locality(0), 0xA0008)
        bus = self.start_bus()
        harness.wait_until(lambda: bus.has_owner(harness.BUS_NAME), "the name is owned again")
        self.assertEqual(context.set_locality(0), 0)
        self.assertEqual(self.ask(context, tpm.get_random()).rc, 0)
        context.finalize()

    def test_esys(self):
        """ESYS gives up a context whose TCTI fails."""
        self.start_subject()
        program = self.folder / "esys"
        run("cc", "-w", "-x", "c", "-", "-o", program, "-ltss2-esys", "-ltss2-tctildr", input=ESYS)
        env = harness.clean_env(LD_LIBRARY_PATH=str(self.daemon.library), TSS2_LOG="all+none")
        with subprocess.Popen([program, self.daemon.socket_conf], env=env, stdin=subprocess.PIPE,
                              stdout=subprocess.PIPE, text=True, bufsize=1) as client:
            codes = []
            for n in range(4):
                if n == 1:
                    self.daemon = self.restart()
                client.stdin.write("\n")
                codes.append(client.stdout.readline().strip())
            client.stdin.close()
        self.assertEqual(codes, ["0x0", "0xb0100", "0x0", "0x0"])


if __name__ == "__main__":
    harness.main()
