#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# Unpacks tpm2-abrmd 3.0 of the distribution below DIR. It is never installed: its package would start on the real chip.
set -eu

dir=${1:?usage: fetch-peer.sh DIR}
[ -x "$dir/usr/sbin/tpm2-abrmd" ] && exit 0

rm -rf "$dir.new"
mkdir -p "$dir.new/packages"
cd "$dir.new/packages"
apt-get -qq -o APT::Sandbox::User=root download tpm2-abrmd libtss2-tcti-tabrmd0
for package in ./*.deb; do
        dpkg -x "$package" ..
done
cd /
rm -rf "$dir"
mv "$dir.new" "$dir"
