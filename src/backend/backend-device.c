/* SPDX-License-Identifier: BSD-2-Clause */
#include "backend/backend-device.h"

#include "backend/backend-internal.h"
#include "tpm/header.h"
#include "util/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

/*
 * A character device of the kernel's
 *
 * A command is one write(), its answer one read(). Opened non-blocking, the driver takes the command, runs it on a
 * thread of its own, and the descriptor becomes readable. Localities and cancel it does not have.
 *
 * To close a device whose command is still running waits for that command, so closing is left to a thread. Until that
 * is done it cannot be opened again, which is EBUSY and tried again by whoever opens.
 */
#define DEVICE_COMMAND_MAX 4096 /* the driver's buffer */

typedef struct Device {
        Backend backend; /* first: a Backend of ours is a Device */
        char *path;
        LoopFd source;      /* its fd is ours; -1: none */
        bool reported_busy; /* that somebody has it; to look for them each time would take too long */
} Device;

/* By the names of what is open: to look at the files themselves could wait for a file server. */
static bool process_has(const char *pid, const char *path) {
        g_autofree char *folder = g_strdup_printf("/proc/%s/fd", pid);
        g_autoptr(GDir) fds = g_dir_open(folder, 0, NULL);
        const char *number;

        while (fds && (number = g_dir_read_name(fds))) {
                g_autofree char *file = g_strdup_printf("%s/%s", folder, number);
                g_autofree char *target = g_file_read_link(file, NULL);

                if (target && g_str_equal(target, path))
                        return true;
        }
        return false;
}

char *backend_device_holder(const char *path) {
        g_autoptr(GDir) processes = g_dir_open("/proc", 0, NULL);
        g_autofree char *resolved = realpath(path, NULL);
        const char *pid;

        while (processes && resolved && (pid = g_dir_read_name(processes))) {
                g_autofree char *file = g_strdup_printf("/proc/%s/comm", pid);
                g_autofree char *name = NULL;

                if (!g_ascii_isdigit(pid[0]) || !process_has(pid, resolved))
                        continue;
                if (!g_file_get_contents(file, &name, NULL, NULL))
                        return g_strdup_printf("pid %s", pid);
                return g_strdup_printf("%s (pid %s)", g_strstrip(name), pid);
        }
        return NULL;
}

static gpointer close_in_thread(gpointer userdata) {
        fd_close(GPOINTER_TO_INT(userdata));
        return NULL;
}

static void device_close(Backend *backend) {
        Device *device = (Device *)backend;
        int fd = fd_steal(&device->source.fd);
        GThread *thread = NULL;

        loop_remove(&device->source);
        if (fd < 0)
                return;
        if (backend_is_busy(backend))
                thread = g_thread_try_new("close", close_in_thread, GINT_TO_POINTER(fd), NULL);
        if (thread)
                g_thread_unref(thread);
        else
                fd_close(fd);
}

static void device_on_answer(LoopFd *source, uint32_t events) {
        Device *device = (Device *)((char *)source - offsetof(Device, source));
        uint8_t answer[TPM_MESSAGE_MAX];
        ssize_t n = read(source->fd, answer, sizeof(answer));
        TpmReader reader = TPM_READER(answer, n > 0 ? (size_t)n : 0);
        TpmHeader header = tpm_read_header(&reader);

        if (n < 0 && fd_may_try_again(errno))
                return;
        if (n < 0)
                backend_lose(&device->backend, "%s: %s", device->path, g_strerror(errno));
        else if (n == 0)
                backend_lose(&device->backend, "%s: it has no answer", device->path);
        else if (!backend_is_busy(&device->backend))
                backend_lose(&device->backend, "%s: it answered what nobody asked", device->path);
        else if (reader.bad || header.size != (size_t)n)
                backend_lose(&device->backend, "%s: it sent an answer of impossible size", device->path);
        else
                backend_answered(&device->backend, answer, (size_t)n);
        if (n > 0)
                explicit_bzero(answer, (size_t)n);
}

/* Behind what the system says: what whoever reads it may do. */
static char *open_hint(const Device *device, int error) {
        g_autofree char *holder = NULL;

        switch (error) {
        case ENOENT:
        case ENXIO:
        case ENODEV:
                return g_strdup("; the kernel has no such TPM: it is off in the firmware, or its driver is missing");
        case EACCES:
                return g_strdup_printf("; uid %u may not open it", (unsigned)geteuid());
        case EBUSY:
                if (device->reported_busy)
                        break;
                holder = backend_device_holder(device->path);
                return holder ? g_strdup_printf(", by %s; end that one, or have it use this daemon", holder)
                              : g_strdup_printf("; fuser %s, as root, says by whom", device->path);
        default:
                break;
        }
        return g_strdup("");
}

static void device_open(Backend *backend) {
        Device *device = (Device *)backend;
        g_autofree char *hint = NULL;
        int r;

        device->source.fd = open(device->path, O_RDWR | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
        r = device->source.fd < 0 ? -errno : 0;
        if (r == 0) {
                r = loop_add(backend->loop, &device->source, device->source.fd, EPOLLIN, device_on_answer);
                if (r == -EPERM) { /* a file, a folder, /dev/null */
                        backend_lose(backend, "%s: it is no TPM", device->path);
                        return;
                }
        }
        if (r == 0) {
                device->reported_busy = false;
                backend_opened(backend);
                return;
        }
        hint = open_hint(device, -r);
        device->reported_busy = r == -EBUSY;
        backend_lose(backend, "%s: %s%s", device->path, g_strerror(-r), hint);
}

static bool device_transmit(Backend *backend, const uint8_t *command, size_t n_command, uint8_t locality,
                            GError **error) {
        Device *device = (Device *)backend;
        ssize_t n;

        if (n_command > DEVICE_COMMAND_MAX) {
                backend_refuse(backend, TPM2_RC_COMMAND_SIZE);
                return true;
        }
        do
                n = write(device->source.fd, command, n_command);
        while (n < 0 && errno == EINTR);
        if (n == (ssize_t)n_command)
                return true;
        g_set_error(error, BACKEND_ERROR, BACKEND_ERROR_LOST, "%s: %s", device->path, g_strerror(n < 0 ? errno : EIO));
        return false;
}

static void device_free(Backend *backend) {
        Device *device = (Device *)backend;

        g_free(device->path);
        g_free(device);
}

static const BackendOps device_ops = {
        .open = device_open,
        .close = device_close,
        .transmit = device_transmit,
        .free = device_free,
};

bool backend_device_speaks(const char *conf) {
        return g_str_equal(conf, "device") || g_str_has_prefix(conf, "device:");
}

Backend *backend_device_new(const char *conf) {
        const char *colon = strchr(conf, ':');
        Device *device = g_new0(Device, 1);

        device->backend.ops = &device_ops;
        device->path = g_strdup(colon && colon[1] ? colon + 1 : BACKEND_DEVICE_DEFAULT);
        device->source.fd = -1;
        return &device->backend;
}
