/* SPDX-License-Identifier: BSD-2-Clause */

/*
 * Counts allocations
 *
 * Loaded into the daemon by LD_PRELOAD, not below a sanitizer, which has allocators of its own. How many there were
 * stands in a file that a test shares with it, TABRMD_ALLOCATIONS.
 */
#include <fcntl.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))

/* What the C library calls its own, so that they can be wrapped before anything can be looked up. */
extern void *__libc_malloc(size_t n);
extern void *__libc_calloc(size_t n, size_t size);
extern void *__libc_realloc(void *bytes, size_t n);

static _Atomic uint64_t early;
static _Atomic uint64_t *n_allocations = &early;

__attribute__((constructor)) static void allocations(void) {
        const char *path = getenv("TABRMD_ALLOCATIONS");
        int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
        void *memory = fd >= 0 ? mmap(NULL, sizeof(early), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) : MAP_FAILED;

        if (memory != MAP_FAILED)
                n_allocations = memory;
        if (fd >= 0)
                close(fd);
}

EXPORT void *malloc(size_t n) {
        atomic_fetch_add(n_allocations, 1);
        return __libc_malloc(n);
}

EXPORT void *calloc(size_t n, size_t size) {
        atomic_fetch_add(n_allocations, 1);
        return __libc_calloc(n, size);
}

EXPORT void *realloc(void *bytes, size_t n) {
        atomic_fetch_add(n_allocations, 1);
        return __libc_realloc(bytes, n);
}
