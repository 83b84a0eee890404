/* SPDX-License-Identifier: BSD-2-Clause */
#include "util/platform.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#if defined(__linux__)

#include "util/fd.h"

#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/inotify.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#ifndef SO_PASSRIGHTS
#define SO_PASSRIGHTS 83 /* Linux 6.16; younger than the headers of the C library */
#endif
#ifndef sigev_notify_thread_id
#define sigev_notify_thread_id _sigev_un._tid
#endif

#define CLOSE_TICK_NS 1000000
#define KEY_PROCESS_KEYRING (-2) /* as linux/keyctl.h has it */
#define IN_NAMED (IN_CREATE | IN_DELETE | IN_MOVE | IN_ATTRIB)

bool platform_peer(int fd, uid_t *ret_uid, pid_t *ret_pid) {
        struct ucred credentials = { 0 };
        socklen_t n = sizeof(credentials);

        if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &credentials, &n) < 0)
                return false;
        *ret_uid = credentials.uid;
        *ret_pid = credentials.pid;
        return true;
}

/* That of another PID namespace would tell of other processes. */
static bool proc_is_ours(void) {
        char text[16];
        ssize_t n = readlink("/proc/self", text, sizeof(text) - 1);

        text[n > 0 ? n : 0] = '\0';
        return strtol(text, NULL, 10) == getpid();
}

/* A file of one line. */
static bool read_line(const char *path, char *line, size_t size) {
        fd_auto fd = open(path, O_RDONLY | O_CLOEXEC);
        ssize_t n = fd < 0 ? -1 : read(fd, line, size - 1);

        if (n <= 0)
                return false;
        line[line[n - 1] == '\n' ? n - 1 : n] = '\0';
        return true;
}

bool platform_process_name(pid_t pid, char *name, size_t size) {
        char path[64];

        if (!proc_is_ours())
                return false;
        snprintf(path, sizeof(path), "/proc/%d/comm", (int)pid);
        return read_line(path, name, size);
}

/* The 22nd field; the second one may have anything in it, and ends with the last bracket. */
bool platform_process_start(pid_t pid, uint64_t *ret_start) {
        char path[64], line[1024], *field;

        snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
        if (!proc_is_ours() || !read_line(path, line, sizeof(line)))
                return false;
        field = strrchr(line, ')');
        for (unsigned i = 2; field && i < 22; i++)
                field = strchr(field + 1, ' ');
        return field && sscanf(field, " %" SCNu64, ret_start) == 1;
}

int platform_process_end(pid_t pid) {
        return (int)syscall(SYS_pidfd_open, pid, 0);
}

bool platform_boot(char boot[static PLATFORM_BOOT_SIZE]) {
        return read_line("/proc/sys/kernel/random/boot_id", boot, PLATFORM_BOOT_SIZE);
}

bool platform_set_rights(int fd, bool allowed) {
        int value = allowed;

        return setsockopt(fd, SOL_SOCKET, SO_PASSRIGHTS, &value, sizeof(value)) == 0;
}

bool platform_refuses_rights(int fd) {
        socklen_t n = sizeof(int);
        int value = 1;

        return getsockopt(fd, SOL_SOCKET, SO_PASSRIGHTS, &value, &n) == 0 && value == 0;
}

static void on_tick(int signal) {
}

/* Without a timer it waits for as long as the descriptor likes, as it would have done. */
void platform_close_soon(int fd) {
        const struct itimerspec tick = { .it_interval.tv_nsec = CLOSE_TICK_NS, .it_value.tv_nsec = CLOSE_TICK_NS };
        const struct sigaction action = { .sa_handler = on_tick };
        struct sigevent event = { .sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGALRM };
        sigset_t signals;
        timer_t timer;
        bool ticks;

        event.sigev_notify_thread_id = (pid_t)syscall(SYS_gettid);
        sigemptyset(&signals);
        sigaddset(&signals, SIGALRM);
        ticks = sigaction(SIGALRM, &action, NULL) == 0 && pthread_sigmask(SIG_UNBLOCK, &signals, NULL) == 0 &&
                timer_create(CLOCK_MONOTONIC, &event, &timer) == 0;
        if (ticks)
                (void)timer_settime(timer, 0, &tick, NULL);
        fd_close(fd);
        if (ticks)
                (void)timer_delete(timer);
}

void platform_hide_process(void) {
        (void)prctl(PR_SET_DUMPABLE, 0);
}

void platform_hide_memory(void *block, size_t size) {
        (void)madvise(block, size, MADV_DONTDUMP);
}

/* What no key can be made of says whether there is such a type: it is looked up first. */
bool platform_may_have_keys(const char *type) {
        return syscall(SYS_add_key, type, "tpm2-abrmd", "-", 1, KEY_PROCESS_KEYRING) >= 0 || errno != ENODEV;
}

int platform_watch_new(void) {
        return inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
}

int platform_watch_file(int fd, const char *path) {
        return inotify_add_watch(fd, path, IN_OPEN | IN_CLOSE | IN_ACCESS | IN_MODIFY);
}

int platform_watch_folder(int fd, const char *path) {
        return inotify_add_watch(fd, path, IN_NAMED | IN_ONLYDIR);
}

void platform_watch_end(int fd, int watch) {
        (void)inotify_rm_watch(fd, watch);
}

