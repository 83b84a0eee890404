/* SPDX-License-Identifier: BSD-2-Clause */
#include "door/listener.h"

#include "util/fd.h"
#include "util/foreign.h"
#include "util/list.h"
#include "util/log.h"
#include "util/platform.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define SOCKET_GROUP "tss"
#define FOLDER_MODE 0755

#define ACCEPTS_MAX 16 /* in one turn, so that a crowd at the door does not stop those inside */
#define RETRY_MS 100

struct Listener {
        Loop *loop;
        char *path;
        int fd;
        struct stat file; /* that we have bound */
        int lock;         /* on PATH.lock: whoever holds it owns the path; -1: somebody else's path */
        int reserve; /* given up to accept a client for which there is no descriptor; -1: could not be had back yet */
        LoopFd watch;
        guint retry;
        void (*accepted)(void *userdata, int fd);
        void *userdata;
};

static void listener_event(LoopFd *self, uint32_t events);

static gboolean listener_retry(gpointer userdata) {
        Listener *listener = userdata;

        if (loop_add(listener->loop, &listener->watch, listener->fd, EPOLLIN, listener_event) < 0)
                return G_SOURCE_CONTINUE;
        listener->retry = 0;
        return G_SOURCE_REMOVE;
}

/* Those who wait at the door keep waiting in the queue of the kernel. */
static void listener_pause(Listener *listener) {
        loop_remove(&listener->watch);
        listener->retry = g_timeout_add(RETRY_MS, listener_retry, listener);
}

static int listener_accept(Listener *listener) {
        return accept4(listener->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
}

void listener_refuse(Listener *listener, int fd) {
        foreign_close(loop_closer(listener->loop), fd);
}

static int reserve_open(void) {
        return open("/dev/null", O_RDONLY | O_CLOEXEC);
}

/* No descriptor is left: the client at the door is let in with the reserve, and out again. Return: false: not even
 * that. */
static bool listener_turn_away(Listener *listener) {
        int fd, saved;

        if (listener->reserve < 0)
                return false;
        listener->reserve = fd_close(listener->reserve);
        fd = listener_accept(listener);
        saved = errno;
        if (fd >= 0)
                listener_refuse(listener, fd);
        listener->reserve = reserve_open();
        errno = saved;
        if (fd < 0)
                return false;
        log_limited(LOG_WARNING, "a client is refused: %s; raise the limit of open files (LimitNOFILE=, ulimit -n)",
                    g_strerror(EMFILE));
        return true;
}

static void listener_event(LoopFd *self, uint32_t events) {
        Listener *listener = list_entry(self, Listener, watch);

        if (listener->reserve < 0)
                listener->reserve = reserve_open();

        for (unsigned i = 0; i < ACCEPTS_MAX; i++) {
                int fd;

                if (closer_n_pending(loop_closer(listener->loop)) >= CLOSER_PENDING_MAX) {
                        log_limited(LOG_WARNING,
                                    "clients wait: %d descriptors that others have sent are still to be closed",
                                    CLOSER_PENDING_MAX);
                        listener_pause(listener);
                        return;
                }
                fd = listener_accept(listener);
                if (fd >= 0) {
                        listener->accepted(listener->userdata, fd);
                        continue;
                }
                if (errno == EINTR || errno == ECONNABORTED)
                        continue;
                /* Asked for a descriptor first, the kernel says so even when nobody is at the door. */
                if ((errno == EMFILE || errno == ENFILE) && listener_turn_away(listener))
                        continue;
                if (errno == EAGAIN)
                        return;
                log_limited(LOG_WARNING, "clients cannot be accepted, and wait: %s", g_strerror(errno));
                listener_pause(listener);
                return;
        }
}

static bool listener_fail(GError **error, const char *path, const char *what) {
        int saved = errno;
        g_autofree char *who = NULL;

        if (saved == EACCES || saved == EPERM)
                who = g_strdup_printf(" (the daemon is uid %u)", (unsigned)geteuid());
        g_set_error(error, G_FILE_ERROR, (gint)g_file_error_from_errno(saved), "%s: %s: %s%s", path, what,
                    g_strerror(saved), who ? who : "");
        return false;
}

/* For what the system has no good word. */
static bool listener_fail_plainly(GError **error, const char *path, const char *what) {
        g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_FAILED, "%s: %s", path, what);
        return false;
}

