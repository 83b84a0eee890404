/* SPDX-License-Identifier: BSD-2-Clause */
#include "test/lib/fake-tpm-private.h"

#include <string.h>

FakeObject *fake_object_new(FakeTpm *tpm) {
        for (unsigned i = 0; i < tpm->config.object_slots; i++)
                if (tpm->objects[i].state == FAKE_OBJECT_NONE) {
                        tpm->objects[i] = (FakeObject){ .state = FAKE_OBJECT_KEY, .hierarchy = TPM2_RH_NULL };
                        return &tpm->objects[i];
                }
        return NULL;
}

TPM2_HANDLE fake_object_handle(const FakeTpm *tpm, const FakeObject *object) {
        return TPM_TRANSIENT_FIRST + (TPM2_HANDLE)(object - tpm->objects);
}

FakeObject *fake_object_find(FakeTpm *tpm, TPM2_HANDLE handle) {
        uint32_t slot = handle - TPM_TRANSIENT_FIRST;

        if (slot >= tpm->config.object_slots || tpm->objects[slot].state == FAKE_OBJECT_NONE)
                return NULL;
        return &tpm->objects[slot];
}

FakeObject *fake_persistent_find(FakeTpm *tpm, TPM2_HANDLE handle) {
        for (unsigned i = 0; i < tpm->n_persistent; i++)
                if (tpm->persistent[i].handle == handle)
                        return &tpm->persistent[i];
        return NULL;
}

void fake_objects_flush(FakeTpm *tpm, TPM2_HANDLE hierarchy) {
        for (unsigned i = 0; i < tpm->config.object_slots; i++)
                if (hierarchy == 0 || tpm->objects[i].hierarchy == hierarchy)
                        tpm->objects[i].state = FAKE_OBJECT_NONE;
}

static void write_public(FakeCall *call, uint64_t identity) {
        tpm_write_u16(&call->out, 22);
        tpm_write_u16(&call->out, TPM2_ALG_KEYEDHASH);
        tpm_write_u16(&call->out, TPM2_ALG_SHA256);
        tpm_write_u32(&call->out, TPMA_OBJECT_USERWITHAUTH | TPMA_OBJECT_SIGN_ENCRYPT);
        tpm_write_u16(&call->out, 0); /* no policy */
        tpm_write_u16(&call->out, TPM2_ALG_NULL);
        tpm_write_u16(&call->out, sizeof(identity));
        tpm_write_u64(&call->out, identity);
}

static void write_name(FakeCall *call, uint64_t identity) {
        tpm_write_u16(&call->out, sizeof(uint16_t) + FAKE_DIGEST_SIZE);
        tpm_write_u16(&call->out, TPM2_ALG_SHA256);
        fake_write_digest(&call->out, identity, 0);
}

/* What only this TPM can have made: the identity, and a proof of the hierarchy. */
static uint64_t private_proof(FakeTpm *tpm, const FakeObject *object) {
        return fake_mix(fake_hierarchy(tpm, object->hierarchy)->proof, &object->identity, sizeof(object->identity));
}

static void write_private(FakeTpm *tpm, FakeCall *call, const FakeObject *object) {
        tpm_write_u16(&call->out, 2 * sizeof(uint64_t));
        tpm_write_u64(&call->out, object->identity);
        tpm_write_u64(&call->out, private_proof(tpm, object));
}

static void write_ticket(FakeCall *call, TPM2_ST tag) {
        tpm_write_u16(&call->out, tag);
        tpm_write_u32(&call->out, TPM2_RH_NULL);
        tpm_write_u16(&call->out, 0);
}

static void write_creation(FakeCall *call) {
        fake_write_2b(call, NULL, 0); /* creationData */
        fake_write_2b(call, NULL, 0); /* creationHash */
        write_ticket(call, TPM2_ST_CREATION);
}

/* A TPM2B_PUBLIC, of any kind. Return: its stClear. */
static bool read_public(FakeCall *call) {
        size_t n;
        const uint8_t *bytes = fake_read_2b(call, &n);
        TpmReader reader = TPM_READER(bytes, bytes ? n : 0);

        tpm_read_u32(&reader);
        return tpm_read_u32(&reader) & TPMA_OBJECT_STCLEAR;
}

