/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RESMGR_SPACE_H
#define RESMGR_SPACE_H

#include "resmgr/entry.h"

/*
 * Spaces: the handle namespace of a client each; and how entries come into them, and go
 */
typedef struct RmSpace {
        bool open;
        bool waits; /* for room: rm_space_wait() */
        uint32_t uid;
        uint32_t user; /* rm_user() */
        uint32_t first_object;
        RmHeld held;
        uint32_t next;        /* of rm->free_space */
        uint64_t hopeless;    /* hash of a command that failed with everything evicted; 0: none ... */
        uint64_t hopeless_at; /* ... in this tick; it holds in the next one, so that nobody's command came between */
} RmSpace;

static inline RmSpace *rm_space(const Rm *rm, uint32_t i) {
        return (RmSpace *)rm_array(rm, RM_ARRAY_SPACES) + i;
}

/* The spaces of a uid, and what they have: what is asked for each command is not counted anew for each. */
typedef struct RmUser {
        uint32_t uid;
        uint32_t n_spaces; /* 0: free */
        RmHeld held;
        RmHeld waiting; /* ... by those of its spaces that wait for room */
} RmUser;

static inline RmUser *rm_user(const Rm *rm, uint32_t i) {
        return (RmUser *)rm_array(rm, RM_ARRAY_USERS) + i;
}

/* One more space of that uid. Return: its user. */
uint32_t rm_user_join(Rm *rm, uint32_t uid);

/* Return: the object of that virtual handle, or RM_NONE: not one of this space. */
uint32_t rm_space_find(const Rm *rm, uint32_t space, TPM2_HANDLE vhandle);

/* PENDING, charged to the space; or nobody's, when @space is RM_NONE: set its state at once. RM_NONE: there is no room.
 */
uint32_t rm_entry_new(Rm *rm, RmKind kind, uint32_t space);

/* Give a pending object the lowest virtual handle that is free in its space, and make it live. */
void rm_space_link(Rm *rm, uint32_t object);

/*
 * Keep a context, and what it tells. @is_new: the TPM has just saved it. Return: false if it is none, or there is no
 * room; or if by its number a state was put back: then all is in doubt, and an object may be gone.
 */
bool rm_entry_keep_context(Rm *rm, uint32_t i, const uint8_t *bytes, size_t n_bytes, bool is_new);

/* The TPM was reset, and counts anew. */
void rm_numbers_forget(Rm *rm);

/*
 * The ways to an end
 *
 *              object with a context       other object                         session
 *      free    free                        free                                 free
 *      flushed absent                      free                                 free
 *      lost    absent                      free                                 doomed
 *      doubted absent                      unknown if it has a Name, else free  free
 *      doomed  free if absent, else doomed free if absent, else doomed          doomed
 */

/* It is over, and the TPM holds nothing of it. */
void rm_entry_free(Rm *rm, uint32_t i);

/* It is to be flushed, and no longer its client's. An object that is not in the TPM is freed. */
void rm_entry_doom(Rm *rm, uint32_t i);

/* FlushContext took it out of the TPM: an object lives on by its context, if that is current. */
void rm_entry_flushed(Rm *rm, uint32_t i);

/*
 * It is not in the TPM, though we did not take it out. The handle of a session may still be taken, so that it is
 * flushed.
 */
void rm_entry_lost(Rm *rm, uint32_t i);

/* All objects that are in the TPM are lost; their handles mean nothing any more. */
void rm_objects_lost(Rm *rm);

/*
 * Others may have used the TPM meanwhile, or an older state was put back: what is resident is given up, but for objects
 * that can be loaded again, and those whose Name may prove them before their next use. Not @except, or RM_NONE.
 */
void rm_residents_doubted(Rm *rm, uint32_t except);

#endif
