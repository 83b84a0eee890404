/* SPDX-License-Identifier: BSD-2-Clause */
#include "backend/link.h"
#include "util/fd.h"
#include "util/log.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

/*
 * swtpm over TCP
 *
 * Commands go over the data connection. The locality is set over the control channel, at the next port, and only when
 * it changes. swtpm serves one control connection at a time and would keep everybody else's (swtpm_ioctl) waiting, so
 * ours lasts for one request; it reads a request with one recvmsg(), so a request is sent in one piece. Cancel is not
 * possible: the control channel waits for the command.
 */
#define CONNECT_TIMEOUT_S 10
#define CTRL_TIMEOUT_MS 1000
#define CTRL_CMD_SET_LOCALITY 5 /* u32 command, u8 locality; answered by a u32 result, 0: done */
#define CTRL_REQUEST_SIZE 5
#define CTRL_RESULT_SIZE 4

typedef struct Swtpm {
        Backend backend; /* first: a Backend of ours is a Swtpm */
        char *host;
        unsigned port;
        Link link;
        LoopFd ctrl; /* registered while a locality is being set; its fd is ours; -1: none */
        uint8_t result[CTRL_RESULT_SIZE];
        size_t n_result;
        struct sockaddr_storage ctrl_address;
        socklen_t n_ctrl_address;
} Swtpm;

static void ctrl_request(uint8_t locality, uint8_t request[static CTRL_REQUEST_SIZE]) {
        memcpy(request, (uint8_t[]){ 0, 0, 0, CTRL_CMD_SET_LOCALITY, locality }, CTRL_REQUEST_SIZE);
}

static bool ctrl_done(const uint8_t result[static CTRL_RESULT_SIZE]) {
        return memcmp(result, (uint8_t[CTRL_RESULT_SIZE]){ 0 }, CTRL_RESULT_SIZE) == 0;
}

/* Blocking, for open only. Return: a socket, or -errno. */
static int connect_to(const struct sockaddr *address, socklen_t n_address) {
        const struct timeval timeout = { .tv_sec = CONNECT_TIMEOUT_S };
        int fd, r;

        fd = socket(address->sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (fd < 0)
                return -errno;
        /* connect() obeys it too, and says EINPROGRESS when the time is over */
        (void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout));
        (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){ 1 }, sizeof(int));
        if (connect(fd, address, n_address) == 0)
                return fd;
        r = errno == EINPROGRESS ? -ETIMEDOUT : -errno;
        fd_close(fd);
        return r;
}

static int data_connect(Swtpm *swtpm, GError **error) {
        const struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_family = AF_UNSPEC };
        struct addrinfo *addresses = NULL;
        char port[8];
        const char *reason;
        int r, fd = -1;

        g_snprintf(port, sizeof(port), "%u", swtpm->port);
        r = getaddrinfo(swtpm->host, port, &hints, &addresses);
        reason = r ? gai_strerror(r) : NULL;
        for (struct addrinfo *a = r ? NULL : addresses; a && fd < 0; a = a->ai_next) {
                fd = connect_to(a->ai_addr, a->ai_addrlen);
                if (fd < 0)
                        reason = g_strerror(-fd);
        }
        if (addresses)
                freeaddrinfo(addresses);
        if (fd < 0)
                g_set_error(error, BACKEND_ERROR, BACKEND_ERROR_OPEN, "cannot connect to swtpm at %s, port %u: %s",
                            swtpm->host, swtpm->port, reason);
        return fd;
}

/* Locality 0, whatever the client before us left; blocking, for open only. */
static bool ctrl_reset(Swtpm *swtpm) {
        uint8_t request[CTRL_REQUEST_SIZE];
        fd_auto fd = connect_to((struct sockaddr *)&swtpm->ctrl_address, swtpm->n_ctrl_address);

        if (fd < 0)
                return false;
        ctrl_request(0, request);
        return send(fd, request, sizeof(request), MSG_NOSIGNAL) == sizeof(request) &&
               poll(&(struct pollfd){ .fd = fd, .events = POLLIN }, 1, CTRL_TIMEOUT_MS) == 1 &&
               recv(fd, swtpm->result, sizeof(swtpm->result), MSG_DONTWAIT) == sizeof(swtpm->result) &&
               ctrl_done(swtpm->result);
}

static void ctrl_close(Swtpm *swtpm) {
        loop_remove(&swtpm->ctrl);
        swtpm->ctrl.fd = fd_close(swtpm->ctrl.fd);
}