static void read_pcr_selection(FakeCall *call) {
        uint32_t n = fake_read_u32(call);

        while (n-- > 0 && !call->in.bad) {
                tpm_read_u16(&call->in);
                tpm_read_bytes(&call->in, tpm_read_u8(&call->in));
        }
}

/* inSensitive, inPublic, outsideInfo, creationPCR. Return: stClear. */
static bool read_template(FakeCall *call) {
        size_t n;
        bool stclear;

        fake_read_2b(call, &n);
        stclear = read_public(call);
        fake_read_2b(call, &n);
        read_pcr_selection(call);
        return stclear;
}

/* A new object in the hierarchy of handle 0, or of the object it stands for. NULL: OBJECT_MEMORY. */
static FakeObject *make(FakeTpm *tpm, FakeCall *call, bool stclear) {
        const FakeObject *parent = call->objects[0];
        FakeObject *object = fake_object_new(tpm);

        if (!object)
                return NULL;
        object->hierarchy = parent                         ? parent->hierarchy
                            : call->command.n_handles == 0 ? TPM2_RH_NULL
                                                           : call->command.handles[0];
        object->stclear = stclear || (parent && parent->stclear);
        object->identity = ++tpm->identity;
        call->handle = fake_object_handle(tpm, object);
        return object;
}

TPM2_RC fake_create_primary(FakeTpm *tpm, FakeCall *call) {
        bool stclear = read_template(call);
        TPM2_RC rc = fake_read_end(call);
        FakeObject *object = rc ? NULL : make(tpm, call, stclear);

        if (!object)
                return rc ? rc : TPM2_RC_OBJECT_MEMORY;
        write_public(call, object->identity);
        write_creation(call);
        write_name(call, object->identity);
        return TPM2_RC_SUCCESS;
}

TPM2_RC fake_create_loaded(FakeTpm *tpm, FakeCall *call) {
        size_t n;
        bool stclear = (fake_read_2b(call, &n), read_public(call));
        TPM2_RC rc = fake_read_end(call);
        FakeObject *object = rc ? NULL : make(tpm, call, stclear);

        if (!object)
                return rc ? rc : TPM2_RC_OBJECT_MEMORY;
        write_private(tpm, call, object);
        write_public(call, object->identity);
        write_name(call, object->identity);
        return TPM2_RC_SUCCESS;
}

TPM2_RC fake_create(FakeTpm *tpm, FakeCall *call) {
        bool stclear = read_template(call);
        TPM2_RC rc = fake_read_end(call);
        FakeObject *object = rc ? NULL : make(tpm, call, stclear);

        if (!object)
                return rc ? rc : TPM2_RC_OBJECT_MEMORY;
        object->temporary = true;
        write_private(tpm, call, object);
        write_public(call, object->identity);
        write_creation(call);
        return TPM2_RC_SUCCESS;
}

TPM2_RC fake_load(FakeTpm *tpm, FakeCall *call) {
        size_t n;
        const uint8_t *bytes = fake_read_2b(call, &n);
        TpmReader reader = TPM_READER(bytes, bytes ? n : 0);
        bool stclear = read_public(call);
        TPM2_RC rc = fake_read_end(call);
        FakeObject *object = rc ? NULL : make(tpm, call, stclear);

        if (!object)
                return rc ? rc : TPM2_RC_OBJECT_MEMORY;
        object->identity = tpm_read_u64(&reader);
        if (tpm_read_u64(&reader) != private_proof(tpm, object) || !tpm_reader_done(&reader)) {
                object->state = FAKE_OBJECT_NONE;
                return FAKE_P(TPM2_RC_INTEGRITY, 1);
        }
        write_name(call, object->identity);
        return TPM2_RC_SUCCESS;
}

TPM2_RC fake_load_external(FakeTpm *tpm, FakeCall *call) {
        size_t n;
        bool stclear = (fake_read_2b(call, &n), read_public(call));
        TPM2_HANDLE hierarchy = fake_read_u32(call);
        TPM2_RC rc = fake_read_end(call);
        FakeObject *object;

        if (!rc && !fake_hierarchy(tpm, hierarchy))
                rc = FAKE_P(TPM2_RC_VALUE, 3);
        object = rc ? NULL : make(tpm, call, stclear);
        if (!object)
                return rc ? rc : TPM2_RC_OBJECT_MEMORY;
        object->hierarchy = hierarchy;
        write_name(call, object->identity);
        return TPM2_RC_SUCCESS;
}

