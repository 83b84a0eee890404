/* SPDX-License-Identifier: BSD-2-Clause */
#include "tcti/dbus.h"

#include "tcti/io.h"
#include "util/fd.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define CALL_MS 25000      /* as long as libdbus waits for an answer */
#define MESSAGES_MAX 65536 /* others that may come before it: any user of the bus can send us signals */
#define FDS_MAX 16         /* of one message */
#define LINE_MAX_BYTES 256 /* of the authentication */

/* Addresses (D-Bus specification, "Server Addresses") */

/* Return: -1: it is none. */
static int hex_digit(char c) {
        const char *digits = "0123456789abcdefABCDEF";
        const char *digit = c ? strchr(digits, c) : NULL;

        if (!digit)
                return -1;
        return digit - digits < 16 ? digit - digits : digit - digits - 6;
}

/* Undo %-escapes. Return: false when they are malformed or stand for NUL, or the result does not fit. */
static bool address_unescape(const char *text, size_t n, char *to, size_t size) {
        size_t n_to = 0;

        for (size_t i = 0; i < n; i++) {
                char c = text[i];

                if (c == '%') {
                        int high = n - i < 3 ? -1 : hex_digit(text[i + 1]);
                        int low = n - i < 3 ? -1 : hex_digit(text[i + 2]);

                        if (high < 0 || low < 0 || (high == 0 && low == 0))
                                return false;
                        c = (char)(high << 4 | low);
                        i += 2;
                }
                if (n_to + 1 >= size)
                        return false;
                to[n_to++] = c;
        }
        to[n_to] = '\0';
        return true;
}

/* The value of a key in "key=value,key=value". */
static bool address_value(const char *pairs, size_t n, const char *key, char *to, size_t size) {
        size_t n_key = strlen(key);

        while (n > 0) {
                const char *comma = memchr(pairs, ',', n);
                size_t n_pair = comma ? (size_t)(comma - pairs) : n;

                if (n_pair > n_key && pairs[n_key] == '=' && memcmp(pairs, key, n_key) == 0)
                        return address_unescape(pairs + n_key + 1, n_pair - n_key - 1, to, size);
                pairs += n_pair + (comma != NULL);
                n -= n_pair + (comma != NULL);
        }
        return false;
}

/* Return: -1 and errno; EINVAL: it is none that this library can use. */
static int connect_address(const char *text, size_t n, const IoDeadline *deadline) {
        struct sockaddr_un address = { .sun_family = AF_UNIX };
        char *path = address.sun_path;
        size_t size = sizeof(address.sun_path);
        socklen_t n_address = sizeof(address);
        char runtime[4];

        errno = EINVAL;
        if (n < 5 || memcmp(text, "unix:", 5) != 0)
                return -1;
        text += 5;
        n -= 5;
        if (address_value(text, n, "abstract", path + 1, size - 1)) {
                n_address = offsetof(struct sockaddr_un, sun_path) + 1 + strlen(path + 1);
        } else if (address_value(text, n, "runtime", runtime, sizeof(runtime)) && strcmp(runtime, "yes") == 0) {
                const char *folder = secure_getenv("XDG_RUNTIME_DIR");

                if (!folder || (size_t)snprintf(path, size, "%s/bus", folder) >= size)
                        return -1;
        } else if (!address_value(text, n, "path", path, size)) {
                return -1;
        }
        return io_connect(&address, n_address, deadline);
}

static const char *addresses_of(bool session) {
        const char *addresses = secure_getenv(session ? "DBUS_SESSION_BUS_ADDRESS" : "DBUS_SYSTEM_BUS_ADDRESS");

        if (addresses && *addresses)
                return addresses;
        return session ? "unix:runtime=yes"
                       : "unix:path=/run/dbus/system_bus_socket;unix:path=/var/run/dbus/system_bus_socket";
}

/* Authentication (D-Bus specification, "Authentication Protocol") */

