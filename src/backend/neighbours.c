/* SPDX-License-Identifier: BSD-2-Clause */
#include "backend/neighbours.h"

#include "backend/backend-device.h"
#include "util/fd.h"
#include "util/platform.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#define TPM_PREFIX "tpm"
#define NODE_PREFIX "tpmrm"
#define NONE (-1) /* no watch */

struct Neighbours {
        LoopFd source; /* its fd is ours; -1: this system has no such thing */
        char *node, *folder;
        const char *name; /* in the folder */
        int node_watch, folder_watch;
        int error;    /* why the node is not watched */
        gint64 since; /* when the watch of the node began */
        gint64 used;  /* when anything happened there last; 0: never */
        unsigned n_open;
        bool stranger;  /* one who is none of those has it open */
        bool uncertain; /* n_open may be too high */
        void (*changed)(void *userdata);
        void *userdata;
};

NeighboursSign neighbours_sign(const Neighbours *neighbours, gint64 now) {
        bool certain = neighbours->n_open > 0 && !neighbours->uncertain;
        gint64 silent = now - neighbours->used;

        if (neighbours->node_watch == NONE)
                return NEIGHBOURS_UNSEEN;
        if (certain || ((neighbours->n_open > 0 || neighbours->stranger) && silent < NEIGHBOURS_SILENT_US))
                return NEIGHBOURS_OPEN;
        if (now - neighbours->since < NEIGHBOURS_START_US)
                return NEIGHBOURS_START;
        return neighbours->used != 0 && silent < NEIGHBOURS_GRACE_US ? NEIGHBOURS_RECENT : NEIGHBOURS_NONE;
}

const char *neighbours_reason(const Neighbours *neighbours) {
        if (neighbours->node_watch != NONE)
                return "";
        if (!neighbours->node)
                return "its name is not known";
        /* What the system has to say of these is about files that are written, or open. */
        if (neighbours->error == ENOSPC)
                return "the user's watches are used up (fs.inotify.max_user_watches)";
        if (neighbours->error == EMFILE)
                return "the user's watchers are used up (fs.inotify.max_user_instances)";
        return g_strerror(neighbours->error);
}

/* The watching */

static void forget_node(Neighbours *neighbours, int error) {
        if (neighbours->node_watch != NONE)
                platform_watch_end(neighbours->source.fd, neighbours->node_watch);
        neighbours->node_watch = NONE;
        neighbours->error = error;
}

/* It came, or its rights are other ones; or it went, and there may be another one of that name. */
static void look_for_node(Neighbours *neighbours) {
        int watch = platform_watch_file(neighbours->source.fd, neighbours->node);

        if (watch == NONE)
                forget_node(neighbours, errno);
        if (watch == NONE || watch == neighbours->node_watch)
                return;
        forget_node(neighbours, 0);
        neighbours->node_watch = watch;
        neighbours->since = g_get_monotonic_time();
        neighbours->used = 0;
        neighbours->n_open = 0;
        neighbours->stranger = neighbours->uncertain = false;
}

static void count_close(Neighbours *neighbours) {
        if (neighbours->n_open > 0)
                neighbours->n_open--;
        else
                neighbours->stranger = false;
        neighbours->uncertain = neighbours->n_open > 0;
}

/* Who is not sure to be there, and was silent for so long, is given up for good: he is known again once he uses it. */
static void forget_the_silent(Neighbours *neighbours, gint64 now) {
        if (now - neighbours->used < NEIGHBOURS_SILENT_US)
                return;
        if (neighbours->uncertain)
                neighbours->n_open = 0;
        neighbours->stranger = neighbours->uncertain = false;
}

static void count_event(Neighbours *neighbours, unsigned events) {
        gint64 now = g_get_monotonic_time();

        forget_the_silent(neighbours, now);
        neighbours->used = now;
        if (events & PLATFORM_OPENED)
                neighbours->n_open++;
        if (events & PLATFORM_USED && neighbours->n_open == 0)
                neighbours->stranger = true;
        if (events & PLATFORM_CLOSED)
                count_close(neighbours);
}

