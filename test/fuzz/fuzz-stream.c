/* SPDX-License-Identifier: BSD-2-Clause */
#include "fuzz.h"

#include "backend/backend-internal.h"
#include "frontend/stream-message.h"
#include "frontend/stream.h"
#include "test/lib/fake-tpm.h"
#include "test/lib/tpm-commands.h"
#include "test/sim/clock.h"
#include "tpm/header.h"
#include "util/log.h"
#include "util/protocol.h"

#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

/*
 * The stream, and the broker behind it, with clients that write what they like when they like. Whatever they do, each
 * whole command of a client that keeps to the frame has exactly one answer, all answers are whole, and in the end
 * nothing is left of anybody. Time is the simulation's (test/sim/clock.h); the TPM is the fake one, or what the
 * input says.
 *
 * Input: operations
 */
#define CLIENTS 4
#define ROUNDS 64

typedef struct Client {
        int fd; /* the client's end; -1: it is gone */
        Stream *stream;
        bool framed;                      /* it has sent nothing but whole messages, and the beginning of one more */
        uint8_t written[TPM_HEADER_SIZE]; /* the beginning of the message under way */
        size_t n_written;                 /* of it, all in all */
        unsigned n_commands;              /* that are to be answered */
        unsigned n_answers;
        uint8_t answer[TPM_HEADER_SIZE];
        size_t n_answer;
} Client;

static Input input;
static Loop *loop;
static Broker *broker;
static Backend backend;
static FakeTpm *tpm;
static bool pending; /* a command is at the TPM */
static Message command;
static Client clients[CLIENTS];

static void tpm_open(Backend *self) {
        backend_opened(self);
}

static void tpm_close(Backend *self) {
        pending = false;
}

static bool tpm_transmit(Backend *self, const uint8_t *bytes, size_t n, uint8_t locality, GError **error) {
        memcpy(command.bytes, bytes, n);
        command.n = n;
        pending = true;
        return true;
}

static const BackendOps tpm_ops = { .open = tpm_open, .close = tpm_close, .transmit = tpm_transmit };

/* The loop stays in it for a moment while an answer of the TPM is awaited; here, that only costs time. */
int __wrap_epoll_wait(int epoll, struct epoll_event *events, int n, int ms);
int __real_epoll_wait(int epoll, struct epoll_event *events, int n, int ms);

int __wrap_epoll_wait(int epoll, struct epoll_event *events, int n, int ms) {
        return __real_epoll_wait(epoll, events, n, 0);
}

static void answer_honestly(void) {
        static uint8_t bytes[TPM_MESSAGE_MAX];
        size_t n;

        if (!pending)
                return;
        n = fake_tpm_run(tpm, command.bytes, command.n, bytes, sizeof(bytes));
        pending = false;
        if (n > 0)
                backend_answered(&backend, bytes, n);
        else
                backend_lose(&backend, "the fake says so");
}

static void answer_from_input(void) {
        uint8_t bytes[TPM_HEADER_SIZE + 64];
        size_t n;

        if (!pending)
                return;
        bytes[0] = 0x80;
        bytes[1] = input_u8(&input);
        n = 6 + input_bytes(&input, bytes + 6, sizeof(bytes) - 6 < input_u8(&input) ? 16 : sizeof(bytes) - 6);
        if (n < TPM_HEADER_SIZE)
                return;
        tpm_put_u32(bytes + 2, (uint32_t)n);
        pending = false;
        backend_answered(&backend, bytes, n);
}

/* What is ready is run, and no more than that: a loop that never rests is a fault. */
static void run_ready(void) {
        unsigned n = 0;

        do
                while (clock_run_due())
                        DEMAND(++n < 10000);
        while (g_main_context_iteration(NULL, FALSE) && ++n < 10000);
        DEMAND(n < 10000);
}

static void on_closed(Stream *stream, void *userdata) {
        Client *client = userdata;

        DEMAND(client->stream == stream);
        client->stream = NULL;
}

static void client_open(Client *client) {
        const StreamConfig config = {
                .loop = loop,
                .broker = broker,
                .localities = 1u << 3,
                .reserved_codes = client != &clients[0],
        };
        const Peer peer = { .uid = 1000 };
        int fds[2];

        if (client->fd >= 0 || client->stream)
                return;
        DEMAND(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds) == 0);
        *client = (Client){ .fd = fds[1], .framed = true };
        client->stream = stream_new(&config, fds[0], &peer, on_closed, client, NULL);
        if (!client->stream) {
                close(fds[0]);
                close(fds[1]);
                client->fd = -1;
        }
}

