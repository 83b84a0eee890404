/* SPDX-License-Identifier: BSD-2-Clause */
#include "backend/backend-swtpm.h"

#include "backend/channel.h"
#include "util/fd.h"
#include "util/log.h"

#include <errno.h>
#include <fcntl.h>
#include <gio/gio.h>
#include <gio/gunixsocketaddress.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>

/*
 * swtpm
 *
 * Commands go over the data connection. The locality is set over the control channel, at the next port or at the path
 * with CTRL_SUFFIX, and only when it changes. swtpm serves one control connection at a time and would keep everybody
 * else's (swtpm_ioctl) waiting, so ours lasts for one request; it reads a request with one recvmsg(), so a request is
 * sent in one piece. Cancel is not possible: the control channel waits for the command.
 *
 * It is open when the data connection is there and the control channel has said that the locality is 0, whatever the
 * client before us left. Where nobody listens there, locality 0 is all there is.
 */
#define REST_MS 5000 /* between two parts of one answer: a command that takes long has not begun to be answered */
#define OPEN_TIMEOUT_S 10
#define CTRL_SUFFIX ".ctrl"     /* as libtss2 has it */
#define CTRL_CMD_SET_LOCALITY 5 /* u32 command, u8 locality; answered by a u32 result, 0: done */
#define CTRL_REQUEST_SIZE 5
#define CTRL_RESULT_SIZE 4

typedef struct Swtpm {
        Backend backend; /* first: a Backend of ours is a Swtpm */
        char *name;      /* for messages */
        char *path;      /* NULL: TCP */
        unsigned port;   /* TCP only */
        GSocketConnectable *address;
        GCancellable *connecting; /* NULL: not */
        guint timer;              /* of opening; 0: none */
        guint rest_timer;         /* a part of an answer is there, and the rest has to come */
        Channel channel;
        LoopFd ctrl; /* registered while a locality is being set; its fd is ours; -1: none */
        uint8_t result[CTRL_RESULT_SIZE];
        size_t n_result;
        struct sockaddr_storage ctrl_address;
        socklen_t n_ctrl_address;
} Swtpm;

static void ctrl_close(Swtpm *swtpm) {
        loop_remove(&swtpm->ctrl);
        swtpm->ctrl.fd = fd_close(swtpm->ctrl.fd);
}

static void swtpm_opened(Swtpm *swtpm, bool localities) {
        g_clear_handle_id(&swtpm->timer, g_source_remove);
        if (!localities)
                log_notice("swtpm at %s has no control channel: locality 0 only", swtpm->name);
        swtpm->backend.localities = localities;
        swtpm->channel.locality = 0;
        backend_opened(&swtpm->backend);
}

static void ctrl_failed(Swtpm *swtpm, int error) {
        ctrl_close(swtpm);
        if (backend_is_opening(&swtpm->backend) && (error == -ECONNREFUSED || error == -ENOENT))
                swtpm_opened(swtpm, false);
        else
                backend_lose(&swtpm->backend, "swtpm at %s, control channel: %s", swtpm->name, channel_reason(error));
}

static void ctrl_answered(Swtpm *swtpm) {
        bool done = memcmp(swtpm->result, (uint8_t[CTRL_RESULT_SIZE]){ 0 }, CTRL_RESULT_SIZE) == 0;
        int r;

        ctrl_close(swtpm);
        if (backend_is_opening(&swtpm->backend)) {
                swtpm_opened(swtpm, done);
        } else if (!done) {
                channel_drop(&swtpm->channel);
                backend_refuse(&swtpm->backend, TPM2_RC_LOCALITY);
        } else {
                r = channel_release(&swtpm->channel);
                if (r < 0)
                        backend_lose(&swtpm->backend, "swtpm at %s: %s", swtpm->name, channel_reason(r));
        }
}

