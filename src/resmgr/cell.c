/* SPDX-License-Identifier: BSD-2-Clause */
#include "resmgr/cell.h"

#include <string.h>

static uint32_t new_cell(Rm *rm) {
        uint32_t i = rm->free_cell;

        if (i != RM_NONE)
                rm->free_cell = rm_cell(rm, i)->next;
        else if (rm->n_cells_used < rm->n_cells)
                i = rm->n_cells_used++;
        rm->n_cells_taken += i != RM_NONE;
        return i;
}

static void free_chain(Rm *rm, uint32_t first) {
        while (first != RM_NONE) {
                RmCell *cell = rm_cell(rm, first);
                uint32_t next = cell->next;

                cell->next = rm->free_cell;
                rm->free_cell = first;
                rm->n_cells_taken--;
                first = next;
        }
}

bool rm_context_store(Rm *rm, RmContext *context, const uint8_t *bytes, size_t n_bytes) {
        uint32_t first = RM_NONE;

        /* Back to front, so that each cell can be linked to the one behind it. */
        for (size_t n_cells = rm_cells_for(n_bytes); n_cells > 0; n_cells--) {
                size_t at = (n_cells - 1) * RM_CELL_PAYLOAD;
                size_t n = n_bytes - at < RM_CELL_PAYLOAD ? n_bytes - at : RM_CELL_PAYLOAD;
                uint32_t i = new_cell(rm);

                if (i == RM_NONE) {
                        free_chain(rm, first);
                        return false;
                }
                memcpy(rm_cell(rm, i)->bytes, bytes + at, n);
                rm_cell(rm, i)->next = first;
                first = i;
        }
        rm_context_free(rm, context);
        *context = (RmContext){ .first = first, .n_bytes = n_bytes };
        return true;
}

void rm_context_free(Rm *rm, RmContext *context) {
        free_chain(rm, context->first);
        *context = RM_NO_CONTEXT;
}

void rm_context_write(Rm *rm, const RmContext *context, TpmWriter *writer) {
        size_t left = context->n_bytes;

        for (uint32_t i = context->first; i != RM_NONE; i = rm_cell(rm, i)->next) {
                size_t n = left < RM_CELL_PAYLOAD ? left : RM_CELL_PAYLOAD;

                tpm_write_bytes(writer, rm_cell(rm, i)->bytes, n);
                left -= n;
        }
}

bool rm_context_equals(Rm *rm, const RmContext *context, const uint8_t *bytes, size_t n_bytes) {
        uint8_t difference = 0;
        size_t at = 0;

        if (context->first == RM_NONE || context->n_bytes != n_bytes)
                return false;
        for (uint32_t i = context->first; i != RM_NONE; i = rm_cell(rm, i)->next)
                for (size_t k = 0; k < RM_CELL_PAYLOAD && at < n_bytes; k++, at++)
                        difference |= rm_cell(rm, i)->bytes[k] ^ bytes[at];
        return difference == 0;
}
