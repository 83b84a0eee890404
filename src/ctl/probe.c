/* SPDX-License-Identifier: BSD-2-Clause */
#include "ctl/probe.h"

#include "util/fd.h"

#include <glib.h>
#include <poll.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/un.h>

#define WAIT_MS 1000

/* As many bytes as a TPM's command has at least, so that a TPM answers them, too. */
static const char GREETING[] = "\0AUTH EXTERNAL 30\r\n";

Probe probe_socket(const char *path) {
        struct sockaddr_un address = { .sun_family = AF_UNIX };
        fd_auto fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        struct pollfd ready = { .fd = fd, .events = POLLIN };
        uint8_t answer[16];
        ssize_t n;

        if (fd < 0 || g_strlcpy(address.sun_path, path, sizeof(address.sun_path)) >= sizeof(address.sun_path) ||
            connect(fd, (const struct sockaddr *)&address, sizeof(address)) < 0 ||
            send(fd, GREETING, sizeof(GREETING) - 1, MSG_NOSIGNAL) < 0 || poll(&ready, 1, WAIT_MS) <= 0)
                return PROBE_NOTHING;
        n = recv(fd, answer, sizeof(answer), MSG_DONTWAIT);
        if (n <= 0)
                return PROBE_NOTHING;
        /* TPM_ST_NO_SESSIONS and TPM_ST_SESSIONS begin so, and no text. */
        if (answer[0] == 0x80)
                return PROBE_TPM;
        return g_str_has_prefix((const char *)answer, "OK") || g_str_has_prefix((const char *)answer, "REJECTED") ||
                               g_str_has_prefix((const char *)answer, "ERROR")
                       ? PROBE_DBUS
                       : PROBE_OTHER;
}