static void swtpm_on_ctrl(LoopFd *source, uint32_t events) {
        Swtpm *swtpm = (Swtpm *)((char *)source - offsetof(Swtpm, ctrl));
        const uint8_t request[CTRL_REQUEST_SIZE] = { 0, 0, 0, CTRL_CMD_SET_LOCALITY, swtpm->channel.wanted };
        ssize_t n;
        int r;

        if (events & EPOLLOUT) { /* connected, or not: send() tells */
                n = send(source->fd, request, sizeof(request), MSG_DONTWAIT | MSG_NOSIGNAL);
                r = n < 0 ? -errno : n != sizeof(request) ? -EIO : loop_modify(source, EPOLLIN);
                if (r < 0)
                        ctrl_failed(swtpm, r);
                return;
        }

        n = recv(source->fd, swtpm->result + swtpm->n_result, sizeof(swtpm->result) - swtpm->n_result, MSG_DONTWAIT);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
                return;
        if (n <= 0) {
                ctrl_failed(swtpm, n < 0 ? -errno : -ESHUTDOWN);
                return;
        }
        swtpm->n_result += (size_t)n;
        if (swtpm->n_result == sizeof(swtpm->result))
                ctrl_answered(swtpm);
}

static int ctrl_start(Swtpm *swtpm) {
        int fd, r;

        fd = socket(swtpm->ctrl_address.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (fd < 0)
                return -errno;
        swtpm->n_result = 0;
        r = connect(fd, (struct sockaddr *)&swtpm->ctrl_address, swtpm->n_ctrl_address) < 0 ? -errno : 0;
        if (r == 0 || r == -EINPROGRESS)
                r = loop_add(swtpm->backend.loop, &swtpm->ctrl, fd, EPOLLOUT, swtpm_on_ctrl);
        swtpm->ctrl.fd = fd;
        if (r < 0)
                ctrl_close(swtpm);
        return r;
}

static gboolean swtpm_no_rest(gpointer userdata) {
        Swtpm *swtpm = userdata;

        swtpm->rest_timer = 0;
        backend_lose(&swtpm->backend, "swtpm at %s: it sent %zu bytes of an answer, and for %g s no more", swtpm->name,
                     swtpm->channel.n_in, swtpm->backend.rest_ms / 1000.0);
        return G_SOURCE_REMOVE;
}

static void swtpm_on_data(LoopFd *source, uint32_t events) {
        Swtpm *swtpm = (Swtpm *)((char *)source - offsetof(Swtpm, channel.source));
        Channel *channel = &swtpm->channel;
        ssize_t n;

        g_clear_handle_id(&swtpm->rest_timer, g_source_remove);
        n = channel_ready(channel, events, backend_is_busy(&swtpm->backend) && channel->n_held == 0);
        if (n < 0)
                backend_lose(&swtpm->backend, "swtpm at %s: %s", swtpm->name, channel_reason(n));
        else if (n > 0)
                channel_answered(channel, &swtpm->backend, (size_t)n);
        else if (channel->n_in > 0)
                swtpm->rest_timer = g_timeout_add(swtpm->backend.rest_ms, swtpm_no_rest, swtpm);
}

/* Where the control channel is. Return: 0 or -errno. */
static int ctrl_find(Swtpm *swtpm) {
        struct sockaddr_un *unix_address = (struct sockaddr_un *)&swtpm->ctrl_address;
        in_port_t *port;

        if (swtpm->path) {
                swtpm->n_ctrl_address = sizeof(*unix_address);
                *unix_address = (struct sockaddr_un){ .sun_family = AF_UNIX };
                g_snprintf(unix_address->sun_path, sizeof(unix_address->sun_path), "%s" CTRL_SUFFIX, swtpm->path);
                return 0;
        }
        swtpm->n_ctrl_address = sizeof(swtpm->ctrl_address);
        if (getpeername(swtpm->channel.source.fd, (struct sockaddr *)&swtpm->ctrl_address, &swtpm->n_ctrl_address) < 0)
                return -errno;
        port = swtpm->ctrl_address.ss_family == AF_INET6 ? &((struct sockaddr_in6 *)&swtpm->ctrl_address)->sin6_port
                                                         : &((struct sockaddr_in *)&swtpm->ctrl_address)->sin_port;
        *port = htons((uint16_t)(swtpm->port + 1));
        return 0;
}

/* The stream to the TPM, taken out of GIO's hands. Return: 0 or -errno. */
static int data_take(Swtpm *swtpm, GSocketConnection *connection) {
        GSocket *socket = g_socket_connection_get_socket(connection);
        int fd = fcntl(g_socket_get_fd(socket), F_DUPFD_CLOEXEC, 0);

        if (fd < 0)
                return -errno;
        if (!swtpm->path)
                (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){ 1 }, sizeof(int));
        return channel_open(&swtpm->channel, swtpm->backend.loop, fd, swtpm_on_data);
}

