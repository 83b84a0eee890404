/* SPDX-License-Identifier: BSD-2-Clause */
#include "test/lib/fake-tpm-private.h"

#include <string.h>

#define RANDOM_MAX 64

uint64_t fake_secret(FakeTpm *tpm) {
        tpm->secret++;
        return fake_mix(0, &tpm->secret, sizeof(tpm->secret));
}

FakeHierarchy *fake_hierarchy(FakeTpm *tpm, TPM2_HANDLE handle) {
        switch (handle) {
        case TPM2_RH_OWNER:
                return &tpm->hierarchies[FAKE_OWNER];
        case TPM2_RH_ENDORSEMENT:
                return &tpm->hierarchies[FAKE_ENDORSEMENT];
        case TPM2_RH_PLATFORM:
                return &tpm->hierarchies[FAKE_PLATFORM];
        case TPM2_RH_NULL:
                return &tpm->hierarchies[FAKE_NULL];
        default:
                return NULL;
        }
}

TPM2_RC fake_startup(FakeTpm *tpm, FakeCall *call) {
        TPM2_SU type = fake_read_u16(call);
        TPM2_RC rc = fake_read_end(call);
        bool reset = !tpm->shut_down;

        if (rc)
                return rc;
        if (tpm->started)
                return TPM2_RC_INITIALIZE;
        if ((type != TPM2_SU_CLEAR && type != TPM2_SU_STATE) || (type == TPM2_SU_STATE && reset))
                return FAKE_P(TPM2_RC_VALUE, 1);
        tpm->started = true;
        tpm->shut_down = false;
        fake_objects_flush(tpm, 0);
        fake_sessions_start(tpm, reset);
        tpm->clear_count += type == TPM2_SU_CLEAR;
        tpm->restart_count = reset ? 0 : tpm->restart_count + 1;
        if (reset) {
                tpm->reset_count++;
                tpm->reset_key = fake_secret(tpm);
                tpm->hierarchies[FAKE_NULL].proof = fake_secret(tpm);
                tpm->object_sequence = 0;
        }
        for (unsigned i = 0; i < FAKE_HIERARCHIES && type == TPM2_SU_CLEAR; i++)
                tpm->hierarchies[i].enabled = true;
        tpm->hierarchies[FAKE_PLATFORM].enabled = true;
        return TPM2_RC_SUCCESS;
}

TPM2_RC fake_read_clock(FakeTpm *tpm, FakeCall *call) {
        TPM2_RC rc = fake_read_end(call);

        if (rc)
                return rc;
        tpm_write_u64(&call->out, 0); /* time: it has none */
        tpm_write_u64(&call->out, 0);
        tpm_write_u32(&call->out, tpm->reset_count);
        tpm_write_u32(&call->out, tpm->restart_count);
        tpm_write_u8(&call->out, TPM2_YES);
        return TPM2_RC_SUCCESS;
}

TPM2_RC fake_shutdown(FakeTpm *tpm, FakeCall *call) {
        TPM2_SU type = fake_read_u16(call);
        TPM2_RC rc = fake_read_end(call);

        if (rc)
                return rc;
        if (type != TPM2_SU_CLEAR && type != TPM2_SU_STATE)
                return FAKE_P(TPM2_RC_VALUE, 1);
        tpm->shut_down = type == TPM2_SU_STATE;
        return TPM2_RC_SUCCESS;
}

static void change_proof(FakeTpm *tpm, TPM2_HANDLE hierarchy) {
        unsigned n = tpm->n_persistent;

        fake_hierarchy(tpm, hierarchy)->proof = fake_secret(tpm);
        fake_objects_flush(tpm, hierarchy);
        tpm->n_persistent = 0;
        for (unsigned i = 0; i < n; i++)
                if (tpm->persistent[i].hierarchy != hierarchy)
                        tpm->persistent[tpm->n_persistent++] = tpm->persistent[i];
}

