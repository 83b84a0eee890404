/* SPDX-License-Identifier: BSD-2-Clause */
#include "frontend/stream.h"

#include "door/greeting.h"
#include "frontend/stream-input.h"
#include "frontend/stream-message.h"
#include "frontend/stream-state.h"
#include "tpm/header.h"
#include "tpm/writer.h"
#include "util/fd.h"
#include "util/foreign.h"
#include "util/list.h"
#include "util/log.h"
#include "util/protocol.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <tss2/tss2_tpm2_types.h>

/* Messages, or parts of them, that one client may feed us before it is others' turn. */
#define TURNS_MAX 64

/* What is read and thrown away of a client that is to be closed: closing over unread bytes resets it. */
#define DRAIN_BYTES 4096
#define DRAIN_TURNS 16

/*
 * Edge-triggered throughout: neither the bytes behind an outstanding command nor a hang-up, which cannot be masked, may
 * wake us more than once. What an edge announced is therefore read until the socket is empty, or remembered.
 */
#define EVENTS_IN (EPOLLIN | EPOLLRDHUP | EPOLLET)

struct Stream {
        StreamConfig config;
        LoopFd io;
        Connection *connection;
        StreamState state;

        StreamInput input;
        uint8_t *rest; /* of a reply, for which the socket had no room */
        size_t n_rest;
        size_t at; /* sent up to here */

        bool layers;    /* the client knows codes of layer 11 */
        bool greets;    /* hello is still to be answered */
        bool hung_up;   /* the client sends no more; its end of input is still to be read */
        bool drained;   /* the socket was empty when it was read last */
        bool reading;   /* a call of stream_read() is on the stack */
        bool passed;    /* the client has passed descriptors along ... */
        bool refuses;   /* ... which it cannot */
        unsigned depth; /* of calls on the stack that use this stream */
        guint reaper;

        void (*closed)(Stream *stream, void *userdata);
        void *userdata;
};

static void stream_reply(void *userdata, const uint8_t *bytes, size_t n_bytes);

static const ConnectionOps stream_connection_ops = { .reply = stream_reply };

static void stream_drop_rest(Stream *stream) {
        if (stream->rest)
                explicit_bzero(stream->rest, stream->n_rest);
        g_clear_pointer(&stream->rest, g_free);
        stream->n_rest = 0;
        stream->at = 0;
}

/* What a socket that is still to be closed takes away from its user. */
typedef struct Fine {
        Charge *charge;
} Fine;

static void fine_end(void *userdata) {
        charge_return(((Fine *)userdata)->charge);
}

static void stream_close_socket(Stream *stream) {
        Fine *fine;

        if (!stream->passed) {
                foreign_close_plain(stream->io.fd);
                return;
        }
        fine = g_new(Fine, 1);
        fine->charge = stream->connection ? connection_take_charge(stream->connection) : NULL;
        closer_close(loop_closer(stream->config.loop), stream->io.fd, fine_end, fine);
}

static void stream_destroy(Stream *stream) {
        g_clear_handle_id(&stream->reaper, g_source_remove);
        stream_close_socket(stream);
        stream->connection = connection_close(stream->connection);
        stream_input_clear(&stream->input);
        stream_drop_rest(stream);
        g_free(stream);
}

static bool stream_is_dead(const Stream *stream) {
        return stream->state == STREAM_DEAD;
}

/* It is freed by the last stream_leave(). */
static void stream_end(Stream *stream) {
        if (!stream_is_dead(stream))
                stream_state_set(&stream->state, STREAM_DEAD);
}

static void stream_enter(Stream *stream) {
        stream->depth++;
}

/* The stream may be gone afterwards. */
static void stream_leave(Stream *stream) {
        if (--stream->depth > 0 || !stream_is_dead(stream))
                return;
        loop_remove(&stream->io);
        stream->passed |= foreign_holds_rights(stream->io.fd);
        if (stream->closed)
                stream->closed(stream, stream->userdata);
        stream_destroy(stream);
}

static void stream_listen(Stream *stream, uint32_t events) {
        if (loop_modify(&stream->io, events) < 0)
                stream_end(stream);
}

static void stream_write(Stream *stream, const uint8_t *bytes, size_t n_bytes) {
        ssize_t n;

        do
                n = send(stream->io.fd, bytes, n_bytes, MSG_NOSIGNAL | MSG_DONTWAIT);
        while (n < 0 && errno == EINTR);

        if (n < 0 && !fd_may_try_again(errno)) {
                stream_end(stream);
                return;
        }
        if (n < 0)
                n = 0;

        if ((size_t)n == n_bytes) {
                stream_drop_rest(stream);
                stream_state_set(&stream->state, stream_state_is_last(stream->state) ? STREAM_DEAD : STREAM_READING);
        } else if (stream_state_writes(stream->state)) {
                stream->at += (size_t)n;
                stream_listen(stream, stream->io.events); /* asks for room once more, or for memory */
        } else {
                stream->rest = g_try_malloc(n_bytes - (size_t)n);
                if (!stream->rest) {
                        stream_end(stream);
                        return;
                }
                stream->n_rest = n_bytes - (size_t)n;
                memcpy(stream->rest, bytes + n, stream->n_rest);
                stream_state_set(&stream->state, stream_state_is_last(stream->state) ? STREAM_CLOSING : STREAM_WRITING);
                stream_listen(stream, EVENTS_IN | EPOLLOUT);
        }
}

