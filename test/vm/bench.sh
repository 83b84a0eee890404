#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
# What `make bench-vm` runs in the virtual machine: the ways to /dev/tpm0 side by side, in one boot.
cd "$(dirname "$0")/../.." || exit 1
export PYTHONPATH=test/lib PYTHONDONTWRITEBYTECODE=1 TABRMD_TPM=device
exec timeout -k 5 500 /usr/bin/python3 test/vm/compare.py
