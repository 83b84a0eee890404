/* SPDX-License-Identifier: BSD-2-Clause */
#include "daemon/shared.h"

void shared_init(Shared *shared, Loop *loop, const char *conf, void (*changed)(void *userdata), void *userdata) {
        *shared = (Shared){ .conf = conf, .node = neighbours_node(conf) };
        shared->neighbours = neighbours_new(loop, shared->node, changed, userdata);
}

void shared_clear(Shared *shared) {
        shared->neighbours = neighbours_free(shared->neighbours);
        g_clear_pointer(&shared->node, g_free);
}

/*
 * A trusted key is loaded below its parent, without sessions of its own; a session of the kernel's is one session,
 * which is started with one key.
 */
Reserve shared_reserve(NeighboursSign sign, NeighboursKernel kernel) {
        static const char *const REASONS[] = {
                [NEIGHBOURS_NONE] = "nobody", [NEIGHBOURS_RECENT] = "recent", [NEIGHBOURS_START] = "start",
                [NEIGHBOURS_OPEN] = "open",   [NEIGHBOURS_UNSEEN] = "unseen",
        };

        if (sign != NEIGHBOURS_NONE)
                return (Reserve){ RESERVE_MOST, RESERVE_MOST, REASONS[sign] };
        return (Reserve){
                .n_objects = kernel.trusted_keys ? RESERVE_MOST : kernel.sessions,
                .n_sessions = kernel.sessions,
                .reason = kernel.trusted_keys || kernel.sessions ? "kernel" : REASONS[sign],
        };
}

Reserve shared_ask(void *userdata, gint64 now) {
        Shared *shared = userdata;

        if (shared->kernel_asked == 0 || now - shared->kernel_asked >= SHARED_KERNEL_US) {
                shared->kernel = neighbours_kernel(shared->conf);
                shared->kernel_asked = now;
        }
        return shared_reserve(neighbours_sign(shared->neighbours, now), shared->kernel);
}

char *shared_blindness(const Shared *shared) {
        if (!shared->neighbours || neighbours_sign(shared->neighbours, g_get_monotonic_time()) != NEIGHBOURS_UNSEEN)
                return NULL;
        return g_strdup_printf("who else uses the TPM cannot be seen at %s: %s; so %d slots of each kind stay free at "
                               "any time",
                               shared->node ?: "its node", neighbours_reason(shared->neighbours), RESERVE_MOST);
}
