#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# Unpacks what the distribution has for s390x, a big-endian machine, of what the daemon and its tests are built with, and
# writes a cross file for meson: fetch-s390x.sh DIR; meson setup --cross-file DIR/s390x.ini. Nothing is installed, and
# apt gets to know of the architecture in a folder of its own only. It exits with 77 where a package cannot be downloaded.
set -eu

dir=$(realpath -m "${1:?usage: fetch-s390x.sh DIR}")
wanted="libc6 libcmocka-dev libglib2.0-dev libssl-dev libtpms-dev libtss2-dev"
[ -f "$dir/s390x.ini" ] && exit 0

# with_s390x COMMAND ARGUMENT...: apt-get or apt-cache
with_s390x() {
        command=$1
        shift
        "$command" -qq -o APT::Sandbox::User=root -o APT::Architecture=s390x -o APT::Architectures::=s390x \
                -o Dir::State="$dir/apt" -o Dir::State::status="$dir/apt/status" -o Dir::Cache="$dir/apt" "$@"
}

rm -rf "$dir"
mkdir -p "$dir/apt/lists/partial" "$dir/apt/archives/partial" "$dir/packages"
: >"$dir/apt/status"
cd "$dir/packages"
# One of the lists may be missing, such as that of updates; the packages are in the others then.
with_s390x apt-get update || true
# The libraries that they need, by the names of the release; but libc's headers and linker scripts come with the compiler.
# shellcheck disable=SC2086
libraries=$(with_s390x apt-cache depends --recurse --no-recommends --no-suggests --no-conflicts --no-breaks \
        --no-replaces --no-enhances $wanted | sed -n 's/^\(lib[^: ]*\|zlib[^: ]*\)\(:s390x\)\?$/\1/p' |
        grep -v -x -e libc6-dev -e libc-dev-bin | sort -u)
# shellcheck disable=SC2086
if ! with_s390x apt-get download $libraries 2>"$dir/errors"; then
        echo "no s390x: $(tail -n 1 "$dir/errors" | sed 's,[a-z]*://[^ ]*/,,')" >&2
        exit 77
fi
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
