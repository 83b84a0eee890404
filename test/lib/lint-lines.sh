#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
# Lines longer than the 120 columns of .editorconfig, in Python, meson's files and Markdown. A row of a table and a link
# alone in its line cannot be wrapped.
cd "$(dirname "$0")/../.." || exit 1
export LC_ALL=C.UTF-8
long=$(find . \( -name .git -o -path './build*' \) -prune -o \
        \( -name '*.py' -o -name '*.md' -o -name meson.build -o -name meson_options.txt \) -print0 |
        xargs -0 grep -HnE '^.{121}' |
        grep -vE '^[^:]*\.md:[0-9]+:(\|.*\||[-* ]*(\[[^]]*\]\([^)]*\)|<?https?://[^ ]*)[.,;]?)$')
[ -z "$long" ] && exit
printf '%s\n' "$long"
echo "lines: $(printf '%s\n' "$long" | grep -c '^') are longer than 120 columns"
exit 1
