/* SPDX-License-Identifier: BSD-2-Clause */
#include "frontend/peer.h"

#include "util/fd.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* That of another PID namespace would tell of other processes. */
static bool proc_is_ours(void) {
        char text[16];
        ssize_t n = readlink("/proc/self", text, sizeof(text) - 1);

        text[n > 0 ? n : 0] = '\0';
        return strtol(text, NULL, 10) == getpid();
}

Peer peer_make(uid_t uid, pid_t pid) {
        Peer peer = { .uid = uid, .pid = pid, .name = "?" };
        char path[64], name[sizeof(peer.name)];
        ssize_t n;

        if (pid <= 0 || !proc_is_ours())
                return peer;
        snprintf(path, sizeof(path), "/proc/%d/comm", (int)pid);
        fd_auto fd = open(path, O_RDONLY | O_CLOEXEC);
        n = fd < 0 ? -1 : read(fd, name, sizeof(name) - 1);
        if (n <= 0)
                return peer;
        name[name[n - 1] == '\n' ? n - 1 : n] = '\0';
        /* A process calls itself what it likes. */
        for (char *c = name; *c; c++)
                if (*c < 0x20 || *c > 0x7e)
                        *c = '?';
        memcpy(peer.name, name, sizeof(peer.name));
        return peer;
}
