# SPDX-License-Identifier: BSD-2-Clause
"""Runs in the root: esys.py CONF. ESYS from Python; what the TPM has signed is verified without it."""

import sys

from tpm2_pytss import (ESAPI, ESYS_TR, TPM2_ALG, TPM2_SE, TPM2B_PUBLIC, TPM2B_SENSITIVE_CREATE, TPMA_SESSION,
                        TPMS_SENSITIVE_CREATE, TPMT_PUBLIC, TPMT_SIG_SCHEME, TPMT_SYM_DEF, TSS2_Exception)

SECRET = b"a secret of no importance"
MESSAGE = b"message"
PASSWORD = "password"


def sensitive(data=b""):
    return TPM2B_SENSITIVE_CREATE(TPMS_SENSITIVE_CREATE(userAuth=PASSWORD, data=data))


def start_session(esys, parent):
    """-> a session salted with a key, that hides what goes in and out"""
    aes = TPMT_SYM_DEF(algorithm=TPM2_ALG.AES)
    aes.keyBits.aes = 128
    aes.mode.aes = TPM2_ALG.CFB
    session = esys.start_auth_session(parent, ESYS_TR.NONE, TPM2_SE.HMAC, aes, TPM2_ALG.SHA256)
    esys.trsess_set_attributes(session, TPMA_SESSION.CONTINUESESSION | TPMA_SESSION.DECRYPT | TPMA_SESSION.ENCRYPT)
    return session


def make_child(esys, parent, session, algorithm, attributes, data=b""):
    """-> a child with a password, and its public part"""
    template = TPM2B_PUBLIC(TPMT_PUBLIC.parse(algorithm, objectAttributes=attributes))
    private, public, *_ = esys.create(parent, sensitive(data), template, session1=session)
    child = esys.load(parent, private, public, session1=session)
    esys.tr_set_auth(child, PASSWORD)
    return child, public


def main(conf):
    with ESAPI(conf) as esys:
        assert len(bytes(esys.get_random(16))) == 16
        parent, *_ = esys.create_primary(None, "ecc", ESYS_TR.OWNER)
        session = start_session(esys, parent)

        key, public = make_child(esys, parent, session, "ecc:ecdsa-sha256",
                                 "fixedtpm|fixedparent|sensitivedataorigin|userwithauth|sign")
        digest, ticket = esys.hash(MESSAGE, TPM2_ALG.SHA256, ESYS_TR.OWNER)
        signature = esys.sign(key, digest, TPMT_SIG_SCHEME(scheme=TPM2_ALG.NULL), ticket, session1=session)
        signature.verify_signature(public, MESSAGE)
        esys.verify_signature(key, digest, signature)

        sealed, _ = make_child(esys, parent, session, "keyedhash", "fixedtpm|fixedparent|userwithauth", SECRET)
        assert bytes(esys.unseal(sealed, session1=session)) == SECRET
        esys.tr_set_auth(sealed, "not it")
        try:
            esys.unseal(sealed, session1=session)
        except TSS2_Exception as error:
            assert "auth" in str(error), error
        else:
            raise AssertionError("unsealed with a wrong password")

        for handle in (session, sealed, key, parent):
            esys.flush_context(handle)
    print("done")


main(sys.argv[1])
