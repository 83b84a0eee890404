/* SPDX-License-Identifier: BSD-2-Clause */
#include "tpm/command-table.h"

#include <string.h>

/* What the attributes do not tell. */
static const struct Exception {
        TPM2_CC code;
        TpmCommandKind kind;
        TPM2_HANDLE flushes[2];
        bool takes_long;
} EXCEPTIONS[] = {
        { .code = TPM2_CC_ContextLoad, .kind = TPM_COMMAND_CONTEXT_LOAD },
        { .code = TPM2_CC_ContextSave, .kind = TPM_COMMAND_CONTEXT_SAVE },
        { .code = TPM2_CC_FlushContext, .kind = TPM_COMMAND_FLUSH_CONTEXT },
        { .code = TPM2_CC_GetCapability, .kind = TPM_COMMAND_GET_CAPABILITY },
        { .code = TPM2_CC_StartAuthSession, .kind = TPM_COMMAND_START_AUTH_SESSION },
        { .code = TPM2_CC_HashSequenceStart, .kind = TPM_COMMAND_START_SEQUENCE },
        { .code = TPM2_CC_HMAC_Start, .kind = TPM_COMMAND_START_SEQUENCE },
        { .code = TPM2_CC_Startup, .kind = TPM_COMMAND_STARTUP },
        { .code = TPM2_CC_Shutdown, .kind = TPM_COMMAND_SHUTDOWN },
        { .code = TPM2_CC_HierarchyControl, .kind = TPM_COMMAND_HIERARCHY_CONTROL },
        { .code = TPM2_CC_Clear, .flushes = { TPM2_RH_OWNER, TPM2_RH_ENDORSEMENT } },
        { .code = TPM2_CC_ChangeEPS, .flushes = { TPM2_RH_ENDORSEMENT } },
        { .code = TPM2_CC_ChangePPS, .flushes = { TPM2_RH_PLATFORM } },
        { .code = TPM2_CC_SetCommandCodeAuditStatus, .kind = TPM_COMMAND_SET_AUDIT },
        { .code = TPM2_CC_PCR_Allocate, .kind = TPM_COMMAND_RECONFIGURE },
        { .code = TPM2_CC_SetAlgorithmSet, .kind = TPM_COMMAND_RECONFIGURE },
        { .code = TPM2_CC_PP_Commands, .kind = TPM_COMMAND_RECONFIGURE },
        { .code = TPM2_CC_FieldUpgradeStart, .kind = TPM_COMMAND_RECONFIGURE },
        { .code = TPM2_CC_FieldUpgradeData, .kind = TPM_COMMAND_RECONFIGURE },
        { .code = TPM2_CC_CreatePrimary, .takes_long = true },
        { .code = TPM2_CC_Create, .takes_long = true },
        { .code = TPM2_CC_CreateLoaded, .takes_long = true },
        { .code = TPM2_CC_SelfTest, .takes_long = true },
        { .code = TPM2_CC_IncrementalSelfTest, .takes_long = true },
};

static TpmCommandInfo tpm_command_info(uint32_t attributes) {
        TpmCommandInfo info = { .attributes = attributes, .kind = TPM_COMMAND_PLAIN };

        for (size_t i = 0; i < sizeof(EXCEPTIONS) / sizeof(EXCEPTIONS[0]); i++)
                if (EXCEPTIONS[i].code == tpm_command_code(attributes)) {
                        info.kind = EXCEPTIONS[i].kind;
                        memcpy(info.flushes, EXCEPTIONS[i].flushes, sizeof(info.flushes));
                        info.takes_long = EXCEPTIONS[i].takes_long;
                }
        return info;
}

/* Return: where the code is, or where it belongs. */
static uint32_t find_place(const TpmCommandTable *table, TPM2_CC code) {
        uint32_t low = 0;
        uint32_t high = table->n_commands;

        while (low < high) {
                uint32_t middle = low + (high - low) / 2;

                if (tpm_command_code(table->commands[middle].attributes) < code)
                        low = middle + 1;
                else
                        high = middle;
        }
        return low;
}

static bool is_at(const TpmCommandTable *table, uint32_t i, TPM2_CC code) {
        return i < table->n_commands && tpm_command_code(table->commands[i].attributes) == code;
}

TpmCommandInfo *tpm_command_table_find(TpmCommandTable *table, TPM2_CC code) {
        uint32_t i = find_place(table, code);

        return is_at(table, i, code) ? &table->commands[i] : NULL;
}

TPM2_CC tpm_command_table_add(TpmCommandTable *table, TpmReader *list, uint32_t n) {
        TPM2_CC next = 0;

        while (n-- > 0 && table->n_commands < TPM_COMMANDS_MAX) {
                uint32_t attributes = tpm_read_u32(list);
                TPM2_CC code = tpm_command_code(attributes);
                uint32_t i = find_place(table, code);

                if (list->bad)
                        break;
                if (is_at(table, i, code))
                        continue;
                memmove(&table->commands[i + 1], &table->commands[i],
                        (table->n_commands - i) * sizeof(table->commands[0]));
                table->commands[i] = tpm_command_info(attributes);
                table->n_commands++;
                if (code >= next)
                        next = code + 1;
        }
        return next;
}
