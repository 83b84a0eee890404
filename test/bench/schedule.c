/* SPDX-License-Identifier: BSD-2-Clause */

/*
 * Turns in a closed loop: the broker with its scheduler on a fake TPM, in time of its own (test/sim/clock.h). Each
 * scenario is run with the order of broker/order.c and with strict turns, in which nobody passes the head, and the two
 * are compared. Ends with 1 when a promise is not kept.
 */
#include "backend/backend-internal.h"
#include "broker/broker.h"
#include "broker/order.h"
#include "broker/scheduler-internal.h"
#include "resmgr/forecast.h"
#include "test/lib/fake-chips.h"
#include "test/lib/tpm-commands.h"
#include "test/sim/clock.h"
#include "util/log.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CLIENTS = 64, WAITS = 4000, WARM = 40 };

/* What a client does, for ever. */
typedef enum Kind {
        BUSY,   /* uses its key, a moment after each answer */
        SELDOM, /* uses its key once in a period */
        KEYS,   /* makes a key, and flushes it */
        RIVAL,  /* is as busy, and of another user */
        KINDS,
} Kind;

typedef struct Scenario {
        const char *name;
        unsigned n[KINDS];
        bool users;           /* each client is of a user of its own */
        unsigned pace_us;     /* each command of the TPM ... */
        unsigned make_us;     /* ... and one that makes a key so much more */
        const char *chip;     /* or as this one */
        unsigned reserve;     /* RmLimits */
        unsigned period_us;   /* of the SELDOM */
        double commands;      /* promised for each use of a key; 0: nothing is */
        double throughput;    /* at least so many times that of strict turns */
        double mean, longest; /* at most so many times the waits of strict turns: of all; the worst client's 99 % */
        double rivals;        /* they have at least so much of what strict turns by user give them */
        double seldom;        /* a SELDOM waits no longer than so many swaps with a command, 99 % ... */
        double made;          /* ... than so many keys are made */
} Scenario;

#define PROMISED .commands = 1.6, .throughput = 1.6, .mean = 0.65, .longest = 2.3

static const Scenario SCENARIOS[] = {
        { .name = "10 keys", .n = { 10 }, .pace_us = 5000, PROMISED },
        { .name = "10 keys, 1 ms", .n = { 10 }, .pace_us = 1000, PROMISED },
        { .name = "10 keys of 10 users", .n = { 10 }, .users = true, .pace_us = 5000, .commands = 1.6, .longest = 2.3 },
        { .name = "10 keys, 1 slot", .n = { 10 }, .reserve = 2, .pace_us = 5000, PROMISED },
        { .name = "2 keys, 1 slot", .n = { 2 }, .reserve = 2, .pace_us = 5000, .commands = 1.6 },
        { .name = "4 keys", .n = { 4 }, .pace_us = 5000, .commands = 1.4 },
        { .name = "30 keys", .n = { 30 }, .pace_us = 5000, .commands = 2.0, .throughput = 1.6, .longest = 2.3 },
        { .name = "10 keys, slb9670", .n = { 10 }, .chip = "slb9670", .throughput = 1.1, .longest = 2.3 },
        { .name = "10 keys, slb9673 on I2C", .n = { 10 }, .chip = "slb9673-i2c", .throughput = 1.6, .longest = 2.3 },
        { .name = "10 keys, 1 seldom", .n = { 10, 1 }, .pace_us = 1000, .period_us = 50000, .seldom = 2.5 },
        { .name = "... 5 ms", .n = { 10, 1 }, .pace_us = 5000, .period_us = 50000, .seldom = 2.5 },
        { .name = "... of 11 users",
          .n = { 10, 1 },
          .users = true,
          .pace_us = 1000,
          .period_us = 50000,
          .seldom = 2.5 },
        { .name = "10 keys, a rival", .n = { 10, 0, 0, 1 }, .pace_us = 5000, .rivals = 0.95 },
        { .name = "3 keys, 4 rivals", .n = { 3, 0, 0, 4 }, .pace_us = 5000, .rivals = 0.95 },
        { .name = "2 making keys, 4 keys", .n = { 4, 0, 2 }, .pace_us = 2000, .make_us = 500000 },
        { .name = "1 making keys, 1 seldom",
          .n = { 0, 1, 1 },
          .pace_us = 1000,
          .make_us = 500000,
          .period_us = 50000,
          .made = 1.1 },
        { .name = "10 making keys, 1 seldom",
          .n = { 0, 1, 10 },
          .pace_us = 1000,
          .make_us = 500000,
          .period_us = 50000,
          .made = 1.1 },
};

