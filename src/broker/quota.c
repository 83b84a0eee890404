/* SPDX-License-Identifier: BSD-2-Clause */
#include "broker/quota.h"

#include "broker/policy.h"

struct QuotaUser {
        Quota *quota; /* NULL: it is gone */
        uid_t uid;
        uint32_t n_connections;
};

void quota_init(Quota *quota, uint32_t max_connections) {
        *quota = (Quota){
                .max_connections = max_connections,
                .users = g_hash_table_new(NULL, NULL),
        };
}

void quota_clear(Quota *quota) {
        GHashTableIter users;
        gpointer user;

        g_hash_table_iter_init(&users, quota->users);
        while (g_hash_table_iter_next(&users, NULL, &user))
                ((QuotaUser *)user)->quota = NULL;
        g_clear_pointer(&quota->users, g_hash_table_unref);
}

QuotaUser *quota_charge(Quota *quota, uid_t uid, GError **error) {
        GQuark domain = g_quark_from_static_string("quota");
        QuotaUser *user;

        user = g_hash_table_lookup(quota->users, GUINT_TO_POINTER(uid));
        if (user && !policy_may_connect(uid, user->n_connections, quota->n_connections, quota->max_connections)) {
                g_set_error(error, domain, 0, "uid %u has its share of %u of the %u connections (--max-connections)",
                            (unsigned)uid, user->n_connections, quota->max_connections);
                return NULL;
        }
        if (quota->n_connections >= quota->max_connections ||
            policy_keeps_for_root(uid, quota->n_connections, quota->max_connections)) {
                g_set_error(error, domain, 0, "the limit of %u connections is reached (--max-connections)%s",
                            quota->max_connections,
                            quota->n_connections < quota->max_connections ? ", but for those kept for root" : "");
                return NULL;
        }
        if (!user) {
                user = g_new0(QuotaUser, 1);
                *user = (QuotaUser){ .quota = quota, .uid = uid };
                g_hash_table_insert(quota->users, GUINT_TO_POINTER(uid), user);
        }
        user->n_connections++;
        quota->n_connections++;
        return user;
}

QuotaUser *quota_release(QuotaUser *user) {
        if (!user)
                return NULL;
        if (user->quota)
                user->quota->n_connections--;
        if (--user->n_connections > 0)
                return NULL;
        if (user->quota)
                g_hash_table_remove(user->quota->users, GUINT_TO_POINTER(user->uid));
        g_free(user);
        return NULL;
}
