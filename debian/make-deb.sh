#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
# Builds the packages, source and binary, below DIR, out of the files that git knows, as they are in the work tree.
# DEB_BUILD_OPTIONS=nocheck leaves the tests out.
#
#     make-deb.sh [--source] DIR    --source: only what they are built of
set -euo pipefail

cd "$(dirname "$0")/.."
source_only=
[ "${1:-}" = --source ] && source_only=1 && shift
dir=$(realpath -m "${1:?usage: make-deb.sh [--source] DIR}")
version=$(dpkg-parsechangelog -S Version)
upstream=${version%-*}
source=$dir/tpm2-abrmd-$upstream

rm -rf "$dir"
mkdir -p "$source"
# The same files make the same archive.
git ls-files -z -- . ':!debian' |
        tar --null --no-recursion -T - --sort=name --mtime="@$(dpkg-parsechangelog -S Timestamp)" --owner=0 --group=0 \
                --numeric-owner --transform="s,^,tpm2-abrmd-$upstream/," -cf - | gzip -9n >"$dir/tpm2-abrmd_$upstream.orig.tar.gz"
tar -C "$dir" -xf "$dir/tpm2-abrmd_$upstream.orig.tar.gz"
git ls-files -z -- debian | tar --null -T - -cf - | tar -C "$source" -xf -
cd "$source"
[ -n "$source_only" ] || dpkg-buildpackage --no-sign
