#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
# Boots a kernel of the distribution in a virtual machine with a software TPM as its chip, and runs a script inside, as root,
# on the host's root. What is written there is lost with the machine; what it says goes to standard output.
#
#     check-vm.sh BUILD DIR [SCRIPT [ROOT]]    DIR: where kernel and initramfs are kept between runs
#
# ROOT: a folder with a system of its own, which is booted with its systemd; the host's root is /host there.
set -uo pipefail

here=$(realpath "$(dirname "$0")")
build=$(realpath "${1:?usage: check-vm.sh BUILD DIR [SCRIPT]}")
dir=$(realpath -m "${2:?usage: check-vm.sh BUILD DIR [SCRIPT]}")
script=$(realpath "${3:-$here/inside.sh}")
root=${4:+$(realpath "$4")}
host=${root:+/host}
seconds=${TABRMD_VM_SECONDS:-900}

for program in qemu-system-x86_64 swtpm busybox cpio depmod make; do
        if ! command -v "$program" >/dev/null; then
                echo "check-vm: there is no $program: see packages_vm in test/lib/deps.sh" >&2
                exit 1
        fi
done
if ! "$here/prepare.sh" "$dir"; then
        echo "check-vm: there is no kernel to boot" >&2
        exit 1
fi

run=$(mktemp -d /tmp/tabrmd-vm-XXXXXX)
trap 'rm -rf "$run"' EXIT
echo "exit 0" >"$run/nothing"
printf 'export TABRMD_BUILD=%q TABRMD_VM=%q TABRMD_PEER=%q TABRMD_DEBS=%q\nexec %q\n' "$host$build" "$host$dir" \
        "$host${TABRMD_PEER:-$build/peer}" "$host${TABRMD_DEBS:-}" "$host$script" >"$run/script"

# boot ACCELERATOR SECONDS SCRIPT: three serial lines for the console, what the script says, and its exit status. One CPU:
# emulated, a process that is woken on another one waits for that one's timer.
boot() {
        rm -rf "$run"/{tpm,chip,asker,swtpm,status,console}
        TABRMD_VM_SECONDS=$2 setpriv --pdeathsig TERM /usr/bin/python3 "$here/chip.py" "$run" \
                qemu-system-x86_64 -nodefaults -no-user-config -display none -no-reboot -nic none -m 2048 \
                -smp 1 -accel "$1" -kernel "$dir/vmlinuz" -initrd "$dir/initramfs" \
                -append "console=ttyS0 loglevel=5 panic=-1 vm.run=$3${root:+ vm.root=$root}" \
                -chardev "socket,id=chip,path=$run/chip" -tpmdev emulator,id=tpm,chardev=chip \
                -device tpm-crb,tpmdev=tpm \
                -chardev "socket,id=asker,path=$run/asker" -device virtio-serial \
                -device virtserialport,chardev=asker,name=asker \
                -fsdev local,id=host,path=/,security_model=none,readonly=on,multidevs=remap \
                -device virtio-9p-pci,fsdev=host,mount_tag=host \
                -chardev stdio,id=output,signal=off -serial "file:$run/console" -serial chardev:output -serial "file:$run/status"
}

# has_ended_well: only a script that ended with 0 says so
has_ended_well() {
        [ "$(tr -d '\r' <"$run/status" 2>/dev/null)" = "status 0" ]
}

# KVM is used where a machine that does nothing ends well under it. Where it is emulated itself, none may.
accelerator=tcg
if [ -w /dev/kvm ] && boot kvm 10 "$run/nothing" >/dev/null 2>&1 && has_ended_well; then
        accelerator=kvm
fi
start=$SECONDS
boot "$accelerator" "$seconds" "$run/script"
ended=$?
echo "# the virtual machine ran for $((SECONDS - start)) s ($accelerator)"
if ! has_ended_well; then
        echo "--- the machine's console:"
        tail -n 40 "$run/console"
        [ "$ended" -eq 124 ] && echo "check-vm: it was ended after $seconds s"
        echo "check-vm: qemu ended with $ended, the script with '$(tr -d '\r' <"$run/status" 2>/dev/null)'"
        exit 1
fi
