#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
# What runs in the virtual machine, as root: the integration suite over /dev/tpm0, the ways to the TPM side by side, and the
# kernel's own use of the TPM beside busy daemons.
#
# Left out is what has a TPM of its own wherever it runs: the fake one (misbehaving), libtpms (Backends, Cancels), those that
# are stopped, restarted or come late (hangs, Waits), the context gap of swtpm (Gap: ten minutes when emulated), and the client
# library as a file.
set -u
cd "$(dirname "$0")/../.." || exit 1
export PYTHONPATH=test/lib PYTHONDONTWRITEBYTECODE=1 TABRMD_TPM=device
failed=0

# run SECONDS COMMAND...
run() {
        local start=$SECONDS seconds=$1

        shift
        timeout -k 5 "$seconds" "$@" || {
                echo "# FAILED with $?: $*"
                failed=1
        }
        echo "# $((SECONDS - start)) s: ${*##*/}"
}

# suite MODULE [CLASS...]
suite() {
        run 240 /usr/bin/python3 "test/integration/$1.py" "${@:2}"
}

suite transparency
suite counts
suite faults
suite lifecycle Ends Sessions Starts Backends.test_any_tcti_through_the_helper
suite hostile
suite hangs Hangs.test_chip_that_does_not_answer
suite sharing Memory Files Together Abandoned Shared Killed
suite pipelined Pipelined
suite tools

# As the service runs: without any rights but those of the device's group.
if id tss >/dev/null 2>&1; then
        chown tss /dev/tpm0 /dev/vport0p1
        for folder in "$PWD" "${TABRMD_BUILD:?}"; do
                while [ "$folder" != / ]; do
                        chmod o+rx "$folder"
                        folder=$(dirname "$folder")
                done
        done
        run 60 setpriv --reuid=tss --regid=tss --clear-groups /usr/bin/python3 test/integration/counts.py
fi

run 180 /usr/bin/python3 test/vm/compare.py
run 300 /usr/bin/python3 test/vm/visits.py
insmod "${TABRMD_VM:?}/trusted.ko" || failed=1
run 300 /usr/bin/python3 test/vm/neighbours.py
exit $failed
