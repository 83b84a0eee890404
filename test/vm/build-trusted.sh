#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
# Builds the kernel's module of trusted keys from the parts of its source below DIR: DIR/module/trusted.ko.
set -euo pipefail

version=${1:?usage: build-trusted.sh VERSION DIR}
dir=${2:?usage: build-trusted.sh VERSION DIR}
module=$dir/module
headers=$dir/usr/src/linux-headers-$version

cp -r "$dir/security/keys/trusted-keys" "$module"
cp "$dir/lib/asn1_encoder.c" "$module/"
gcc -I"$dir/include" -o "$dir/asn1_compiler" "$dir/scripts/asn1_compiler.c"
"$dir/asn1_compiler" "$module/tpm2key.asn1" "$module/tpm2key.asn1.c" "$module/tpm2key.asn1.h"
cat >"$module/Makefile" <<END
obj-m := trusted.o
trusted-y := trusted_core.o trusted_tpm1.o trusted_tpm2.o tpm2key.asn1.o asn1_encoder.o
ccflags-y := -DCONFIG_TRUSTED_KEYS=1 -DCONFIG_TRUSTED_KEYS_TPM=1 -I$module
END
# The headers name their parts by where they would be installed.
sed -i "s,/usr/,$dir/usr/,g" "$headers/Makefile"
make -C "$headers" M="$module" modules
