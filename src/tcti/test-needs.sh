#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# The client library needs libc and nothing else, and exports two functions and nothing else.
set -eu

for program in readelf nm; do
        [ -n "${TABRMD_ALL_TOOLS:-}" ] || command -v "$program" >/dev/null || {
                echo "there is no $program"
                exit 77
        }
done

needed=$(readelf -d "$1" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p' | grep -v -e '^libasan' -e '^libubsan' -e '^libtsan' | tr '\n' ' ')
exported=$(nm -D --defined-only "$1" | awk '{ print $3 }' | sed 's/@.*//' | sort | tr '\n' ' ')
soname=$(readelf -d "$1" | sed -n 's/.*(SONAME).*\[\(.*\)\]/\1/p')

echo "needs $needed, exports $exported, is $soname"
[ "$needed" = "libc.so.6 " ]
[ "$exported" = "Tss2_Tcti_Info Tss2_Tcti_Tabrmd_Init " ]
[ "$soname" = "libtss2-tcti-tabrmd.so.0" ]
