# SPDX-License-Identifier: BSD-2-Clause
"""Runs in the root: fapi.py CONF. FAPI from Python; what the TPM has signed is verified without it."""

import hashlib
import sys

from cryptography.hazmat.primitives.asymmetric.ec import ECDSA
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_public_key

try:
    from tpm2_pytss import FAPI, FAPIConfig
except NotImplementedError:  # Debian 13
    print("tpm2-pytss of this release is built without FAPI", file=sys.stderr)
    sys.exit(77)

SECRET = b"a secret of no importance"


def main(conf):
    with FAPIConfig(tcti=conf, ek_cert_less="yes"), FAPI() as fapi:
        assert fapi.provision(is_provisioned_ok=False)
        assert len(fapi.get_random(16)) == 16

        fapi.create_key("/HS/SRK/key", "sign,noda")
        digest = hashlib.sha256(b"message").digest()
        signature, public, _ = fapi.sign("/HS/SRK/key", digest)
        load_pem_public_key(public).verify(signature, digest, ECDSA(Prehashed(SHA256())))
        fapi.verify_signature("/HS/SRK/key", digest, signature)

        fapi.create_seal("/HS/SRK/sealed", SECRET, "noda")
        assert fapi.unseal("/HS/SRK/sealed") == SECRET
    print("done")


main(sys.argv[1])
