# SPDX-License-Identifier: BSD-2-Clause
"""Watching commands live: what is shown, what is not, who may, and that nobody waits for who watches."""

import contextlib
import json
import os
import re
import signal
import struct
import subprocess
import threading

import ctl
import harness
import tpm

LISTENERS_MAX = 4
FLOOD = 4000  # more than pipe and socket have room for
PAGE = 100  # far less
PASSWORD = b"planted-password"
SECRET = b"planted and sealed secret"
NV_DATA = b"planted in the NV index"

BLOCK_PACKET, HEADERS = 6, 40


def packets(path):
    """-> the TPM messages of a pcapng file, as far as it is written"""
    data, at, found = path.read_bytes(), 0, []
    while at + 12 <= len(data):
        kind, size = struct.unpack_from("<II", data, at)
        if at + size > len(data):
            break
        if kind == BLOCK_PACKET:
            length = struct.unpack_from("<I", data, at + 20)[0]
            found.append(data[at + 28 + HEADERS:at + 28 + length])
        at += size
    return [packet for packet in found if packet]


def code_of(message):
    return struct.unpack(">I", message[6:10])[0]


def tshark(path, wanted, *fields):
    """-> a row of fields for each packet that is wanted"""
    argv = ["tshark", "-r", path, "-Y", wanted, "-T", "fields"]
    done = subprocess.run(argv + [arg for field in fields for arg in ("-e", field)], capture_output=True, text=True,
                          timeout=harness.HANG, check=True)
    return [line.split("\t") for line in done.stdout.splitlines()]


class Trace:
    """tabrmctl trace, and where its output goes"""

    def __init__(self, test, *options, stdout=None, is_open=True):
        self.number = len(test.traces)
        test.traces.append(self)
        self.path = test.folder / ("trace-%d.out" % self.number)
        self.log = test.folder / ("trace-%d.log" % self.number)
        before = test.n_watching()
        with open(self.path, "wb") as out, open(self.log, "wb") as log:
            self.popen = subprocess.Popen([test.program, *test.where, "trace", *options], stdin=subprocess.DEVNULL,
                                          stdout=stdout or out, stderr=log, env=test.env)
        if is_open:
            harness.wait_until(lambda: test.n_watching() > before, "the trace is open", self.popen)

    def wait_for(self, n_lines):
        harness.wait_until(lambda: self.path.read_bytes().count(b"\n") >= n_lines, "%d lines" % n_lines, self.popen)

    def wait_for_packets(self, n):
        harness.wait_until(lambda: len(packets(self.path)) >= n, "%d packets" % n, self.popen)

    def records(self):
        return [json.loads(line) for line in self.path.read_text().splitlines()]

    def said(self):
        return self.log.read_text()

    def wait(self):
        """-> exit status"""
        return self.popen.wait(harness.HANG)

    def end(self, sig=signal.SIGINT):
        """-> exit status"""
        self.popen.send_signal(sig)
        return self.wait()


class Tools(harness.Tools):
    """What they send is written down by a TCTI of their own."""

    def __init__(self, folder, conf, *arguments):
        super().__init__(folder, "pcap:" + conf, *arguments)
        self.n = 0

    def attempt(self, *argv, **keywords):
        self.n += 1
        self.env["TCTI_PCAP_FILE"] = str(self.path("%03d.pcap" % self.n))
        return super().attempt(*argv, **keywords)

    def messages(self):
        return [message for path in sorted(self.folder.glob("*.pcap")) for message in packets(path)]