typedef struct Client {
        Kind kind;
        Connection *connection;
        Message command;
        TPM2_HANDLE key;
        bool waits;
        gint64 next; /* when it asks again, unless it waits */
        gint64 submitted;
        unsigned n; /* answers */
        unsigned n_waits;
        uint32_t wait_us[WAITS];
} Client;

typedef struct Figures {
        double seconds, commands, throughput, mean_us, longest_us, seldom_us, fewest, most;
        unsigned keys, rivals;
} Figures;

static const Scenario *scenario;
static bool strict;
static FakeTpm *tpm;
static Backend backend;
static Message answer;
static gint64 answer_due; /* 0: nothing is out */
static Client clients[CLIENTS];
static unsigned n_clients, n_sent;

unsigned __real_order_next(const OrderItem *items, unsigned n);
unsigned __wrap_order_next(const OrderItem *items, unsigned n);
bool __real_order_may_pass(const OrderItem *item, const OrderItem *head);
bool __wrap_order_may_pass(const OrderItem *item, const OrderItem *head);
void __real_rm_expect(Rm *rm, uint32_t space, const uint8_t *command, size_t n_command, uint64_t n_commands);
void __wrap_rm_expect(Rm *rm, uint32_t space, const uint8_t *command, size_t n_command, uint64_t n_commands);
void __real_scheduler_charge(Scheduler *scheduler, Request *request, uint64_t us, gint64 now);
void __wrap_scheduler_charge(Scheduler *scheduler, Request *request, uint64_t us, gint64 now);

unsigned __wrap_order_next(const OrderItem *items, unsigned n) {
        return strict ? 0 : __real_order_next(items, n);
}

bool __wrap_order_may_pass(const OrderItem *item, const OrderItem *head) {
        return !strict && __real_order_may_pass(item, head);
}

void __wrap_rm_expect(Rm *rm, uint32_t space, const uint8_t *command, size_t n_command, uint64_t n_commands) {
        if (!strict)
                __real_rm_expect(rm, space, command, n_command, n_commands);
}

/* Users by their time; of one user, first come, first served. */
void __wrap_scheduler_charge(Scheduler *scheduler, Request *request, uint64_t us, gint64 now) {
        if (strict) {
                scheduler_charge_user(scheduler, request->owner->peer.uid, us, now);
                scheduler_user(scheduler, request->owner->peer.uid)->pool_us = 0; /* nothing is forgiven */
        } else {
                __real_scheduler_charge(scheduler, request, us, now);
        }
}

/* The TPM */

static void tpm_open(Backend *self) {
        backend_opened(self);
}

static void tpm_nothing(Backend *self) {
}

static bool tpm_cancel(Backend *self) {
        return false;
}

static bool tpm_transmit(Backend *self, const uint8_t *command, size_t n_command, uint8_t locality, GError **error) {
        answer.n = fake_tpm_run(tpm, command, n_command, answer.bytes, sizeof(answer.bytes));
        answer_due = g_get_monotonic_time() + fake_tpm_delay(tpm) + 1;
        n_sent++;
        return true;
}

static const BackendOps ops = {
        .open = tpm_open,
        .close = tpm_nothing,
        .transmit = tpm_transmit,
        .cancel = tpm_cancel,
        .free = tpm_nothing,
};

/* Clients */

static void client_reply(void *userdata, const uint8_t *bytes, size_t n_bytes) {
        Client *client = userdata;
        TpmReader reader = TPM_READER(bytes, n_bytes);
        TpmHeader header = tpm_read_header(&reader);
        gint64 now = g_get_monotonic_time();

        if (header.code != TPM2_RC_SUCCESS) {
                fprintf(stderr, "%s: a client is answered 0x%x\n", scenario->name, header.code);
                exit(2);
        }
        if (client->n == 0 || (client->kind == KEYS && client->n % 2 == 0))
                client->key = tpm_read_u32(&reader);
        if (++client->n > WARM && client->n_waits < WAITS)
                client->wait_us[client->n_waits++] = (uint32_t)(now - client->submitted);
        client->waits = false;
        client->next = client->kind == SELDOM ? MAX(now, client->submitted + scenario->period_us) : now + 100;
}

static const ConnectionOps connection_ops = { .reply = client_reply };