static void swtpm_on_ctrl(LoopFd *source, uint32_t events) {
        Swtpm *swtpm = (Swtpm *)((char *)source - offsetof(Swtpm, ctrl));
        uint8_t request[CTRL_REQUEST_SIZE];
        ssize_t n;
        int r;

        if (events & EPOLLOUT) { /* connected, or not: send() tells */
                ctrl_request(swtpm->link.wanted, request);
                n = send(source->fd, request, sizeof(request), MSG_DONTWAIT | MSG_NOSIGNAL);
                r = n < 0 ? -errno : n != sizeof(request) ? -EIO : loop_modify(source, EPOLLIN);
                if (r < 0)
                        backend_lose(&swtpm->backend, "swtpm's control channel: %s", g_strerror(-r));
                return;
        }

        n = recv(source->fd, swtpm->result + swtpm->n_result, sizeof(swtpm->result) - swtpm->n_result, MSG_DONTWAIT);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
                return;
        if (n <= 0) {
                backend_lose(&swtpm->backend, "swtpm's control channel: %s", link_reason(n < 0 ? -errno : -ESHUTDOWN));
                return;
        }
        swtpm->n_result += (size_t)n;
        if (swtpm->n_result < sizeof(swtpm->result))
                return;

        ctrl_close(swtpm);
        if (!ctrl_done(swtpm->result)) {
                link_drop(&swtpm->link);
                backend_refuse_locality(&swtpm->backend);
                return;
        }
        r = link_release(&swtpm->link);
        if (r < 0)
                backend_lose(&swtpm->backend, "swtpm: %s", link_reason(r));
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

static void swtpm_on_data(LoopFd *source, uint32_t events) {
        Swtpm *swtpm = (Swtpm *)((char *)source - offsetof(Swtpm, link.source));
        Link *link = &swtpm->link;
        ssize_t n;

        n = link_ready(link, events, swtpm->backend.state == BACKEND_BUSY && link->n_held == 0);
        if (n < 0)
                backend_lose(&swtpm->backend, "swtpm: %s", link_reason(n));
        else if (n > 0)
                link_answered(link, &swtpm->backend, (size_t)n);
}

static bool swtpm_open(Backend *backend, GError **error) {
        Swtpm *swtpm = (Swtpm *)backend;
        in_port_t *port;
        int fd, r;

        fd = data_connect(swtpm, error);
        if (fd < 0)
                return false;

        swtpm->n_ctrl_address = sizeof(swtpm->ctrl_address);
        r = getpeername(fd, (struct sockaddr *)&swtpm->ctrl_address, &swtpm->n_ctrl_address) < 0 ? -errno : 0;
        port = swtpm->ctrl_address.ss_family == AF_INET6 ? &((struct sockaddr_in6 *)&swtpm->ctrl_address)->sin6_port
                                                         : &((struct sockaddr_in *)&swtpm->ctrl_address)->sin_port;
        *port = htons((uint16_t)(swtpm->port + 1));

        if (r == 0)
                r = link_open(&swtpm->link, backend->loop, fd, swtpm_on_data);
        else
                fd_close(fd);
        if (r < 0) {
                g_set_error(error, BACKEND_ERROR, BACKEND_ERROR_OPEN, "swtpm at %s, port %u: %s", swtpm->host,
                            swtpm->port, g_strerror(-r));
                return false;
        }

        backend->localities = ctrl_reset(swtpm);
        swtpm->link.locality = 0;
        if (!backend->localities)
                log_notice("swtpm has no control channel at port %u: locality 0 only", swtpm->port + 1);
        return true;
}

static void swtpm_close(Backend *backend) {
        Swtpm *swtpm = (Swtpm *)backend;

        ctrl_close(swtpm);
        link_close(&swtpm->link);
}

static bool swtpm_transmit(Backend *backend, const uint8_t *command, size_t n_command, uint8_t locality,
                           GError **error) {
        Swtpm *swtpm = (Swtpm *)backend;
        int r;

        if (swtpm->link.locality == locality) {
                r = link_send(&swtpm->link, command, n_command);
        } else {
                link_hold(&swtpm->link, command, n_command, locality);
                r = ctrl_start(swtpm);
        }
        if (r < 0)
                g_set_error(error, BACKEND_ERROR, BACKEND_ERROR_LOST, "swtpm: %s", link_reason(r));
        return r >= 0;
}

static void swtpm_free(Backend *backend) {
        Swtpm *swtpm = (Swtpm *)backend;

        g_free(swtpm->host);
        g_free(swtpm);
}

static const BackendOps swtpm_ops = {
        .open = swtpm_open,
        .close = swtpm_close,
        .transmit = swtpm_transmit,
        .free = swtpm_free,
};

/* "host=H,port=N" as NULL-terminated settings; empty for a bare name */
static char **settings_of(const char *conf) {
        const char *colon = strchr(conf, ':');

        return g_strsplit(colon ? colon + 1 : "", ",", -1);
}

bool backend_swtpm_speaks(const char *conf) {
        g_auto(GStrv) settings = NULL;

        if (!g_str_equal(conf, "swtpm") && !g_str_has_prefix(conf, "swtpm:"))
                return false;
        settings = settings_of(conf);
        for (size_t i = 0; settings[i]; i++)
                if (!g_str_has_prefix(settings[i], "host=") && !g_str_has_prefix(settings[i], "port="))
                        return false;
        return true;
}

Backend *backend_swtpm_new(const char *conf, GError **error) {
        g_auto(GStrv) settings = settings_of(conf);
        const char *host = "localhost";
        guint64 port = 2321;
        Swtpm *swtpm;

        for (size_t i = 0; settings[i]; i++) {
                const char *value = settings[i] + strlen("host=");

                if (g_str_has_prefix(settings[i], "host=")) {
                        host = value;
                } else if (!g_ascii_string_to_unsigned(value, 10, 1, UINT16_MAX - 1, &port, NULL)) {
                        g_set_error(error, BACKEND_ERROR, BACKEND_ERROR_CONF, "swtpm: \"%s\" is no port", value);
                        return NULL;
                }
        }
        if (!host[0]) {
                g_set_error_literal(error, BACKEND_ERROR, BACKEND_ERROR_CONF, "swtpm: the host has no name");
                return NULL;
        }

        swtpm = g_new0(Swtpm, 1);
        swtpm->backend.ops = &swtpm_ops;
        swtpm->host = g_strdup(host);
        swtpm->port = (unsigned)port;
        swtpm->ctrl.fd = -1;
        link_init(&swtpm->link);
        return &swtpm->backend;
}
