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
# A code may have two names, such as HMAC and MAC: one of them does.
codes=$(echo "$had" | cut -d ' ' -f 2)
missing=$(echo "$wanted" | while read -r name code; do
        echo "$had" | grep -q -x -F "$name $code" && continue
        case $(echo "$wanted" | grep -c " $code\$") in
        1) echo "$name $code" ;;
        *) echo "$codes" | grep -q -x -F "$code" || echo "$name $code" ;;
        esac
done)

echo "$n codes; without their name: ${missing:-none}"
[ "$n" -gt 100 ]
[ -z "$missing" ]
