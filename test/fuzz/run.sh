#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
# Fuzzes: run.sh [-j JOBS] [-d DIR] SECONDS [NAME...]
# Builds in DIR (build-fuzz), and runs each fuzzer for SECONDS, JOBS (2) at a time. What it learns it keeps in DIR/corpus;
# what breaks something lies in DIR/found, and fails the run. With -m, no fuzzing: the corpora of the tree are made as
# small as they can be with what DIR/corpus has found.
set -u -o pipefail
cd "$(dirname "$0")/../.." || exit 1
. test/lib/deps.sh

dir=build-fuzz
jobs=2
merge=
while getopts j:d:m option; do
        case $option in
        j) jobs=$OPTARG ;;
        d) dir=$OPTARG ;;
        m) merge=1 ;;
        *) exit 2 ;;
        esac
done
shift $((OPTIND - 1))
seconds=${1:-60}
shift
names=("${@:-reader}")
[ $# -gt 0 ] || names=(reader stream core tcti)

mkdir -p "$dir"
dir=$(realpath "$dir")
if ! { CC=clang set_up "$dir/build" -Dfuzzers=enabled -Dstrict=true -Dlibtpms=enabled \
        -Db_sanitize=address,undefined -Db_lundef=false \
        -Dc_args=-fsanitize=fuzzer-no-link && ninja -C "$dir/build" "${names[@]/#/test/fuzz/fuzz-}"; } >"$dir/build.log" 2>&1; then
        tail -n 40 "$dir/build.log"
        exit 1
fi

# fuzz NAME: prints one line
fuzz() {
        local log=$dir/$1.log status=0

        mkdir -p "$dir/corpus/$1" "$dir/found"
        "$dir/build/test/fuzz/fuzz-$1" -max_total_time="$seconds" -timeout=20 -rss_limit_mb=2048 -max_len=2048 -len_control=0 \
                -entropic=0 -print_final_stats=1 -artifact_prefix="$dir/found/$1-" "$dir/corpus/$1" "test/fuzz/corpus/$1" \
                >"$log" 2>&1 || status=1
        awk -v name="$1" -v status=$status '
                / cov: / { for (i = 1; i < NF; i++) if ($i == "cov:") edges = $(i + 1) }
                /number_of_executed_units/ { n = $2 }
                /average_exec_per_sec/ { rate = $2 }
                END {
                        printf "%s: %d executions, %d per second, %d edges: %s\n", name, n, rate, edges,
                               status ? "FOUND SOMETHING" : "nothing found"
                }' "$log"
        if [ $status -ne 0 ]; then
                grep -E 'ERROR|SUMMARY|not so|runtime error|Test unit' "$log" | head -n 10
        fi
        return $status
}

# minimize NAME
minimize() {
        local small=$dir/small/$1

        rm -rf "$small"
        mkdir -p "$small"
        "$dir/build/test/fuzz/fuzz-$1" -merge=1 -max_len=512 -use_counters=0 "$small" "test/fuzz/corpus/$1" "$dir/corpus/$1" >"$dir/$1.log" 2>&1 &&
                rm -f "test/fuzz/corpus/$1"/* && cp "$small"/* "test/fuzz/corpus/$1/"
}

work=fuzz
[ -z "$merge" ] || work=minimize
export dir seconds
export -f fuzz minimize
printf '%s\n' "${names[@]}" | xargs -P "$jobs" -I '{}' bash -c "$work {}"
