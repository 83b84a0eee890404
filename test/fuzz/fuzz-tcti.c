/* SPDX-License-Identifier: BSD-2-Clause */
#include "fuzz.h"

#include "tcti/dbus-message.h"
#include "tcti/tss2/tss2-tcti-tabrmd.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

/*
 * The client library against a daemon, or a bus, that lies. The linker gives it connect() and poll() of this file
 * (--wrap): what it connects to is a socket whose other end is fed from the input, piece by piece, whenever the library
 * waits; when there is no more, its time is up, or the other end is closed.
 *
 * Input: flags u8 (64: the rest is a message of the bus, to be parsed); a configuration, if they say so; number of
 * calls u8, the calls, a byte each; pieces: head u8 (size in the low six bits; 0x40: on the bus, even when it has
 * handed out a stream; 0x80: and hands one out), and their bytes
 */
#define GUARD 0xC7

static Input feed;
static int peers[2] = { -1, -1 }; /* what was connected to, and what it handed out */
static bool hangs_up;

int __wrap_connect(int fd, const struct sockaddr *address, socklen_t n_address);
int __wrap_poll(struct pollfd *fds, nfds_t n_fds, int ms);

/* What the library has said is of no interest; it must not fill the sockets. */
static void drain(void) {
        uint8_t bytes[4096];

        for (unsigned i = 0; i < 2; i++)
                while (peers[i] >= 0 && recv(peers[i], bytes, sizeof(bytes), MSG_DONTWAIT) > 0)
                        continue;
}

static void forget(unsigned i) {
        if (peers[i] >= 0)
                close(peers[i]);
        peers[i] = -1;
}

static void send_piece(int peer, const uint8_t *bytes, size_t n, int fd) {
        union {
                struct cmsghdr align;
                uint8_t bytes[CMSG_SPACE(sizeof(int))];
        } control = { 0 };
        struct iovec iov = { .iov_base = (void *)bytes, .iov_len = n };
        struct msghdr header = { .msg_iov = &iov, .msg_iovlen = 1 };
        struct cmsghdr *c;

        if (fd >= 0) {
                header.msg_control = &control;
                header.msg_controllen = sizeof(control);
                c = CMSG_FIRSTHDR(&header);
                *c = (struct cmsghdr){ .cmsg_len = CMSG_LEN(sizeof(int)),
                                       .cmsg_level = SOL_SOCKET,
                                       .cmsg_type = SCM_RIGHTS };
                memcpy(CMSG_DATA(c), &fd, sizeof(fd));
        }
        (void)sendmsg(peer, &header, MSG_DONTWAIT | MSG_NOSIGNAL);
}

/* Return: whether something was fed. */
static bool feed_piece(void) {
        uint8_t bytes[64];
        uint8_t head = input_u8(&feed);
        size_t n = input_bytes(&feed, bytes, head & 0x3F);
        int fds[2] = { -1, -1 };

        drain();
        if (n == 0) {
                for (unsigned i = 0; hangs_up && i < 2; i++)
                        if (peers[i] >= 0)
                                shutdown(peers[i], SHUT_RDWR);
                return hangs_up;
        }
        if (head & 0x80 && socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0)
                return false;
        send_piece(peers[head & 0x40 || peers[1] < 0 ? 0 : 1], bytes, n, fds[0]);
        if (fds[0] >= 0) {
                close(fds[0]);
                forget(1);
                peers[1] = fds[1];
        }
        return true;
}

int __wrap_connect(int fd, const struct sockaddr *address, socklen_t n_address) {
        int fds[2];

        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0)
                return -1;
        dup3(fds[0], fd, O_CLOEXEC);
        close(fds[0]);
        forget(0);
        peers[0] = fds[1];
        return 0;
}

int __wrap_poll(struct pollfd *fds, nfds_t n_fds, int ms) {
        fds[0].revents = fds[0].events;
        if (fds[0].events & POLLOUT) {
                drain();
                return 1;
        }
        return ms != 0 && feed_piece();
}

static unsigned count_fds(void) {
        unsigned n = 0;

        for (int fd = 3; fd < 64; fd++)
                n += fcntl(fd, F_GETFD) >= 0;
        return n;
}

static bool is_documented(TSS2_RC rc) {
        return rc == TSS2_RC_SUCCESS || (rc & TSS2_RC_LAYER_MASK) == TSS2_TCTI_RC_LAYER;
}

