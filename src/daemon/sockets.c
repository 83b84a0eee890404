/* SPDX-License-Identifier: BSD-2-Clause */
#include "daemon/sockets.h"

#include "frontend/frontend-unix.h"
#include "util/fd.h"
#include "util/log.h"
#include "util/names.h"

#include <fcntl.h>
#include <unistd.h>

#define LISTEN_FDS_START 3
#define LISTEN_FDS_MAX 64
#define MANAGER_NAME "manager" /* FileDescriptorName= of its socket unit */

static size_t n_handed_over(void) {
        const char *pid = g_getenv("LISTEN_PID"), *fds = g_getenv("LISTEN_FDS");
        guint64 number;

        if (!pid || !fds || !g_ascii_string_to_unsigned(pid, 10, 1, G_MAXINT, &number, NULL) ||
            (pid_t)number != getpid())
                return 0;
        if (g_ascii_string_to_unsigned(fds, 10, 0, LISTEN_FDS_MAX, &number, NULL))
                return number;
        log_warning("LISTEN_FDS is \"%s\", which is no number up to %d: no socket is taken over", fds, LISTEN_FDS_MAX);
        return 0;
}

static void frontend_free(gpointer frontend) {
        frontend_unix_free(frontend);
}

void sockets_init(Sockets *sockets) {
        g_auto(GStrv) names = g_strsplit(g_getenv("LISTEN_FDNAMES") ?: "", ":", -1);
        size_t n_names = g_strv_length(names);
        size_t n = n_handed_over();

        *sockets = (Sockets){
                .inherited = g_new(int, n),
                .manager = -1,
                .frontends = g_ptr_array_new_with_free_func(frontend_free),
        };
        for (size_t i = 0; i < n; i++) {
                int fd = LISTEN_FDS_START + (int)i;

                (void)fcntl(fd, F_SETFD, FD_CLOEXEC);
                /* That one speaks another language: by no means may it be taken for a door of clients. */
                if (i >= n_names || !g_str_equal(names[i], MANAGER_NAME)) {
                        sockets->inherited[sockets->n_inherited++] = fd;
                        continue;
                }
                fd_close(sockets->manager);
                sockets->manager = fd;
        }
        g_unsetenv("LISTEN_PID");
        g_unsetenv("LISTEN_FDS");
        g_unsetenv("LISTEN_FDNAMES");
}

void sockets_close(Sockets *sockets) {
        g_clear_pointer(&sockets->frontends, g_ptr_array_unref);
        for (size_t i = 0; i < sockets->n_inherited; i++)
                fd_close(sockets->inherited[i]);
        g_clear_pointer(&sockets->inherited, g_free);
        sockets->n_inherited = 0;
        sockets->manager = fd_close(sockets->manager);
}

int sockets_take_manager(Sockets *sockets) {
        return fd_steal(&sockets->manager);
}

static bool open_one(Sockets *sockets, Loop *loop, Broker *broker, const SocketOption *option, int fd, GError **error) {
        const FrontendUnixConfig config = {
                .path = option->path,
                .fd = fd,
                .mode = option->mode,
                .group = option->group,
                .localities = option->localities,
                .linger = option->linger,
        };
        FrontendUnix *frontend = frontend_unix_new(loop, broker, &config, error);

        if (frontend)
                g_ptr_array_add(sockets->frontends, frontend);
        return frontend;
}

static const SocketOption *find_option(const Options *options, const char *path) {
        for (size_t i = 0; i < options->n_sockets; i++)
                if (g_str_equal(options->sockets[i].path, path))
                        return &options->sockets[i];
        return NULL;
}

static bool open_inherited(Sockets *sockets, Loop *loop, Broker *broker, const Options *options, GError **error) {
        for (size_t i = 0; i < sockets->n_inherited; i++) {
                g_autofree char *path = listener_inherited(sockets->inherited[i], error);
                SocketOption plain = { .path = path, .mode = FRONTEND_UNIX_MODE, .localities = 1 };
                const SocketOption *option;

                if (!path)
                        return false;
                option = find_option(options, path);
                if (!open_one(sockets, loop, broker, option ? option : &plain, fd_steal(&sockets->inherited[i]), error))
                        return false;
        }
        return true;
}

static bool is_open(const Sockets *sockets, const char *path) {
        for (size_t i = 0; i < sockets->frontends->len; i++)
                if (g_str_equal(frontend_unix_path(sockets->frontends->pdata[i]), path))
                        return true;
        return false;
}

static bool open_default(Sockets *sockets, Loop *loop, Broker *broker, const Options *options, GError **error) {
        SocketOption option = { .path = (char *)TABRMD_SOCKET_PATH, .mode = FRONTEND_UNIX_MODE, .localities = 1 };
        g_autoptr(GError) cause = NULL;

        if (open_one(sockets, loop, broker, &option, -1, &cause))
                return true;
        if (!options->dbus) {
                g_propagate_error(error, g_steal_pointer(&cause));
                return false;
        }
        /* Nobody asked for it by name, and there is the bus. */
        log_warning("no socket, only the bus: %s", cause->message);
        return true;
}

bool sockets_open(Sockets *sockets, Loop *loop, Broker *broker, const Options *options, GError **error) {
        if (!open_inherited(sockets, loop, broker, options, error))
                return false;
        for (size_t i = 0; i < options->n_sockets; i++)
                if (!is_open(sockets, options->sockets[i].path) &&
                    !open_one(sockets, loop, broker, &options->sockets[i], -1, error))
                        return false;
        if (options->n_sockets > 0 || sockets->n_inherited > 0 || options->no_socket)
                return true;
        return open_default(sockets, loop, broker, options, error);
}

bool sockets_any(const Sockets *sockets) {
        return sockets->frontends->len > 0;
}

char *sockets_text(const Sockets *sockets) {
        GString *text = g_string_new(sockets->frontends->len > 0 ? "socket" : "no socket");

        for (size_t i = 0; i < sockets->frontends->len; i++)
                g_string_append_printf(text, " %s", frontend_unix_path(sockets->frontends->pdata[i]));
        return g_string_free(text, FALSE);
}
