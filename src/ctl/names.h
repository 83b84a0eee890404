/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef CTL_NAMES_H
#define CTL_NAMES_H

#include <stdint.h>

/* The name of a command code as in the specification, without TPM_CC_: "GetRandom". Return: NULL: unknown. */
const char *command_name(uint32_t code);

#endif
