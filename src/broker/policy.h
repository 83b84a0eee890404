/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef BROKER_POLICY_H
#define BROKER_POLICY_H

#include <stdint.h>
#include <tss2/tss2_tpm2_types.h>

/*
 * Policy: who may ask for what. A refusal is a response code, since that is what the client hears.
 *
 * @localities: bit n set: locality n is allowed
 */
TSS2_RC policy_locality(uint32_t localities, uint8_t locality);

#endif