/* Hello is answered first. */
static void stream_answer(Stream *stream, const uint8_t *bytes, size_t n_bytes) {
        uint8_t answer[STREAM_ANSWER_MAX];
        size_t n = stream_message_answer(answer, bytes, n_bytes, stream->layers, stream->greets);

        stream->greets = false;
        stream_input_end(&stream->input);
        stream_write(stream, n > 0 ? answer : bytes, n > 0 ? n : n_bytes);
        explicit_bzero(answer, n);
}

static void stream_answer_rc(Stream *stream, TSS2_RC rc) {
        uint8_t bytes[TPM_HEADER_SIZE];
        TpmWriter writer = TPM_WRITER(bytes, sizeof(bytes));

        tpm_write_begin(&writer, TPM2_ST_NO_SESSIONS, rc);
        stream_answer(stream, bytes, tpm_write_end(&writer));
}

/* No command follows hello, not even the beginning of one: it is answered alone. */
static void stream_greet(Stream *stream) {
        if (!stream->greets || stream->state != STREAM_READING || stream->input.n_command > 0)
                return; /* with a command half read, it comes with the answer to that */
        stream_state_set(&stream->state, STREAM_RUNNING);
        stream_answer(stream, NULL, 0);
}

static void stream_hello(Stream *stream, uint32_t flags) {
        stream->layers = flags & TPM_STREAM_LAYERS;
        if (stream->greets) {
                stream_answer(stream, NULL, 0); /* the one before, which nothing but this one has followed */
        } else {
                stream_input_end(&stream->input);
                stream_state_set(&stream->state, STREAM_READING);
        }
        stream->greets = true;
}

static bool stream_reserves(const Stream *stream, uint32_t code, uint32_t reserved) {
        return code == reserved && stream->config.reserved_codes && !broker_implements(stream->config.broker, reserved);
}

static bool stream_is_cancel(const Stream *stream, const TpmHeader *header) {
        return stream_reserves(stream, header->code, TPM_STREAM_CC_CANCEL) && header->size == TPM_STREAM_CANCEL_SIZE;
}

/* The command is whole. */
static void stream_submit(Stream *stream) {
        const uint8_t *command = stream_input_command(&stream->input);
        size_t n_command = stream->input.n_command;
        TpmReader reader = TPM_READER(command, n_command);
        TpmHeader header = tpm_read_header(&reader);

        stream_state_set(&stream->state, STREAM_RUNNING);
        if (stream_reserves(stream, header.code, TPM_STREAM_CC_SET_LOCALITY)) {
                TSS2_RC rc = RM_RC(TPM2_RC_COMMAND_SIZE);

                if (header.size == TPM_STREAM_SET_LOCALITY_SIZE)
                        rc = connection_set_locality(stream->connection, tpm_read_u8(&reader));
                stream_answer_rc(stream, rc);
        } else if (stream_reserves(stream, header.code, TPM_STREAM_CC_HELLO) && header.size >= TPM_STREAM_HELLO_SIZE) {
                stream_hello(stream, tpm_read_u32(&reader));
        } else if (stream_reserves(stream, header.code, TPM_STREAM_CC_HELLO) ||
                   stream_reserves(stream, header.code, TPM_STREAM_CC_CANCEL)) {
                stream_answer_rc(stream, RM_RC(TPM2_RC_COMMAND_SIZE));
        } else if (!connection_submit(stream->connection, command, n_command)) {
                stream_end(stream);
        }
}

/* Whether a header, as far as it has come, can be that of a command. */
static bool stream_may_begin(const Stream *stream, const uint8_t *header, size_t n_header) {
        uint32_t max_command = MIN(broker_max_command(stream->config.broker), TPM_MESSAGE_MAX);

        return stream_message_may_begin(header, n_header, max_command);
}

/* Bytes, as recvmsg(); descriptors have no business here. */
static ssize_t stream_receive(Stream *stream, struct iovec *iov, size_t n_iov) {
        return foreign_receive(stream->io.fd, iov, n_iov, stream->refuses ? NULL : &stream->passed);
}

