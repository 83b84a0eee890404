/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef BROKER_BLOCK_H
#define BROKER_BLOCK_H

#include "resmgr/resmgr.h"

#include <glib.h>

/*
 * Block: the memory of the resource manager's state
 *
 * A file of memory that can outlive the process. Its size is sealed, so that nobody who holds it can take the pages
 * away, and it stays out of core dumps.
 */
typedef struct Block {
        Rm *rm; /* NULL: none */
        size_t size;
        int fd;
} Block;

/* Return: false with @error: limits out of range, or no memory. */
bool block_map(Block *block, const RmLimits *limits, GError **error);
void block_unmap(Block *block);

#endif
