/* SPDX-License-Identifier: BSD-2-Clause */
#include "test/lib/fake-tpm-private.h"

#define N(array) (sizeof(array) / sizeof((array)[0]))

/* A list that is being written: its entries ascend, and as many are taken as fit. */
typedef struct List {
        FakeCall *call;
        size_t at; /* of the answer's moreData; the count is behind the capability */
        uint32_t count;
        uint32_t n;
        bool more;
} List;

static bool list_add(List *list) {
        list->more = list->n == list->count;
        if (!list->more)
                list->n++;
        return !list->more;
}

static void list_end(List *list) {
        list->call->out.bytes[list->at] = list->more;
        tpm_put_u32(list->call->out.bytes + list->at + 5, list->n);
}

static bool add_handle(List *list, TPM2_HANDLE handle) {
        if (list_add(list)) {
                tpm_write_u32(&list->call->out, handle);
                return true;
        }
        return false;
}

static void add_sessions(FakeTpm *tpm, List *list, FakeSessionState state, uint32_t from) {
        for (uint32_t i = from; i < tpm->config.active_sessions; i++) {
                bool policy = state == FAKE_SESSION_LOADED && tpm->sessions[i].policy;

                if (tpm->sessions[i].state == state &&
                    !add_handle(list, (policy ? TPM2_HR_POLICY_SESSION : TPM2_HR_HMAC_SESSION) + i))
                        return;
        }
}

static TPM2_RC add_handles(FakeTpm *tpm, List *list, TPM2_HANDLE from) {
        static const TPM2_HANDLE PERMANENT[] = { TPM2_RH_OWNER,      TPM2_RH_NULL,        TPM2_RS_PW,
                                                 TPM2_RH_LOCKOUT,    TPM2_RH_ENDORSEMENT, TPM2_RH_PLATFORM,
                                                 TPM2_RH_PLATFORM_NV };

        switch (from >> TPM2_HR_SHIFT) {
        case TPM2_HT_PCR:
                for (uint32_t i = from; i < FAKE_PCRS && add_handle(list, i); i++)
                        ;
                break;
        case TPM2_HT_NV_INDEX:
                break;
        case TPM2_HT_LOADED_SESSION:
                add_sessions(tpm, list, FAKE_SESSION_LOADED, from & TPM2_HR_HANDLE_MASK);
                break;
        case TPM2_HT_SAVED_SESSION:
                add_sessions(tpm, list, FAKE_SESSION_SAVED, from & TPM2_HR_HANDLE_MASK);
                break;
        case TPM2_HT_PERMANENT:
                for (unsigned i = 0; i < N(PERMANENT); i++)
                        if (PERMANENT[i] >= from && !add_handle(list, PERMANENT[i]))
                                break;
                break;
        case TPM2_HT_TRANSIENT:
                for (uint32_t i = from & TPM2_HR_HANDLE_MASK; i < tpm->config.object_slots; i++)
                        if (tpm->objects[i].state != FAKE_OBJECT_NONE && !add_handle(list, TPM_TRANSIENT_FIRST + i))
                                break;
                break;
        case TPM2_HT_PERSISTENT:
                for (unsigned i = 0; i < tpm->n_persistent; i++)
                        if (tpm->persistent[i].handle >= from && !add_handle(list, tpm->persistent[i].handle))
                                break;
                break;
        default:
                return FAKE_P(TPM2_RC_HANDLE, 2);
        }
        return TPM2_RC_SUCCESS;
}

static void add_commands(FakeTpm *tpm, List *list, TPM2_CC from) {
        for (uint32_t i = 0; i < tpm->table.n_commands; i++) {
                uint32_t attributes = tpm->table.commands[i].attributes;

                if (tpm_command_code(attributes) < from)
                        continue;
                if (!list_add(list))
                        return;
                tpm_write_u32(&list->call->out, attributes);
        }
}

static void add_algorithms(List *list, uint32_t from) {
        static const struct {
                TPM2_ALG_ID id;
                TPMA_ALGORITHM attributes;
        } ALGORITHMS[] = {
                { TPM2_ALG_HMAC, TPMA_ALGORITHM_HASH | TPMA_ALGORITHM_SIGNING },
                { TPM2_ALG_AES, TPMA_ALGORITHM_SYMMETRIC },
                { TPM2_ALG_KEYEDHASH, TPMA_ALGORITHM_HASH | TPMA_ALGORITHM_OBJECT },
                { TPM2_ALG_SHA256, TPMA_ALGORITHM_HASH },
                { TPM2_ALG_CFB, TPMA_ALGORITHM_SYMMETRIC },
        };

        for (unsigned i = 0; i < N(ALGORITHMS); i++) {
                if (ALGORITHMS[i].id < from)
                        continue;
                if (!list_add(list))
                        return;
                tpm_write_u16(&list->call->out, ALGORITHMS[i].id);
                tpm_write_u32(&list->call->out, ALGORITHMS[i].attributes);
        }
}