TPM2_RC fake_clear(FakeTpm *tpm, FakeCall *call) {
        TPM2_RC rc = fake_read_end(call);

        if (rc)
                return rc;
        change_proof(tpm, TPM2_RH_OWNER);
        change_proof(tpm, TPM2_RH_ENDORSEMENT);
        tpm->hierarchies[FAKE_OWNER].enabled = tpm->hierarchies[FAKE_ENDORSEMENT].enabled = true;
        return TPM2_RC_SUCCESS;
}

TPM2_RC fake_change_seed(FakeTpm *tpm, FakeCall *call) {
        bool eps = call->command.header.code == TPM2_CC_ChangeEPS;
        TPM2_RC rc = fake_read_end(call);

        if (!rc)
                change_proof(tpm, eps ? TPM2_RH_ENDORSEMENT : TPM2_RH_PLATFORM);
        return rc;
}

TPM2_RC fake_hierarchy_control(FakeTpm *tpm, FakeCall *call) {
        TPM2_HANDLE enable = fake_read_u32(call);
        uint8_t state = fake_read_u8(call);
        TPM2_RC rc = fake_read_end(call);

        if (rc)
                return rc;
        if (!fake_hierarchy(tpm, enable) || enable == TPM2_RH_NULL)
                return FAKE_P(TPM2_RC_VALUE, 1);
        if (state > 1)
                return FAKE_P(TPM2_RC_VALUE, 2);
        fake_hierarchy(tpm, enable)->enabled = state;
        if (!state)
                fake_objects_flush(tpm, enable);
        return TPM2_RC_SUCCESS;
}

TPM2_RC fake_get_random(FakeTpm *tpm, FakeCall *call) {
        uint16_t n = fake_read_u16(call);
        TPM2_RC rc = fake_read_end(call);

        if (rc)
                return rc;
        n = n < RANDOM_MAX ? n : RANDOM_MAX;
        tpm_write_u16(&call->out, n);
        while (n-- > 0)
                tpm_write_u8(&call->out, tpm->random++);
        return TPM2_RC_SUCCESS;
}

TPM2_RC fake_get_test_result(FakeTpm *tpm, FakeCall *call) {
        TPM2_RC rc = fake_read_end(call);

        if (rc)
                return rc;
        fake_write_2b(call, NULL, 0);
        tpm_write_u32(&call->out, tpm->failed ? TPM2_RC_FAILURE : TPM2_RC_SUCCESS);
        return TPM2_RC_SUCCESS;
}

TPM2_RC fake_self_test(FakeTpm *tpm, FakeCall *call) {
        fake_read_u8(call);
        return fake_read_end(call);
}

static size_t objects_size(const FakeTpm *tpm) {
        return tpm->config.object_slots * sizeof(*tpm->objects);
}

static size_t sessions_size(const FakeTpm *tpm) {
        return tpm->config.active_sessions * sizeof(*tpm->sessions);
}

size_t fake_tpm_snapshot_size(const FakeTpm *tpm) {
        return sizeof(*tpm) + objects_size(tpm) + sessions_size(tpm);
}

void fake_tpm_snapshot(const FakeTpm *tpm, void *ret_snapshot) {
        uint8_t *bytes = ret_snapshot;

        memcpy(bytes, tpm, sizeof(*tpm));
        memcpy(bytes + sizeof(*tpm), tpm->objects, objects_size(tpm));
        memcpy(bytes + sizeof(*tpm) + objects_size(tpm), tpm->sessions, sessions_size(tpm));
}

void fake_tpm_restore(FakeTpm *tpm, const void *snapshot) {
        FakeObject *objects = tpm->objects;
        FakeSession *sessions = tpm->sessions;
        const uint8_t *bytes = snapshot;

        memcpy(tpm, bytes, sizeof(*tpm));
        tpm->objects = objects;
        tpm->sessions = sessions;
        memcpy(objects, bytes + sizeof(*tpm), objects_size(tpm));
        memcpy(sessions, bytes + sizeof(*tpm) + objects_size(tpm), sessions_size(tpm));
}
