/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef BROKER_ACCOUNT_H
#define BROKER_ACCOUNT_H

#include "broker/peer.h"
#include "broker/stats.h"

/*
 * Accounts: what each program has done, by its user and its name
 *
 * A connection tells who uses the TPM for as long as it lives, which is milliseconds for a tool of one command. An
 * account outlives it. There are ACCOUNTS_MAX at most, since a process calls itself what it likes: for one more, the
 * user with most accounts gives up the least used one, whose sums are added to those of the others without an account.
 */
#define ACCOUNTS_MAX 128

typedef struct Account {
        uint64_t serial; /* never used twice; 0: this place is free */
        uid_t uid;
        char name[PEER_NAME_SIZE];
        uint64_t n_connections; /* that were made */
        uint32_t n_open;        /* that are there */
        Usage usage;
        int64_t begun, last; /* monotonic, in us: its first connection; its last connection or answer */
} Account;

typedef struct Accounts {
        Account all[ACCOUNTS_MAX];
        Account others; /* of all that had to give up theirs; no uid, no name */
        uint64_t last_serial;
} Accounts;

/* A connection's hold on its account, which may be given to another program meanwhile. */
typedef struct AccountRef {
        unsigned place;
        uint64_t serial;
} AccountRef;

AccountRef accounts_open(Accounts *accounts, const Peer *peer, int64_t now); /* a connection was made */
void accounts_close(Accounts *accounts, AccountRef ref);                     /* it has ended */
void accounts_charge(Accounts *accounts, AccountRef ref, const Usage *usage, int64_t now);

#endif