static bool is_cancel(const Client *client, uint32_t code) {
        return code == TPM_STREAM_CC_CANCEL && client != &clients[0];
}

/* Follow the frame of what a client sends, and count the commands. */
static void follow(Client *client, uint8_t byte) {
        TpmReader reader = TPM_READER(client->written, TPM_HEADER_SIZE);
        TpmHeader header;

        if (!client->framed)
                return;
        if (client->n_written < TPM_HEADER_SIZE)
                client->written[client->n_written] = byte;
        client->n_written++;
        client->framed = stream_message_may_begin(client->written, MIN(client->n_written, TPM_HEADER_SIZE),
                                                  broker_max_command(broker));
        if (!client->framed || client->n_written < TPM_HEADER_SIZE)
                return;
        header = tpm_read_header(&reader);
        if (client->n_written == header.size) {
                client->n_commands += !is_cancel(client, header.code);
                /* A cancel of another size than a cancel's is a fault of the frame. */
                client->framed = !is_cancel(client, header.code) || header.size == TPM_STREAM_CANCEL_SIZE;
                client->n_written = 0;
        }
}

static void client_write(Client *client, const uint8_t *bytes, size_t n) {
        ssize_t written = client->fd >= 0 ? send(client->fd, bytes, n, MSG_DONTWAIT | MSG_NOSIGNAL) : -1;

        for (ssize_t i = 0; i < written; i++)
                follow(client, bytes[i]);
}

static Message any_message(void) {
        uint8_t which = input_u8(&input);
        Message message;

        switch (which % 8) {
        case 0:
                return cmd_create_primary(TPM2_RH_OWNER, which);
        case 1:
                return cmd_with_handle(TPM2_CC_FlushContext, 0x80000000 + (which >> 6));
        case 2:
                message = cmd_get_random(4);
                tpm_put_u32(message.bytes + 6, TPM_STREAM_CC_CANCEL);
                message.n = TPM_STREAM_CANCEL_SIZE;
                break;
        case 3:
                message = cmd_get_random(4);
                tpm_put_u32(message.bytes + 6, TPM_STREAM_CC_SET_LOCALITY);
                message.n = TPM_STREAM_SET_LOCALITY_SIZE;
                message.bytes[TPM_HEADER_SIZE] = which >> 5;
                break;
        case 4:
                message = cmd_get_random(4);
                memset(message.bytes + message.n, 0, sizeof(message.bytes) - message.n);
                message.n += 16u * which;
                break;
        case 5:
                return cmd_get_capability(TPM2_CAP_HANDLES, 0x80000000, which);
        default:
                return cmd_get_random(which);
        }
        tpm_put_u32(message.bytes + 2, (uint32_t)message.n);
        return message;
}

/* Read at most @n bytes of answers, and look at their frame. */
static size_t client_read(Client *client, size_t n) {
        size_t n_read = 0;
        uint8_t byte;

        while (n_read < n && client->fd >= 0 && recv(client->fd, &byte, 1, MSG_DONTWAIT) == 1) {
                TpmReader reader = TPM_READER(client->answer, TPM_HEADER_SIZE);
                TpmHeader header;

                n_read++;
                if (client->n_answer < TPM_HEADER_SIZE)
                        client->answer[client->n_answer] = byte;
                client->n_answer++;
                if (client->n_answer < TPM_HEADER_SIZE)
                        continue;
                header = tpm_read_header(&reader);
                DEMAND(header.size >= TPM_HEADER_SIZE && header.size <= TPM_MESSAGE_MAX);
                if (client->n_answer == header.size) {
                        client->n_answer = 0;
                        client->n_answers++;
                }
        }
        if (client->framed)
                DEMAND(client->n_answers <= client->n_commands);
        return n_read;
}

static void client_close(Client *client) {
        if (client->fd >= 0)
                close(client->fd);
        client->fd = -1;
}