class OverSocket(ctl.TestCase):
    by_bus = False

    def setUp(self):
        super().setUp()
        self.traces = []
        self.addCleanup(self.end_traces)
        self.start()

    def end_traces(self):
        for trace in self.traces:
            if trace.popen.poll() is None:
                trace.popen.kill()
                trace.popen.wait()

    def door(self):
        """of clients"""
        return self.daemon.socket_conf, self.daemon.library, None

    def n_watching(self):
        return self.daemon.process.output().count("watches commands")

    def flood(self, n):
        client = self.connect()
        for _ in range(n):
            self.assertEqual(client.ask(tpm.get_random(8)).rc, 0)

    def work(self, tools):
        """What has secrets in it, and what fails."""
        tools.path("secret").write_bytes(SECRET)
        tools.path("data").write_bytes(NV_DATA)
        password = PASSWORD.decode()
        tools("tpm2_createprimary", "-Q", "-C", "o", "-G", "ecc", "-c", "parent.ctx")
        tools("tpm2_create", "-Q", "-C", "parent.ctx", "-u", "key.pub", "-r", "key.priv", "-i", "secret",
              "-p", password)
        tools("tpm2_load", "-Q", "-C", "parent.ctx", "-u", "key.pub", "-r", "key.priv", "-c", "key.ctx")
        self.assertEqual(tools("tpm2_unseal", "-c", "key.ctx", "-p", password), SECRET)
        self.assertNotEqual(tools.attempt("tpm2_unseal", "-c", "key.ctx", "-p", "wrong").returncode, 0)
        tools("tpm2_nvdefine", "-Q", "-C", "o", "-s", str(len(NV_DATA)), "-a", "ownerread|ownerwrite", "0x1500017")
        tools("tpm2_nvwrite", "-Q", "-C", "o", "-i", "data", "0x1500017")
        self.assertEqual(tools("tpm2_nvread", "-C", "o", "-s", str(len(NV_DATA)), "0x1500017"), NV_DATA)
        tools("tpm2_nvundefine", "-Q", "-C", "o", "0x1500017")
        tools("tpm2_getrandom", "--hex", "16")
        tools("tpm2_startauthsession", "-S", "session.ctx", "--policy-session")
        tools("tpm2_policypcr", "-Q", "-S", "session.ctx", "-l", "sha256:0,16")
        tools("tpm2_flushcontext", "session.ctx")
        return tools.messages()

    def test_what_tools_do(self):
        shown = Trace(self, "--pcapng=%s" % (self.folder / "shown.pcapng"))
        shown.path = self.folder / "shown.pcapng"
        text, listed = Trace(self), Trace(self, "--json", "--tpm")
        whole = Trace(self, "--payload", "--pcapng")
        self.assertIn("sees all", self.daemon.process.output())
        self.proxy.reset()
        messages = self.work(Tools(self.folder / "tools", *self.door()))
        sent, got = [code_of(m) for m in messages[::2]], [code_of(m) for m in messages[1::2]]
        self.assertGreater(len(sent), 50)
        text.wait_for(1 + len(sent))
        listed.wait_for(len(sent) + self.proxy.count())
        for trace in (shown, whole):
            trace.wait_for_packets(len(messages))
        self.assertEqual([trace.end() for trace in self.traces], [0] * 4)
        self.assertEqual([trace.said() for trace in (shown, text, whole)], ["%d records, 0 lost\n" % len(sent)] * 3)

        self.check_packets(shown, whole, sent, got)
        self.check_records(listed.records(), sent, got)
        self.check_text(text, [record for record in listed.records() if record["kind"] == "client"])
        self.assertTrue(packets(whole.path) == messages)
        everything = [trace.path.read_bytes() for trace in self.traces]
        for secret in (PASSWORD, SECRET, NV_DATA):
            where = [n for n, data in enumerate(everything) if secret in data or secret.hex().encode() in data]
            self.assertEqual(where, [whole.number], secret)

    def check_packets(self, shown, whole, sent, got):
        """Wireshark takes them apart by itself: with bodies, or without."""
        for path in (shown.path, whole.path):
            self.assertEqual([int(code, 0) for code, in tshark(path, "tpm.req.cc", "tpm.req.cc")], sent)
            self.assertEqual([int(code, 0) for code, in tshark(path, "tpm.resp.rc", "tpm.resp.rc")], got)
            # It takes NV_Read to have one handle, wherever it finds one.
            bad = "!tpm or tcp.analysis.flags or _ws.malformed and !(tpm.req.cc == 0x14e)"
            self.assertEqual(tshark(path, bad, "frame.number"), [])
        rows = tshark(shown.path, "tpm.req.cc", "_ws.col.Info")
        self.names = [re.search(r"TPM2_CC_(\w+)", row[0])[1] for row in rows]
        comments = [row[0] for row in tshark(shown.path, "tpm.req.cc == 0x15e", "frame.comment")]
        self.assertTrue(all("(tpm2_unseal)" in comment for comment in comments), comments)

    def check_records(self, records, sent, got):
        ours = [record for record in records if record["kind"] == "client"]
        tpms = [record for record in records if record["kind"] == "tpm"]
        self.assertEqual([record["code"] for record in ours], sent)
        self.assertEqual([record["command"] for record in ours], self.names)
        self.assertEqual([record["response-code"] for record in ours], got)
        self.assertEqual([record["code"] for record in tpms], self.proxy.commands)
        self.assertEqual(sum(record["tpm-commands"] for record in ours),
                         len([record for record in tpms if record["client"] > 0]))
        self.assertEqual({record["uid"] for record in ours}, {os.geteuid()})
        first = next(record for record in ours if record["command"] == "CreatePrimary")
        self.assertEqual((first["handles"], first["response-handle"], first["name"]),
                         ([tpm.RH_OWNER], tpm.HT_TRANSIENT, "tpm2_createprim"))
        self.assertEqual([session["handle"] >> 24 for session in first["sessions"]], [tpm.HT_LOADED_SESSION >> 24])
        for record in records:
            self.assertEqual(record["lost"], 0)
            self.assertGreater(record["time"], 1.7e15)
            self.assertGreaterEqual(record["took"], record.get("wait", 0))

    def check_text(self, text, records):
        lines = text.path.read_text().splitlines()[1:]
        self.assertEqual(len(lines), len(records))
        for line, record in zip(lines, records):
            words, who = line.split(), "%(uid)d/%(pid)d/%(name)s" % record
            self.assertEqual(words[1:4], [str(record["client"]), who, record["command"]])
            self.assertEqual(words[4], ",".join("%08x" % handle for handle in record["handles"]) or "-")
            self.assertEqual([int(word) for word in words[6:11]],
                             [record[key] for key in ("command-size", "response-size", "wait", "took", "tpm-commands")])
            self.assertIn(record["response"], line)

    def test_payload_in_text(self):
        """A dump, in which each byte is."""
        dump, listed = Trace(self, "--payload"), Trace(self, "--payload", "--json", "-c", "1")
        client = self.connect()
        reply = client.ask(tpm.get_random(24))
        self.assertEqual(listed.wait(), 0)
        dump.wait_for(5)
        self.assertEqual(dump.end(), 0)
        lines = dump.path.read_text().splitlines()
        rows = {mark: "".join(line[12:59] for line in lines if line.startswith("    " + mark)) for mark in "<>"}
        record = listed.records()[0]
        self.assertEqual(bytes.fromhex(rows[">"]), tpm.get_random(24))
        self.assertEqual(bytes.fromhex(rows["<"])[-24:], reply.body[-24:])
        self.assertEqual(record["command-bytes"], tpm.get_random(24).hex())
        self.assertEqual(bytes.fromhex(record["response-bytes"]), bytes.fromhex(rows["<"]))

    def test_passwords_as_clients_send_them(self):
        """In an authorization; in one whose size is wrong; behind a command code that the TPM does not list."""
        password = (tpm.RS_PW, b"", 0, PASSWORD)
        shown, whole = Trace(self, "--pcapng"), Trace(self, "--pcapng", "--payload")
        client = self.connect()
        for wrong in (0, 4):
            command = bytearray(tpm.command(tpm.CC_READ_PUBLIC, [tpm.RH_OWNER], auths=[password]))
            command[26] += wrong
            self.assertNotEqual(client.ask(bytes(command)).rc, 0)
        self.assertNotEqual(client.ask(tpm.command(0x1234, [tpm.RH_OWNER], auths=[password])).rc, 0)
        for trace in (shown, whole):
            trace.wait_for_packets(6)
        self.assertEqual([PASSWORD in packet for packet in packets(whole.path)[::2]], [True] * 3)
        self.assertNotIn(PASSWORD[:4], shown.path.read_bytes())
        sessions = tshark(shown.path, "tpm.req.cc", "tpm.req.cc", "tpm.handle.TPMI_SH_AUTH_SESSION")
        self.assertEqual([(int(code, 0), session[:10]) for code, session in sessions],
                         [(tpm.CC_READ_PUBLIC, "0x40000009"), (tpm.CC_READ_PUBLIC, ""), (0x1234, "")])

    def test_who_is_slow_loses(self):
        """Clients are answered all the same; another subscriber misses nothing; seen and lost is all there was."""
        pipe, end = os.pipe()
        slow, quick = Trace(self, "--json", stdout=end), Trace(self, "--json")
        os.close(end)
        for n in range(PAGE, FLOOD + 1, PAGE):  # so that the quick one is quick on a busy machine, too
            self.flood(PAGE)
            quick.wait_for(n)
        records, sent = [], FLOOD

        def read():
            with open(pipe, "rb") as lines:
                records.extend(map(json.loads, lines))

        def accounted():
            """The next one tells of those that are lost; unless there is no room for it yet, and it is, too."""
            nonlocal sent
            self.flood(1)
            sent += 1
            with contextlib.suppress(TimeoutError):
                return harness.wait_until(lambda: total() == sent, "it is read", timeout=0.5)
            return False

        def total():
            return sum(1 + record["lost"] for record in records[:])

        reader = threading.Thread(target=read)
        reader.start()
        harness.wait_until(accounted, "seen and lost are all there were")
        self.assertEqual(slow.end(), 0)
        reader.join()
        lost = sum(record["lost"] for record in records)
        self.assertGreater(lost, 0)
        self.assertEqual(slow.said(), "%d records, %d lost\n" % (len(records), lost))
        quick.wait_for(sent)
        self.assertEqual({record["lost"] for record in quick.records()}, {0})

    def test_fifth_is_refused(self):
        for _ in range(LISTENERS_MAX):
            Trace(self)
        refused = Trace(self, is_open=False)
        self.assertEqual(refused.wait(), ctl.FAILED)
        self.assertIn("4 traces are open, which is the limit; end one", refused.said())
        self.assertEqual(self.traces[1].end(), 0)
        harness.wait_until(lambda: not self.is_refused(), "the place is free")
        self.assertServes()

    def is_refused(self):
        trace = Trace(self, "-c", "1", is_open=False)
        harness.wait_until(lambda: trace.path.read_bytes() or trace.popen.poll() is not None, "it is open, or not")
        return trace.popen.poll() == ctl.FAILED

    def test_ends(self):
        """By a number, a signal, who reads, and the daemon."""
        counted, signalled, stopped = Trace(self, "-c", "3"), Trace(self), Trace(self)
        self.flood(5)
        self.assertEqual(counted.wait(), 0)
        self.assertEqual(counted.path.read_bytes().count(b"\n"), 4)
        signalled.wait_for(6)
        self.assertEqual(signalled.end(signal.SIGTERM), 0)
        self.assertEqual(signalled.said(), "5 records, 0 lost\n")
        pipe, end = os.pipe()
        unread = Trace(self, stdout=end)
        os.close(end)
        os.close(pipe)
        self.assertEqual(unread.wait(), 0)
        self.assertEqual(unread.said(), "")
        stopped.wait_for(6)
        self.assertEqual(self.daemon.stop(), 0)
        self.assertEqual(stopped.wait(), ctl.EX_UNAVAILABLE)
        self.assertIn("the daemon has ended", stopped.said())

    def test_one_client_only(self):
        first, second = self.connect(), self.connect()
        first.run(tpm.get_random())
        everything, only = Trace(self, "--json"), Trace(self, "--json", "--client=2")
        for client in (first, second, first, second, second):
            client.run(tpm.get_random())
        everything.wait_for(5)
        only.wait_for(3)
        self.assertEqual(only.end(), 0)
        self.assertEqual([record["client"] for record in everything.records()], [1, 2, 1, 2, 2])
        self.assertEqual([record["client"] for record in only.records()], [2] * 3)

    def test_wrong_usage(self):
        for options in (["--client=-5"], ["-c", "-1"], ["--json", "--pcapng"], ["more"], ["--nonsense"]):
            self.assertEqual(Trace(self, *options, is_open=False).wait(), ctl.EX_USAGE, options)

    def test_others_are_refused(self):
        """Whoever is not uid 0."""
        self.ctl("trace", status=ctl.EX_NOPERM, user=ctl.member())
        self.assertEqual(self.n_watching(), 0)


class OverBus(OverSocket):
    by_bus = True

    def door(self):
        return self.daemon.bus_conf, self.daemon.library, self.bus


if __name__ == "__main__":
    harness.main()
