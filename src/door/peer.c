/* SPDX-License-Identifier: BSD-2-Clause */
#include "door/peer.h"

#include "util/platform.h"

#include <string.h>

Peer peer_make(uid_t uid, pid_t pid) {
        Peer peer = { .uid = uid, .pid = pid, .name = "?" };
        char name[sizeof(peer.name)];

        if (pid <= 0 || !platform_process_name(pid, name, sizeof(name)) || !*name)
                return peer;
        /* A process calls itself what it likes. */
        for (char *c = name; *c; c++)
                if (*c < 0x20 || *c > 0x7e)
                        *c = '?';
        memcpy(peer.name, name, sizeof(peer.name));
        return peer;
}
