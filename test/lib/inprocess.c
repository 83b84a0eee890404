/* SPDX-License-Identifier: BSD-2-Clause */
#include "test/lib/inprocess.h"

#include <libtpms/tpm_error.h>
#include <libtpms/tpm_library.h>
#include <libtpms/tpm_nvfilename.h>
#include <libtpms/tpm_types.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What libtpms stores lives in memory: one blob a name. */
static struct {
        char name[64];
        unsigned char *bytes;
        uint32_t n_bytes;
} blobs[8];
static unsigned n_commands;

static int blob_find(const char *name) {
        for (unsigned i = 0; i < sizeof(blobs) / sizeof(blobs[0]); i++)
                if (blobs[i].bytes && strcmp(blobs[i].name, name) == 0)
                        return i;
        return -1;
}

static TPM_RESULT nvram_init(void) {
        return TPM_SUCCESS;
}

static TPM_RESULT nvram_load(unsigned char **ret_bytes, uint32_t *ret_n, uint32_t tpm, const char *name) {
        int i = blob_find(name);

        if (i < 0)
                return TPM_RETRY;
        *ret_bytes = malloc(blobs[i].n_bytes);
        if (!*ret_bytes)
                return TPM_FAIL;
        memcpy(*ret_bytes, blobs[i].bytes, blobs[i].n_bytes);
        *ret_n = blobs[i].n_bytes;
        return TPM_SUCCESS;
}

static TPM_RESULT nvram_delete(uint32_t tpm, const char *name, TPM_BOOL must_exist) {
        int i = blob_find(name);

        if (i < 0)
                return must_exist ? TPM_FAIL : TPM_SUCCESS;
        free(blobs[i].bytes);
        blobs[i].bytes = NULL;
        return TPM_SUCCESS;
}

static TPM_RESULT nvram_store(const unsigned char *bytes, uint32_t n_bytes, uint32_t tpm, const char *name) {
        unsigned i = 0;

        nvram_delete(tpm, name, FALSE);
        while (i < sizeof(blobs) / sizeof(blobs[0]) && blobs[i].bytes)
                i++;
        if (i == sizeof(blobs) / sizeof(blobs[0]))
                return TPM_FAIL;
        blobs[i].bytes = malloc(n_bytes + 1);
        if (!blobs[i].bytes)
                return TPM_FAIL;
        memcpy(blobs[i].bytes, bytes, n_bytes);
        blobs[i].n_bytes = n_bytes;
        snprintf(blobs[i].name, sizeof(blobs[i].name), "%s", name);
        return TPM_SUCCESS;
}

static void power_on(void) {
        static struct libtpms_callbacks callbacks = {
                .sizeOfStruct = sizeof(callbacks),
                .tpm_nvram_init = nvram_init,
                .tpm_nvram_loaddata = nvram_load,
                .tpm_nvram_storedata = nvram_store,
                .tpm_nvram_deletename = nvram_delete,
        };

        if (TPMLIB_ChooseTPMVersion(TPMLIB_TPM_VERSION_2) != TPM_SUCCESS ||
            TPMLIB_RegisterCallbacks(&callbacks) != TPM_SUCCESS || TPMLIB_MainInit() != TPM_SUCCESS) {
                fprintf(stderr, "libtpms does not start\n");
                exit(1);
        }
}

void inprocess_start(void) {
        for (unsigned i = 0; i < sizeof(blobs) / sizeof(blobs[0]); i++) {
                free(blobs[i].bytes);
                blobs[i].bytes = NULL;
        }
        n_commands = 0;
        power_on();
}

void inprocess_stop(void) {
        TPMLIB_Terminate();
        for (unsigned i = 0; i < sizeof(blobs) / sizeof(blobs[0]); i++) {
                free(blobs[i].bytes);
                blobs[i].bytes = NULL;
        }
}

void inprocess_reset(void) {
        TPMLIB_Terminate();
        power_on();
}

size_t inprocess_run(const uint8_t *command, size_t n_command, uint8_t *response, size_t size) {
        unsigned char *copy = malloc(n_command + 1);
        unsigned char *answer = NULL;
        uint32_t n_answer = 0;
        uint32_t n_buffer = 0;

        if (!copy)
                exit(1);
        memcpy(copy, command, n_command);
        n_commands++;
        if (TPMLIB_Process(&answer, &n_answer, &n_buffer, copy, n_command) != TPM_SUCCESS || n_answer > size) {
                fprintf(stderr, "libtpms does not answer\n");
                exit(1);
        }
        memcpy(response, answer, n_answer);
        free(answer);
        free(copy);
        return n_answer;
}

unsigned inprocess_count(void) {
        return n_commands;
}

void inprocess_reset_count(void) {
        n_commands = 0;
}
