# shellcheck shell=bash
# SPDX-License-Identifier: BSD-2-Clause
# Packages that a minimal Debian 12 or 13 lacks. The scripts in the root source this file.

# shellcheck disable=SC2034
packages_run=(gcc libc6-dev meson ninja-build pkg-config libglib2.0-dev libjson-glib-dev libncurses-dev libtss2-dev libtpms-dev
        python3 swtpm tpm2-tools)
# shellcheck disable=SC2034
packages_check=("${packages_run[@]}" apparmor binutils busybox-static clang clang-format dbus-daemon fish gcc-s390x-linux-gnu jq
        libarchive-tools libc6-dev-s390x-cross libclang-rt-dev libcmocka-dev libssl-dev libtss2-tcti-cmd0 makepkg man-db
        mandoc musl-tools nix-bin openssl python3-gi python3-tpm2-pytss qemu-user rpm selinux-policy-dev shellcheck
        socat strace systemd tmux tshark valgrind zsh)

# shellcheck disable=SC2034
packages_vm=(busybox-static cpio gcc kmod libc6-dev make qemu-system-x86 swtpm tpm2-tools xz-utils)

# shellcheck disable=SC2034
packages_deb=(build-essential codespell debhelper dpkg-dev flake8 git lintian mmdebstrap systemd-container "${packages_check[@]}")

# From Debian 13 on, systemd's file for pkg-config is in a package of its own.
case $(. /etc/os-release && echo "${VERSION_CODENAME:-}") in
bookworm) ;;
*) packages_deb+=(systemd-dev) ;;
esac

is_installed() {
        [ "$(dpkg-query -W -f '${db:Status-Abbrev}' "$1" 2>/dev/null)" = "ii " ]
}

# need LOG PACKAGE...: installs those that are missing; false: it cannot
need() {
        local log=$1 package missing=()

        shift
        for package; do
                is_installed "$package" || missing+=("$package")
        done
        [ ${#missing[@]} -eq 0 ] && return
        if [ "$(id -u)" -ne 0 ]; then
                echo "$0: these packages are missing, and only root can install them: ${missing[*]}" >&2
                return 1
        fi
        echo "installing ${missing[*]}"
        export DEBIAN_FRONTEND=noninteractive
        if ! { apt-get -q update && apt-get -q install -y --no-install-recommends \
                --no-remove -o Dpkg::Options::=--force-confold "${missing[@]}"; } >"$log" 2>&1 </dev/null; then
                tail -n 20 "$log" >&2
                echo "$0: installing failed; all of it is in $log" >&2
                return 1
        fi
}

# set_up DIR OPTION...: a meson build directory, made anew when it cannot be used any more
set_up() {
        local dir=$1

        if [ -f "$dir/build.ninja" ] && meson setup --reconfigure "$@" >/dev/null 2>&1; then
                return
        fi
        rm -rf "$dir"
        meson setup "$@"
}
