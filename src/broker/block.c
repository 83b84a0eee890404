/* SPDX-License-Identifier: BSD-2-Clause */
#include "broker/block.h"

#include "util/fd.h"
#include "util/platform.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>

static bool block_fail(GError **error, size_t size) {
        g_set_error(error, g_quark_from_static_string("broker"), errno, "%zu bytes of memory: %s", size,
                    g_strerror(errno));
        return false;
}

static bool block_refuse(GError **error) {
        g_set_error_literal(error, g_quark_from_static_string("broker"), EINVAL, "limits out of range");
        return false;
}

bool block_map(Block *block, const RmLimits *limits, GError **error) {
        fd_auto fd = memfd_create("tpm2-abrmd", MFD_CLOEXEC | MFD_ALLOW_SEALING);
        size_t size = rm_size(limits);
        void *memory;
        Rm *rm;

        if (size == 0)
                return block_refuse(error);
        if (fd < 0 || ftruncate(fd, (off_t)size) < 0 || fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) < 0)
                return block_fail(error, size);
        memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        if (memory == MAP_FAILED)
                return block_fail(error, size);
        platform_hide_memory(memory, size);

        rm = rm_init(memory, limits);
        if (!rm) {
                munmap(memory, size);
                return block_refuse(error);
        }
        *block = (Block){ .rm = rm, .size = size, .fd = fd_steal(&fd) };
        return true;
}

void block_unmap(Block *block) {
        if (!block->rm)
                return;
        munmap(block->rm, block->size);
        fd_close(block->fd);
        *block = (Block){ .fd = -1 };
}