typedef struct Property {
        TPM2_PT property;
        uint32_t value;
} Property;

static void add_properties(FakeTpm *tpm, List *list, TPM2_PT from) {
        const FakeTpmConfig *c = &tpm->config;
        uint32_t n_active = 0, n_objects = 0, group = 0;

        for (unsigned i = 0; i < c->active_sessions; i++)
                n_active += tpm->sessions[i].state != FAKE_SESSION_NONE;
        for (unsigned i = 0; i < c->object_slots; i++)
                n_objects += tpm->objects[i].state != FAKE_OBJECT_NONE;

        const Property PROPERTIES[] = {
                { TPM2_PT_FAMILY_INDICATOR, 0x322E3000 }, /* "2.0" */
                { TPM2_PT_LEVEL, 0 },
                { TPM2_PT_REVISION, 159 },
                { TPM2_PT_MANUFACTURER, 0x46414B45 }, /* "FAKE" */
                { TPM2_PT_INPUT_BUFFER, 1024 },
                { TPM2_PT_HR_TRANSIENT_MIN, c->object_slots },
                { TPM2_PT_HR_PERSISTENT_MIN, FAKE_PERSISTENT_MAX },
                { TPM2_PT_HR_LOADED_MIN, c->session_slots },
                { TPM2_PT_ACTIVE_SESSIONS_MAX, c->active_sessions },
                { TPM2_PT_PCR_COUNT, FAKE_PCRS },
                { TPM2_PT_CONTEXT_GAP_MAX, c->gap },
                { TPM2_PT_MEMORY, c->memory },
                { TPM2_PT_MAX_COMMAND_SIZE, c->max_command_size },
                { TPM2_PT_MAX_RESPONSE_SIZE, c->max_response_size },
                { TPM2_PT_MAX_DIGEST, FAKE_DIGEST_SIZE },
                { TPM2_PT_MAX_OBJECT_CONTEXT, c->max_object_context },
                { TPM2_PT_TOTAL_COMMANDS, tpm->table.n_commands },
                { TPM2_PT_VENDOR_COMMANDS, c->vendor_commands },
                { TPM2_PT_PERMANENT, 0 },
                { TPM2_PT_HR_LOADED, tpm->n_loaded },
                { TPM2_PT_HR_LOADED_AVAIL, c->session_slots - tpm->n_loaded },
                { TPM2_PT_HR_ACTIVE, n_active },
                { TPM2_PT_HR_ACTIVE_AVAIL, c->active_sessions - n_active },
                { TPM2_PT_HR_TRANSIENT_AVAIL, c->object_slots - n_objects },
        };

        for (unsigned i = 0; i < N(PROPERTIES); i++) {
                if (PROPERTIES[i].property < from)
                        continue;
                if (group != 0 && PROPERTIES[i].property / TPM2_PT_GROUP != group) {
                        list->more = true; /* one group in an answer */
                        return;
                }
                group = PROPERTIES[i].property / TPM2_PT_GROUP;
                if (!list_add(list))
                        return;
                tpm_write_u32(&list->call->out, PROPERTIES[i].property);
                tpm_write_u32(&list->call->out, PROPERTIES[i].value);
        }
}

TPM2_RC fake_get_capability(FakeTpm *tpm, FakeCall *call) {
        List list = { .call = call, .at = call->out.n_bytes };
        TPM2_CAP capability = fake_read_u32(call);
        uint32_t from = fake_read_u32(call);
        TPM2_RC rc = TPM2_RC_SUCCESS;

        list.count = fake_read_u32(call);
        rc = fake_read_end(call);
        if (rc)
                return rc;
        if (list.count > tpm->config.page)
                list.count = tpm->config.page;
        tpm_write_u8(&call->out, 0);
        tpm_write_u32(&call->out, capability);
        tpm_write_u32(&call->out, 0);
        switch (capability) {
        case TPM2_CAP_HANDLES:
                rc = add_handles(tpm, &list, from);
                break;
        case TPM2_CAP_COMMANDS:
                add_commands(tpm, &list, from);
                break;
        case TPM2_CAP_TPM_PROPERTIES:
                add_properties(tpm, &list, from);
                break;
        case TPM2_CAP_ALGS:
                add_algorithms(&list, from);
                break;
        case TPM2_CAP_PP_COMMANDS:
        case TPM2_CAP_AUDIT_COMMANDS:
        case TPM2_CAP_PCRS:
        case TPM2_CAP_PCR_PROPERTIES:
        case TPM2_CAP_ECC_CURVES:
                break; /* nothing to list */
        default:
                rc = FAKE_P(TPM2_RC_VALUE, 1);
        }
        if (!rc)
                list_end(&list);
        return rc;
}
