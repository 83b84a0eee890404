/* SPDX-License-Identifier: BSD-2-Clause */
#include "ctl/names.h"

#include "tpm/writer.h"

#include <stddef.h>
#include <tss2/tss2_tpm2_types.h>

#define RETURNS 0x08 /* a handle */
#define NAME(name, handles) [TPM2_CC_##name - TPM2_CC_FIRST] = { #name, handles }
/* newer than the oldest header that will do */
#define NEWER(code, name, handles) [code - TPM2_CC_FIRST] = { #name, handles }

/* Part 3: the commands, with the number of their handles. */
static const struct {
        const char *name;
        uint8_t handles;
} commands[] = {
        NAME(NV_UndefineSpaceSpecial, 2),
        NAME(EvictControl, 2),
        NAME(HierarchyControl, 1),
        NAME(NV_UndefineSpace, 2),
        NAME(ChangeEPS, 1),
        NAME(ChangePPS, 1),
        NAME(Clear, 1),
        NAME(ClearControl, 1),
        NAME(ClockSet, 1),
        NAME(HierarchyChangeAuth, 1),
        NAME(NV_DefineSpace, 1),
        NAME(PCR_Allocate, 1),
        NAME(PCR_SetAuthPolicy, 1),
        NAME(PP_Commands, 1),
        NAME(SetPrimaryPolicy, 1),
        NAME(FieldUpgradeStart, 2),
        NAME(ClockRateAdjust, 1),
        NAME(CreatePrimary, RETURNS | 1),
        NAME(NV_GlobalWriteLock, 1),
        NAME(GetCommandAuditDigest, 2),
        NAME(NV_Increment, 2),
        NAME(NV_SetBits, 2),
        NAME(NV_Extend, 2),
        NAME(NV_Write, 2),
        NAME(NV_WriteLock, 2),
        NAME(DictionaryAttackLockReset, 1),
        NAME(DictionaryAttackParameters, 1),
        NAME(NV_ChangeAuth, 1),
        NAME(PCR_Event, 1),
        NAME(PCR_Reset, 1),
        NAME(SequenceComplete, 1),
        NAME(SetAlgorithmSet, 1),
        NAME(SetCommandCodeAuditStatus, 1),
        NAME(FieldUpgradeData, 0),
        NAME(IncrementalSelfTest, 0),
        NAME(SelfTest, 0),
        NAME(Startup, 0),
        NAME(Shutdown, 0),
        NAME(StirRandom, 0),
        NAME(ActivateCredential, 2),
        NAME(Certify, 2),
        NAME(PolicyNV, 3),
        NAME(CertifyCreation, 2),
        NAME(Duplicate, 2),
        NAME(GetTime, 2),
        NAME(GetSessionAuditDigest, 3),
        NAME(NV_Read, 2),
        NAME(NV_ReadLock, 2),
        NAME(ObjectChangeAuth, 2),
        NAME(PolicySecret, 2),
        NAME(Rewrap, 2),
        NAME(Create, 1),
        NAME(ECDH_ZGen, 1),
        NAME(HMAC, 1),
        NAME(Import, 1),
        NAME(Load, RETURNS | 1),
        NAME(Quote, 1),
        NAME(RSA_Decrypt, 1),
        NAME(HMAC_Start, RETURNS | 1),
        NAME(SequenceUpdate, 1),
        NAME(Sign, 1),
        NAME(Unseal, 1),
        NAME(PolicySigned, 2),
        NAME(ContextLoad, RETURNS | 0),
        NAME(ContextSave, 1),
        NAME(ECDH_KeyGen, 1),
        NAME(EncryptDecrypt, 1),
        NAME(FlushContext, 0),
        NAME(LoadExternal, RETURNS | 0),
        NAME(MakeCredential, 1),
        NAME(NV_ReadPublic, 1),
        NAME(PolicyAuthorize, 1),
        NAME(PolicyAuthValue, 1),
        NAME(PolicyCommandCode, 1),
        NAME(PolicyCounterTimer, 1),
        NAME(PolicyCpHash, 1),
        NAME(PolicyLocality, 1),
        NAME(PolicyNameHash, 1),
        NAME(PolicyOR, 1),
        NAME(PolicyTicket, 1),
        NAME(ReadPublic, 1),
        NAME(RSA_Encrypt, 1),
        NAME(StartAuthSession, RETURNS | 2),
        NAME(VerifySignature, 1),
        NAME(ECC_Parameters, 0),
        NAME(FirmwareRead, 0),
        NAME(GetCapability, 0),
        NAME(GetRandom, 0),
        NAME(GetTestResult, 0),
        NAME(Hash, 0),
        NAME(PCR_Read, 0),
        NAME(PolicyPCR, 1),
        NAME(PolicyRestart, 1),
        NAME(ReadClock, 0),
        NAME(PCR_Extend, 1),
        NAME(PCR_SetAuthValue, 1),
        NAME(NV_Certify, 3),
        NAME(EventSequenceComplete, 2),
        NAME(HashSequenceStart, RETURNS | 0),
        NAME(PolicyPhysicalPresence, 1),
        NAME(PolicyDuplicationSelect, 1),
        NAME(PolicyGetDigest, 1),
        NAME(TestParms, 0),
        NAME(Commit, 1),
        NAME(PolicyPassword, 1),
        NAME(ZGen_2Phase, 1),
        NAME(EC_Ephemeral, 0),
        NAME(PolicyNvWritten, 1),
        NAME(PolicyTemplate, 1),
        NAME(CreateLoaded, RETURNS | 1),
        NAME(PolicyAuthorizeNV, 3),
        NAME(EncryptDecrypt2, 1),
        NAME(AC_GetCapability, 1),
        NAME(AC_Send, 3),
        NAME(Policy_AC_SendSelect, 1),
        NAME(CertifyX509, 2),
        NAME(ACT_SetTimeout, 1),
        NEWER(0x199, ECC_Encrypt, 1),
        NEWER(0x19A, ECC_Decrypt, 1),
        NEWER(0x19B, PolicyCapability, 1),
        NEWER(0x19C, PolicyParameters, 1),
        NEWER(0x19D, NV_DefineSpace2, 1),
        NEWER(0x19E, NV_ReadPublic2, 1),
        NEWER(0x19F, SetCapability, 1),
        NEWER(0x1A0, ReadOnlyControl, 1),
        NEWER(0x1A1, PolicyTransportSPDM, 1),
        NEWER(0x1A3, VerifySequenceComplete, 2),
        NEWER(0x1A4, SignSequenceComplete, 2),
        NEWER(0x1A5, VerifyDigestSignature, 1),
        NEWER(0x1A6, SignDigest, 1),
        NEWER(0x1A7, Encapsulate, 1),
        NEWER(0x1A8, Decapsulate, 1),
        NEWER(0x1A9, VerifySequenceStart, RETURNS | 1),
        NEWER(0x1AA, SignSequenceStart, RETURNS | 1),
};

#define N_COMMANDS (sizeof(commands) / sizeof(commands[0]))

const char *command_name(uint32_t code) {
        if (code == TPM2_CC_Vendor_TCG_Test)
                return "Vendor_TCG_Test";
        if (code < TPM2_CC_FIRST || code - TPM2_CC_FIRST >= N_COMMANDS)
                return NULL;
        return commands[code - TPM2_CC_FIRST].name;
}

void command_table(TpmCommandTable *ret_table) {
        uint8_t bytes[4 * N_COMMANDS];
        TpmWriter writer = TPM_WRITER(bytes, sizeof(bytes));
        TpmReader list;

        for (uint32_t i = 0; i < N_COMMANDS; i++) {
                uint32_t attributes = (commands[i].handles & ~RETURNS) << TPMA_CC_CHANDLES_SHIFT;

                if (commands[i].handles & RETURNS)
                        attributes |= TPMA_CC_RHANDLE;
                if (commands[i].name)
                        tpm_write_u32(&writer, attributes | (TPM2_CC_FIRST + i));
        }
        list = TPM_READER(bytes, writer.n_bytes);
        ret_table->n_commands = 0;
        tpm_command_table_add(ret_table, &list, (uint32_t)writer.n_bytes / 4);
}
