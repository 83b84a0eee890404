#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
# What runs in the virtual machine with a system of its own, as root, below its systemd.
cd "$(dirname "$0")/../.." || exit 1
export PYTHONPATH=test/lib PYTHONDONTWRITEBYTECODE=1
exec timeout -k 5 800 /usr/bin/python3 test/vm/units.py "$@"
