/* SPDX-License-Identifier: BSD-2-Clause */
#include "tpm/command-table.h"

static TpmCommandKind kind_of(TPM2_CC code) {
        switch (code) {
        case TPM2_CC_ContextLoad:
                return TPM_COMMAND_CONTEXT_LOAD;
        case TPM2_CC_ContextSave:
                return TPM_COMMAND_CONTEXT_SAVE;
        case TPM2_CC_FlushContext:
                return TPM_COMMAND_FLUSH_CONTEXT;
        case TPM2_CC_GetCapability:
                return TPM_COMMAND_GET_CAPABILITY;
        case TPM2_CC_StartAuthSession:
                return TPM_COMMAND_START_AUTH_SESSION;
        case TPM2_CC_HashSequenceStart:
        case TPM2_CC_HMAC_Start:
                return TPM_COMMAND_START_SEQUENCE;
        case TPM2_CC_Startup:
                return TPM_COMMAND_STARTUP;
        case TPM2_CC_Shutdown:
                return TPM_COMMAND_SHUTDOWN;
        case TPM2_CC_Clear:
        case TPM2_CC_ChangeEPS:
        case TPM2_CC_ChangePPS:
        case TPM2_CC_HierarchyControl:
                return TPM_COMMAND_HIERARCHY;
        case TPM2_CC_SetCommandCodeAuditStatus:
                return TPM_COMMAND_SET_AUDIT;
        case TPM2_CC_PCR_Allocate:
        case TPM2_CC_SetAlgorithmSet:
        case TPM2_CC_PP_Commands:
        case TPM2_CC_FieldUpgradeStart:
        case TPM2_CC_FieldUpgradeData:
                return TPM_COMMAND_RECONFIGURE;
        default:
                return TPM_COMMAND_PLAIN;
        }
}

TpmCommandInfo *tpm_command_table_find(TpmCommandTable *table, TPM2_CC code) {
        uint32_t low = 0;
        uint32_t high = table->n_commands;

        while (low < high) {
                uint32_t middle = low + (high - low) / 2;
                TPM2_CC found = tpm_command_code(table->commands[middle].attributes);

                if (found == code)
                        return &table->commands[middle];
                if (found < code)
                        low = middle + 1;
                else
                        high = middle;
        }
        return NULL;
}

TPM2_CC tpm_command_table_add(TpmCommandTable *table, TpmReader *list, uint32_t n) {
        TPM2_CC next = 0;

        while (n-- > 0 && table->n_commands < TPM_COMMANDS_MAX) {
                uint32_t attributes = tpm_read_u32(list);
                TPM2_CC code = tpm_command_code(attributes);

                if (list->bad)
                        break;
                if (table->n_commands > 0 &&
                    code <= tpm_command_code(table->commands[table->n_commands - 1].attributes))
                        continue;
                table->commands[table->n_commands++] =
                        (TpmCommandInfo){ .attributes = attributes, .kind = kind_of(code) };
                next = code + 1;
        }
        return next;
}
