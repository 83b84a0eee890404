#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# Unpacks what the distribution has for s390x, a big-endian machine, of what the daemon and its tests are built with, and
# writes a cross file for meson: fetch-s390x.sh DIR; meson setup --cross-file DIR/s390x.ini. Nothing is installed, and
# apt gets to know of the architecture in a folder of its own only.
set -eu

dir=$(realpath -m "${1:?usage: fetch-s390x.sh DIR}")
packages="libblkid-dev libblkid1 libc6 libcmocka-dev libcmocka0 libffi-dev libffi8 libgcc-s1 libglib2.0-0 libglib2.0-dev
        libmount-dev libmount1 libpcre2-8-0 libpcre2-dev libselinux1 libselinux1-dev libsepol-dev libssl-dev libssl3
        libtpms-dev libtpms0 libtss2-dev libtss2-mu0 libtss2-rc0 libtss2-tctildr0 zlib1g zlib1g-dev"
[ -f "$dir/s390x.ini" ] && exit 0

fetch() {
        apt-get -qq -o APT::Sandbox::User=root -o APT::Architecture=s390x -o APT::Architectures::=s390x \
                -o Dir::State="$dir/apt" -o Dir::State::status="$dir/apt/status" -o Dir::Cache="$dir/apt" "$@"
}

rm -rf "$dir"
mkdir -p "$dir/apt/lists/partial" "$dir/apt/archives/partial" "$dir/packages"
: >"$dir/apt/status"
cd "$dir/packages"
fetch update
# shellcheck disable=SC2086
fetch download $packages
for package in ./*.deb; do
        dpkg -x "$package" ..
done
rm -rf "$dir/apt" "$dir/packages"

cat >"$dir/s390x.ini.new" <<EOF
[constants]
root = '$dir'
libraries = root / 'usr/lib/s390x-linux-gnu'

[host_machine]
system = 'linux'
cpu_family = 's390x'
cpu = 's390x'
endian = 'big'

[binaries]
c = 's390x-linux-gnu-gcc'
ar = 's390x-linux-gnu-ar'
strip = 's390x-linux-gnu-strip'
pkgconfig = 'pkg-config'
exe_wrapper = ['qemu-s390x', '-L', root]

[properties]
sys_root = root
pkg_config_libdir = libraries / 'pkgconfig'

[built-in options]
c_args = ['-isystem', root / 'usr/include', '-isystem', root / 'usr/include/s390x-linux-gnu']
c_link_args = ['-L' + libraries, '-Wl,-rpath-link,' + libraries + ':' + root / 'lib/s390x-linux-gnu']
EOF
mv "$dir/s390x.ini.new" "$dir/s390x.ini"
