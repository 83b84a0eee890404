#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# All scripts, by shellcheck.
cd "$(dirname "$0")/../.." || exit 1
exec shellcheck -x run check .ci/run test/lib/*.sh test/fuzz/*.sh test/vm/*.sh test/vm/init debian/make-deb.sh \
        debian/tpm2-abrmd.init debian/tpm2-abrmd.postinst debian/tpm2-abrmd.postrm data/completions/tpm2-abrmd \
        data/completions/tabrmctl packaging/APKBUILD packaging/PKGBUILD
