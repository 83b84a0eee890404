/* SPDX-License-Identifier: BSD-2-Clause */
#include "broker/policy.h"

#include "tpm/header.h"

/* Above it are values that cannot be selected, and extended localities, which no back end has (Part 2, section 8.5). */
#define LOCALITY_LAST 4

/* One of so many is kept for root; where there are few, one. */
#define ROOTS_PART 32
#define FEW 4

TSS2_RC policy_locality(uint32_t localities, uint8_t locality) {
        if (locality > LOCALITY_LAST || !(localities & 1u << locality))
                return RM_RC(TPM2_RC_LOCALITY);
        return TSS2_RC_SUCCESS;
}

uint32_t policy_bus_localities(uid_t uid, bool allow_locality) {
        return uid == 0 || allow_locality ? POLICY_LOCALITIES_SELECTABLE : POLICY_LOCALITY_ZERO;
}

bool policy_keeps_for_root(uid_t uid, uint32_t n_taken, uint32_t max) {
        uint32_t kept = max / ROOTS_PART > 0 ? max / ROOTS_PART : max > FEW;

        return uid != 0 && n_taken + kept >= max;
}

bool policy_may_connect(uid_t uid, uint32_t n_of_uid, uint32_t n_taken, uint32_t max) {
        uint32_t others = max / 4;

        return uid == 0 || (uint64_t)n_of_uid * others < (uint64_t)(max - others) * (max - n_taken);
}

bool policy_may_manage(uid_t uid) {
        return uid == 0;
}

bool policy_may_see(uid_t uid, uid_t owner) {
        return uid == owner || policy_may_manage(uid);
}