static bool refuse_taken(GError **error, const ListenerConfig *config, const char *what) {
        g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_FAILED, "%s: %s, or give another %s", config->path, what,
                    config->option);
        return false;
}

static bool folder_make(const char *path, GError **error) {
        g_autofree char *folder = g_path_get_dirname(path);

        if (mkdir(folder, FOLDER_MODE) < 0 && errno != EEXIST)
                return listener_fail(error, folder, "cannot be made");
        return true;
}

static int lock_take(const ListenerConfig *config, GError **error) {
        const char *path = config->path;
        g_autofree char *lock_path = g_strconcat(path, ".lock", NULL);
        /* Who has a lease on such a file would keep us waiting. */
        fd_auto lock = open(lock_path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600);

        if (lock < 0) {
                listener_fail(error, lock_path, "cannot be opened");
                return -1;
        }
        /* The file stays when we go: to remove it would let two others lock one each. */
        if (flock(lock, LOCK_EX | LOCK_NB) < 0) {
                if (errno == EWOULDBLOCK)
                        refuse_taken(error, config, "another daemon has it; end that one");
                else
                        listener_fail(error, lock_path, "cannot be locked");
                return -1;
        }
        return fd_steal(&lock);
}

/* Something is at the path. Take it away if it is a socket that nobody listens on. */
static bool stale_remove(const ListenerConfig *config, const struct sockaddr_un *address, GError **error) {
        fd_auto fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        struct stat st;

        if (fd < 0)
                return listener_fail(error, address->sun_path, "cannot be tried");
        if (lstat(address->sun_path, &st) < 0)
                return errno == ENOENT || listener_fail(error, address->sun_path, "cannot be looked at");
        if (!S_ISSOCK(st.st_mode))
                return refuse_taken(error, config, "it is there, and is no socket; remove it");
        /* The lock is known to daemons of our own kind only. */
        if (connect(fd, (const struct sockaddr *)address, sizeof(*address)) == 0 || errno != ECONNREFUSED)
                return refuse_taken(error, config, "another program listens there; end that one");
        if (unlink(address->sun_path) < 0 && errno != ENOENT)
                return listener_fail(error, address->sun_path, "cannot be replaced");
        return true;
}

static bool group_find(const char *name, gid_t *ret_gid) {
        struct group group, *found = NULL;
        char buffer[4096];
        guint64 number;

        if (g_ascii_string_to_unsigned(name, 10, 0, G_MAXUINT32 - 1, &number, NULL)) {
                *ret_gid = (gid_t)number;
                return true;
        }
        if (getgrnam_r(name, &group, buffer, sizeof(buffer), &found) != 0 || !found)
                return false;
        *ret_gid = found->gr_gid;
        return true;
}

/*
 * The file that we have bound, so that it can be changed by descriptor. By its path it could not: in a folder of
 * somebody else's, that may be a link to any file by now. Return: -1 with @error.
 */
static int file_find(const ListenerConfig *config, struct stat *ret_file, GError **error) {
        fd_auto file = open(config->path, O_PATH | O_NOFOLLOW | O_CLOEXEC);

        if (file < 0 || fstat(file, ret_file) < 0) {
                listener_fail(error, config->path, "cannot be looked at");
                return -1;
        }
        if (!S_ISSOCK(ret_file->st_mode) || ret_file->st_uid != geteuid() || ret_file->st_nlink != 1) {
                refuse_taken(error, config,
                             "somebody has put another file in its place; see who may write to its folder");
                return -1;
        }
        return fd_steal(&file);
}

/* Return: false with @error when a group that was asked for cannot be given. */
static bool group_give(const ListenerConfig *config, int file, GError **error) {
        g_autofree char *what = g_strdup_printf("cannot be given to group %s", config->group ? config->group : "");
        gid_t gid;

        if (!group_find(config->group ? config->group : SOCKET_GROUP, &gid)) {
                g_autofree char *none = g_strdup_printf("there is no group %s to give it to", config->group);

                return !config->group || listener_fail_plainly(error, config->path, none);
        }
        if (fchownat(file, "", (uid_t)-1, gid, AT_EMPTY_PATH) == 0)
                return true;
        if (config->group)
                return listener_fail(error, config->path, what);
        log_debug("%s stays out of group %s: %s", config->path, SOCKET_GROUP, g_strerror(errno));
        return true;
}

