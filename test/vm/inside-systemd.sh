#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
# What runs below the systemd of a machine or container with a system of its own, as root. What needs a kernel runs in the
# machine, which has a chip, and all else in the container.
cd "$(dirname "$0")/../.." || exit 1
export PYTHONPATH=test/lib:test/install PYTHONDONTWRITEBYTECODE=1
tests=(Systemd Blocks)
[ -c /dev/tpm0 ] && tests=(Kernel)
exec timeout -k 5 800 /usr/bin/python3 test/vm/blocks.py "${tests[@]}"