TPM2_RC fake_read_public(FakeTpm *tpm, FakeCall *call) {
        const FakeObject *object = call->objects[0];
        TPM2_RC rc = fake_read_end(call);

        if (rc)
                return rc;
        if (object->state != FAKE_OBJECT_KEY)
                return TPM2_RC_SEQUENCE;
        write_public(call, object->identity);
        write_name(call, object->identity);
        write_name(call, ~object->identity);
        return TPM2_RC_SUCCESS;
}

TPM2_RC fake_hmac(FakeTpm *tpm, FakeCall *call) {
        size_t n;
        const uint8_t *bytes = fake_read_2b(call, &n);
        TPM2_RC rc = (fake_read_u16(call), fake_read_end(call));

        if (rc)
                return rc;
        tpm_write_u16(&call->out, FAKE_DIGEST_SIZE);
        fake_write_digest(&call->out, call->objects[0]->identity, fake_mix(0, bytes, n));
        return TPM2_RC_SUCCESS;
}

TPM2_RC fake_sign(FakeTpm *tpm, FakeCall *call) {
        size_t n, n_ticket;
        const uint8_t *bytes = fake_read_2b(call, &n);
        TPM2_RC rc;

        if (fake_read_u16(call) != TPM2_ALG_NULL) /* inScheme */
                tpm_read_u16(&call->in);
        fake_read_u16(call); /* validation: tag, hierarchy, digest */
        tpm_read_u32(&call->in);
        n_ticket = tpm_read_u16(&call->in);
        tpm_read_bytes(&call->in, n_ticket);
        rc = fake_read_end(call);
        if (rc)
                return rc;
        tpm_write_u16(&call->out, TPM2_ALG_HMAC);
        tpm_write_u16(&call->out, TPM2_ALG_SHA256);
        fake_write_digest(&call->out, call->objects[0]->identity, fake_mix(0, bytes, n));
        return TPM2_RC_SUCCESS;
}

static void persistent_remove(FakeTpm *tpm, FakeObject *object) {
        size_t i = object - tpm->persistent;

        memmove(object, object + 1, (--tpm->n_persistent - i) * sizeof(*object));
}

TPM2_RC fake_evict_control(FakeTpm *tpm, FakeCall *call) {
        TPM2_HANDLE handle = fake_read_u32(call);
        TPM2_RC rc = fake_read_end(call);
        unsigned i = tpm->n_persistent;

        if (rc)
                return rc;
        if (!tpm_handle_is_persistent(handle))
                return FAKE_P(TPM2_RC_VALUE, 1);
        if (tpm_handle_is_persistent(call->command.handles[1])) {
                if (handle != call->command.handles[1])
                        return FAKE_H(TPM2_RC_HANDLE, 2);
                persistent_remove(tpm, fake_persistent_find(tpm, handle));
                return TPM2_RC_SUCCESS;
        }
        if (fake_persistent_find(tpm, handle))
                return TPM2_RC_NV_DEFINED;
        if (tpm->n_persistent == FAKE_PERSISTENT_MAX)
                return TPM2_RC_NV_SPACE;
        while (i > 0 && tpm->persistent[i - 1].handle > handle) {
                tpm->persistent[i] = tpm->persistent[i - 1];
                i--;
        }
        tpm->persistent[i] = *call->objects[1];
        tpm->persistent[i].handle = handle;
        tpm->n_persistent++;
        return TPM2_RC_SUCCESS;
}

static TPM2_RC start_sequence(FakeTpm *tpm, FakeCall *call, TPM2_ALG_ID algorithm, uint64_t value) {
        FakeObject *object = make(tpm, call, false);

        if (!object)
                return TPM2_RC_OBJECT_MEMORY;
        object->state = algorithm == TPM2_ALG_NULL ? FAKE_OBJECT_EVENT_SEQUENCE : FAKE_OBJECT_SEQUENCE;
        object->hierarchy = TPM2_RH_NULL;
        object->stclear = false;
        object->value = value;
        return TPM2_RC_SUCCESS;
}

