/* SPDX-License-Identifier: BSD-2-Clause */
#include "broker/policy.h"

#include "tpm/protocol.h"

/* Beyond it are values that cannot be selected, and extended localities, which no back end has (Part 2, section 8.5).
 */
#define LOCALITY_LAST 4

TSS2_RC policy_locality(uint32_t localities, uint8_t locality) {
        if (locality > LOCALITY_LAST || !(localities & 1u << locality))
                return RM_RC(TPM2_RC_LOCALITY);
        return TSS2_RC_SUCCESS;
}