static void swtpm_on_connected(GObject *source, GAsyncResult *result, gpointer userdata) {
        g_autoptr(GSocketConnection) connection = NULL;
        g_autoptr(GError) error = NULL;
        Swtpm *swtpm = userdata;
        int r;

        connection = g_socket_client_connect_finish(G_SOCKET_CLIENT(source), result, &error);
        if (g_error_matches(error, G_IO_ERROR, G_IO_ERROR_CANCELLED))
                return; /* closed meanwhile, and freed maybe */
        g_clear_object(&swtpm->connecting);
        if (!connection) {
                backend_lose(&swtpm->backend, "cannot connect to swtpm at %s: %s", swtpm->name, error->message);
                return;
        }

        r = data_take(swtpm, connection);
        if (r == 0)
                r = ctrl_find(swtpm);
        if (r < 0) {
                backend_lose(&swtpm->backend, "swtpm at %s: %s", swtpm->name, g_strerror(-r));
                return;
        }
        swtpm->channel.wanted = 0;
        r = ctrl_start(swtpm);
        if (r < 0)
                ctrl_failed(swtpm, r);
}

static gboolean swtpm_on_timeout(gpointer userdata) {
        Swtpm *swtpm = userdata;

        swtpm->timer = 0;
        backend_lose(&swtpm->backend, "swtpm at %s does not answer; has somebody else a connection to it?",
                     swtpm->name);
        return G_SOURCE_REMOVE;
}

static void swtpm_open(Backend *backend) {
        Swtpm *swtpm = (Swtpm *)backend;
        g_autoptr(GSocketClient) client = g_socket_client_new();

        g_socket_client_set_enable_proxy(client, FALSE);
        swtpm->timer = g_timeout_add_seconds(OPEN_TIMEOUT_S, swtpm_on_timeout, swtpm);
        swtpm->connecting = g_cancellable_new();
        g_socket_client_connect_async(client, swtpm->address, swtpm->connecting, swtpm_on_connected, swtpm);
}

static void swtpm_close(Backend *backend) {
        Swtpm *swtpm = (Swtpm *)backend;

        g_clear_handle_id(&swtpm->timer, g_source_remove);
        g_clear_handle_id(&swtpm->rest_timer, g_source_remove);
        if (swtpm->connecting)
                g_cancellable_cancel(swtpm->connecting);
        g_clear_object(&swtpm->connecting);
        ctrl_close(swtpm);
        channel_close(&swtpm->channel);
}

static bool swtpm_transmit(Backend *backend, const uint8_t *command, size_t n_command, uint8_t locality,
                           GError **error) {
        Swtpm *swtpm = (Swtpm *)backend;
        int r;

        if (swtpm->channel.locality == locality) {
                r = channel_send(&swtpm->channel, command, n_command);
        } else {
                channel_hold(&swtpm->channel, command, n_command, locality);
                r = ctrl_start(swtpm);
        }
        if (r < 0)
                g_set_error(error, BACKEND_ERROR, BACKEND_ERROR_LOST, "swtpm at %s: %s", swtpm->name,
                            channel_reason(r));
        return r >= 0;
}

