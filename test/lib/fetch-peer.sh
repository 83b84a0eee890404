#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# Unpacks packages of the distribution below DIR: fetch-peer.sh DIR [PACKAGE...]. By default that is tpm2-abrmd 3.0. They
# are never installed: they would start services, that one on the real chip. A|B is A, or B where there is no A.
set -eu

dir=${1:?usage: fetch-peer.sh DIR [PACKAGE...]}
shift
[ $# -gt 0 ] || set -- tpm2-abrmd libtss2-tcti-tabrmd0
[ "$(cat "$dir/made-of" 2>/dev/null)" = "$*" ] && exit 0

rm -rf "$dir.new"
mkdir -p "$dir.new/packages"
cd "$dir.new/packages"
for package; do
        # An older package with the same program has another name.
        apt-get -qq -o APT::Sandbox::User=root download "${package%%|*}" 2>/dev/null ||
                apt-get -qq -o APT::Sandbox::User=root download "${package#*|}"
done
for package in ./*.deb; do
        dpkg -x "$package" ..
        rm "$package"
done
cd /
echo "$*" >"$dir.new/made-of"
rm -rf "$dir"
mv "$dir.new" "$dir"
