/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RESMGR_GAP_H
#define RESMGR_GAP_H

#include "resmgr/move.h"

/*
 * The context gap (Part 1, section 30.5; Part 2, section 14.6.1)
 *
 * A TPM refuses to save sessions once too many contexts were saved since the oldest session that is still saved.
 * Loading and saving that one gives it a new number; if even that is refused, the oldest is not ours.
 */
RmFlow rm_drop_foreign_build(Rm *rm, RmJob *job);
RmFlow rm_drop_foreign_settle(Rm *rm, RmJob *job, const RmAnswer *answer);

/* The op on top was refused for the gap: push what closes it. Return: false when that is under way, or impossible. */
bool rm_gap_close(Rm *rm, RmJob *job);

/* The same in time: when three quarters of the gap lie between the oldest saved session and the newest. */
bool rm_gap_renew(Rm *rm, RmJob *job);

/* Contexts of sessions that the TPM saved since that one, as far as we know; 0 for one that is loaded. */
uint64_t rm_gap_distance(const Rm *rm, const RmEntry *session);

/* What GetCapability answered: the reader stands before the first of n entries. */
typedef struct RmList {
        TpmReader reader;
        uint32_t n;
        bool more;
} RmList;

/* Return: false unless it is a whole list of this. Half a list is none: what it leaves out would seem not to exist. */
bool rm_read_list(const RmAnswer *answer, TPM2_CAP capability, size_t n_entry, RmList *ret_list);

typedef enum RmListed {
        RM_LISTED_BAD,     /* it is no such list */
        RM_LISTED_UNKNOWN, /* the lowest handle that @known has not; frame->at is behind it */
        RM_LISTED_MORE,    /* ask for the next page, from frame->at on */
        RM_LISTED_END,
} RmListed;

/* Goes through a page of handles, in whatever order they are, from frame->at on in their lower 24 bits. */
RmListed rm_walk_list(Rm *rm, RmFrame *frame, const RmAnswer *answer,
                      bool (*known)(Rm *rm, const RmFrame *frame, TPM2_HANDLE handle), TPM2_HANDLE *ret_unknown);
RmFlow rm_ask_for_handles(RmJob *job, TPM2_HT type);

#endif
