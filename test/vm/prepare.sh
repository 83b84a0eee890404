#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
# Makes a kernel of the distribution bootable below DIR: kernel/ (unpacked, never installed), trusted.ko and initramfs.
# What is there already for the current version is kept.
set -euo pipefail

dir=$(realpath -m "${1:?usage: prepare.sh DIR}")
here=$(realpath "$(dirname "$0")")
mkdir -p "$dir"
exec 9>"$dir/lock"
flock 9

# fetch PACKAGE...: downloads and unpacks below the current directory
fetch() {
        apt-get -qq -o APT::Sandbox::User=root download "$@"
        for package in ./*.deb; do
                dpkg -x "$package" .
                rm "$package"
        done
}

# The lists may name a kernel that is gone by now.
if [ ! -e "$dir/version" ] && [ "$(id -u)" -eq 0 ]; then
        apt-get -qq update || true
fi
image=$(apt-cache depends linux-image-amd64 | sed -n 's/^ *Depends: \(linux-image-.*\)/\1/p' | head -n 1)
if [ -z "$image" ]; then
        echo "no package of a kernel is known; has apt-get update been run?" >&2
        exit 1
fi
version=${image#linux-image-}
series=$(echo "$version" | cut -d. -f1,2)

if [ "$(cat "$dir/version" 2>/dev/null)" != "$version" ]; then
        rm -rf "$dir/version" "$dir/kernel" "$dir/trusted" "$dir/trusted.ko"
        mkdir "$dir/kernel"
        cd "$dir/kernel"
        echo "fetching $image"
        fetch "$image"
        depmod -b "$dir/kernel" "$version"
fi

# The distribution's kernel comes without trusted keys. They are a module, and its source is in a package as well.
if [ ! -e "$dir/trusted.ko" ]; then
        echo "fetching the source of $series for the module of trusted keys"
        rm -rf "$dir/trusted"
        mkdir "$dir/trusted"
        cd "$dir/trusted"
        fetch "linux-source-$series" "linux-headers-$version" "linux-headers-${version%-amd64}-common" "linux-kbuild-$series"
        tar -xJf "usr/src/linux-source-$series.tar.xz" --strip-components=1 --wildcards '*/security/keys/trusted-keys' \
                '*/lib/asn1_encoder.c' '*/scripts/asn1_compiler.c' '*/include/linux/asn1*.h'
        rm "usr/src/linux-source-$series.tar.xz"
        "$here/build-trusted.sh" "$version" "$dir/trusted" >"$dir/trusted.log" 2>&1 || {
                tail -n 20 "$dir/trusted.log" >&2
                exit 1
        }
        mv "$dir/trusted/module/trusted.ko" "$dir/trusted.ko"
        rm -rf "$dir/trusted"
fi

# busybox, what it takes to reach the host's root, and the order in which it is loaded
root=$dir/initramfs.d
rm -rf "$root"
mkdir -p "$root"/{bin,dev,proc,sys,host,top,root,modules}
cp "$(command -v busybox)" "$root/bin/busybox"
cp "$here/init" "$root/init"
for module in virtio_pci 9p 9pnet_virtio overlay virtio_console; do
        modprobe -d "$dir/kernel" -S "$version" --show-depends "$module"
done | awk '$1 == "insmod" && !seen[$2]++ { print $2 }' | while read -r path; do
        cp "$path" "$root/modules/"
        echo "/modules/${path##*/}" >>"$root/modules/order"
done
(cd "$root" && find . | cpio --quiet -o -H newc | gzip -1) >"$dir/initramfs.new"
rm -rf "$root"
cp "$dir/kernel/boot/vmlinuz-$version" "$dir/vmlinuz.new"
# Another machine may be about to boot with those that are there.
mv "$dir/initramfs.new" "$dir/initramfs"
mv "$dir/vmlinuz.new" "$dir/vmlinuz"
echo "$version" >"$dir/version"
