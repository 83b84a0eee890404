/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef CTL_NAMES_H
#define CTL_NAMES_H

#include "tpm/command-table.h"

#include <stdint.h>

/* The name of a command code as in the specification, without TPM_CC_: "GetRandom". Return: NULL: unknown. */
const char *command_name(uint32_t code);

/* Commands by the specification, as far as handles go. What a TPM has of its vendor is not among them. */
void command_table(TpmCommandTable *ret_table);

#endif