/* Where the next command begins is unknown once a size makes no sense, or whose the bytes are that came last. */
static void stream_refuse(Stream *stream, const char *what, const char *hint, TSS2_RC rc) {
        uint8_t bytes[DRAIN_BYTES];

        log_limited(LOG_NOTICE, PEER_FORMAT " sent %s on the socket of clients: its connection is closed%s",
                    PEER_ARGUMENTS(connection_peer(stream->connection)), what, hint);

        for (unsigned i = 0; i < DRAIN_TURNS && !stream->passed; i++) {
                struct iovec iov = { .iov_base = bytes, .iov_len = sizeof(bytes) };

                if (stream_receive(stream, &iov, 1) <= 0)
                        break;
        }
        if (stream->state == STREAM_READING) {
                stream_state_set(&stream->state, STREAM_LAST);
                stream_answer_rc(stream, rc);
        } else {
                stream_state_set(&stream->state, STREAM_LAST);
        }
}

static void stream_refuse_protocol(Stream *stream) {
        size_t n;
        const uint8_t *bytes = stream_input_next(&stream->input, &n);
        const char *protocol = greeting_protocol(bytes, n);
        bool is_tpm = g_str_equal(protocol, GREETING_TPM), is_dbus = g_str_equal(protocol, "D-Bus");

        stream_refuse(stream, is_tpm ? "a command whose size cannot be right" : protocol,
                      is_dbus ? "; the manager has a socket of its own (--manager)" : "", RM_RC(TPM2_RC_COMMAND_SIZE));
}

/* Nothing came. Return: whether to go on reading. */
static bool stream_read_nothing(Stream *stream, ssize_t n) {
        if (n < 0 && errno == EINTR)
                return true;
        if (n < 0 && errno == EAGAIN)
                return false;
        if (n < 0 && fd_may_try_again(errno)) {
                stream_listen(stream, stream->io.events); /* asks for what is there once more */
                return false;
        }
        stream_greet(stream);
        if (n == 0 && stream->state == STREAM_RUNNING)
                stream_state_set(&stream->state, STREAM_LAST);
        else
                stream_end(stream);
        return false;
}

static bool stream_read_rights(Stream *stream) {
        stream_refuse(stream, "file descriptors", "", RM_RC(TPM2_RC_COMMAND_SIZE));
        return false;
}

/*
 * Reads as much as belongs to a command, and the header behind it: when less comes, the socket is empty, and the next
 * edge tells of more. Return: whether to go on reading.
 */
static bool stream_read_bytes(Stream *stream) {
        struct iovec iov[2];
        size_t n_iov = stream_input_room(&stream->input, iov), n_room = 0;
        ssize_t n;

        if (stream->drained)
                return false;
        for (size_t i = 0; i < n_iov; i++)
                n_room += iov[i].iov_len;
        n = stream_receive(stream, iov, n_iov);
        if (stream->passed)
                return stream_read_rights(stream);
        if (n <= 0)
                return stream_read_nothing(stream, n);
        stream_input_add(&stream->input, (size_t)n);
        stream->drained = (size_t)n < n_room && !stream->hung_up;
        return true;
}

/* Return: whether to go on reading. */
static bool stream_begin(Stream *stream, uint32_t n_command) {
        if (stream_input_begin(&stream->input, n_command))
                return true;
        stream_refuse(stream, "a command for which there is no memory", "", RM_RC(TPM2_RC_MEMORY));
        return false;
}

/* Return: whether to go on reading. */
static bool stream_read_some(Stream *stream) {
        size_t n;
        const uint8_t *bytes = stream_input_next(&stream->input, &n);
        TpmReader reader = TPM_READER(bytes, n);
        TpmHeader header;

        if (stream->state == STREAM_READING && stream->input.n_command > 0) {
                if (!stream_input_is_whole(&stream->input))
                        return stream_read_bytes(stream);
                stream_submit(stream);
                return true;
        }
        if (stream->state == STREAM_READING && !stream_may_begin(stream, bytes, n)) {
                stream_refuse_protocol(stream);
                return false;
        }
        if (n < TPM_HEADER_SIZE)
                return stream_read_bytes(stream);

        header = tpm_read_header(&reader);
        if (stream_is_cancel(stream, &header)) {
                stream_input_skip(&stream->input, TPM_HEADER_SIZE);
                if (stream->state == STREAM_RUNNING)
                        (void)connection_cancel(stream->connection);
                return true;
        }
        return stream->state == STREAM_READING && stream_begin(stream, header.size);
}

/* Something whole was read and not handled yet: the socket, which may be empty now, would not tell of it again. */
static bool stream_holds_message(const Stream *stream) {
        size_t n;
        const uint8_t *bytes = stream_input_next(&stream->input, &n);

        if (stream->input.n_command > 0 && stream->state == STREAM_READING)
                return stream_input_is_whole(&stream->input);
        return n >= TPM_HEADER_SIZE || !stream_may_begin(stream, bytes, n);
}

