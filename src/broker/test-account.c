/* SPDX-License-Identifier: BSD-2-Clause */
#include "broker/account.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static Accounts accounts;
static int64_t now;

static int setup(void **state) {
        accounts = (Accounts){ 0 };
        now = 1000;
        return 0;
}

static AccountRef come(uid_t uid, const char *name) {
        Peer peer = { .uid = uid };

        snprintf(peer.name, sizeof(peer.name), "%s", name);
        return accounts_open(&accounts, &peer, ++now);
}

static AccountRef come_numbered(uid_t uid, unsigned n) {
        char name[16];

        snprintf(name, sizeof(name), "%u", n);
        return come(uid, name);
}

static void work(AccountRef ref, unsigned n) {
        const Usage usage = { .n_commands = 1, .n_failed = 1, .n_transmits = 2, .wait_us = n, .longest_wait_us = n };

        for (unsigned i = 0; i < n; i++)
                accounts_charge(&accounts, ref, &usage, ++now);
}

static const Account *find(uid_t uid, const char *name) {
        for (unsigned i = 0; i < ACCOUNTS_MAX; i++) {
                const Account *account = &accounts.all[i];

                if (account->serial != 0 && account->uid == uid && strcmp(account->name, name) == 0)
                        return account;
        }
        return NULL;
}

/* One account for all connections of a program, also after they have ended; another user's is another one. */
static void test_outlives_connections(void **state) {
        AccountRef ref;
        const Account *account;

        for (unsigned i = 0; i < 5; i++) {
                ref = come(1000, "tool");
                work(ref, 2);
                accounts_close(&accounts, ref);
        }
        ref = come(1000, "tool");
        come(1001, "tool");
        come(1000, "other");
        account = find(1000, "tool");
        assert_non_null(account);
        assert_int_equal(account->n_connections, 6);
        assert_int_equal(account->n_open, 1);
        assert_int_equal(account->usage.n_commands, 10);
        assert_int_equal(account->usage.n_transmits, 20);
        assert_int_equal(account->usage.wait_us, 20);
        assert_int_equal(account->usage.longest_wait_us, 2);
        assert_int_equal(account->begun, 1001);
        assert_int_equal(find(1001, "tool")->n_connections, 1);
        assert_int_equal(find(1000, "other")->usage.n_commands, 0);
        assert_int_equal(accounts.others.n_connections, 0);
}

/* What was counted is still counted, with the others. */
static void test_least_used_goes_first(void **state) {
        AccountRef refs[ACCOUNTS_MAX], after;
        uint64_t n_commands = 0, n_open = 0;

        for (unsigned i = 0; i < ACCOUNTS_MAX; i++) {
                refs[i] = come_numbered(1000, i);
                work(refs[i], i == 7 ? 1 : 2 + i % 3);
                n_commands += i == 7 ? 1 : 2 + i % 3;
        }
        come(1000, "one more");
        assert_null(find(1000, "7"));
        assert_non_null(find(1000, "one more"));
        assert_int_equal(accounts.others.usage.n_commands, 1);
        assert_int_equal(accounts.others.n_open, 1);
        /* What it still does is the others'. */
        work(refs[7], 3);
        accounts_close(&accounts, refs[7]);
        assert_int_equal(accounts.others.usage.n_commands, 4);
        assert_int_equal(accounts.others.n_open, 0);
        assert_int_equal(find(1000, "one more")->usage.n_commands, 0);
        /* It begins anew, in a place of another. */
        after = come(1000, "7");
        assert_int_not_equal(after.serial, refs[7].serial);
        assert_int_equal(find(1000, "7")->n_connections, 1);

        for (unsigned i = 0; i < 10 * ACCOUNTS_MAX; i++)
                come_numbered(1000, 1000 + i);
        n_commands += 3;
        n_open = accounts.others.n_open;
        for (unsigned i = 0; i < ACCOUNTS_MAX; i++) {
                n_commands -= accounts.all[i].usage.n_commands;
                n_open += accounts.all[i].n_open;
        }
        assert_int_equal(accounts.others.usage.n_commands, n_commands);
        assert_int_equal(n_open, 11 * ACCOUNTS_MAX + 1);
}

/* Whoever makes up names takes places of its own programs, and not those of others who did less. */
static void test_one_user_does_not_take_all(void **state) {
        char name[16];

        for (unsigned i = 0; i < 10; i++)
                come_numbered(0, i);
        for (unsigned i = 0; i < 5 * ACCOUNTS_MAX; i++)
                work(come_numbered(65534, i), 2);
        for (unsigned i = 0; i < 10; i++) {
                snprintf(name, sizeof(name), "%u", i);
                assert_non_null(find(0, name));
        }
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup(test_outlives_connections, setup),
                cmocka_unit_test_setup(test_least_used_goes_first, setup),
                cmocka_unit_test_setup(test_one_user_does_not_take_all, setup),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
