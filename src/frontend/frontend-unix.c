/* SPDX-License-Identifier: BSD-2-Clause */
#include "frontend/frontend-unix.h"

#include "door/peer.h"
#include "frontend/stream.h"
#include "util/fd.h"
#include "util/list.h"
#include "util/log.h"
#include "util/platform.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>

#define TICK_S 5

struct FrontendUnix {
        Loop *loop;
        Broker *broker;
        Listener *listener;
        uint32_t localities;
        unsigned linger; /* in seconds; 0: nobody does */
        struct list clients;
};

/*
 * A client with its stream, or one that lingers: its connection waits for the next stream of its process, until its
 * time is up or the process has ended. Of each process at most one does; while it has a stream, others of the process
 * are clients of their own.
 */
typedef struct Client {
        FrontendUnix *frontend;
        struct list link;       /* frontend->clients */
        Stream *stream;         /* NULL: it lingers */
        Connection *connection; /* while it lingers */
        bool lingers;           /* or will, when its stream ends */
        pid_t pid;
        uid_t uid;
        uint64_t start; /* of the process */
        LoopFd end;     /* ... tells of its end; fd -1: none */
        guint timer;
        gint64 until; /* monotonic, in us */
} Client;

static void client_free(Client *client) {
        list_unlink(&client->link);
        g_clear_handle_id(&client->timer, g_source_remove);
        loop_remove(&client->end);
        fd_close(client->end.fd);
        stream_free(client->stream);
        connection_close(client->connection);
        g_free(client);
}

static bool client_is_alive(const Client *client) {
        uint64_t start;

        return platform_process_start(client->pid, &start) && start == client->start;
}

static gboolean client_on_tick(gpointer userdata) {
        Client *client = userdata;

        if (g_get_monotonic_time() < client->until && client_is_alive(client))
                return G_SOURCE_CONTINUE;
        client->timer = 0;
        client_free(client);
        return G_SOURCE_REMOVE;
}

static void client_on_end(LoopFd *end, uint32_t events) {
        client_free(list_entry(end, Client, end));
}

/* Another client needs its place. */
static void client_given_up(void *userdata) {
        Client *client = userdata;

        client->connection = NULL;
        client_free(client);
}

/* The system tells when the process ends, or it is looked at every few seconds. */
static void client_watch(Client *client) {
        FrontendUnix *frontend = client->frontend;
        unsigned tick = frontend->linger;

        client->until = g_get_monotonic_time() + (gint64)frontend->linger * G_USEC_PER_SEC;
        client->end.fd = platform_process_end(client->pid);
        if (client->end.fd < 0 || loop_add(frontend->loop, &client->end, client->end.fd, EPOLLIN, client_on_end) < 0)
                tick = MIN(tick, TICK_S);
        client->timer = g_timeout_add_seconds(tick, client_on_tick, client);
}

static void client_closed(Stream *stream, void *userdata) {
        Client *client = userdata;

        client->stream = NULL;
        if (!client->lingers) {
                client_free(client);
                return;
        }
        client->connection = stream_keep(stream, client_given_up, client);
        if (!client->connection) {
                client_free(client);
                return;
        }
        client_watch(client);
        /* Afterwards, so that the end of the process is seen here, or by the descriptor. */
        if (!client_is_alive(client))
                client_free(client);
}

/* The client of this process that lingers, or will. */
static Client *find_client(FrontendUnix *frontend, const Client *like) {
        list_for_each(link, &frontend->clients) {
                Client *client = list_entry(link, Client, link);

                if (client->lingers && client->pid == like->pid && client->uid == like->uid &&
                    client->start == like->start)
                        return client;
        }
        return NULL;
}

static StreamConfig stream_config(const FrontendUnix *frontend) {
        return (StreamConfig){
                .loop = frontend->loop,
                .broker = frontend->broker,
                .localities = frontend->localities,
                .reserved_codes = true,
        };
}

