/* SPDX-License-Identifier: BSD-2-Clause */
#include "broker/test-clients.h"

#include "tpm/header.h"

#include <string.h>

Bench bench;
Client clients[CLIENTS];

static void client_reply(void *userdata, const uint8_t *bytes, size_t n_bytes) {
        Client *client = userdata;
        TpmReader reader = TPM_READER(bytes, n_bytes);

        client->rc = tpm_read_header(&reader).code;
        client->handle = tpm_read_u32(&reader);
        client->tag = bytes[n_bytes - 1];
        client->n_replies++;
        if (client->again) {
                client->again = false;
                assert_true(connection_submit(client->connection, client->command, client->n_command));
        }
}

const ConnectionOps client_ops = { .reply = client_reply };

void client_open(unsigned i, uid_t uid) {
        const Peer peer = { .uid = uid };

        clients[i] = (Client){ 0 };
        clients[i].connection = connection_new(bench.broker, &peer, 1u << 3, &client_ops, &clients[i], NULL);
        assert_non_null(clients[i].connection);
}

void client_send(unsigned i, const Message *command) {
        assert_in_range(command->n, TPM_HEADER_SIZE, sizeof(clients[i].command));
        memcpy(clients[i].command, command->bytes, command->n);
        clients[i].n_command = command->n;
        assert_true(connection_submit(clients[i].connection, clients[i].command, clients[i].n_command));
}

void client_submit(unsigned i, TPM2_CC code) {
        Message command;

        if (code == TPM2_CC_CreatePrimary)
                command = cmd_create_primary(TPM2_RH_OWNER, (uint8_t)i);
        else
                command.n = fake_command(command.bytes, code, (uint8_t)i);
        client_send(i, &command);
}

void client_close(unsigned i) {
        clients[i].connection = connection_close(clients[i].connection);
}

int clients_setup(void **state) {
        bench_begin(&bench, CLIENTS * 2);
        bench_start(&bench);
        for (unsigned i = 0; i < CLIENTS; i++)
                client_open(i, 1000);
        return 0;
}

int clients_teardown(void **state) {
        for (unsigned i = 0; i < CLIENTS; i++)
                client_close(i);
        bench_end(&bench);
        return 0;
}