static void client_ask(Client *client) {
        if (client->n == 0 || (client->kind == KEYS && client->n % 2 == 0))
                client->command = cmd_create_primary(TPM2_RH_OWNER, (uint8_t)(client - clients));
        else if (client->kind == KEYS)
                client->command = cmd_with_handle(TPM2_CC_FlushContext, client->key);
        else
                client->command = cmd_hmac(client->key, "turns");
        client->waits = true;
        client->submitted = g_get_monotonic_time();
        (void)connection_submit(client->connection, client->command.bytes, client->command.n);
}

static Client *client_next(void) {
        Client *next = NULL;

        for (unsigned i = 0; i < n_clients; i++)
                if (!clients[i].waits && (!next || clients[i].next < next->next))
                        next = &clients[i];
        return next;
}

static void until(gint64 time) {
        gint64 now = g_get_monotonic_time();

        if (time > now)
                clock_advance_us((uint64_t)(time - now));
}

/* Whatever comes first: an answer of the TPM, a client that asks, a timer. */
static void run_once(void) {
        Client *client = client_next();

        while (clock_run_due())
                ;
        if (answer_due && (!client || answer_due <= client->next)) {
                until(answer_due);
                answer_due = 0;
                backend_answered(&backend, answer.bytes, answer.n);
        } else if (client) {
                until(client->next);
                client_ask(client);
        } else if (!clock_run_next(60 * G_USEC_PER_SEC)) {
                fprintf(stderr, "%s: everybody waits, and the TPM does nothing\n", scenario->name);
                exit(2);
        }
}

/* Figures */

static int compare(const void *a, const void *b) {
        uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

        return (x > y) - (x < y);
}

static double percentile(Client *client) {
        qsort(client->wait_us, client->n_waits, sizeof(client->wait_us[0]), compare);
        return client->n_waits ? client->wait_us[client->n_waits * 99 / 100] : 0;
}

static Figures count(gint64 us, unsigned n_uses_before, unsigned n_sent_before) {
        Figures figures = { .fewest = 1e9 };
        double sum = 0, n = 0, n_uses = 0;

        for (unsigned i = 0; i < n_clients; i++) {
                Client *client = &clients[i];
                double longest = percentile(client);

                if (client->kind == KEYS) {
                        figures.keys += client->n / 2;
                        continue;
                }
                n_uses += client->n;
                figures.rivals += client->kind == RIVAL ? client->n_waits : 0;
                if (client->kind == RIVAL)
                        continue;
                if (client->kind == SELDOM) {
                        figures.seldom_us = MAX(figures.seldom_us, longest);
                        continue;
                }
                for (unsigned k = 0; k < client->n_waits; k++)
                        sum += client->wait_us[k];
                n += client->n_waits;
                figures.longest_us = MAX(figures.longest_us, longest);
                figures.fewest = MIN(figures.fewest, client->n);
                figures.most = MAX(figures.most, client->n);
        }
        figures.mean_us = n > 0 ? sum / n : 0;
        figures.seconds = (double)us / 1e6;
        figures.throughput = (n_uses - n_uses_before) / figures.seconds;
        figures.commands = (n_sent - n_sent_before) / (n_uses - n_uses_before);
        return figures;
}

static void tpm_make(void) {
        FakeTpmConfig config = FAKE_TPM_CONFIG;

        if (scenario->chip) {
                (void)fake_chip(scenario->chip, 100, &config);
        } else {
                for (unsigned i = 0; i < FAKE_PACES; i++)
                        config.pace_us[i] = scenario->pace_us;
                config.pace_us[FAKE_PACE_CREATE] += scenario->make_us;
        }
        tpm = fake_tpm_new(&config);
}

static void started(void *userdata, TSS2_RC rc, const char *detail) {
        *(bool *)userdata = rc == TSS2_RC_SUCCESS;
}

static unsigned count_uses(void) {
        unsigned n = 0;

        for (unsigned i = 0; i < n_clients; i++)
                n += clients[i].kind == KEYS ? 0 : clients[i].n;
        return n;
}

static bool all_are_warm(void) {
        for (unsigned i = 0; i < n_clients; i++)
                if (clients[i].kind != KEYS && clients[i].n < WARM)
                        return false;
        return true;
}

