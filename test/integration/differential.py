# SPDX-License-Identifier: BSD-2-Clause
"""
Random programs of ESYS on a bare swtpm and through the daemon, from one state: each answer must be the same.

What ESYS adds to bare commands is what a resource manager can spoil: sessions that are bound and salted, that encrypt
and decrypt, that audit; policies; contexts that are saved and loaded; NV indices, persistent keys and hierarchies; and
all of this while a neighbour forces everything out of the TPM between two commands.

A program keeps to what a TPM of three slots has room for. Codes are compared as in transparency.py, and of what differs
on any two TPMs, such as a signature, the length.
"""

import collections
import contextlib
import os
import random
import shutil

import harness
import tpm
from codes import class_of, is_about_handle

os.environ["TSS2_LOG"] = "all+none"  # most of what ESYS would say is meant to happen
try:
    from tpm2_pytss import (ESAPI, ESYS_TR, TPM2_ALG, TPM2_CAP, TPM2_CC, TPM2_EO, TPM2_NT, TPM2_RH, TPM2_SE, TPM2_ST,
                            TPM2_SU, TPM2B_DIGEST, TPM2B_ECC_PARAMETER, TPM2B_ECC_POINT, TPM2B_NONCE, TPM2B_NV_PUBLIC,
                            TPM2B_OPERAND, TPM2B_PUBLIC, TPM2B_SENSITIVE_CREATE, TPM2B_SENSITIVE_DATA, TPMA_NV,
                            TPML_CC, TPML_DIGEST, TPML_DIGEST_VALUES, TPMS_CONTEXT, TPMS_NV_PUBLIC,
                            TPMS_SENSITIVE_CREATE, TPMT_HA, TPMT_SIG_SCHEME, TPMT_SYM_DEF, TPMT_TK_HASHCHECK, TPMU_HA,
                            TCTILdr, TSS2_Exception)
except ImportError as error:
    NO_PYTSS = error
else:
    NO_PYTSS = None

N_COMMANDS = int(os.environ.get("DIFFERENTIAL_COMMANDS", "20000"))
SEED = int(os.environ.get("DIFFERENTIAL_SEED", "1"))
BAD_SEQUENCE = 0x70007  # ESYS is stuck: no command goes out any more
NO_ROOM = (0x902, 0x903, 0x904, 0x905)
SLOTS = 3
LENGTH = 60  # of a program, on the average: then both sides are empty again, and begin anew
# Properties in which a client under the daemon has more than the TPM: the gap, what is loaded, and room for more; and
# the number of writes to NV, which is the TPM's affair.
NOT_COMPARED = {0x114, 0x11B, *range(0x202, 0x209)}


NO_SEQUENCE = ("parent", "signer", "hmac", "cipher", "ecdaa", "sealed")
Thing = collections.namedtuple("Thing", "handle kind")  # ESYS handle, or context; what it is good for


class Side:
    """A connection to one of the two TPMs, and what the program has there: things, in the same order."""

    def __init__(self, name, conf):
        self.tcti = TCTILdr(name, conf)
        self.esys = ESAPI(self.tcti)
        self.objects, self.sessions, self.contexts, self.indices, self.persistent = [], [], [], [], []

    def raw(self, command):
        self.tcti.transmit(command)
        return tpm.Response(bytes(self.tcti.receive()))

    def handles(self, first):
        return tpm.parse_handles(self.raw(tpm.get_capability(tpm.CAP_HANDLES, first, 254)))

    def sweep(self, first_session):
        """Nothing of the program is left."""
        for first in (tpm.HT_TRANSIENT, tpm.HT_LOADED_SESSION, tpm.HT_SAVED_SESSION + first_session):
            for handle in self.handles(first):
                self.raw(tpm.flush_context(handle))
        for hierarchy in (ESYS_TR.OWNER, ESYS_TR.ENDORSEMENT):
            self.esys.hierarchy_control(ESYS_TR.PLATFORM, hierarchy, True)
        for thing in self.persistent:
            with contextlib.suppress(TSS2_Exception):
                self.esys.evict_control(ESYS_TR.OWNER, thing.handle, 0)
        self.esys.clear(ESYS_TR.PLATFORM)
        self.esys.pcr_reset(ESYS_TR.PCR16)
        for listed in (self.objects, self.sessions, self.contexts, self.indices, self.persistent):
            listed.clear()

    def auths(self, drawn, n):
        """Keywords of a command that needs @n authorizations, by the sessions that were drawn for it."""
        found = {}
        for i, session in enumerate(drawn):
            if session is not None:
                found["session%d" % (i + 1)] = self.sessions[session].handle
            else:
                found["session%d" % (i + 1)] = ESYS_TR.PASSWORD if i < n else ESYS_TR.NONE
        return found


