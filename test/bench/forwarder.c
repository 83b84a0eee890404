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
 * whole messages, no resource management. Of several clients, the one whose command came first is served first. It ends
 * with the TPM.
 */
#define HEADER_SIZE 10
#define MESSAGE_MAX 8192
#define CLIENTS_MAX 1024

typedef struct End {
        int fd; /* -1: gone, or not there yet */
        size_t n;
        struct End *next; /* waits behind this one, or is free like it */
        uint8_t bytes[MESSAGE_MAX];
} End;

typedef struct Forwarder {
        int epoll, listener;
        End tpm;
        End clients[CLIENTS_MAX];
        End *free;
        End *first, *last; /* their commands are whole; that of the first one is underway */
} Forwarder;

static void die(const char *what) {
        perror(what);
        exit(EXIT_FAILURE);
}

static int listen_at(const char *path) {
        struct sockaddr_un address = { .sun_family = AF_UNIX };
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

        (void)snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
        if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 || listen(fd, CLIENTS_MAX) < 0)
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

static void watch(const Forwarder *f, int fd, void *what) {
        struct epoll_event event = { .events = EPOLLIN, .data.ptr = what };

        if (epoll_ctl(f->epoll, EPOLL_CTL_ADD, fd, &event) < 0)
                die("epoll_ctl");
}

static bool is_whole(const End *end) {
        uint32_t size;

        if (end->n < HEADER_SIZE)
                return false;
        memcpy(&size, end->bytes + 2, sizeof(size));
        return end->n >= ntohl(size);
}

/* Return: false: @end has gone, or sends more than it may. */
static bool take(End *end) {
        ssize_t r = read(end->fd, end->bytes + end->n, sizeof(end->bytes) - end->n);

        if (r < 0 && (errno == EAGAIN || errno == EINTR))
                return true;
        if (r <= 0)
                return false;
        end->n += (size_t)r;
        return true;
}

/* Messages are small and one at a time, so a socket's buffer takes one whole. */
static bool pass(End *from, const End *to) {
        bool sent = write(to->fd, from->bytes, from->n) == (ssize_t)from->n;

        from->n = 0;
        return sent;
}

static void release(Forwarder *f, End *client) {
        client->next = f->free;
        f->free = client;
}

static void on_client(Forwarder *f, End *client) {
        bool waits = is_whole(client);

        if (!take(client)) {
                close(client->fd);
                client->fd = -1;
                if (!waits && client != f->first)
                        release(f, client);
                return;
        }
        if (waits || client == f->first || !is_whole(client))
                return;
        client->next = NULL;
        if (f->first)
                f->last->next = client;
        else
                f->first = client;
        f->last = client;
        if (f->first == client && !pass(client, &f->tpm))
                exit(EXIT_SUCCESS);
}

static void on_tpm(Forwarder *f) {
        End *client = f->first;

        if (!take(&f->tpm))
                exit(EXIT_SUCCESS);
        if (!is_whole(&f->tpm) || !client)
                return;
        f->first = client->next;
        if (client->fd >= 0)
                (void)pass(&f->tpm, client);
        else
                release(f, client);
        f->tpm.n = 0;
        if (f->first && !pass(f->first, &f->tpm))
                exit(EXIT_SUCCESS);
}

static void on_listener(Forwarder *f) {
        int fd = accept4(f->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        End *client = f->free;

        if (fd < 0)
                return;
        if (!client) {
                close(fd);
                return;
        }
        f->free = client->next;
        client->fd = fd;
        client->n = 0;
        watch(f, fd, client);
}

int main(int argc, char **argv) {
        static Forwarder f;

        if (argc != 3) {
                fprintf(stderr, "usage: forwarder SOCKET HOST:PORT|/dev/tpmN\n");
                return EXIT_FAILURE;
        }
        f.tpm.fd = connect_tpm(argv[2]);
        f.epoll = epoll_create1(EPOLL_CLOEXEC);
        f.listener = listen_at(argv[1]);
        for (unsigned i = 0; i < CLIENTS_MAX; i++)
                release(&f, &f.clients[i]);
        watch(&f, f.listener, &f.listener);
        watch(&f, f.tpm.fd, &f.tpm);

        for (;;) {
                struct epoll_event event;

                if (epoll_wait(f.epoll, &event, 1, -1) < 1)
                        continue;
                if (event.data.ptr == &f.tpm)
                        on_tpm(&f);
                else if (event.data.ptr == &f.listener)
                        on_listener(&f);
                else
                        on_client(&f, event.data.ptr);
        }
}
