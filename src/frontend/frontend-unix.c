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
        struct list link;       /* frontend->clients; those that linger in the order in which they left */
        Stream *stream;         /* NULL: it lingers */
        Connection *connection; /* while it lingers */
        bool lingers;           /* or will, when its stream ends */
        pid_t pid;
        uid_t uid;
        uint64_t start; /* of the process */
        LoopFd end;     /* ... tells of its end; fd -1: none */
        guint timer;
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

static gboolean client_on_timeout(gpointer userdata) {
        Client *client = userdata;

        client->timer = 0;
        client_free(client);
        return G_SOURCE_REMOVE;
}

static void client_on_end(LoopFd *end, uint32_t events) {
        client_free(list_entry(end, Client, end));
}

static bool client_is_alive(const Client *client) {
        uint64_t start;

        return platform_process_start(client->pid, &start) && start == client->start;
}

static void client_closed(Stream *stream, void *userdata) {
        Client *client = userdata;
        FrontendUnix *frontend = client->frontend;

        client->stream = NULL;
        if (!client->lingers) {
                client_free(client);
                return;
        }
        client->connection = stream_keep(stream);
        list_unlink(&client->link);
        list_append(&frontend->clients, &client->link);
        client->end.fd = platform_process_end(client->pid);
        if (client->end.fd >= 0)
                (void)loop_add(frontend->loop, &client->end, client->end.fd, EPOLLIN, client_on_end);
        client->timer = g_timeout_add_seconds(frontend->linger, client_on_timeout, client);
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

/* Room for a client of this user, at the cost of who has lingered longest of the same. */
static bool make_room(FrontendUnix *frontend, uid_t uid) {
        list_for_each(link, &frontend->clients) {
                Client *client = list_entry(link, Client, link);

                if (!client->stream && client->uid == uid) {
                        client_free(client);
                        return true;
                }
        }
        return false;
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
        while (!client->stream && make_room(frontend, like->uid)) {
                g_clear_error(&error);
                client->stream = stream_new(&config, fd, &peer, client_closed, client, &error);
        }
        if (!client->stream) {
                log_limited(LOG_WARNING, PEER_FORMAT " is refused: %s", PEER_ARGUMENTS(&peer), error->message);
                g_free(client);
                return false;
        }
        list_append(&frontend->clients, &client->link);
        return true;
}

/* Who it was that left is known for certain once the hang-up has been seen, which may be behind the one that comes. */
static Client *find_lingering(FrontendUnix *frontend, Client *like) {
        Client *client = like->lingers ? find_client(frontend, like) : NULL;

        if (client && client->stream) {
                like->lingers = false;
                stream_check(client->stream);
                client = find_client(frontend, like);
        }
        return client && !client->stream ? client : NULL;
}

static void on_accepted(void *userdata, int fd_taken) {
        FrontendUnix *frontend = userdata;
        Client like = { .frontend = frontend, .end = { .fd = -1 } }, *client;
        fd_auto fd = fd_taken;

        if (!platform_peer(fd, &like.uid, &like.pid)) {
                log_limited(LOG_WARNING, "a client is refused: who it is cannot be told: %s", g_strerror(errno));
                return;
        }
        like.lingers = frontend->linger > 0 && like.pid > 0 && platform_process_start(like.pid, &like.start);
        client = find_lingering(frontend, &like);
        if (client ? client_resume(client, fd) : client_begin(frontend, &like, fd))
                fd_steal(&fd);
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
