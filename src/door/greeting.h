/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef DOOR_GREETING_H
#define DOOR_GREETING_H

#include <stddef.h>
#include <stdint.h>

#define GREETING_TPM "TPM commands"

/*
 * Which protocol somebody speaks who came to a socket of ours, by the first bytes
 *
 * Return: its name for the log, "D-Bus", say; "another protocol" when they are those of none that is known here.
 */
const char *greeting_protocol(const uint8_t *bytes, size_t n_bytes);

#endif
