/* SPDX-License-Identifier: BSD-2-Clause */
#include "daemon/notify.h"

#include "util/fd.h"

#include <glib.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

void notify(const char *state) {
        struct sockaddr_un address = { .sun_family = AF_UNIX };
        const char *path = getenv("NOTIFY_SOCKET");
        size_t n_path = path ? strlen(path) : 0;
        fd_auto fd = -1;

        if (n_path < 2 || n_path >= sizeof(address.sun_path) || (path[0] != '/' && path[0] != '@'))
                return;
        memcpy(address.sun_path, path, n_path);
        if (path[0] == '@')
                address.sun_path[0] = '\0';

        fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (fd < 0)
                return;
        (void)sendto(fd, state, strlen(state), MSG_NOSIGNAL, (struct sockaddr *)&address,
                     (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n_path));
}

static gboolean watchdog_feed(gpointer userdata) {
        notify("WATCHDOG=1");
        return G_SOURCE_CONTINUE;
}

unsigned notify_start_watchdog(void) {
        const char *usec = getenv("WATCHDOG_USEC"), *pid = getenv("WATCHDOG_PID");
        guint64 interval, number;

        if (!usec || !g_ascii_string_to_unsigned(usec, 10, 1, G_MAXUINT64, &interval, NULL))
                return 0;
        if (pid && (!g_ascii_string_to_unsigned(pid, 10, 1, G_MAXINT, &number, NULL) || (pid_t)number != getpid()))
                return 0;
        return g_timeout_add((guint)CLAMP(interval / 2000, 1, G_MAXINT), watchdog_feed, NULL);
}
