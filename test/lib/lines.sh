#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
# Which lines of the core the tests reach: [SUITES="unit ..."] lines.sh [DIR]
# Builds in DIR, which is made when it is missing, runs the suites, and fails when one of them does, or when tpm/, resmgr/
# or broker/ is below 95 % of lines. Branches are for information.
set -u -o pipefail
cd "$(dirname "$0")/../.." || exit 1
. test/lib/deps.sh

dir=$(realpath -m "${1:-build-coverage}")
suites=${SUITES:-unit integration}
folders=(tpm resmgr broker)
at_least=95
# It counts the writable globals of the client library, and counters are such.
not_instrumented=library

if ! is_installed gcovr; then
        echo "$0: the package gcovr is missing" >&2
        exit 77
fi

# Without optimization, a line is a line.
build() {
        CC=gcc set_up "$dir" --buildtype=debug -Db_coverage=true -Dlibtpms=enabled -Dtests=enabled &&
                meson compile -C "$dir"
}

if ! build >"$dir-setup.log" 2>&1; then
        tail -n 60 "$dir-setup.log"
        exit 1
fi
rm -f "$dir-setup.log"
find "$dir" -name '*.gcda' -delete # what earlier runs left

# Daemons write their counters when they exit, which they do on SIGTERM; those that are killed otherwise do not count.
run_suite() {
        local tests start=$SECONDS

        mapfile -t tests < <(meson test -C "$dir" --no-rebuild --list --suite "$1" | sed -n 's/^.* \/ //p' |
                grep -vx "$not_instrumented")
        if [ ${#tests[@]} -eq 0 ]; then
                echo "no suite $1"
                return 1
        fi
        if ! meson test -C "$dir" --no-rebuild --suite "$1" --num-processes 2 --timeout-multiplier 3 "${tests[@]}" \
                >"$dir/lines-$1.log" 2>&1; then
                grep -E '(FAIL|ERROR|TIMEOUT)' "$dir/lines-$1.log"
                echo "the suite $1 failed: $dir/meson-logs/testlog.txt"
                return 1
        fi
        echo "suite $1: ${#tests[@]} tests, $((SECONDS - start)) s"
}

# print_table FOLDER: a line for each file and one for all, with the lines that were not reached
print_table() {
        local report=(gcovr --root . --add-tracefile "$dir/lines.json" --filter "src/$1/")

        awk -F '[ ,]+' -v name="src/$1" -v at_least=$at_least '
                function percent(n, of) { return of ? 100 * n / of : 100 }
                function row(name, n, of, branches, of_branches, missing) {
                        printf "%-28s %5d of %5d lines %6.1f %%  branches %6.1f %%  %s\n", name, n, of,
                               percent(n, of), percent(branches, of_branches), missing
                }
                FNR == NR { if (/^src/) { missing[$1] = $0; sub(/^.*% */, "", missing[$1]) } next }
                /^src/ {
                        row($1, $3, $2, $6, $5, missing[$1])
                        all += $2; reached += $3; all_branches += $5; branches += $6
                }
                END {
                        low = all == 0 || percent(reached, all) < at_least
                        row(name, reached, all, branches, all_branches, low ? "TOO LOW" : "")
                        exit low
                }' <("${report[@]}" --txt) <("${report[@]}" --csv)
}

# Lines may be left out of the count, but not silently.
print_exclusions() {
        local marks

        marks=$(grep -rnE '(GCOVR?|LCOV)_EXCL' "${folders[@]/#/src/}")
        echo "$(printf '%s' "$marks" | grep -c '^') lines or ranges are excluded"
        [ -z "$marks" ] || echo "$marks"
        if grep -E '_EXCL_[A-Z_]+[^a-z]*$' <<<"$marks" | grep -v '_STOP'; then
                echo "... for no reason that is given"
                return 1
        fi
}

failed=0
for suite in $suites; do
        run_suite "$suite" || failed=1
done
gcovr --root . --object-directory "$dir" --exclude '.*/test-[^/]*$' --json "$dir/lines.json" \
        "$dir"/src/{tpm,resmgr,broker}/lib*.a.p || exit 1
for folder in "${folders[@]}"; do
        print_table "$folder" || failed=1
done
print_exclusions || failed=1
exit $failed