def operation(weight, objects=0, sessions=0, contexts=0, indices=0):
    """What is to be there before it can be drawn."""
    def mark(function):
        function.weight = weight
        function.needs = {"objects": objects, "sessions": sessions, "contexts": contexts, "indices": indices}
        return function
    return mark


def of_length(value):
    return len(bytes(value))


class NothingSuitable(Exception):
    pass


class Program:
    """Each operation draws its arguments and gives back what is done on either side; the value of that is compared."""

    def __init__(self, seed, sides, saved_by_neighbour):
        self.random, self.sides, self.first_session = random.Random(seed), sides, saved_by_neighbour
        self.operations = [getattr(self, name) for name in dir(self) if hasattr(getattr(self, name), "weight")]
        self.done = self.succeeded = 0
        self.counts = {}

    def there(self, kind):
        return len(getattr(self.sides[0], kind))

    def draw(self, listed, *kinds):
        """-> the number of one, mostly of those that are good for it"""
        things = getattr(self.sides[0], listed)
        good = [i for i, thing in enumerate(things) if thing.kind in kinds]
        if self.random.random() < 0.1:
            return self.random.randrange(len(things))
        if kinds and not good:
            raise NothingSuitable
        return self.random.choice(good or range(len(things)))

    def draw_auths(self):
        order = [i for i, thing in enumerate(self.sides[0].sessions)
                 if thing.kind == "hmac" or self.random.random() < 0.1]
        self.random.shuffle(order)
        drawn = [session if self.random.random() < 0.4 else None for session in order] + [None] * 3
        if self.random.random() < 0.1 and order:  # one session twice, which no TPM takes
            drawn[:2] = order[0], order[0]
        return drawn[:3]

    def run(self, function):
        """-> what both sides say, and whether the bare one had no room"""
        results = []
        for side in self.sides:
            try:
                results.append(("value", function(side)))
            except TSS2_Exception as error:
                if error.rc == BAD_SEQUENCE:
                    raise
                results.append(("code", class_of(error.rc), error.rc))
        bare = results[0]
        return results, bare[0] == "code" and bare[2] in NO_ROOM

    def step(self):
        possible = [op for op in self.operations if all(self.there(kind) >= n for kind, n in op.needs.items())]
        op, = self.random.choices(possible, [op.weight for op in possible])
        try:
            function = op()
        except NothingSuitable:
            return None
        if not function:
            return None
        results, no_room = self.run(function)
        self.counts.setdefault(op.__name__, [0, 0])[results[0][0] == "value"] += 1
        self.done += 1
        self.succeeded += results[0][0] == "value"
        if no_room:
            for side in self.sides:
                side.sweep(self.first_session)
            return None
        if results[0][:2] != results[1][:2] and not self.is_documented(*results):
            return "%s: bare %r, ours %r" % (op.__name__, results[0], results[1])
        return None

    @staticmethod
    def is_documented(bare, ours):
        """A handle that is not the client's is refused before the TPM can say what is wrong with another one."""
        return (bare[0] == ours[0] == "code" and is_about_handle(bare[2]) and
                tpm.RM + tpm.RC_REFERENCE_H0 <= ours[2] <= tpm.RM + tpm.RC_REFERENCE_H0 + 6)

    # Sessions

    @operation(10)
    def start_session(self):
        if self.there("sessions") == SLOTS:
            return None
        type_, kind = self.random.choice([(TPM2_SE.HMAC, "hmac")] * 3 + [(TPM2_SE.POLICY, "policy"),
                                                                         (TPM2_SE.TRIAL, "policy")])
        salted, bound = None, None
        if self.there("objects") and self.random.random() < 0.4:
            salted = self.draw("objects", "parent")
        if self.there("objects") and self.random.random() < 0.4:
            bound = self.draw("objects", "parent")
        symmetric = TPMT_SYM_DEF(algorithm=TPM2_ALG.NULL)
        if self.random.random() < 0.7:
            symmetric = TPMT_SYM_DEF(algorithm=TPM2_ALG.AES)
            symmetric.keyBits.aes = 128
            symmetric.mode.aes = TPM2_ALG.CFB

        def do(side):
            key, entity = (ESYS_TR.NONE if i is None else side.objects[i].handle for i in (salted, bound))
            handle = side.esys.start_auth_session(key, entity, type_, symmetric, TPM2_ALG.SHA256)
            side.sessions.append(Thing(handle, kind))
        return do

    @operation(10, sessions=1)
    def set_attributes(self):
        i = self.draw("sessions")
        attributes = self.random.choice([0x01] * 4 + [0x81, 0x83, 0x85, 0x21, 0x41, 0x61, 0xE1, 0x00, 0x80, 0xA1])
        return lambda side: side.esys.trsess_set_attributes(side.sessions[i].handle, attributes, 0xFF)

    @operation(5, sessions=1)
    def flush_session(self):
        i = self.draw("sessions")

        def do(side):
            side.esys.flush_context(side.sessions[i].handle)
            del side.sessions[i]
        return do

    @operation(9, sessions=1)
    def save_session(self):
        i = self.draw("sessions")

        def do(side):
            context = side.esys.context_save(side.sessions[i].handle)
            side.contexts.append(Thing(context, side.sessions[i].kind))
            del side.sessions[i]
            return context.savedHandle, context.hierarchy, of_length(context.contextBlob)
        return do

    # Objects

    @operation(12)
    def create_primary(self):
        if self.there("objects") == SLOTS:
            return None
        hierarchy = self.random.choice([ESYS_TR.OWNER, ESYS_TR.ENDORSEMENT, ESYS_TR.NULL, ESYS_TR.PLATFORM])
        text, attributes, kind = self.random.choice([
            ("ecc256:ecdsa-sha256", 0x40072, "signer"), ("ecc256:aes128cfb", 0x30072, "parent"),
            ("ecc256:aes128cfb", 0x30072, "parent"), ("hmac:sha256", 0x40072, "hmac"),
            ("aes128cfb", 0x60072, "cipher"), ("ecc256:ecdaa4-sha256", 0x40072, "ecdaa")])
        auths = self.draw_auths()

        def do(side):
            template = TPM2B_PUBLIC.parse(text, objectAttributes=attributes)
            handle, public, *_ = side.esys.create_primary(TPM2B_SENSITIVE_CREATE(), template, hierarchy,
                                                          **side.auths(auths, 1))
            side.objects.append(Thing(handle, kind))
            return len(public.marshal())
        return do

    @operation(6, objects=1)
    def create_and_load(self):
        i, auths = self.draw("objects", "parent"), self.draw_auths()
        if self.there("objects") == SLOTS:
            return None
        seals = self.random.random() < 0.3

        def do(side):
            sensitive = TPMS_SENSITIVE_CREATE(userAuth=b"abc", data=b"secret" if seals else b"")
            template = TPM2B_PUBLIC.parse("keyedhash" if seals else "ecc256:ecdsa-sha256",
                                          objectAttributes=0x52 if seals else 0x40072)
            private, public, *_ = side.esys.create(side.objects[i].handle, TPM2B_SENSITIVE_CREATE(sensitive), template,
                                                   **side.auths(auths, 1))
            handle = side.esys.load(side.objects[i].handle, private, public)
            side.objects.append(Thing(handle, "sealed" if seals else "signer"))
            side.esys.tr_set_auth(handle, b"abc")
            return of_length(private)
        return do

    @operation(7, objects=1)
    def flush_object(self):
        i = self.draw("objects")

        def do(side):
            side.esys.flush_context(side.objects[i].handle)
            del side.objects[i]
        return do

    @operation(8, objects=1)
    def save_object(self):
        i = self.draw("objects")

        def do(side):
            context = side.esys.context_save(side.objects[i].handle)
            side.contexts.append(Thing(context, side.objects[i].kind))
            return context.savedHandle, context.hierarchy, of_length(context.contextBlob)
        return do

    @operation(10, contexts=1)
    def load_context(self):
        i, damaged = self.draw("contexts"), self.random.random() < 0.1
        listed = "objects" if self.sides[0].contexts[i].handle.savedHandle >> 24 == 0x80 else "sessions"
        if self.there(listed) == SLOTS:
            return None

        def do(side):
            context, kind = side.contexts[i]
            if damaged:
                blob = bytearray(bytes(context.contextBlob))
                blob[40] ^= 1  # the TPM's part of it; ESYS has its own behind
                context = TPMS_CONTEXT(sequence=context.sequence, savedHandle=context.savedHandle,
                                       hierarchy=context.hierarchy, contextBlob=bytes(blob))
            getattr(side, listed).append(Thing(side.esys.context_load(context), kind))
        return do

    @operation(4)
    def hash_sequence_start(self):
        if self.there("objects") == SLOTS:
            return None
        algorithm, kind = self.random.choice([(TPM2_ALG.SHA256, "sequence"), (TPM2_ALG.NULL, "event")])
        return lambda side: side.objects.append(Thing(side.esys.hash_sequence_start(b"", algorithm), kind))

    @operation(3, objects=1)
    def hmac_sequence_start(self):
        i, auths = self.draw("objects", "hmac"), self.draw_auths()
        if self.there("objects") == SLOTS:
            return None

        def do(side):
            handle = side.esys.hmac_start(side.objects[i].handle, b"", TPM2_ALG.NULL, **side.auths(auths, 1))
            side.objects.append(Thing(handle, "sequence"))
        return do

    # With one object

    def with_object(self, kinds, function, n_auths=1):
        i, auths = self.draw("objects", *kinds), self.draw_auths()
        return lambda side: function(side.esys, side.objects[i].handle, **side.auths(auths, n_auths))

    @operation(6, objects=1)
    def sequence_update(self):
        return self.with_object(("sequence", "event"), lambda esys, sequence, **auths: esys.sequence_update(
            sequence, b"abc", **auths))

    @operation(4, objects=1)
    def sequence_complete(self):
        i, auths = self.draw("objects", "sequence"), self.draw_auths()

        def do(side):
            digest, _ = side.esys.sequence_complete(side.objects[i].handle, b"d", ESYS_TR.NULL, **side.auths(auths, 1))
            del side.objects[i]
            return of_length(digest)
        return do

    @operation(2, objects=1)
    def event_sequence_complete(self):
        i, auths = self.draw("objects", "event"), self.draw_auths()

        def do(side):
            side.esys.event_sequence_complete(ESYS_TR.PCR16, side.objects[i].handle, b"d", **side.auths(auths, 2))
            del side.objects[i]
        return do

    @operation(6, objects=1)
    def read_public(self):
        return self.with_object(NO_SEQUENCE, lambda esys, key, **auths: len(
            esys.read_public(key, **auths)[0].marshal()), 0)

    @operation(8, objects=1)
    def sign(self):
        check = TPMT_TK_HASHCHECK(tag=TPM2_ST.HASHCHECK, hierarchy=TPM2_RH.NULL)
        return self.with_object(("signer", "hmac", "ecdaa"), lambda esys, key, **auths: len(
            esys.sign(key, TPM2B_DIGEST(b"\1" * 32), TPMT_SIG_SCHEME(scheme=TPM2_ALG.NULL), check, **auths).marshal()))

    @operation(4, objects=1)
    def hmac(self):
        return self.with_object(("hmac",), lambda esys, key, **auths: of_length(
            esys.hmac(key, b"data", TPM2_ALG.NULL, **auths)))

    @operation(4, objects=1)
    def unseal(self):
        return self.with_object(("sealed",), lambda esys, key, **auths: bytes(esys.unseal(key, **auths)))

    @operation(3, objects=1)
    def encrypt_decrypt(self):
        return self.with_object(("cipher",), lambda esys, key, **auths: [
            of_length(part) for part in esys.encrypt_decrypt_2(key, False, TPM2_ALG.NULL, bytes(16), b"data", **auths)])

    @operation(3, objects=1)
    def quote(self):
        return self.with_object(("signer",), lambda esys, key, **auths: [len(part.marshal()) for part in esys.quote(
            key, "sha256:16", b"n", TPMT_SIG_SCHEME(scheme=TPM2_ALG.NULL), **auths)])

    @operation(3, objects=1)
    def commit(self):
        return self.with_object(("ecdaa",), lambda esys, key, **auths: len(esys.commit(
            key, TPM2B_ECC_POINT(), TPM2B_SENSITIVE_DATA(), TPM2B_ECC_PARAMETER(), **auths)))

    @operation(2, objects=1)
    def ecdh_key_gen(self):
        return self.with_object(("parent", "signer"), lambda esys, key, **auths: len(
            esys.ecdh_key_gen(key, **auths)), 0)

    @operation(3, objects=1)
    def attest(self):
        name, handles = self.random.choice([("get_time", {"privacy_admin_handle": ESYS_TR.ENDORSEMENT}),
                                            ("get_command_audit_digest", {"privacy_handle": ESYS_TR.ENDORSEMENT})])
        return self.with_object(("signer",), lambda esys, key, **auths: [
            len(part.marshal()) for part in getattr(esys, name)(
                key, b"n", TPMT_SIG_SCHEME(scheme=TPM2_ALG.NULL), **handles, **auths)], 2)

    @operation(3, objects=1)
    def evict_control(self):
        if self.there("persistent") == SLOTS:
            return None
        number = 0x81000001 + self.there("persistent")
        i, auths = self.draw("objects", "parent", "signer"), self.draw_auths()

        def do(side):
            handle = side.esys.evict_control(ESYS_TR.OWNER, side.objects[i].handle, number, **side.auths(auths, 1))
            side.persistent.append(Thing(handle, "persistent"))
        return do

    # With two

    @operation(5, objects=2)
    def certify(self):
        i, k, auths = self.draw("objects"), self.draw("objects", "signer"), self.draw_auths()
        return lambda side: [len(part.marshal()) for part in side.esys.certify(
            side.objects[i].handle, side.objects[k].handle, b"q", TPMT_SIG_SCHEME(scheme=TPM2_ALG.NULL),
            **side.auths(auths, 2))]

    @operation(2, objects=2)
    def make_credential(self):
        i, k = self.draw("objects", "parent"), self.draw("objects")
        return lambda side: [of_length(part) for part in side.esys.make_credential(
            side.objects[i].handle, b"c" * 8, side.esys.tr_get_name(side.objects[k].handle))]

    @operation(4, objects=2)
    def object_change_auth(self):
        i, k, auths = self.draw("objects", "signer"), self.draw("objects", "parent"), self.draw_auths()
        return lambda side: of_length(side.esys.object_change_auth(
            side.objects[i].handle, side.objects[k].handle, b"new", **side.auths(auths, 1)))

    @operation(5, objects=1, sessions=1)
    def get_session_audit_digest(self):
        i, k = self.draw("objects", "signer"), self.draw("sessions", "hmac")

        def do(side):
            attest, _ = side.esys.get_session_audit_digest(side.objects[i].handle, side.sessions[k].handle, b"q",
                                                           TPMT_SIG_SCHEME(scheme=TPM2_ALG.NULL), ESYS_TR.ENDORSEMENT)
            return bytes(attest)[-35]  # exclusiveSession, in front of the digest
        return do

    # Policies

    def policy(self, function):
        i = self.draw("sessions", "policy")
        return lambda side: function(side.esys, side.sessions[i].handle)

    @operation(8, sessions=1)
    def policy_step(self):
        return self.policy(self.random.choice([
            lambda esys, session: esys.policy_pcr(session, TPM2B_DIGEST(), "sha256:16"),
            lambda esys, session: esys.policy_command_code(session, TPM2_CC.Sign),
            lambda esys, session: esys.policy_auth_value(session),
            lambda esys, session: esys.policy_password(session),
            lambda esys, session: esys.policy_locality(session, 1),
            lambda esys, session: esys.policy_or(session, TPML_DIGEST([bytes(32), b"\1" * 32])),
            lambda esys, session: esys.policy_nv_written(session, True),
            lambda esys, session: esys.policy_template(session, b"\3" * 32),
            lambda esys, session: esys.policy_counter_timer(session, TPM2B_OPERAND(bytes(8)), TPM2_EO.UNSIGNED_GE, 0),
        ]))

    @operation(2, sessions=1)
    def policy_restart(self):
        return self.policy(lambda esys, session: esys.policy_restart(session))

    @operation(4, sessions=1)
    def policy_secret(self):
        i, auths = self.draw("sessions", "policy"), self.draw_auths()
        hierarchy = self.random.choice([ESYS_TR.OWNER, ESYS_TR.NULL, ESYS_TR.PLATFORM])
        return lambda side: len(side.esys.policy_secret(
            hierarchy, side.sessions[i].handle, TPM2B_NONCE(), TPM2B_DIGEST(), TPM2B_NONCE(), 0,
            **side.auths(auths, 1)))

    @operation(6, sessions=1)
    def policy_get_digest(self):
        i, auths = self.draw("sessions", "policy"), self.draw_auths()
        return lambda side: bytes(side.esys.policy_get_digest(side.sessions[i].handle, **side.auths(auths, 0)))

    @operation(3, sessions=1, indices=1)
    def policy_nv(self):
        i, k, auths = self.draw("sessions", "policy"), self.draw("indices", "data"), self.draw_auths()
        return lambda side: side.esys.policy_nv(
            side.indices[k].handle, side.indices[k].handle, side.sessions[i].handle, TPM2B_OPERAND(b"12345678"),
            TPM2_EO.EQ, 0, **side.auths(auths, 1))

    # NV

    @operation(4)
    def nv_define_space(self):
        if self.there("indices") == SLOTS:
            return None
        rights = TPMA_NV.OWNERREAD | TPMA_NV.OWNERWRITE | TPMA_NV.AUTHREAD | TPMA_NV.AUTHWRITE
        more, kind = self.random.choice([(0, "data"), (TPMA_NV.ORDERLY, "data"), (TPM2_NT.COUNTER << 4, "counter")])
        public = TPM2B_NV_PUBLIC(TPMS_NV_PUBLIC(nvIndex=0x01000001 + self.random.randrange(SLOTS), dataSize=8,
                                                nameAlg=TPM2_ALG.SHA256, attributes=rights | more))
        auths = self.draw_auths()
        return lambda side: side.indices.append(Thing(side.esys.nv_define_space(b"", public, **side.auths(auths, 1)),
                                                      kind))

    def with_index(self, kinds, function, n_auths=1):
        i, auths = self.draw("indices", *kinds), self.draw_auths()
        return lambda side: function(side.esys, side.indices[i].handle, **side.auths(auths, n_auths))

    @operation(8, indices=1)
    def nv_use(self):
        return self.with_index(*self.random.choice([
            (("data",), lambda esys, nv, **auths: esys.nv_write(nv, b"12345678", 0, auth_handle=nv, **auths)),
            (("data",), lambda esys, nv, **auths: bytes(esys.nv_read(nv, 8, 0, auth_handle=nv, **auths))),
            (("counter",), lambda esys, nv, **auths: esys.nv_increment(nv, auth_handle=nv, **auths)),
        ]))

    @operation(2, indices=1)
    def nv_read_public(self):
        return self.with_index((), lambda esys, nv, **auths: bytes(esys.nv_read_public(nv, **auths)[1]), 0)

    @operation(1, indices=1)
    def nv_undefine_space(self):
        i, auths = self.draw("indices"), self.draw_auths()

        def do(side):
            side.esys.nv_undefine_space(side.indices[i].handle, **side.auths(auths, 1))
            del side.indices[i]
        return do

    # The TPM

    @operation(8)
    def without_handles(self):
        auths = self.draw_auths()
        extend = TPML_DIGEST_VALUES([TPMT_HA(hashAlg=TPM2_ALG.SHA256, digest=TPMU_HA(sha256=b"\2" * 32))])
        function, n = self.random.choice([
            (lambda esys, **auths: of_length(esys.get_random(5, **auths)), 0),
            (lambda esys, **auths: esys.stir_random(b"x" * 8, **auths), 0),
            (lambda esys, **auths: len(esys.pcr_read("sha256:0,16", **auths)), 0),
            (lambda esys, **auths: esys.pcr_extend(ESYS_TR.PCR16, extend, **auths), 1),
            (lambda esys, **auths: esys.pcr_reset(ESYS_TR.PCR16, **auths), 1),
            (lambda esys, **auths: esys.dictionary_attack_lock_reset(ESYS_TR.LOCKOUT, **auths), 1),
        ])
        return lambda side: function(side.esys, **side.auths(auths, n))

    @operation(14)
    def get_capability(self):
        capability, first = self.random.choice([
            (TPM2_CAP.HANDLES, 0x80000000), (TPM2_CAP.HANDLES, 0x02000000),
            (TPM2_CAP.HANDLES, 0x03000000 + self.first_session), (TPM2_CAP.HANDLES, 0x81000000),
            (TPM2_CAP.HANDLES, 0x01000000), (TPM2_CAP.HANDLES, 0x40000000), (TPM2_CAP.PCRS, 0),
            (TPM2_CAP.COMMANDS, 0x11F), (TPM2_CAP.AUDIT_COMMANDS, 0), (TPM2_CAP.PP_COMMANDS, 0), (TPM2_CAP.ALGS, 0),
            (TPM2_CAP.TPM_PROPERTIES, 0x100), (TPM2_CAP.TPM_PROPERTIES, 0x200), (TPM2_CAP.ECC_CURVES, 0),
            (TPM2_CAP.PCR_PROPERTIES, 0)])
        count = self.random.choice([0, 1, 2, 30, 254, 1000])
        # Lists of what is a client's own are refused under a session (docs/PROTOCOL.md).
        own = capability == TPM2_CAP.HANDLES and first >> 24 in (0x80, 0x02, 0x03)
        auths = [None] * 3 if own else self.draw_auths()

        def do(side):
            more, data = side.esys.get_capability(capability, first, count, **side.auths(auths, 0))
            if capability != TPM2_CAP.TPM_PROPERTIES:
                return more, data.marshal()
            return more, sorted((p.property, p.value) for p in data.data.tpmProperties
                                if p.property not in NOT_COMPARED)
        return do

    @operation(3)
    def seldom(self):
        codes = TPML_CC([TPM2_CC.GetRandom, TPM2_CC.GetCapability])
        hierarchy = self.random.choice([ESYS_TR.OWNER, ESYS_TR.ENDORSEMENT])
        enabled = self.random.random() < 0.5
        return self.random.choice([
            lambda side: side.esys.hierarchy_control(ESYS_TR.PLATFORM, hierarchy, enabled),
            lambda side: [side.esys.hierarchy_control(ESYS_TR.PLATFORM, each, True)
                          for each in (ESYS_TR.OWNER, ESYS_TR.ENDORSEMENT)],
            lambda side: side.esys.clear(ESYS_TR.LOCKOUT),
            lambda side: side.esys.change_eps(ESYS_TR.PLATFORM),
            lambda side: side.esys.startup(TPM2_SU.CLEAR),
            lambda side: side.esys.shutdown(TPM2_SU.STATE),
            lambda side: side.esys.set_command_code_audit_status(TPM2_ALG.NULL, codes, TPML_CC()),
            lambda side: side.esys.set_command_code_audit_status(TPM2_ALG.NULL, TPML_CC(), codes),
            lambda side: side.esys.self_test(False),
            lambda side: side.esys.get_test_result()[1],
            lambda side: side.esys.pp_commands(TPML_CC([TPM2_CC.Clear]), TPML_CC()),
        ])


