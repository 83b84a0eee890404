/* SPDX-License-Identifier: BSD-2-Clause */
#include "tcti/owner.h"

#include "util/platform.h"

#include <sys/mman.h>
#include <unistd.h>

Owner owner_new(void) {
        size_t n = (size_t)sysconf(_SC_PAGESIZE);
        void *page = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        Owner owner = { .n_page = n };

        if (page != MAP_FAILED) {
                if (platform_wipe_on_fork(page, n))
                        owner.page = page;
                else
                        (void)munmap(page, n);
        }
        owner_take(&owner);
        return owner;
}

void owner_free(Owner *owner) {
        if (owner->page)
                (void)munmap((void *)owner->page, owner->n_page);
        *owner = (Owner){ 0 };
}

bool owner_is_us(const Owner *owner) {
        return owner->page ? *owner->page != 0 : owner->pid == getpid();
}

void owner_take(Owner *owner) {
        if (owner->page)
                *owner->page = 1;
        else
                owner->pid = getpid();
}