static unsigned watch_events(uint32_t mask) {
        return (mask & IN_OPEN ? PLATFORM_OPENED : 0) | (mask & IN_CLOSE ? PLATFORM_CLOSED : 0) |
               (mask & (IN_ACCESS | IN_MODIFY) ? PLATFORM_USED : 0) | (mask & IN_NAMED ? PLATFORM_NAMED : 0) |
               (mask & IN_IGNORED ? PLATFORM_UNWATCHED : 0) | (mask & IN_Q_OVERFLOW ? PLATFORM_MISSED : 0);
}

void platform_watch_read(int fd, PlatformTell tell, void *userdata) {
        _Alignas(struct inotify_event) char bytes[4096];
        ssize_t n = read(fd, bytes, sizeof(bytes));

        for (char *at = bytes; at < bytes + n;) {
                const struct inotify_event *event = (const struct inotify_event *)at;

                at += sizeof(*event) + event->len;
                tell(userdata, event->wd, watch_events(event->mask), event->len > 0 ? event->name : NULL);
        }
}

/* An emulator that takes advice which there is not follows none. */
bool platform_wipe_on_fork(void *pages, size_t size) {
        return madvise(pages, size, -1) < 0 && madvise(pages, size, MADV_WIPEONFORK) == 0;
}

#elif defined(__FreeBSD__)

#include <sys/procctl.h>
#include <sys/sysctl.h>
#include <sys/ucred.h>
#include <sys/un.h>
#include <sys/user.h>
#include <unistd.h>

bool platform_peer(int fd, uid_t *ret_uid, pid_t *ret_pid) {
        struct xucred credentials = { 0 };
        socklen_t n = sizeof(credentials);

        if (getsockopt(fd, SOL_LOCAL, LOCAL_PEERCRED, &credentials, &n) < 0)
                return false;
        if (credentials.cr_version != XUCRED_VERSION) {
                errno = EPROTO;
                return false;
        }
        *ret_uid = credentials.cr_uid;
        *ret_pid = credentials.cr_pid;
        return true;
}

static bool read_process(pid_t pid, struct kinfo_proc *ret_process) {
        int mib[] = { CTL_KERN, KERN_PROC, KERN_PROC_PID, pid };
        size_t n = sizeof(*ret_process);

        return sysctl(mib, sizeof(mib) / sizeof(mib[0]), ret_process, &n, NULL, 0) == 0 && n == sizeof(*ret_process);
}

bool platform_process_start(pid_t pid, uint64_t *ret_start) {
        struct kinfo_proc process;

        if (!read_process(pid, &process))
                return false;
        *ret_start = (uint64_t)process.ki_start.tv_sec * 1000000 + (uint64_t)process.ki_start.tv_usec;
        return true;
}

/* A kqueue would tell; nobody has written that. */
int platform_process_end(pid_t pid) {
        errno = ENOSYS;
        return -1;
}

bool platform_process_name(pid_t pid, char *name, size_t size) {
        struct kinfo_proc process;
        size_t n;

        if (!read_process(pid, &process))
                return false;
        n = strnlen(process.ki_comm, size - 1);
        memcpy(name, process.ki_comm, n);
        name[n] = '\0';
        return true;
}

bool platform_boot(char boot[static PLATFORM_BOOT_SIZE]) {
        size_t n = PLATFORM_BOOT_SIZE;

        return sysctlbyname("kern.boot_id", boot, &n, NULL, 0) == 0 && memchr(boot, '\0', n);
}

/* A message with descriptors cannot be refused. */
bool platform_set_rights(int fd, bool allowed) {
        return false;
}

bool platform_refuses_rights(int fd) {
        return false;
}

void platform_close_soon(int fd) {
        (void)close(fd);
}

/* It has no keys. */
bool platform_may_have_keys(const char *type) {
        return false;
}

/* Only FreeBSD 15 has an inotify; nobody has tried that. */
int platform_watch_new(void) {
        errno = ENOSYS;
        return -1;
}

int platform_watch_file(int fd, const char *path) {
        errno = ENOSYS;
        return -1;
}

int platform_watch_folder(int fd, const char *path) {
        errno = ENOSYS;
        return -1;
}

void platform_watch_end(int fd, int watch) {
}

void platform_watch_read(int fd, PlatformTell tell, void *userdata) {
}

void platform_hide_process(void) {
        (void)procctl(P_PID, 0, PROC_TRACE_CTL, &(int){ PROC_TRACE_CTL_DISABLE });
}

void platform_hide_memory(void *block, size_t size) {
        (void)madvise(block, size, MADV_NOCORE);
}

bool platform_wipe_on_fork(void *pages, size_t size) {
        return minherit(pages, size, INHERIT_ZERO) == 0;
}

#else
#error "platform.c has nothing for this system"
#endif

/*
 * The file gets the mode of the socket less the umask. FreeBSD does not let the former be changed, which is 0777 there;
 * on Linux it counts where the folder's default ACL takes the place of the umask.
 */
int platform_bind(int fd, const struct sockaddr *address, socklen_t n_address, mode_t mode) {
        mode_t before = umask(~mode & 0777);
        int r;

        (void)fchmod(fd, mode);
        r = bind(fd, address, n_address);
        (void)umask(before);
        return r;
}
