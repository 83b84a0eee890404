/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef TEST_FAKE_CHIPS_H
#define TEST_FAKE_CHIPS_H

#include "test/lib/fake-tpm.h"

/*
 * Real chips, for the fake TPM: their slots, context gap, sizes, and what their commands cost
 *
 * Sizes and latencies are those that users of the chips have published; what nobody has is estimated from the chip's
 * other figures. Those of ContextSave and ContextLoad are estimates for all.
 */
extern const char *const FAKE_CHIPS[];
extern const unsigned N_FAKE_CHIPS;

/* @percent: of the chip's time that a command takes; 0: none. Return: false when there is no chip of that name. */
bool fake_chip(const char *name, unsigned percent, FakeTpmConfig *ret_config);

#endif