static void receive(TSS2_TCTI_CONTEXT *tcti, uint8_t how) {
        static uint8_t bytes[4096 + 8];
        size_t size = how & 1 ? 4096 : how & 2 ? 10 : how;
        size_t told = size;
        TSS2_RC rc;

        memset(bytes, GUARD, sizeof(bytes));
        rc = Tss2_Tcti_Receive(tcti, &told, how & 4 ? NULL : bytes, how & 8 ? 0 : -1);
        DEMAND(is_documented(rc));
        for (unsigned i = 0; i < 8; i++)
                DEMAND(bytes[size + i] == GUARD);
        if (rc == TSS2_RC_SUCCESS && !(how & 4))
                DEMAND(told >= 10 && told <= size && bytes[5] == (told & 0xFF));
}

static void call(TSS2_TCTI_CONTEXT *tcti, uint8_t how) {
        static const uint8_t command[] = { 0x80, 1, 0, 0, 0, 12, 0, 0, 1, 0x7B, 0, 4 };
        TSS2_TCTI_POLL_HANDLE handle;
        size_t n = 1;

        switch (how >> 5) {
        case 0:
        case 1:
                DEMAND(is_documented(Tss2_Tcti_Transmit(tcti, how & 1 ? sizeof(command) : how, command)));
                break;
        case 2:
        case 3:
        case 4:
                receive(tcti, how & 0x1F);
                break;
        case 5:
                (void)Tss2_Tcti_Cancel(tcti); /* over the bus, any code that the daemon likes */
                break;
        case 6:
                (void)Tss2_Tcti_SetLocality(tcti, how & 0x1F);
                break;
        default:
                DEMAND(is_documented(Tss2_Tcti_GetPollHandles(tcti, &handle, &n)));
        }
}

static void use(TSS2_TCTI_CONTEXT *tcti, size_t room, Input *input, const char *conf) {
        size_t size = room;
        unsigned n_calls = input_u8(input) % 12;
        uint8_t calls[12];

        for (unsigned i = 0; i < n_calls; i++)
                calls[i] = input_u8(input);
        feed = *input;
        if (Tss2_Tcti_Tabrmd_Init(tcti, &size, conf) != TSS2_RC_SUCCESS)
                return;
        for (unsigned i = 0; i < n_calls; i++)
                call(tcti, calls[i]);
        Tss2_Tcti_Finalize(tcti);
}

/*
 * A message as it came, in memory of just its size: the library reads into larger ones, where reading too far is not
 * seen.
 */
static void parse(Input *input) {
        size_t n = input->n - input->at;
        uint8_t *bytes = malloc(n + (n == 0));
        uint8_t header[DBUS_HEADER_SIZE] = { 0 };
        DbusMessage message = { 0 };
        uint64_t number;

        DEMAND(bytes);
        n = input_bytes(input, bytes, n);
        memcpy(header, bytes, n < sizeof(header) ? n : sizeof(header));
        if (n >= DBUS_HEADER_SIZE && dbus_message_size(header) == n && dbus_message_parse(bytes, n, &message)) {
                (void)dbus_message_number(&message, "t", &number);
                (void)dbus_message_number(&message, "u", &number);
                DEMAND(!dbus_message_string(&message) || strlen(dbus_message_string(&message)) < n);
                DEMAND(!message.error || strlen(message.error) < n);
        }
        free(bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n_bytes) {
        static const char *const confs[] = { "socket=/nowhere", "bus_type=session", "bus_type=session,bus_name=a.b" };
        Input input = { bytes, n_bytes, 0 };
        uint8_t flags = input_u8(&input);
        char text[300] = "";
        size_t size = 0;
        void *room = NULL;
        unsigned n_fds;

        if (flags & 64) {
                parse(&input);
                return 0;
        }
        DEMAND(Tss2_Tcti_Tabrmd_Init(NULL, &size, NULL) == TSS2_RC_SUCCESS);
        room = calloc(1, size);
        DEMAND(room);
        setenv("DBUS_SESSION_BUS_ADDRESS", flags & 16 ? "unix:abstract=x;unix:path=/nowhere%41" : "unix:path=/nowhere",
               1);
        setenv("TSS2_LOGFILE", "/dev/null", 1);
        n_fds = count_fds();
        hangs_up = flags & 4;
        if ((flags & 3) == 3) {
                text[input_bytes(&input, (uint8_t *)text, sizeof(text) - 1)] = '\0';
                use(room, size, &input, text);
        } else {
                use(room, size, &input, confs[flags & 3]);
        }
        forget(0);
        forget(1);
        DEMAND(count_fds() == n_fds);
        free(room);
        return 0;
}
