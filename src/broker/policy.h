/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef BROKER_POLICY_H
#define BROKER_POLICY_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <tss2/tss2_tpm2_types.h>

/*
 * Policy: every rule about users, in one place
 *
 * Pure functions of a uid and of what the daemon was configured with. The uid comes from the client's socket or from
 * the bus; nothing else about a client decides anything. Shares of objects and sessions belong to the resource manager.
 */

/* Bit n set: locality n is allowed. */
#define POLICY_LOCALITY_ZERO 0x01u
#define POLICY_LOCALITIES_SELECTABLE 0x1fu /* 5 to 255 are extended ones, which no client may select */

/* Return: TSS2_RC_SUCCESS, or the response code that tells the client that it may not select this locality. */
TSS2_RC policy_locality(uint32_t localities, uint8_t locality);

/* The localities of a client of the bus. @allow_locality: everybody may select one there, not only uid 0. */
uint32_t policy_bus_localities(uid_t uid, bool allow_locality);

/* One connection in 32 is kept for root: whether none but these are left. */
bool policy_keeps_for_root(uid_t uid, uint32_t n_taken, uint32_t max);

/*
 * Whether a user may have one more connection: uid 0 as long as there are any; any other uid as long as it has no more
 * than three times what is left. So one alone gets three quarters of @max, and many get about the same.
 */
bool policy_may_connect(uid_t uid, uint32_t n_of_uid, uint32_t n_taken, uint32_t max);

/* May change the daemon's state, read its properties, and trace. */
bool policy_may_manage(uid_t uid);

/* May see what belongs to user @owner. What belongs to no user is seen by those who may manage. */
bool policy_may_see(uid_t uid, uid_t owner);

#endif