static bool client_resume(Client *client, int fd) {
        const StreamConfig config = stream_config(client->frontend);
        g_autoptr(GError) error = NULL;

        client->stream = stream_resume(&config, fd, client->connection, client_closed, client, &error);
        if (!client->stream) {
                log_limited(LOG_WARNING, PEER_FORMAT " is refused: %s",
                            PEER_ARGUMENTS(connection_peer(client->connection)), error->message);
                return false;
        }
        client->connection = NULL;
        g_clear_handle_id(&client->timer, g_source_remove);
        loop_remove(&client->end);
        client->end.fd = fd_close(client->end.fd);
        return true;
}

/* Return: whether the descriptor was taken. */
static bool client_begin(FrontendUnix *frontend, const Client *like, int fd) {
        const StreamConfig config = stream_config(frontend);
        const Peer peer = peer_make(like->uid, like->pid);
        g_autoptr(GError) error = NULL;
        Client *client = g_new(Client, 1);

        *client = *like;
        client->stream = stream_new(&config, fd, &peer, client_closed, client, &error);
        if (!client->stream) {
                log_limited(LOG_WARNING, PEER_FORMAT " is refused: %s", PEER_ARGUMENTS(&peer), error->message);
                g_free(client);
                return false;
        }
        list_append(&frontend->clients, &client->link);
        return true;
}

/*
 * The client of this process that lingers, or will. Before it is said that it still has a stream, that is looked at:
 * of a hang-up the loop may not have told yet.
 */
static Client *find_twin(FrontendUnix *frontend, const Client *like) {
        Client *client = find_client(frontend, like);

        if (client && client->stream) {
                stream_check(client->stream);
                client = find_client(frontend, like);
        }
        return client;
}

/* Return: whether the descriptor was taken. */
static bool client_admit(FrontendUnix *frontend, int fd) {
        Client like = { .frontend = frontend, .end = { .fd = -1 } }, *client;

        if (!platform_peer(fd, &like.uid, &like.pid)) {
                log_limited(LOG_WARNING, "a client is refused: who it is cannot be told: %s", g_strerror(errno));
                return false;
        }
        like.lingers = frontend->linger > 0 && like.pid > 0 && platform_process_start(like.pid, &like.start);
        if (frontend->linger > 0 && !like.lingers)
                log_limited(LOG_NOTICE, "uid %u pid %d: nothing of it will stay, since /proc does not show its process",
                            (unsigned)like.uid, (int)like.pid);
        client = like.lingers ? find_twin(frontend, &like) : NULL;
        like.lingers = like.lingers && !client;
        return client && !client->stream ? client_resume(client, fd) : client_begin(frontend, &like, fd);
}

static void on_accepted(void *userdata, int fd) {
        FrontendUnix *frontend = userdata;

        if (!client_admit(frontend, fd))
                listener_refuse(frontend->listener, fd);
}

FrontendUnix *frontend_unix_new(Loop *loop, Broker *broker, const FrontendUnixConfig *config, GError **error) {
        const ListenerConfig listener_config = {
                .path = config->path,
                .option = "--socket",
                .fd = config->fd,
                .mode = config->mode,
                .group = config->group,
        };
        FrontendUnix *frontend = g_new0(FrontendUnix, 1);

        *frontend = (FrontendUnix){
                .loop = loop,
                .broker = broker,
                .localities = config->localities,
                .linger = config->linger,
        };
        list_init(&frontend->clients);
        frontend->listener = listener_new(loop, &listener_config, on_accepted, frontend, error);
        return frontend->listener ? frontend : frontend_unix_free(frontend);
}

const char *frontend_unix_path(const FrontendUnix *frontend) {
        return listener_path(frontend->listener);
}

FrontendUnix *frontend_unix_free(FrontendUnix *frontend) {
        struct list *link;

        if (!frontend)
                return NULL;

        frontend->listener = listener_free(frontend->listener);
        while ((link = list_first(&frontend->clients)))
                client_free(list_entry(link, Client, link));
        g_free(frontend);
        return NULL;
}