static Figures run(unsigned n_uses) {
        const BrokerConfig config = {
                .limits = { .spaces = CLIENTS,
                            .objects = 256,
                            .objects_per_space = 16,
                            .sessions_per_space = 4,
                            .reserve = scenario->reserve },
                .max_connections = CLIENTS,
        };
        bool is_up = false;
        Loop *loop = loop_new(NULL);
        Broker *broker;
        Figures figures;
        gint64 begin;
        unsigned n_before, n_sent_before;

        clock_reset();
        tpm_make();
        memset(clients, 0, sizeof(clients));
        n_clients = answer_due = 0;
        backend = (Backend){ .ops = &ops, .loop = loop };
        broker = broker_new(loop, &backend, &config, NULL);
        broker_start(broker, started, &is_up);
        while (!is_up)
                run_once();
        for (Kind kind = 0; kind < KINDS; kind++)
                for (unsigned i = 0; i < scenario->n[kind]; i++, n_clients++) {
                        const Peer peer = { .uid = scenario->users ? 1000 + n_clients : kind == RIVAL ? 999 : 1000 };

                        clients[n_clients] = (Client){ .kind = kind, .next = g_get_monotonic_time() + n_clients };
                        clients[n_clients].connection =
                                connection_new(broker, &peer, 1, &connection_ops, &clients[n_clients], NULL);
                }
        while (!all_are_warm())
                run_once();
        begin = g_get_monotonic_time();
        n_before = count_uses();
        n_sent_before = n_sent;
        while (count_uses() - n_before < n_uses)
                run_once();
        figures = count(g_get_monotonic_time() - begin, n_before, n_sent_before);
        for (unsigned i = 0; i < n_clients; i++)
                connection_close(clients[i].connection);
        n_clients = 0; /* nobody asks any more */
        while (answer_due)
                run_once();
        broker_free(broker);
        loop_free(loop);
        tpm = fake_tpm_free(tpm);
        return figures;
}

static bool keeps(const char *what, double is, double promised, bool at_least) {
        if (promised == 0 || (at_least ? is >= promised : is <= promised))
                return true;
        printf("    %s: %.2f, promised: %s %.2f\n", what, is, at_least ? "at least" : "at most", promised);
        return false;
}

/* Every promise is looked at, so that all that were broken are told. */
static bool keeps_all(const Figures *before, const Figures *now) {
        const double swap_us = 3.0 * scenario->pace_us;
        bool kept = true;

        kept = keeps("TPM commands each", now->commands, scenario->commands, false) && kept;
        kept = keeps("throughput", now->throughput / before->throughput, scenario->throughput, true) && kept;
        kept = keeps("mean wait", now->mean_us / before->mean_us, scenario->mean, false) && kept;
        kept = keeps("longest waits", now->longest_us / before->longest_us, scenario->longest, false) && kept;
        kept = keeps("rivals", now->rivals / now->seconds / (before->rivals / before->seconds), scenario->rivals,
                     true) &&
               kept;
        kept = keeps("seldom", now->seldom_us / swap_us, scenario->seldom, false) && kept;
        kept = keeps("seldom", now->seldom_us / (scenario->make_us + 1), scenario->made, false) && kept;
        return kept;
}

static bool compare_orders(unsigned n_uses) {
        const double swap_us = 3.0 * scenario->pace_us;
        Figures before, now;

        strict = true;
        before = run(n_uses);
        strict = false;
        now = run(n_uses);
        printf("%-26s %6.3f %6.3f  %6.2f", scenario->name, before.commands, now.commands,
               now.throughput / before.throughput);
        if (scenario->n[BUSY] > 0)
                printf("  %6.2f  %6.2f   %6.2f", now.mean_us / before.mean_us, now.longest_us / before.longest_us,
                       now.most / now.fewest);
        if (scenario->n[SELDOM] > 0)
                printf("   seldom: %.2f -> %.2f swaps and commands", before.seldom_us / swap_us,
                       now.seldom_us / swap_us);
        if (scenario->n[KEYS] > 0)
                printf("   keys made: %u -> %u", before.keys, now.keys);
        if (scenario->n[RIVAL] > 0)
                printf("   rivals: %.0f -> %.0f", before.rivals / before.seconds, now.rivals / now.seconds);
        printf("\n");
        return keeps_all(&before, &now);
}

int main(int argc, char **argv) {
        unsigned n_uses = argc > 1 ? (unsigned)strtoul(argv[1], NULL, 0) : 4000;
        bool kept = true;

        log_open(LOG_TARGET_STDOUT, "schedule", LOG_EMERG);
        printf("%-26s %14s  %s\n%-26s %6s %6s  %6s  %6s  %6s   %6s\n", "", "commands each", "now, of strict turns", "",
               "strict", "now", "rate", "mean", "99 %", "most/fewest uses");
        for (size_t i = 0; i < sizeof(SCENARIOS) / sizeof(SCENARIOS[0]); i++) {
                scenario = &SCENARIOS[i];
                kept &= compare_orders(n_uses);
                fflush(stdout);
        }
        return !kept;
}
