/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef BROKER_TEST_CLIENTS_H
#define BROKER_TEST_CLIENTS_H

#include "broker/broker-internal.h"
#include "broker/test-fake.h"
#include "test/lib/tpm-commands.h"

/* A few clients of a broker on the fake: the fixture of the broker's own tests. */
#define CLIENTS 4

typedef struct Client {
        Connection *connection;
        uint8_t command[128];
        unsigned n_replies;
        TSS2_RC rc;
        uint8_t tag;        /* last byte of the reply */
        TPM2_HANDLE handle; /* in the reply, should one be there */
        bool again;         /* submit the same once more from within the reply */
        size_t n_command;
} Client;

extern Bench bench;
extern Client clients[CLIENTS];
extern const ConnectionOps client_ops;

void client_open(unsigned i, uid_t uid);
void client_submit(unsigned i, TPM2_CC code); /* CreatePrimary whole, others with the client's number as a tag */
void client_send(unsigned i, const Message *command);
void client_close(unsigned i);

int clients_setup(void **state); /* started, all clients connected as uid 1000 */
int clients_teardown(void **state);

#endif