static void stream_read(Stream *stream) {
        unsigned turns = 0;

        if (stream->reading)
                return;
        stream->reading = true;
        while (stream_state_reads(stream->state) && stream_read_some(stream)) {
                if (++turns >= TURNS_MAX && !stream_holds_message(stream)) {
                        stream_listen(stream, stream->io.events); /* asks for what is there once more */
                        break;
                }
        }
        stream_greet(stream);
        stream->reading = false;
}

static void stream_reply(void *userdata, const uint8_t *bytes, size_t n_bytes) {
        Stream *stream = userdata;

        if (stream_is_dead(stream))
                return;
        stream_enter(stream);
        stream_answer(stream, bytes, n_bytes);
        /* What stands behind bytes that were read ahead had its edge already; and they may be those of no command. */
        if (stream->input.n_bytes > 0)
                stream_read(stream);
        stream_leave(stream);
}

static void stream_event(LoopFd *io, uint32_t events) {
        Stream *stream = list_entry(io, Stream, io);

        stream_enter(stream);
        stream->drained = false;
        if (events & (EPOLLHUP | EPOLLERR))
                stream_end(stream);
        if (events & EPOLLRDHUP)
                stream->hung_up = true;
        if (stream_state_writes(stream->state) && events & EPOLLOUT) {
                stream_write(stream, stream->rest + stream->at, stream->n_rest - stream->at);
                if (stream_state_reads(stream->state))
                        stream_listen(stream, EVENTS_IN);
        }
        stream_read(stream);
        stream_leave(stream);
}

/* Return: NULL with @error; the connection is the caller's then. */
static Stream *stream_make(const StreamConfig *config, int fd, void (*closed)(Stream *stream, void *userdata),
                           void *userdata, GError **error) {
        Stream *stream = g_new0(Stream, 1);
        int r;

        *stream = (Stream){
                .config = *config,
                .layers = !config->reserved_codes,
                .refuses = foreign_is_refusing(fd),
                .closed = closed,
                .userdata = userdata,
        };
        r = loop_add(config->loop, &stream->io, fd, EVENTS_IN, stream_event);
        if (r == 0)
                return stream;
        g_set_error(error, g_quark_from_static_string("stream"), -r, "%s", g_strerror(-r));
        g_free(stream);
        return NULL;
}

Stream *stream_new(const StreamConfig *config, int fd, const Peer *peer, void (*closed)(Stream *stream, void *userdata),
                   void *userdata, GError **error) {
        Stream *stream = stream_make(config, fd, closed, userdata, error);

        if (!stream)
                return NULL;
        stream->connection =
                connection_new(config->broker, peer, config->localities, &stream_connection_ops, stream, error);
        if (stream->connection)
                return stream;
        loop_remove(&stream->io);
        g_free(stream);
        return NULL;
}

Stream *stream_resume(const StreamConfig *config, int fd, Connection *connection,
                      void (*closed)(Stream *stream, void *userdata), void *userdata, GError **error) {
        Stream *stream = stream_make(config, fd, closed, userdata, error);

        if (!stream)
                return NULL;
        stream->connection = connection;
        connection_return(connection, &stream_connection_ops, stream);
        return stream;
}

Connection *stream_keep(Stream *stream, void (*given_up)(void *userdata), void *userdata) {
        Connection *connection = stream->connection;

        /* It pays for the socket, which is still to be closed. */
        if (stream->passed)
                return NULL;
        stream->connection = NULL;
        connection_leave(connection, given_up, userdata);
        return connection;
}

void stream_check(Stream *stream) {
        struct pollfd pollfd = { .fd = stream->io.fd };

        if (poll(&pollfd, 1, 0) <= 0 || !(pollfd.revents & (POLLHUP | POLLERR)))
                return;
        stream_enter(stream);
        stream_end(stream);
        stream_leave(stream);
}

Stream *stream_free(Stream *stream) {
        if (!stream)
                return NULL;
        stream->closed = NULL;
        stream_end(stream);
        stream_enter(stream);
        stream_leave(stream);
        return NULL;
}

Connection *stream_connection(Stream *stream) {
        return stream->connection;
}

static gboolean stream_reap(gpointer userdata) {
        Stream *stream = userdata;

        stream->reaper = 0;
        stream_enter(stream);
        stream_leave(stream);
        return G_SOURCE_REMOVE;
}

void stream_poll(Stream *stream) {
        stream_enter(stream);
        stream->drained = false;
        stream_read(stream);
        /* The caller goes on using it: should this have been the end of it, that comes later. */
        stream->depth--;
        if (stream_is_dead(stream) && !stream->reaper)
                stream->reaper = g_idle_add(stream_reap, stream);
}