static void on_event(void *userdata, int watch, unsigned events, const char *name) {
        Neighbours *neighbours = userdata;

        if (events & PLATFORM_MISSED) {
                neighbours->used = g_get_monotonic_time();
                neighbours->stranger = neighbours->uncertain = true;
                look_for_node(neighbours);
        } else if (watch == neighbours->folder_watch && name && g_str_equal(name, neighbours->name)) {
                look_for_node(neighbours);
        } else if (watch == neighbours->node_watch && events & PLATFORM_UNWATCHED) {
                neighbours->node_watch = NONE;
                neighbours->error = ENOENT;
        } else if (watch == neighbours->node_watch) {
                count_event(neighbours, events);
        }
}

static void on_readable(LoopFd *source, uint32_t events) {
        Neighbours *neighbours = (Neighbours *)((char *)source - offsetof(Neighbours, source));
        NeighboursSign before = neighbours_sign(neighbours, g_get_monotonic_time());

        platform_watch_read(source->fd, on_event, neighbours);
        if (neighbours_sign(neighbours, g_get_monotonic_time()) != before)
                neighbours->changed(neighbours->userdata);
}

Neighbours *neighbours_new(Loop *loop, const char *node, void (*changed)(void *userdata), void *userdata) {
        Neighbours *neighbours = g_new0(Neighbours, 1);
        int r;

        neighbours->node_watch = neighbours->folder_watch = NONE;
        neighbours->source.fd = NONE;
        neighbours->changed = changed;
        neighbours->userdata = userdata;
        if (!node)
                return neighbours;
        neighbours->node = g_strdup(node);
        neighbours->folder = g_path_get_dirname(node);
        neighbours->name = strrchr(neighbours->node, '/') + 1;
        neighbours->source.fd = platform_watch_new();
        if (neighbours->source.fd < 0) {
                neighbours->error = errno;
                return neighbours;
        }
        r = loop_add(loop, &neighbours->source, neighbours->source.fd, EPOLLIN, on_readable);
        if (r < 0) {
                neighbours->error = -r;
                return neighbours;
        }
        neighbours->folder_watch = platform_watch_folder(neighbours->source.fd, neighbours->folder);
        look_for_node(neighbours);
        return neighbours;
}

Neighbours *neighbours_free(Neighbours *neighbours) {
        if (!neighbours)
                return NULL;
        loop_remove(&neighbours->source);
        fd_close(neighbours->source.fd);
        g_free(neighbours->node);
        g_free(neighbours->folder);
        g_free(neighbours);
        return NULL;
}

/* Of which TPM */

/* The number behind "tpm", as text. NULL: it has another name, such as that of the kernel's resource manager. */
static const char *number_of(const char *path) {
        const char *name = strrchr(path, '/');
        const char *number = name && g_str_has_prefix(name + 1, TPM_PREFIX) ? name + 1 + strlen(TPM_PREFIX) : "";

        return *number && strspn(number, "0123456789") == strlen(number) ? number : NULL;
}

/* The path of the device, to be freed: what the last part of the configuration is a link to, if anything. */
static char *device_of(const char *conf) {
        bool is_default = g_str_equal(conf, "device") || g_str_equal(conf, "device:");
        const char *colon = strrchr(conf, ':');
        const char *path = is_default ? BACKEND_DEVICE_DEFAULT : colon ? colon + 1 : conf;
        char *resolved = realpath(path, NULL);
        const char *name = resolved ?: path;
        char *device = number_of(name) ? g_strdup(name) : NULL;

        free(resolved);
        return device;
}

char *neighbours_node(const char *conf) {
        g_autofree char *device = device_of(conf);
        g_autofree char *folder = device ? g_path_get_dirname(device) : NULL;

        return device ? g_strdup_printf("%s/" NODE_PREFIX "%s", folder, number_of(device)) : NULL;
}

/* The kernel shows the name of the key that it starts sessions with, where it does, and shows the device at all. */
static bool may_have_sessions(const char *device) {
        g_autofree char *folder = g_strdup_printf("/sys/class/tpm/" TPM_PREFIX "%s", number_of(device));
        g_autofree char *file = g_strdup_printf("%s/null_name", folder);

        return access(folder, F_OK) < 0 || access(file, F_OK) == 0 || errno != ENOENT;
}

NeighboursKernel neighbours_kernel(const char *conf) {
        g_autofree char *device = device_of(conf);

        return (NeighboursKernel){
                .trusted_keys = platform_may_have_keys("trusted"),
                .sessions = !device || may_have_sessions(device),
        };
}
