/* SPDX-License-Identifier: BSD-2-Clause */

/*
 * System calls that fail
 *
 * Loaded into the daemon by LD_PRELOAD. Counts calls of some functions, and has one of them fail: when and how stands
 * in a file that test/lib/preload.py shares with it, TABRMD_PRELOAD. With TABRMD_OLD_KERNEL there is no SO_PASSRIGHTS.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))
#define PASSRIGHTS 83

/* In the order of FUNCTIONS in preload.py. */
enum {
        CALL_MALLOC,
        CALL_ACCEPT4,
        CALL_EPOLL_CTL,
        CALL_RECV,
        CALL_RECVMSG,
        CALL_SEND,
        CALL_SENDMSG,
        CALL_READ,
        CALL_WRITE,
        CALL_MEMFD_CREATE,
        CALL_MMAP,
        CALL_SOCKETPAIR,
        CALL_GETSOCKOPT,
        CALL_TIMER_CREATE,
        CALLS,
};

typedef struct Shared {
        _Atomic uint64_t n_calls[CALLS];
        uint64_t fail_at[CALLS]; /* the call with this number fails; 0: none */
        uint64_t error[CALLS];
        _Atomic uint64_t n_failed[CALLS];
} Shared;

static Shared *shared;
static bool old_kernel;

static void *next(const char *name) {
        return dlsym(RTLD_NEXT, name);
}

/* Of GLib itself, whose wake-ups cannot fail, nothing is counted, and of the C library neither. */
static bool is_of_interest(const void *caller) {
        Dl_info info;

        return dladdr(caller, &info) && info.dli_fname && !strstr(info.dli_fname, "libglib") &&
               !strstr(info.dli_fname, "libc.so");
}

static bool call_fails(unsigned call, const void *caller) {
        if (!shared || !is_of_interest(caller))
                return false;
        if (atomic_fetch_add(&shared->n_calls[call], 1) + 1 != shared->fail_at[call])
                return false;
        atomic_fetch_add(&shared->n_failed[call], 1);
        errno = (int)shared->error[call];
        return true;
}

__attribute__((constructor)) static void preload(void) {
        const char *path = getenv("TABRMD_PRELOAD");
        int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
        void *memory;

        old_kernel = getenv("TABRMD_OLD_KERNEL");
        if (fd < 0)
                return;
        memory = mmap(NULL, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        if (memory != MAP_FAILED)
                shared = memory;
        close(fd);
}

#define WRAP(result, name, call, parameters, arguments)                                                                \
        EXPORT result name parameters {                                                                                \
                static result(*real) parameters;                                                                       \
                if (!real)                                                                                             \
                        real = next(#name);                                                                            \
                return call_fails(call, __builtin_return_address(0)) ? (result)-1 : real arguments;                    \
        }

WRAP(int, accept4, CALL_ACCEPT4, (int fd, struct sockaddr *address, socklen_t *n, int flags), (fd, address, n, flags))
WRAP(ssize_t, recv, CALL_RECV, (int fd, void *bytes, size_t n, int flags), (fd, bytes, n, flags))
WRAP(ssize_t, recvmsg, CALL_RECVMSG, (int fd, struct msghdr *message, int flags), (fd, message, flags))
WRAP(ssize_t, send, CALL_SEND, (int fd, const void *bytes, size_t n, int flags), (fd, bytes, n, flags))
WRAP(ssize_t, sendmsg, CALL_SENDMSG, (int fd, const struct msghdr *message, int flags), (fd, message, flags))
WRAP(ssize_t, read, CALL_READ, (int fd, void *bytes, size_t n), (fd, bytes, n))
WRAP(ssize_t, write, CALL_WRITE, (int fd, const void *bytes, size_t n), (fd, bytes, n))
WRAP(int, memfd_create, CALL_MEMFD_CREATE, (const char *name, unsigned flags), (name, flags))
WRAP(int, socketpair, CALL_SOCKETPAIR, (int domain, int type, int protocol, int pair[2]),
     (domain, type, protocol, pair))

WRAP(int, timer_create, CALL_TIMER_CREATE, (clockid_t clock, struct sigevent *event, timer_t *timer),
     (clock, event, timer))

EXPORT void *mmap(void *address, size_t n, int protection, int flags, int fd, off_t offset) {
        static void *(*real)(void *, size_t, int, int, int, off_t);

        if (!real)
                real = next(sizeof(off_t) > sizeof(long) ? "mmap64" : "mmap");
        if (call_fails(CALL_MMAP, __builtin_return_address(0)))
                return MAP_FAILED;
        return real(address, n, protection, flags, fd, offset);
}

/* To remove needs no memory, and cannot fail. */
EXPORT int epoll_ctl(int epoll, int what, int fd, struct epoll_event *event) {
        static int (*real)(int, int, int, struct epoll_event *);

        if (!real)
                real = next("epoll_ctl");
        if (what != EPOLL_CTL_DEL && call_fails(CALL_EPOLL_CTL, __builtin_return_address(0)))
                return -1;
        return real(epoll, what, fd, event);
}

EXPORT int getsockopt(int fd, int level, int option, void *restrict value, socklen_t *restrict n) {
        static int (*real)(int, int, int, void *, socklen_t *);

        if (!real)
                real = next("getsockopt");
        if (old_kernel && level == SOL_SOCKET && option == PASSRIGHTS) {
                errno = ENOPROTOOPT;
                return -1;
        }
        return call_fails(CALL_GETSOCKOPT, __builtin_return_address(0)) ? -1 : real(fd, level, option, value, n);
}

EXPORT int setsockopt(int fd, int level, int option, const void *value, socklen_t n) {
        static int (*real)(int, int, int, const void *, socklen_t);

        if (!real)
                real = next("setsockopt");
        if (old_kernel && level == SOL_SOCKET && option == PASSRIGHTS) {
                errno = ENOPROTOOPT;
                return -1;
        }
        return real(fd, level, option, value, n);
}

/*
 * What clients decide the size of is allocated with g_try_malloc(), which is here so that a failure does not end the
 * process in GLib, as one of its own allocations would.
 */
EXPORT void *g_try_malloc(size_t n);
EXPORT void *g_try_malloc(size_t n) {
        return call_fails(CALL_MALLOC, __builtin_return_address(0)) ? NULL : malloc(n);
}