static void operate(void) {
        uint8_t what = input_u8(&input);
        Client *client = &clients[what % CLIENTS];
        uint8_t bytes[256];
        Message message;
        size_t at;

        switch (what >> 4) {
        case 0:
                client_write(client, bytes, input_bytes(&input, bytes, input_u8(&input)));
                break;
        case 1:
        case 2:
        case 3:
                message = any_message();
                client_write(client, message.bytes, message.n);
                break;
        case 4:
                message = any_message();
                at = input_u8(&input) % message.n;
                client_write(client, message.bytes, at);
                run_ready();
                client_write(client, message.bytes + at, message.n - at);
                break;
        case 5:
        case 6:
                client_read(client, 8u * input_u8(&input));
                break;
        case 7:
                if (client->fd >= 0)
                        shutdown(client->fd, what & 4 ? SHUT_WR : SHUT_RD);
                /* Who cannot read has no answers to count. */
                client->framed = client->framed && what & 4;
                break;
        case 8:
                client_close(client);
                break;
        case 9:
                client_open(client);
                break;
        case 10:
                answer_from_input();
                break;
        case 11:
                if (what & 1 && backend.state != BACKEND_CLOSED)
                        backend_lose(&backend, "the input says so");
                else
                        clock_run_next(what & 2 ? 300000 : 70000000);
                break;
        case 12:
                if (client->stream)
                        stream_poll(client->stream);
                break;
        default:
                answer_honestly();
        }
        run_ready();
}

static void on_started(void *userdata, TSS2_RC rc, const char *detail) {
        *(bool *)userdata = rc == TSS2_RC_SUCCESS;
}

static void on_stopped(void *userdata) {
        *(bool *)userdata = true;
}

static void begin(void) {
        const BrokerConfig config = {
                .limits = { .spaces = CLIENTS * 2,
                            .objects = 32,
                            .objects_per_space = 8,
                            .sessions_per_space = 4,
                            .abandoned = 8 },
                .max_connections = CLIENTS * 2,
        };
        bool is_started = false;

        clock_reset();
        loop = loop_new(NULL);
        tpm = fake_tpm_new(NULL);
        DEMAND(loop && tpm);
        backend = (Backend){ .ops = &tpm_ops, .loop = loop, .localities = true };
        pending = false;
        broker = broker_new(loop, &backend, &config, NULL);
        DEMAND(broker);
        broker_start(broker, on_started, &is_started);
        while (pending)
                answer_honestly();
        DEMAND(is_started);
        for (unsigned i = 0; i < CLIENTS; i++) {
                clients[i] = (Client){ .fd = -1 };
                client_open(&clients[i]);
        }
}

/* The TPM answers, and everybody reads, until nothing happens any more. */
static void settle(void) {
        for (unsigned n = 0, quiet = 0; quiet < 3; n++) {
                bool busy = pending;

                DEMAND(n < 10000);
                answer_honestly();
                run_ready();
                for (unsigned i = 0; i < CLIENTS; i++)
                        busy |= client_read(&clients[i], SIZE_MAX) > 0;
                busy |= clock_run_next(6000000); /* a command may wait 5 s for room */
                quiet = busy ? 0 : quiet + 1;
        }
}

static void finish(void) {
        bool is_stopped = false;

        settle();
        for (unsigned i = 0; i < CLIENTS; i++)
                if (clients[i].fd >= 0 && clients[i].framed)
                        DEMAND(clients[i].n_answers == clients[i].n_commands && clients[i].n_answer == 0);
        for (unsigned i = 0; i < CLIENTS; i++)
                client_close(&clients[i]);
        settle();
        for (unsigned i = 0; i < CLIENTS; i++)
                DEMAND(!clients[i].stream);
        broker_stop(broker, on_stopped, &is_stopped);
        for (unsigned n = 0; n < 100; n++) {
                answer_honestly();
                clock_run_next(60000000);
        }
        DEMAND(is_stopped);
        broker = broker_free(broker);
        DEMAND(clock_n_timers() == 0);
        loop = loop_free(loop);
        tpm = fake_tpm_free(tpm);
}

static unsigned count_sockets(void) {
        struct stat st;
        unsigned n = 0;

        for (int fd = 3; fd < 64; fd++)
                n += fstat(fd, &st) == 0 && S_ISSOCK(st.st_mode);
        return n;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n_bytes) {
        unsigned n_sockets = count_sockets();

        log_open(LOG_TARGET_STDOUT, "fuzz", LOG_EMERG);
        input = (Input){ bytes, n_bytes, 0 };
        begin();
        while (input_left(&input))
                operate();
        finish();
        DEMAND(count_sockets() == n_sockets);
        return 0;
}