static void swtpm_free(Backend *backend) {
        Swtpm *swtpm = (Swtpm *)backend;

        g_object_unref(swtpm->address);
        g_free(swtpm->name);
        g_free(swtpm->path);
        g_free(swtpm);
}

static const BackendOps swtpm_ops = {
        .open = swtpm_open,
        .close = swtpm_close,
        .transmit = swtpm_transmit,
        .free = swtpm_free,
};

typedef struct Settings {
        char *host, *port, *path;
} Settings;

static void settings_clear(Settings *settings) {
        g_free(settings->host);
        g_free(settings->port);
        g_free(settings->path);
}

G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Settings, settings_clear)

/* "host=H,port=N" or "path=P". As with libtss2 the last of a kind counts, and commas may be too many. */
static bool settings_parse(const char *conf, Settings *ret_settings, GError **error) {
        const char *colon = strchr(conf, ':');
        g_auto(GStrv) pairs = g_strsplit(colon ? colon + 1 : "", ",", -1);

        for (size_t i = 0; pairs[i]; i++) {
                char **value = g_str_has_prefix(pairs[i], "host=")   ? &ret_settings->host
                               : g_str_has_prefix(pairs[i], "port=") ? &ret_settings->port
                               : g_str_has_prefix(pairs[i], "path=") ? &ret_settings->path
                                                                     : NULL;

                if (!pairs[i][0])
                        continue;
                if (!value) {
                        g_set_error(error, BACKEND_ERROR, BACKEND_ERROR_CONF,
                                    "swtpm: \"%s\" is none of host=NAME, port=NUMBER and path=FILE", pairs[i]);
                        return false;
                }
                g_free(*value);
                *value = g_strdup(pairs[i] + strlen("host="));
        }
        return true;
}

bool backend_swtpm_speaks(const char *conf) {
        return g_str_equal(conf, "swtpm") || g_str_has_prefix(conf, "swtpm:");
}

static bool settings_check(const Settings *settings, guint64 *ret_port, GError **error) {
        const char *reason = NULL;

        *ret_port = 2321;
        if (settings->path && (settings->host || settings->port))
                reason = "either a path, or host and port";
        else if (settings->path && (!settings->path[0] || strlen(settings->path) + strlen(CTRL_SUFFIX) >=
                                                                  sizeof(((struct sockaddr_un *)0)->sun_path)))
                reason = "the path is empty, or too long for a socket";
        else if (settings->host && !settings->host[0])
                reason = "the host has no name";
        else if (settings->port && !g_ascii_string_to_unsigned(settings->port, 10, 1, UINT16_MAX - 1, ret_port, NULL))
                reason = "a port is a number from 1 to 65534";
        if (reason)
                g_set_error(error, BACKEND_ERROR, BACKEND_ERROR_CONF, "swtpm: %s", reason);
        return !reason;
}

Backend *backend_swtpm_new(const char *conf, GError **error) {
        g_auto(Settings) settings = { 0 };
        const char *host;
        guint64 port;
        Swtpm *swtpm;

        if (!settings_parse(conf, &settings, error) || !settings_check(&settings, &port, error))
                return NULL;

        host = settings.host ? settings.host : "localhost";
        swtpm = g_new0(Swtpm, 1);
        swtpm->backend.ops = &swtpm_ops;
        swtpm->backend.rest_ms = REST_MS;
        swtpm->ctrl.fd = -1;
        channel_init(&swtpm->channel);
        swtpm->port = (unsigned)port;
        if (settings.path) {
                swtpm->name = g_strdup(settings.path);
                swtpm->path = g_steal_pointer(&settings.path);
                swtpm->address = G_SOCKET_CONNECTABLE(g_unix_socket_address_new(swtpm->path));
        } else {
                swtpm->name = g_strdup_printf("%s, port %u", host, swtpm->port);
                swtpm->address = g_network_address_new(host, (guint16)port);
        }
        return &swtpm->backend;
}
