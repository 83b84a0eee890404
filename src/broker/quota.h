/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef BROKER_QUOTA_H
#define BROKER_QUOTA_H

#include <glib.h>
#include <stdint.h>
#include <sys/types.h>

/*
 * Quota of connections
 *
 * At most so many in all, and of each user as many as policy_may_connect() says. A charge is held by the connection it
 * pays for; objects and sessions are counted by the resource manager itself.
 */
typedef struct Quota {
        uint32_t max_connections;
        uint32_t n_connections;
        GHashTable *users; /* uid -> QuotaUser, for those that hold a charge */
} Quota;

typedef struct QuotaUser QuotaUser;

void quota_init(Quota *quota, uint32_t max_connections);
void quota_clear(Quota *quota);

/* Return: the charge, or NULL with @error, whose message names the limit. */
QuotaUser *quota_charge(Quota *quota, uid_t uid, GError **error);
QuotaUser *quota_release(QuotaUser *user); /* takes NULL, returns NULL; the quota may be gone */

#endif
