/* SPDX-License-Identifier: BSD-2-Clause */
#include "test/bench/wire.h"
#include "test/lib/tpm-commands.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>

/*
 * load WORKLOAD CLIENTS FLUSHES SUBJECT
 *
 * Many clients of one subject (test/bench/wire.h) in one process, each with a connection of its own, and one command
 * underway in each: whoever is answered asks again. It says "ready", and then for each line "MS ACTIVE" of standard
 * input lets the first ACTIVE clients run for MS milliseconds, and at least once each. A run is what one line of STEPS
 * has. It answers with a line: runs, those of them that were refused, commands, ns for all, and median, 99th percentile
 * and longest of the runs, in ns. FLUSHES 1: nobody flushes for the clients, who do it themselves.
 */
#define CLIENTS_MAX 1024
#define KEYS_MAX 5
#define SAMPLES_MAX 2000000

typedef enum Slot { NOTHING, KEY, SESSION } Slot;

typedef struct Step {
        Message *command;
        Slot uses;  /* whose handle follows the header */
        Slot gives; /* whose handle follows the header of the answer */
} Step;

static Message random_, sign, start, pcr, digest, flush, load; /* begun by make_commands() */

typedef struct Workload {
        const char *name;
        unsigned n_keys; /* that each client has loaded */
        bool reconnects; /* a run is a connection */
        unsigned n_steps;
        Step steps[5];
        int on_refusal; /* step that a refused run goes on with, if it has begun one; -1: none */
} Workload;

static Workload WORKLOADS[] = {
        { "random", 0, false, 1, { { &random_, NOTHING, NOTHING } }, -1 },
        { "sign", 1, false, 1, { { &sign, KEY, NOTHING } }, -1 },
        { "keys", KEYS_MAX, false, 1, { { &sign, KEY, NOTHING } }, -1 },
        { "policy",
          0,
          false,
          4,
          { { &start, NOTHING, SESSION },
            { &pcr, SESSION, NOTHING },
            { &digest, SESSION, NOTHING },
            { &flush, SESSION, NOTHING } },
          3 },
        { "oneshot", 0, true, 2, { { &load, NOTHING, KEY }, { &sign, KEY, NOTHING }, { &flush, KEY, NOTHING } }, -1 },
};
#define N_WORKLOADS (sizeof(WORKLOADS) / sizeof(WORKLOADS[0]))

typedef struct Client {
        Wire wire;
        TPM2_HANDLE keys[KEYS_MAX], session;
        unsigned key, step;
        bool refused;
        uint64_t begin;
} Client;

typedef struct Load {
        const Workload *workload;
        const char *subject;
        bool flushes;
        int epoll;
        Client *clients;
        unsigned n_clients, n_running;
        uint64_t until;
        uint64_t *times; /* of the runs */
        size_t n_runs, n_refused, n_commands;
} Load;

static void die(const char *what, uint32_t code) {
        fprintf(stderr, "load: %s: 0x%x\n", what, code);
        exit(EXIT_FAILURE);
}

static void ask(Wire *wire, const Message *message, const char *what) {
        uint32_t code = wire_ask(wire, message->bytes, message->n);

        if (code != TPM2_RC_SUCCESS)
                die(what, code);
}

static TPM2_HANDLE handle_in(const Wire *wire) {
        TpmReader reader = TPM_READER(wire->answer, wire->n_answer);

        (void)tpm_read_header(&reader);
        return tpm_read_u32(&reader);
}

static void make_commands(void) {
        random_ = cmd_get_random(8);
        sign = cmd_sign(0);
        start = cmd_start_session(TPM2_SE_POLICY);
        pcr = cmd_policy_pcr(0);
        digest = cmd_with_handle(TPM2_CC_PolicyGetDigest, 0);
        flush = cmd_with_handle(TPM2_CC_FlushContext, 0);
}

/* All keys are copies of one, so that a chip's time for making them is taken once. */
static void make_key(const char *subject) {
        static Wire wire;
        Message message = cmd_create_primary(TPM2_RH_OWNER, 1);
        TPM2_HANDLE handle;

        wire_connect(&wire, subject);
        ask(&wire, &message, "CreatePrimary");
        handle = handle_in(&wire);
        message = cmd_with_handle(TPM2_CC_ContextSave, handle);
        ask(&wire, &message, "ContextSave");
        load = cmd_context_load(wire.answer + TPM_HEADER_SIZE, wire.n_answer - TPM_HEADER_SIZE);
        message = cmd_with_handle(TPM2_CC_FlushContext, handle);
        ask(&wire, &message, "FlushContext");
        wire_disconnect(&wire);
}

static void watch(const Load *l, Client *client) {
        struct epoll_event event = { .events = EPOLLIN, .data.ptr = client };

        if (epoll_ctl(l->epoll, EPOLL_CTL_ADD, client->wire.fd, &event) < 0)
                die("epoll_ctl", 0);
}

static void client_prepare(const Load *l, Client *client) {
        if (l->workload->reconnects)
                return;
        wire_connect(&client->wire, l->subject);
        ask(&client->wire, &random_, "GetRandom"); /* a TCTI says only then what to poll */
        for (unsigned i = 0; i < l->workload->n_keys; i++) {
                ask(&client->wire, &load, "ContextLoad");
                client->keys[i] = handle_in(&client->wire);
        }
        watch(l, client);
}