/* Byte by byte, so that nothing behind the line is taken. */
static bool read_line(int fd, const IoDeadline *deadline, char line[LINE_MAX_BYTES]) {
        for (size_t n = 0; n < LINE_MAX_BYTES - 1; n++) {
                if (io_read(fd, &line[n], 1, deadline) != IO_DONE)
                        return false;
                if (n > 0 && line[n - 1] == '\r' && line[n] == '\n') {
                        line[n - 1] = '\0';
                        return true;
                }
        }
        return false;
}

static bool bus_converse(int fd, const IoDeadline *deadline, const char *text, const char *expected) {
        char line[LINE_MAX_BYTES];

        return io_write(fd, text, strlen(text), deadline) == IO_DONE && read_line(fd, deadline, line) &&
               strncmp(line, expected, strlen(expected)) == 0;
}

static bool bus_authenticate(int fd, const IoDeadline *deadline) {
        char uid[16], auth[64];
        int n = snprintf(auth, sizeof(auth), "AUTH EXTERNAL ");

        snprintf(uid, sizeof(uid), "%lu", (unsigned long)geteuid());
        for (const char *c = uid; *c; c++)
                n += snprintf(auth + n, sizeof(auth) - n, "%02x", (unsigned)*c);
        snprintf(auth + n, sizeof(auth) - n, "\r\n");
        return io_write(fd, "", 1, deadline) == IO_DONE && bus_converse(fd, deadline, auth, "OK ") &&
               bus_converse(fd, deadline, "NEGOTIATE_UNIX_FD\r\n", "AGREE_UNIX_FD") &&
               io_write(fd, "BEGIN\r\n", 7, deadline) == IO_DONE;
}

/* Messages */

typedef struct Fds {
        int fds[FDS_MAX];
        size_t n;
} Fds;

static void fds_close(Fds *fds) {
        for (size_t i = 0; i < fds->n; i++)
                fd_close(fds->fds[i]);
        fds->n = 0;
}

static void fds_take(Fds *fds, struct msghdr *header) {
        for (struct cmsghdr *c = CMSG_FIRSTHDR(header); c; c = CMSG_NXTHDR(header, c)) {
                size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);

                if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
                        continue;
                for (size_t i = 0; i < n; i++) {
                        int fd;

                        memcpy(&fd, CMSG_DATA(c) + i * sizeof(fd), sizeof(fd));
                        fd = fd_above_stdio(fd); /* -1: it counts, so that the number is that of the header */
                        if (fds->n < FDS_MAX)
                                fds->fds[fds->n++] = fd;
                        else
                                fd_close(fd);
                }
        }
}

static bool read_with_fds(int fd, uint8_t *bytes, size_t n_bytes, Fds *fds, const IoDeadline *deadline) {
        size_t at = 0;

        while (at < n_bytes) {
                union {
                        struct cmsghdr align;
                        uint8_t bytes[CMSG_SPACE(FDS_MAX * sizeof(int))];
                } control;
                struct iovec iov = { .iov_base = bytes + at, .iov_len = n_bytes - at };
                struct msghdr header = {
                        .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)
                };
                ssize_t n = recvmsg(fd, &header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);

                if (n > 0) {
                        fds_take(fds, &header);
                        at += (size_t)n;
                } else if (n == 0 || (errno != EINTR && errno != EAGAIN) ||
                           (errno == EAGAIN && io_wait(fd, POLLIN, deadline) != IO_DONE)) {
                        return false;
                }
        }
        return true;
}

/* What is too large is not for us, but no reason to give up the bus either. */
static bool bus_skip(int fd, uint8_t *bytes, size_t n_bytes, Fds *fds, const IoDeadline *deadline) {
        while (n_bytes > 0) {
                size_t n = n_bytes < DBUS_MESSAGE_MAX ? n_bytes : DBUS_MESSAGE_MAX;

                if (!read_with_fds(fd, bytes, n, fds, deadline))
                        return false;
                n_bytes -= n;
        }
        return true;
}

