/* SPDX-License-Identifier: BSD-2-Clause */
#include "broker/account.h"

#include <string.h>

static bool account_is_of(const Account *account, const Peer *peer) {
        return account->serial != 0 && account->uid == peer->uid && strcmp(account->name, peer->name) == 0;
}

static unsigned accounts_count(const Accounts *accounts, uid_t uid) {
        unsigned n = 0;

        for (unsigned i = 0; i < ACCOUNTS_MAX; i++)
                n += accounts->all[i].serial != 0 && accounts->all[i].uid == uid;
        return n;
}

static bool account_is_used_less(const Account *account, const Account *than) {
        if (account->usage.n_commands != than->usage.n_commands)
                return account->usage.n_commands < than->usage.n_commands;
        return account->last < than->last;
}

/* All places are taken. */
static Account *accounts_find_victim(Accounts *accounts) {
        Account *victim = &accounts->all[0];
        unsigned n_victims = accounts_count(accounts, victim->uid);

        for (unsigned i = 1; i < ACCOUNTS_MAX; i++) {
                Account *account = &accounts->all[i];
                unsigned n = account->uid == victim->uid ? n_victims : accounts_count(accounts, account->uid);

                if (n < n_victims || (n == n_victims && !account_is_used_less(account, victim)))
                        continue;
                victim = account;
                n_victims = n;
        }
        return victim;
}

static void accounts_give_up(Accounts *accounts, Account *account) {
        Account *others = &accounts->others;

        if (others->begun == 0 || account->begun < others->begun)
                others->begun = account->begun;
        if (account->last > others->last)
                others->last = account->last;
        others->n_connections += account->n_connections;
        others->n_open += account->n_open;
        usage_add(&others->usage, &account->usage);
        *account = (Account){ 0 };
}

/* Its own, else a free place, else one that somebody gives up. */
static Account *accounts_find(Accounts *accounts, const Peer *peer) {
        Account *found = NULL;

        for (unsigned i = 0; i < ACCOUNTS_MAX; i++) {
                if (account_is_of(&accounts->all[i], peer))
                        return &accounts->all[i];
                if (!found && accounts->all[i].serial == 0)
                        found = &accounts->all[i];
        }
        if (found)
                return found;
        found = accounts_find_victim(accounts);
        accounts_give_up(accounts, found);
        return found;
}

AccountRef accounts_open(Accounts *accounts, const Peer *peer, int64_t now) {
        Account *account = accounts_find(accounts, peer);

        if (account->serial == 0) {
                account->serial = ++accounts->last_serial;
                account->uid = peer->uid;
                memcpy(account->name, peer->name, sizeof(account->name));
                account->begun = now;
        }
        account->n_connections++;
        account->n_open++;
        account->last = now;
        return (AccountRef){ .place = (unsigned)(account - accounts->all), .serial = account->serial };
}

static Account *accounts_get(Accounts *accounts, AccountRef ref) {
        Account *account = &accounts->all[ref.place];

        return account->serial == ref.serial ? account : &accounts->others;
}

void accounts_close(Accounts *accounts, AccountRef ref) {
        accounts_get(accounts, ref)->n_open--;
}

void accounts_charge(Accounts *accounts, AccountRef ref, const Usage *usage, int64_t now) {
        Account *account = accounts_get(accounts, ref);

        usage_add(&account->usage, usage);
        account->last = now;
}