TPM2_RC fake_hash_start(FakeTpm *tpm, FakeCall *call) {
        size_t n;
        TPM2_ALG_ID algorithm = (fake_read_2b(call, &n), fake_read_u16(call));
        TPM2_RC rc = fake_read_end(call);

        if (rc)
                return rc;
        if (algorithm != TPM2_ALG_NULL && algorithm != TPM2_ALG_SHA256)
                return FAKE_P(TPM2_RC_HASH, 2);
        return start_sequence(tpm, call, algorithm, fake_mix(0, NULL, 0));
}

TPM2_RC fake_hmac_start(FakeTpm *tpm, FakeCall *call) {
        size_t n;
        TPM2_RC rc = (fake_read_2b(call, &n), fake_read_u16(call), fake_read_end(call));

        return rc ? rc : start_sequence(tpm, call, TPM2_ALG_SHA256, call->objects[0]->identity);
}

TPM2_RC fake_sequence_update(FakeTpm *tpm, FakeCall *call) {
        size_t n;
        const uint8_t *bytes = fake_read_2b(call, &n);
        TPM2_RC rc = fake_read_end(call);

        if (rc)
                return rc;
        if (call->objects[0]->state == FAKE_OBJECT_KEY)
                return FAKE_P(TPM2_RC_MODE, 1);
        call->objects[0]->value = fake_mix(call->objects[0]->value, bytes, n);
        return TPM2_RC_SUCCESS;
}

TPM2_RC fake_sequence_complete(FakeTpm *tpm, FakeCall *call) {
        size_t n;
        const uint8_t *bytes = fake_read_2b(call, &n);
        TPM2_HANDLE hierarchy = fake_read_u32(call);
        TPM2_RC rc;

        if (!call->in.bad && !fake_hierarchy(tpm, hierarchy))
                return FAKE_P(TPM2_RC_VALUE, 2);
        rc = fake_read_end(call);
        if (rc)
                return rc;
        if (call->objects[0]->state != FAKE_OBJECT_SEQUENCE)
                return FAKE_H(TPM2_RC_MODE, 1);
        tpm_write_u16(&call->out, FAKE_DIGEST_SIZE);
        fake_write_digest(&call->out, fake_mix(call->objects[0]->value, bytes, n), 0);
        write_ticket(call, TPM2_ST_HASHCHECK);
        call->objects[0]->state = FAKE_OBJECT_NONE;
        return TPM2_RC_SUCCESS;
}

TPM2_RC fake_event_complete(FakeTpm *tpm, FakeCall *call) {
        size_t n;
        const uint8_t *bytes = fake_read_2b(call, &n);
        TPM2_RC rc = fake_read_end(call);

        if (rc)
                return rc;
        if (call->objects[1]->state != FAKE_OBJECT_EVENT_SEQUENCE)
                return FAKE_H(TPM2_RC_MODE, 2);
        tpm_write_u32(&call->out, 1);
        tpm_write_u16(&call->out, TPM2_ALG_SHA256);
        fake_write_digest(&call->out, fake_mix(call->objects[1]->value, bytes, n), 0);
        call->objects[1]->state = FAKE_OBJECT_NONE;
        return TPM2_RC_SUCCESS;
}

TPM2_RC fake_vendor_use(FakeTpm *tpm, FakeCall *call) {
        TPM2_RC rc = fake_read_end(call);

        if (rc)
                return rc;
        tpm_write_u64(&call->out, call->objects[0]->identity);
        tpm_write_u64(&call->out, fake_mix(call->objects[0]->identity, "vendor", 6));
        return TPM2_RC_SUCCESS;
}

TPM2_RC fake_vendor_make(FakeTpm *tpm, FakeCall *call) {
        TPM2_RC rc = fake_read_end(call);
        FakeObject *object = rc ? NULL : make(tpm, call, false);

        if (!object)
                return rc ? rc : TPM2_RC_OBJECT_MEMORY;
        tpm_write_u64(&call->out, object->identity);
        return TPM2_RC_SUCCESS;
}
