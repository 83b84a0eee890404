/* SPDX-License-Identifier: BSD-2-Clause */
#include "manager/trace.h"

#include "manager/record.h"
#include "manager/redact.h"
#include "resmgr/report.h"
#include "tpm/header.h"
#include "util/fd.h"
#include "util/foreign.h"

#include <errno.h>
#include <gio/gio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

/* Room for what comes while a subscriber is not awake; the system may allow less. */
#define SOCKET_ROOM (1024 * 1024)

typedef struct Subscriber {
        LoopFd io; /* first */
        int fd;    /* -1: free */
        TraceOptions options;
        uint64_t n_dropped; /* since the last record that it was sent */
        bool full;          /* its socket is: nothing is made ready for it until there is room */
        Traces *traces;
} Subscriber;

struct Traces {
        Loop *loop;
        Broker *broker;
        uint64_t n_dropped;
        Subscriber subscribers[TRACES_MAX];
        uint8_t command[TPM_MESSAGE_MAX], response[TPM_MESSAGE_MAX]; /* redacted */
        uint8_t message[MANAGER_RECORD_MAX];
};

static void traces_record(void *userdata, const BrokerRecord *record);

/* The broker is asked for records only while there is somebody to hear them. */
static void traces_watch(Traces *traces) {
        bool any = false;

        for (unsigned i = 0; i < TRACES_MAX; i++)
                any = any || traces->subscribers[i].fd >= 0;
        broker_watch_commands(traces->broker, any ? traces_record : NULL, any ? traces : NULL);
}

static void subscriber_close(Subscriber *subscriber) {
        loop_remove(&subscriber->io);
        foreign_close(loop_closer(subscriber->traces->loop), fd_steal(&subscriber->fd));
        traces_watch(subscriber->traces);
}

/* Nothing that a subscriber could say is read, so this is its end, or it has made room. */
static void subscriber_event(LoopFd *io, uint32_t events) {
        Subscriber *subscriber = (Subscriber *)io;

        if (events & ~EPOLLOUT || loop_modify(io, EPOLLRDHUP) < 0)
                subscriber_close(subscriber);
        else
                subscriber->full = false;
}

static void subscriber_drop(Subscriber *subscriber) {
        subscriber->n_dropped++;
        subscriber->traces->n_dropped++;
}

/* Bytes that stay where they are, so that no copy of a payload is left behind. */
static GVariant *bytes_borrow(const uint8_t *bytes, size_t n) {
        return g_variant_new_from_data(G_VARIANT_TYPE_BYTESTRING, bytes, n, TRUE, NULL, NULL);
}

/* @when_us: since 1970 */
static size_t traces_write(Traces *traces, const Subscriber *subscriber, const BrokerRecord *record, guint64 when_us) {
        const Peer own = { .uid = geteuid(), .pid = getpid(), .name = "tpm2-abrmd" };
        const Peer *peer = record->peer ?: &own;
        bool payload = subscriber->options.payload;
        g_autoptr(GVariant) variant = g_variant_ref_sink(
                g_variant_new("(ytttuusyttu@ay@ay)", record->tpm ? MANAGER_RECORD_TPM : MANAGER_RECORD_CLIENT, when_us,
                              subscriber->n_dropped, record->client, (guint32)peer->uid, (guint32)peer->pid, peer->name,
                              record->locality, record->wait_us, record->took_us, record->n_transmits,
                              bytes_borrow(payload ? record->command : traces->command, record->n_command),
                              bytes_borrow(payload ? record->response : traces->response, record->n_response)));
        size_t n = g_variant_get_size(variant);

        if (n > sizeof(traces->message))
                return 0;
        g_variant_store(variant, traces->message);
        return n;
}

static void traces_send(Traces *traces, Subscriber *subscriber, const BrokerRecord *record, guint64 when_us) {
        size_t n = traces_write(traces, subscriber, record, when_us);
        bool sent = n > 0 && send(subscriber->fd, traces->message, n, MSG_DONTWAIT | MSG_NOSIGNAL) == (ssize_t)n;
        int error = errno;

        explicit_bzero(traces->message, n);
        if (sent) {
                subscriber->n_dropped = 0;
        } else if (n > 0 && (error == EPIPE || error == ECONNRESET || error == ENOTCONN)) {
                subscriber_close(subscriber);
        } else {
                subscriber_drop(subscriber);
                subscriber->full = n > 0 && loop_modify(&subscriber->io, EPOLLRDHUP | EPOLLOUT) == 0;
        }
}

