/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RESMGR_CELL_H
#define RESMGR_CELL_H

#include "resmgr/block.h"
#include "tpm/writer.h"

/*
 * Saved contexts, and other bytes of any length, in chains of cells
 */
#define RM_CELL_SIZE 256
#define RM_CELL_PAYLOAD (RM_CELL_SIZE - sizeof(uint32_t))

typedef struct RmCell {
        uint32_t next;
        uint8_t bytes[RM_CELL_PAYLOAD];
} RmCell;

typedef struct RmContext {
        uint32_t first; /* cell; RM_NONE: there is none */
        uint32_t n_bytes;
} RmContext;

#define RM_NO_CONTEXT ((RmContext){ .first = RM_NONE })

static inline uint32_t rm_cells_for(size_t n_bytes) {
        return (n_bytes + RM_CELL_PAYLOAD - 1) / RM_CELL_PAYLOAD;
}

static inline RmCell *rm_cell(const Rm *rm, uint32_t i) {
        return (RmCell *)rm_array(rm, RM_ARRAY_CELLS) + i;
}

/* Return: false, and nothing changed, when there is no room; else what *context held before is freed. */
bool rm_context_store(Rm *rm, RmContext *context, const uint8_t *bytes, size_t n_bytes);
void rm_context_free(Rm *rm, RmContext *context);
void rm_context_write(Rm *rm, const RmContext *context, TpmWriter *writer);

/* Whole, in constant time. */
bool rm_context_equals(Rm *rm, const RmContext *context, const uint8_t *bytes, size_t n_bytes);

#endif
