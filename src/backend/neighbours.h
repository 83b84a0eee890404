/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef BACKEND_NEIGHBOURS_H
#define BACKEND_NEIGHBOURS_H

#include "util/loop.h"

#include <glib.h>
#include <stdbool.h>

/*
 * Neighbours: whether others use the TPM of a device
 *
 * Programs reach it past us by the node of the kernel's own resource manager, /dev/tpmrm0 beside /dev/tpm0. That node
 * is watched: who opens it is seen before his first command, and may send one at any time until he closes it, be it
 * hours later. Who had it open before the watch began is seen by his first command, and until then assumed for
 * NEIGHBOURS_START_US. Who has used it comes again, so he counts for NEIGHBOURS_GRACE_US more. Whose close() it was is
 * not told: that of one who was there before, and never heard, ends the count of one who came later.
 *
 * Not seen are the kernel's own commands, which need no node; and a node of the same device elsewhere, such as some
 * managers of containers make.
 */
#define NEIGHBOURS_START_US ((gint64)10 * G_USEC_PER_SEC)
#define NEIGHBOURS_GRACE_US ((gint64)10 * 60 * G_USEC_PER_SEC)
/* What happens twice at once may be told as once. So where more than one had it open, who is left is not sure, and is
 * believed to be there for so long after he was heard last. */
#define NEIGHBOURS_SILENT_US ((gint64)60 * 60 * G_USEC_PER_SEC)

typedef enum NeighboursSign {
        NEIGHBOURS_NONE,
        NEIGHBOURS_RECENT, /* somebody was there, not long ago */
        NEIGHBOURS_START,  /* watched for a short time only: somebody may have been there before */
        NEIGHBOURS_OPEN,   /* somebody has it open */
        NEIGHBOURS_UNSEEN, /* it cannot be watched, so somebody may be there at any time */
} NeighboursSign;

typedef struct Neighbours Neighbours;

/**
 * neighbours_new() - watch a node, which may come and go
 * @node:    NULL: nobody knows which; everything else works, and sees nobody
 * @changed: the sign may have risen; must not free
 */
Neighbours *neighbours_new(Loop *loop, const char *node, void (*changed)(void *userdata), void *userdata);
Neighbours *neighbours_free(Neighbours *neighbours); /* takes NULL, returns NULL */

/* By g_get_monotonic_time(). It falls with time alone, which nobody is told. */
NeighboursSign neighbours_sign(const Neighbours *neighbours, gint64 now);
const char *neighbours_reason(const Neighbours *neighbours); /* why it cannot be watched; "" */

/* The node by which others reach the same TPM, to be freed. NULL: @conf, as of backend_new(), does not tell. */
char *neighbours_node(const char *conf);

/*
 * What the kernel may need for itself, at any time, without a node. It says so itself; where it does not say, it may.
 */
typedef struct NeighboursKernel {
        bool trusted_keys; /* it has this type of keys, which are sealed and unsealed by the TPM */
        bool sessions;     /* it protects its own commands by a session, which takes a key of its own to start */
} NeighboursKernel;

NeighboursKernel neighbours_kernel(const char *conf);

#endif