class Neighbour:
    """Another client: between two commands it needs all slots of the TPM."""

    def __init__(self, daemon):
        self.client = daemon.client()
        self.keys, self.sessions = [], []
        for i in range(SLOTS):
            key = self.client.create_primary(tpm.public_hmac_key(b"%d" % i), tpm.RH_NULL)
            self.keys.append(self.client.context_save(key))
            self.client.run(tpm.flush_context(key))
        for _ in range(SLOTS):
            self.sessions.append(self.client.context_save(self.client.start_session(tpm.SE_HMAC)))

    def work(self, rng):
        for context in self.keys:
            if rng.random() < 0.7:
                self.client.run(tpm.flush_context(self.client.run(tpm.context_load(context)).handle))
        for i, context in enumerate(self.sessions):
            if rng.random() < 0.7:
                self.sessions[i] = self.client.context_save(self.client.run(tpm.context_load(context)).handle)


class Differential(harness.TestCase):
    def setUp(self):
        super().setUp()
        if NO_PYTSS:
            self.skipTest(str(NO_PYTSS))
        base = harness.TcpSwtpm(self.folder / "base")
        base.stop()
        self.swtpms = []
        for name in ("bare", "under"):
            shutil.copytree(base.folder / "tpm", self.folder / name / "tpm")
            self.swtpms.append(harness.TcpSwtpm(self.folder / name))
            self.addCleanup(self.swtpms[-1].stop)
        self.daemon = self.start_daemon(self.swtpms[1].conf)

    def sides(self):
        library = str(harness.Ours.library / "libtss2-tcti-tabrmd.so.0")
        host, port = self.swtpms[0].host, self.swtpms[0].port
        found = [Side("swtpm", "host=%s,port=%d" % (host, port)), Side(library, "socket=" + self.daemon.socket)]
        for side in found:
            self.addCleanup(side.esys.close)
        return found

    def compare(self, seed, n_commands, neighbour=False):
        sides = self.sides()
        other, rng = None, random.Random(seed)
        if neighbour:
            other = Neighbour(self.daemon)
            self.addCleanup(other.client.close)
            for _ in range(SLOTS):  # those three have numbers, which must be taken on the bare TPM, too
                session = sides[0].raw(tpm.start_auth_session(tpm.SE_HMAC)).handle
                sides[0].raw(tpm.context_save(session))
        program = Program(seed, sides, SLOTS if neighbour else 0)
        while program.done < n_commands:
            if rng.random() < 1 / LENGTH:
                for side in sides:
                    side.sweep(program.first_session)
            if other and rng.random() < 0.6:
                other.work(rng)
            difference = program.step()
            self.assertIsNone(difference, "seed %d, command %d" % (seed, program.done))
        print("# %d commands, %d succeeded" % (program.done, program.succeeded))
        for name, (failed, succeeded) in sorted(program.counts.items()):
            print("# %s: %d failed, %d succeeded" % (name, failed, succeeded))
        self.assertGreater(program.succeeded, program.done // 2)

    def test_alone(self):
        self.compare(SEED, N_COMMANDS // 2)

    def test_beside_a_neighbour(self):
        self.compare(SEED + 1, N_COMMANDS // 2, neighbour=True)


if __name__ == "__main__":
    harness.main()
