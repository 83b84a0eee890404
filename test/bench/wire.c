/* SPDX-License-Identifier: BSD-2-Clause */
#include "test/bench/wire.h"
#include "test/bench/address.h"
#include "tpm/header.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <tss2/tss2_tctildr.h>
#include <unistd.h>

static void die(const Wire *wire, const char *what, unsigned code) {
        fprintf(stderr, "%s: %s: 0x%x\n", wire->subject, what, code);
        exit(EXIT_FAILURE);
}

uint64_t now_ns(void) {
        struct timespec t;

        (void)clock_gettime(CLOCK_MONOTONIC, &t);
        return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static void connect_socket(Wire *wire, int domain, const struct sockaddr *address, socklen_t n) {
        wire->fd = socket(domain, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (wire->fd < 0 || connect(wire->fd, address, n) < 0)
                die(wire, "connect", (unsigned)errno);
        if (domain == AF_INET)
                (void)setsockopt(wire->fd, IPPROTO_TCP, TCP_NODELAY, &(int){ 1 }, sizeof(int));
}

void wire_connect(Wire *wire, const char *subject) {
        wire->subject = subject;
        wire->fd = -1;
        wire->tcti = NULL;
        wire->n_answer = 0;
        if (strncmp(subject, "tcp:", 4) == 0) {
                struct sockaddr_in address;

                if (!parse_address(subject + 4, &address))
                        die(wire, "address", 0);
                connect_socket(wire, AF_INET, (struct sockaddr *)&address, sizeof(address));
        } else if (strncmp(subject, "unix:", 5) == 0) {
                struct sockaddr_un address = { .sun_family = AF_UNIX };

                (void)snprintf(address.sun_path, sizeof(address.sun_path), "%s", subject + 5);
                connect_socket(wire, AF_UNIX, (struct sockaddr *)&address, sizeof(address));
        } else {
                TSS2_RC rc = Tss2_TctiLdr_Initialize(subject, &wire->tcti);

                if (rc != TSS2_RC_SUCCESS)
                        die(wire, "TCTI", rc);
        }
}

void wire_disconnect(Wire *wire) {
        if (wire->tcti)
                Tss2_TctiLdr_Finalize(&wire->tcti);
        else if (wire->fd >= 0)
                close(wire->fd);
        wire->fd = -1;
}

static void find_descriptor(Wire *wire) {
        TSS2_TCTI_POLL_HANDLE handle = { .fd = -1 };
        size_t n = 1;
        TSS2_RC rc = Tss2_Tcti_GetPollHandles(wire->tcti, &handle, &n);

        if (rc != TSS2_RC_SUCCESS || n != 1)
                die(wire, "poll handles", rc);
        wire->fd = handle.fd;
}

void wire_send(Wire *wire, const uint8_t *command, size_t n) {
        wire->n_answer = 0;
        if (wire->tcti) {
                TSS2_RC rc = Tss2_Tcti_Transmit(wire->tcti, n, command);

                if (rc != TSS2_RC_SUCCESS)
                        die(wire, "transmit", rc);
                if (wire->fd < 0)
                        find_descriptor(wire);
        } else if (send(wire->fd, command, n, MSG_NOSIGNAL) != (ssize_t)n) {
                die(wire, "send", (unsigned)errno);
        }
}

static bool is_whole(const Wire *wire) {
        TpmReader reader = TPM_READER(wire->answer, wire->n_answer);

        return wire->n_answer >= TPM_HEADER_SIZE && wire->n_answer >= tpm_read_header(&reader).size;
}

static bool receive(Wire *wire, int flags) {
        ssize_t n = recv(wire->fd, wire->answer + wire->n_answer, sizeof(wire->answer) - wire->n_answer, flags);

        if (n < 0 && errno == EAGAIN)
                return false;
        if (n <= 0)
                die(wire, "recv", n < 0 ? (unsigned)errno : 0);
        wire->n_answer += (size_t)n;
        return is_whole(wire);
}

bool wire_receive(Wire *wire) {
        TSS2_RC rc;

        if (!wire->tcti)
                return receive(wire, MSG_DONTWAIT);
        wire->n_answer = sizeof(wire->answer);
        rc = Tss2_Tcti_Receive(wire->tcti, &wire->n_answer, wire->answer, TSS2_TCTI_TIMEOUT_BLOCK);
        if (rc != TSS2_RC_SUCCESS)
                die(wire, "receive", rc);
        return true;
}

uint32_t wire_ask(Wire *wire, const uint8_t *command, size_t n) {
        wire_send(wire, command, n);
        if (wire->tcti)
                (void)wire_receive(wire);
        else
                while (!receive(wire, 0))
                        ;
        return wire_code(wire);
}

uint32_t wire_code(const Wire *wire) {
        TpmReader reader = TPM_READER(wire->answer, wire->n_answer);

        return tpm_read_header(&reader).code;
}
