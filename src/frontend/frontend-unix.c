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

typedef struct Client {
        struct list link; /* frontend->clients */
        Stream *stream;
} Client;

struct FrontendUnix {
        Loop *loop;
        Broker *broker;
        Listener *listener;
        uint32_t localities;
        struct list clients;
};

static void client_free(Client *client) {
        list_unlink(&client->link);
        stream_free(client->stream);
        g_free(client);
}

static void client_closed(Stream *stream, void *userdata) {
        Client *client = userdata;

        client->stream = NULL;
        client_free(client);
}

static void on_accepted(void *userdata, int fd_taken) {
        FrontendUnix *frontend = userdata;
        const StreamConfig config = {
                .loop = frontend->loop,
                .broker = frontend->broker,
                .localities = frontend->localities,
                .reserved_codes = true,
        };
        fd_auto fd = fd_taken;
        g_autoptr(GError) error = NULL;
        Client *client;
        Peer peer;
        uid_t uid;
        pid_t pid;

        if (!platform_peer(fd, &uid, &pid)) {
                log_limited(LOG_WARNING, "a client is refused: who it is cannot be told: %s", g_strerror(errno));
                return;
        }
        peer = peer_make(uid, pid);

        client = g_new0(Client, 1);
        client->stream = stream_new(&config, fd, &peer, client_closed, client, &error);
        if (!client->stream) {
                log_limited(LOG_WARNING, PEER_FORMAT " is refused: %s", PEER_ARGUMENTS(&peer), error->message);
                g_free(client);
                return;
        }
        fd_steal(&fd);
        list_append(&frontend->clients, &client->link);
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
