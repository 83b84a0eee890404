#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# Every command code of the TSS's header has its name, and no other one: test-names.sh PROGRAM COMPILER...
set -eu

program=$1
shift
had=$("$program")
wanted=$(echo '#include <tss2/tss2_tpm2_types.h>' | "$@" -dM -E - |
        sed -n 's/^#define TPM2_CC_\([A-Za-z0-9_]*\) ((TPM2_CC) *\(0x[0-9a-f]*\)).*/\1 \2/p' | grep -v -e '^FIRST ' -e '^LAST ')
n=$(echo "$wanted" | wc -l)
missing=$(echo "$wanted" | grep -v -x -F "$had" || [ $? -eq 1 ])

echo "$n codes; without their name: ${missing:-none}"
[ "$n" -gt 100 ]
[ -z "$missing" ]
