# SPDX-License-Identifier: BSD-2-Clause
"""
Side by side: the bare TPM, a bare forwarding proxy, tpm2-abrmd 3.0 and ours, as ratios of one run: `make bench`.

    bench.py FOLDER    writes bench.json, README.md and bench.svg there, and prints the tables
    BENCH=quick        a part of it, in half a minute; BENCH=smallest is for a test
    BENCH_CPUS         see stand.py: all is pinned

Fails when a promise is not kept. Shared machines differ and vary: trust the ratios.
"""

import datetime
import json
import os
import pathlib
import platform
import re
import subprocess
import sys

import harness
import matrix
import promises
import report
import stand

PLANS = {"": (matrix.FULL, promises.FULL), "quick": (matrix.QUICK, promises.QUICK), "smallest": (matrix.SMALLEST, None)}


def version(*argv):
    done = subprocess.run([str(a) for a in argv], capture_output=True, text=True, env=harness.clean_env(), check=False)
    return re.search(r"\d+(\.\d+)+|$", done.stdout + done.stderr)[0]


def build_type():
    options = json.loads((harness.BUILD / "meson-info/intro-buildoptions.json").read_text())
    return next(option["value"] for option in options if option["name"] == "buildtype")


def machine():
    cpu = re.search(r"(?m)^model name\s*: (.*)$", pathlib.Path("/proc/cpuinfo").read_text())
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "kernel": platform.release(), "cpu": cpu[1] if cpu else platform.machine(), "processors": len(stand.ALL_CPUS),
        "pinned": ", ".join(map(str, stand.processors().values())), "load": os.getloadavg()[0], "build": build_type(),
        "versions": "ours %s, tpm2-abrmd %s, swtpm %s" % (version(harness.DAEMON, "--version"), version(
            harness.Peer.binary, "--version"), version("swtpm", "--version")),
    }


def measure(plan, promise_plan):
    found = {"machine": machine(), "percent": matrix.PERCENT, "turn_s": matrix.TURN_S, "promises": [], "tables": {}}
    if promise_plan:
        found["tables"], found["promises"] = promises.latencies(promise_plan)
        found["promises"] += promises.many_clients(promise_plan) + promises.tools(promise_plan)
    found["cells"] = matrix.measure(plan)
    return found


def main(folder):
    which = os.environ.get("BENCH", "")
    if which not in PLANS:
        sys.exit("BENCH=%s: it can only be quick or smallest" % which)
    found = measure(*PLANS[which])
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "bench.json").write_text(json.dumps(found, indent=1) + "\n")
    report.write(folder)
    print("\n\n".join([report.machine_text(found["machine"]), *report.parts(found)]))
    return 0 if all(map(promises.kept, found["promises"])) else 1


if __name__ == "__main__":
    sys.exit(main(pathlib.Path(sys.argv[1])))