static void traces_redact(Traces *traces, const BrokerRecord *record) {
        TpmCommand command = rm_report_parse(broker_rm(traces->broker), record->command, record->n_command);

        memcpy(traces->command, record->command, record->n_command);
        redact_command(&command, traces->command, record->n_command);
        if (record->n_response > 0)
                memcpy(traces->response, record->response, record->n_response);
        redact_response(&command, traces->response, record->n_response);
}

static void traces_record(void *userdata, const BrokerRecord *record) {
        guint64 since_us = (guint64)g_get_monotonic_time() - record->answered_us + record->took_us;
        guint64 when_us = (guint64)g_get_real_time() - since_us;
        Traces *traces = userdata;
        bool redacted = false;

        if (record->n_command > TPM_MESSAGE_MAX || record->n_response > TPM_MESSAGE_MAX)
                return;
        for (unsigned i = 0; i < TRACES_MAX; i++) {
                Subscriber *subscriber = &traces->subscribers[i];

                if (subscriber->fd < 0 || (record->tpm && !subscriber->options.tpm))
                        continue;
                if (subscriber->full) {
                        subscriber_drop(subscriber);
                        continue;
                }
                if (!subscriber->options.payload && !redacted) {
                        traces_redact(traces, record);
                        redacted = true;
                }
                traces_send(traces, subscriber, record, when_us);
        }
}

Traces *traces_new(Loop *loop, Broker *broker) {
        Traces *traces = g_new(Traces, 1);

        *traces = (Traces){ .loop = loop, .broker = broker };
        for (unsigned i = 0; i < TRACES_MAX; i++)
                traces->subscribers[i] = (Subscriber){ .fd = -1, .traces = traces };
        return traces;
}

Traces *traces_free(Traces *traces) {
        if (!traces)
                return NULL;
        for (unsigned i = 0; i < TRACES_MAX; i++)
                if (traces->subscribers[i].fd >= 0)
                        subscriber_close(&traces->subscribers[i]);
        g_free(traces);
        return NULL;
}

int traces_open(Traces *traces, const TraceOptions *options, GError **error) {
        const int room = SOCKET_ROOM;
        Subscriber *subscriber = NULL;
        fd_auto own = -1;
        int fds[2], code;

        for (unsigned i = 0; i < TRACES_MAX && !subscriber; i++)
                if (traces->subscribers[i].fd < 0)
                        subscriber = &traces->subscribers[i];
        if (!subscriber) {
                g_set_error(error, G_DBUS_ERROR, G_DBUS_ERROR_LIMITS_EXCEEDED,
                            "%d traces are open, which is the limit; end one of them, the log says whose they are",
                            TRACES_MAX);
                return -1;
        }
        if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) < 0) {
                code = errno;
                g_set_error(error, G_DBUS_ERROR, G_DBUS_ERROR_NO_MEMORY, "no socket for a trace: %s", g_strerror(code));
                return -1;
        }
        own = fds[0];
        (void)foreign_refuse(own);
        (void)setsockopt(own, SOL_SOCKET, SO_SNDBUF, &room, sizeof(room));
        code = loop_add(traces->loop, &subscriber->io, own, EPOLLRDHUP, subscriber_event);
        if (code < 0) {
                fd_close(fds[1]);
                g_set_error(error, G_DBUS_ERROR, G_DBUS_ERROR_NO_MEMORY, "no trace: %s", g_strerror(-code));
                return -1;
        }
        subscriber->fd = fd_steal(&own);
        subscriber->options = *options;
        subscriber->n_dropped = 0;
        subscriber->full = false;
        traces_watch(traces);
        return fds[1];
}

uint64_t traces_n_dropped(const Traces *traces) {
        return traces->n_dropped;
}
