/* SPDX-License-Identifier: BSD-2-Clause */
#include "test/bench/address.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/*
 * The bare forwarding proxy: forwarder SOCKET HOST:PORT, or SOCKET /dev/tpm0
 *
 * What passing commands from a Unix socket to a TPM costs at the least: one thread, one epoll set, nothing blocks,
 * whole messages, no resource management. One client at a time; it ends with the TPM.
 */
#define HEADER_SIZE 10
#define MESSAGE_MAX 8192

typedef struct End {
        int fd;
        size_t n;
        uint8_t bytes[MESSAGE_MAX];
} End;

static void die(const char *what) {
        perror(what);
        exit(EXIT_FAILURE);
}

static int listen_at(const char *path) {
        struct sockaddr_un address = { .sun_family = AF_UNIX };
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

        (void)snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
        if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 || listen(fd, 1) < 0)
                die(path);
        return fd;
}

static int connect_tpm(const char *text) {
        struct sockaddr_in address;
        int fd = *text == '/' ? open(text, O_RDWR | O_CLOEXEC | O_NONBLOCK)
                              : socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

        if (*text == '/' && fd >= 0)
                return fd;
        if (!parse_address(text, &address) || fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0 ||
            setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){ 1 }, sizeof(int)) < 0 ||
            fcntl(fd, F_SETFL, O_NONBLOCK) < 0)
                die("TPM");
        return fd;
}

static void watch(int epoll, int fd) {
        struct epoll_event event = { .events = EPOLLIN, .data.fd = fd };

        if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) < 0)
                die("epoll_ctl");
}

static size_t message_size(const End *end) {
        uint32_t size;

        if (end->n < HEADER_SIZE)
                return SIZE_MAX;
        memcpy(&size, end->bytes + 2, sizeof(size));
        return ntohl(size);
}

/* Messages are small and one at a time, so a socket's buffer takes one whole. Return: false: @from has gone. */
static bool forward(End *from, const End *to) {
        ssize_t r = read(from->fd, from->bytes + from->n, sizeof(from->bytes) - from->n);

        if (r < 0 && (errno == EAGAIN || errno == EINTR))
                return true;
        if (r <= 0)
                return false;
        from->n += (size_t)r;
        if (from->n < message_size(from))
                return true;
        if (write(to->fd, from->bytes, from->n) != (ssize_t)from->n)
                return false;
        from->n = 0;
        return true;
}

int main(int argc, char **argv) {
        static End client = { .fd = -1 }, tpm;
        int listener, epoll;

        if (argc != 3) {
                fprintf(stderr, "usage: forwarder SOCKET HOST:PORT|/dev/tpmN\n");
                return EXIT_FAILURE;
        }
        signal(SIGPIPE, SIG_IGN);
        tpm.fd = connect_tpm(argv[2]);
        epoll = epoll_create1(EPOLL_CLOEXEC);
        listener = listen_at(argv[1]);
        watch(epoll, listener);
        watch(epoll, tpm.fd);

        for (;;) {
                struct epoll_event event;

                if (epoll_wait(epoll, &event, 1, -1) < 1)
                        continue;
                if (event.data.fd == tpm.fd) {
                        if (!forward(&tpm, &client))
                                return EXIT_SUCCESS;
                } else if (event.data.fd == client.fd) {
                        if (!forward(&client, &tpm)) {
                                close(client.fd);
                                client.fd = -1;
                                watch(epoll, listener);
                        }
                } else {
                        client.fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
                        client.n = 0;
                        if (client.fd < 0)
                                continue;
                        (void)epoll_ctl(epoll, EPOLL_CTL_DEL, listener, NULL);
                        watch(epoll, client.fd);
                }
        }
}