static bool read_message(int fd, DbusReply *reply, Fds *fds, const IoDeadline *deadline) {
        size_t n;

        if (!read_with_fds(fd, reply->bytes, DBUS_HEADER_SIZE, fds, deadline))
                return false;
        n = dbus_message_size(reply->bytes);
        if (n > sizeof(reply->bytes)) {
                reply->message = (DbusMessage){ 0 };
                return bus_skip(fd, reply->bytes, n - DBUS_HEADER_SIZE, fds, deadline);
        }
        return n > 0 && read_with_fds(fd, reply->bytes + DBUS_HEADER_SIZE, n - DBUS_HEADER_SIZE, fds, deadline) &&
               dbus_message_parse(reply->bytes, n, &reply->message);
}

static bool read_reply(Dbus *dbus, DbusReply *reply, const IoDeadline *deadline) {
        for (unsigned i = 0; i < MESSAGES_MAX; i++) {
                Fds fds = { .n = 0 };
                bool ok = read_message(dbus->fd, reply, &fds, deadline);
                const DbusMessage *message = &reply->message;

                if (ok && (message->type == DBUS_RETURN || message->type == DBUS_ERROR) &&
                    message->reply_serial == dbus->serial) {
                        reply->fd = -1;
                        if (message->n_fds != fds.n) {
                                fds_close(&fds);
                                return false;
                        }
                        if (fds.n > 0) {
                                reply->fd = fds.fds[0];
                                fds.fds[0] = -1;
                        }
                        fds_close(&fds);
                        return true;
                }
                fds_close(&fds);
                if (!ok)
                        return false;
        }
        return false;
}

bool dbus_call(Dbus *dbus, const DbusCall *call, DbusReply *ret_reply) {
        IoDeadline deadline = io_deadline(CALL_MS);
        uint8_t bytes[DBUS_CALL_MAX];
        size_t n;

        if (dbus->fd < 0 || io_mark(dbus->fd) != dbus->mark)
                return false;
        n = dbus_call_write(call, ++dbus->serial, bytes, sizeof(bytes));
        if (n > 0 && io_write(dbus->fd, bytes, n, &deadline) == IO_DONE && read_reply(dbus, ret_reply, &deadline))
                return true;
        dbus_close(dbus);
        return false;
}

static bool say_hello(Dbus *dbus) {
        const DbusCall hello = {
                .destination = "org.freedesktop.DBus",
                .path = "/org/freedesktop/DBus",
                .interface = "org.freedesktop.DBus",
                .member = "Hello",
                .signature = "",
        };
        DbusReply *reply = malloc(sizeof(*reply));
        bool ok = reply && dbus_call(dbus, &hello, reply);

        if (ok)
                fd_close(reply->fd);
        ok = ok && reply->message.type == DBUS_RETURN;
        free(reply);
        return ok;
}

/* The first of the addresses at which somebody takes us in; else the last says why. */
bool dbus_open(Dbus *dbus, bool session, Why *ret_why) {
        IoDeadline deadline = io_deadline(CALL_MS);
        const char *address = addresses_of(session);

        *dbus = (Dbus){ .fd = -1 };
        while (*address) {
                size_t n = strcspn(address, ";");

                *dbus = (Dbus){ .fd = connect_address(address, n, &deadline) };
                dbus->mark = io_mark(dbus->fd);
                *ret_why = (Why){ .absent = dbus->fd < 0 };
                if (dbus->fd < 0)
                        why_add(ret_why, "%.*s: %s", (int)n, address,
                                errno == EINVAL ? "no address that this library can use" : strerror(errno));
                else if (bus_authenticate(dbus->fd, &deadline) && say_hello(dbus))
                        return true;
                else
                        why_add(ret_why, "%.*s: it does not take this user in", (int)n, address);
                dbus_close(dbus);
                address += n + (address[n] == ';');
        }
        return false;
}

void dbus_close(Dbus *dbus) {
        if (io_mark(dbus->fd) == dbus->mark)
                fd_close(dbus->fd);
        dbus->fd = -1;
}
