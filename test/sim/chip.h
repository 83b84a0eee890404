/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef SIM_CHIP_H
#define SIM_CHIP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * The TPM of the simulation: libtpms, or the fake TPM with the sizes of a real chip
 *
 * The fake has no cryptography: what programs know by computing it is not checked then, and not compared.
 */
bool chip_choose(const char *name); /* false: there is none of that name; libtpms unless it is called */
bool chip_is_fake(void);
unsigned chip_slots(void); /* for objects, and as many for sessions */

/* @reference: the one of a client alone, whose manager saves each session after each command, and knows no gap. */
void chip_start(bool reference);
void chip_stop(void);
void chip_reset(void); /* power off and on again */

/* Return: size of the response. */
size_t chip_run(const uint8_t *command, size_t n_command, uint8_t *response, size_t size);

#endif
