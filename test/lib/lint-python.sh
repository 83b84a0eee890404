#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# All Python, by flake8: names (F), imports (E4), statements that mislead (E7), syntax (E9) and escapes (W6). For the
# length of lines see lint-lines.sh.
cd "$(dirname "$0")/../.." || exit 1
find . \( -name .git -o -path './build*' \) -prune -o -name '*.py' -print0 |
        xargs -0 flake8 --isolated --select=E4,E7,E9,F,W6