static void client_forget(const Load *l, Client *client) {
        if (l->workload->reconnects)
                return;
        for (unsigned i = 0; i < l->workload->n_keys && l->flushes; i++) {
                tpm_put_u32(flush.bytes + TPM_HEADER_SIZE, client->keys[i]);
                (void)wire_ask(&client->wire, flush.bytes, flush.n);
        }
        wire_disconnect(&client->wire);
}

static void client_send(Load *l, Client *client) {
        const Step *step = &l->workload->steps[client->step];

        if (step->uses != NOTHING)
                tpm_put_u32(step->command->bytes + TPM_HEADER_SIZE,
                            step->uses == KEY ? client->keys[client->key] : client->session);
        wire_send(&client->wire, step->command->bytes, step->command->n);
        l->n_commands++;
}

static void client_begin(Load *l, Client *client) {
        client->step = 0;
        client->refused = false;
        client->begin = now_ns();
        if (l->workload->reconnects)
                wire_connect(&client->wire, l->subject);
        client_send(l, client);
        if (l->workload->reconnects)
                watch(l, client);
}

static void client_end(Load *l, Client *client) {
        if (l->workload->reconnects)
                wire_disconnect(&client->wire);
        if (l->n_runs < SAMPLES_MAX)
                l->times[l->n_runs++] = now_ns() - client->begin;
        l->n_refused += client->refused;
        if (l->workload->n_keys > 0)
                client->key = (client->key + 1) % l->workload->n_keys;
        if (now_ns() < l->until)
                client_begin(l, client);
        else
                l->n_running--;
}

/* @client has an answer. */
static void client_go_on(Load *l, Client *client) {
        const Workload *workload = l->workload;
        const Step *step = &workload->steps[client->step];

        if (wire_code(&client->wire) == TPM2_RC_SUCCESS) {
                if (step->gives == KEY)
                        client->keys[0] = handle_in(&client->wire);
                else if (step->gives == SESSION)
                        client->session = handle_in(&client->wire);
                client->step++;
        } else if (!client->refused && client->step > 0 && workload->on_refusal > (int)client->step) {
                client->refused = true;
                client->step = (unsigned)workload->on_refusal;
        } else {
                client->refused = true;
                client->step = workload->n_steps;
        }
        if (client->step < workload->n_steps)
                client_send(l, client);
        else
                client_end(l, client);
}

static int compare(const void *a, const void *b) {
        uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

        return (x > y) - (x < y);
}

static void load_run(Load *l, unsigned ms, unsigned n_active) {
        uint64_t begin = now_ns();
        struct epoll_event events[64];

        l->n_runs = l->n_refused = l->n_commands = 0;
        l->until = begin + (uint64_t)ms * 1000000;
        l->n_running = n_active;
        for (unsigned i = 0; i < n_active; i++)
                client_begin(l, &l->clients[i]);
        while (l->n_running > 0) {
                int n = epoll_wait(l->epoll, events, 64, -1);

                for (int i = 0; i < n; i++) {
                        Client *client = events[i].data.ptr;

                        if (wire_receive(&client->wire))
                                client_go_on(l, client);
                }
        }
        begin = now_ns() - begin;
        qsort(l->times, l->n_runs, sizeof(uint64_t), compare);
        printf("%zu %zu %zu %llu %llu %llu %llu\n", l->n_runs, l->n_refused, l->n_commands, (unsigned long long)begin,
               (unsigned long long)l->times[l->n_runs / 2], (unsigned long long)l->times[l->n_runs * 99 / 100],
               (unsigned long long)l->times[l->n_runs - 1]);
        fflush(stdout);
}

static void find_workload(Load *l, const char *name) {
        for (size_t i = 0; i < N_WORKLOADS; i++)
                if (strcmp(name, WORKLOADS[i].name) == 0) {
                        WORKLOADS[i].n_steps += l->flushes && WORKLOADS[i].reconnects;
                        l->workload = &WORKLOADS[i];
                }
}

int main(int argc, char **argv) {
        static Load l;
        struct rlimit files;
        unsigned ms, n_active;
        char line[64];

        l.n_clients = argc == 5 ? (unsigned)atoi(argv[2]) : 0;
        if (l.n_clients < 1 || l.n_clients > CLIENTS_MAX) {
                fprintf(stderr, "usage: load random|sign|keys|policy|oneshot CLIENTS FLUSHES SUBJECT\n");
                return EXIT_FAILURE;
        }
        l.flushes = *argv[3] == '1';
        l.subject = argv[4];
        find_workload(&l, argv[1]);
        l.epoll = epoll_create1(EPOLL_CLOEXEC);
        l.times = calloc(SAMPLES_MAX, sizeof(uint64_t));
        l.clients = calloc(l.n_clients, sizeof(Client));
        if (!l.workload || !l.times || !l.clients || getrlimit(RLIMIT_NOFILE, &files) < 0)
                die("cannot begin", 0);
        files.rlim_cur = files.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &files);

        make_commands();
        if (l.workload->n_keys > 0 || l.workload->reconnects)
                make_key(l.subject);
        for (unsigned i = 0; i < l.n_clients; i++)
                client_prepare(&l, &l.clients[i]);
        printf("ready\n");
        fflush(stdout);
        while (fgets(line, sizeof(line), stdin) && sscanf(line, "%u %u", &ms, &n_active) == 2)
                load_run(&l, ms, n_active < l.n_clients ? n_active : l.n_clients);
        for (unsigned i = 0; i < l.n_clients; i++)
                client_forget(&l, &l.clients[i]);
        return EXIT_SUCCESS;
}
