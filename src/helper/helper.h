/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef HELPER_HELPER_H
#define HELPER_HELPER_H

#include "backend/helper-protocol.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Why something failed, one line, for the daemon's log. */
typedef struct HelperReason {
        char text[HELPER_REASON_MAX];
        bool is_conf; /* the configuration is a mistake: it fails the same the next time */
} HelperReason;

void helper_reason(HelperReason *reason, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* A TPM. All but cancel() are called from the main thread alone. */
typedef struct HelperTpm {
        uint8_t flags; /* HELPER_LOCALITIES, HELPER_CANCEL */
        /* @command may be changed. false: no answer will come, ever. */
        bool (*run)(uint8_t *command, size_t n_command, uint8_t response[static TPM_MESSAGE_MAX], size_t *ret_n,
                    HelperReason *reason);
        bool (*set_locality)(uint8_t locality);
        void (*cancel)(void); /* from another thread, while run() is under way; NULL: cannot */
        void (*close)(void);
} HelperTpm;

/* @reason is written on failure only */
bool helper_tcti_open(const char *conf, HelperTpm *ret_tpm, HelperReason *reason);
bool helper_libtpms_open(const char *state_dir, HelperTpm *ret_tpm, HelperReason *reason); /* NULL: in memory */

#endif
