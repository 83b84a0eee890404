/* SPDX-License-Identifier: BSD-2-Clause */
#include "frontend/peer.h"

#include "util/fd.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define CGROUP_BYTES 4096

/* Return: whether there was anything. */
static bool read_of(pid_t pid, const char *what, char *text, size_t size) {
        char path[64];
        ssize_t n;

        snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, what);
        fd_auto fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
        n = fd < 0 ? -1 : read(fd, text, size - 1);
        text[n > 0 ? n : 0] = '\0';
        return n > 0;
}

static bool ends_in(const char *text, const char *end) {
        size_t n = strlen(text), n_end = strlen(end);

        return n > n_end && strcmp(text + n - n_end, end) == 0;
}

const char *peer_unit(char *text) {
        const char *unit = NULL;
        char *line, *lines = NULL, *part, *parts = NULL;

        for (line = strtok_r(text, "\n", &lines); line && !unit; line = strtok_r(NULL, "\n", &lines))
                for (part = strtok_r(line, "/", &parts); part; part = strtok_r(NULL, "/", &parts))
                        if (ends_in(part, ".service") || ends_in(part, ".scope"))
                                unit = part;
        return unit;
}

Peer peer_make(uid_t uid, pid_t pid) {
        Peer peer = { .uid = uid, .pid = pid, .name = "?" };
        char comm[32], cgroup[CGROUP_BYTES];
        const char *unit = NULL;

        if (pid <= 0 || !read_of(pid, "comm", comm, sizeof(comm)))
                return peer;
        comm[strcspn(comm, "\n")] = '\0';
        if (read_of(pid, "cgroup", cgroup, sizeof(cgroup)))
                unit = peer_unit(cgroup);
        snprintf(peer.name, sizeof(peer.name), "%s%s%s", comm, unit ? ", " : "", unit ? unit : "");
        /* A process calls itself what it likes. */
        for (char *c = peer.name; *c; c++)
                if (*c < 0x20 || *c > 0x7e)
                        *c = '?';
        return peer;
}