static int listener_open(const ListenerConfig *config, const struct sockaddr_un *address, struct stat *ret_file,
                         GError **error) {
        fd_auto fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        fd_auto file = -1;
        const char *path = address->sun_path;

        if (fd < 0) {
                listener_fail(error, path, "no socket");
                return -1;
        }
        if (platform_bind(fd, (const struct sockaddr *)address, sizeof(*address), config->mode) < 0) {
                listener_fail(error, path, "cannot be bound");
                return -1;
        }
        file = file_find(config, ret_file, error);
        if (file < 0)
                return -1;
        if (!group_give(config, file, error)) {
                (void)unlink(path);
                return -1;
        }
        if (listen(fd, SOMAXCONN) < 0) {
                listener_fail(error, path, "cannot be listened on");
                (void)unlink(path);
                return -1;
        }
        return fd_steal(&fd);
}

/* Return: the listener, its file, and the lock that keeps the path ours. */
static int path_take(const ListenerConfig *config, struct stat *ret_file, int *ret_lock, GError **error) {
        struct sockaddr_un address = { .sun_family = AF_UNIX };
        fd_auto lock = -1;
        int fd;

        if (g_strlcpy(address.sun_path, config->path, sizeof(address.sun_path)) >= sizeof(address.sun_path)) {
                listener_fail_plainly(error, config->path, "the path of a socket has at most 107 bytes");
                return -1;
        }
        if (!folder_make(config->path, error))
                return -1;
        lock = lock_take(config, error);
        if (lock < 0 || !stale_remove(config, &address, error))
                return -1;
        fd = listener_open(config, &address, ret_file, error);
        if (fd >= 0)
                *ret_lock = fd_steal(&lock);
        return fd;
}

Listener *listener_new(Loop *loop, const ListenerConfig *config, void (*accepted)(void *userdata, int fd),
                       void *userdata, GError **error) {
        Listener *listener;
        struct stat file = { 0 };
        int lock = -1;
        int fd = config->fd >= 0 ? config->fd : path_take(config, &file, &lock, error);
        int r;

        if (fd < 0)
                return NULL;
        listener = g_new0(Listener, 1);
        *listener = (Listener){
                .loop = loop,
                .path = g_strdup(config->path),
                .fd = fd,
                .file = file,
                .lock = lock,
                .reserve = reserve_open(),
                .accepted = accepted,
                .userdata = userdata,
        };
        (void)foreign_refuse(fd);
        r = fcntl(fd, F_SETFL, O_NONBLOCK) < 0 ? -errno : loop_add(loop, &listener->watch, fd, EPOLLIN, listener_event);
        if (r < 0) {
                errno = -r;
                listener_fail(error, config->path, "cannot be watched");
                return listener_free(listener);
        }
        return listener;
}

const char *listener_path(const Listener *listener) {
        return listener->path;
}

static bool socket_is(int fd, int option, int expected) {
        int value = -1;

        return getsockopt(fd, SOL_SOCKET, option, &value, &(socklen_t){ sizeof(value) }) == 0 && value == expected;
}

char *listener_inherited(int fd, GError **error) {
        struct sockaddr_un address = { 0 };
        socklen_t n = sizeof(address);

        if (!socket_is(fd, SO_DOMAIN, AF_UNIX) || !socket_is(fd, SO_TYPE, SOCK_STREAM) ||
            !socket_is(fd, SO_ACCEPTCONN, 1) || getsockname(fd, (struct sockaddr *)&address, &n) < 0) {
                g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_INVAL,
                            "descriptor %d of the service manager is no Unix stream socket that listens", fd);
                return NULL;
        }
        if (n > offsetof(struct sockaddr_un, sun_path) && address.sun_path[0])
                return g_strndup(address.sun_path, sizeof(address.sun_path));
        return g_strdup_printf("[descriptor %d]", fd);
}

/* Ours, but not what somebody has put in its place. */
static void file_remove(const Listener *listener) {
        struct stat now;

        if (listener->lock >= 0 && lstat(listener->path, &now) == 0 && now.st_dev == listener->file.st_dev &&
            now.st_ino == listener->file.st_ino)
                (void)unlink(listener->path);
}

Listener *listener_free(Listener *listener) {
        if (!listener)
                return NULL;

        g_clear_handle_id(&listener->retry, g_source_remove);
        loop_remove(&listener->watch);
        file_remove(listener);
        fd_close(listener->fd);
        fd_close(listener->reserve);
        fd_close(listener->lock);
        g_free(listener->path);
        g_free(listener);
        return NULL;
}
