/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef TCTI_LINK_H
#define TCTI_LINK_H

#include "tcti/conf.h"
#include "tcti/dbus.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <tss2/tss2_common.h>

/* A connection to the daemon, by whichever door. */
typedef struct Link {
        int fd;      /* the stream; -1: not connected */
        bool by_bus; /* cancel and set locality are D-Bus calls, else they go over the stream */
        Dbus dbus;   /* kept, since the daemon knows the caller by it */
        uint64_t id; /* by_bus: what the daemon calls the connection */
        char bus_name[CONF_BUS_NAME_MAX + 1];
        pid_t pid; /* whose it is: a forked child must not use it */
} Link;

/* Return: TSS2_RC_SUCCESS, or TSS2_TCTI_RC_NO_CONNECTION. */
TSS2_RC link_open(Link *link, const Conf *conf);

/* Close our own copies of the descriptors. Nobody else's connection ends by it, not even when they came by fork(). */
void link_close(Link *link);

bool link_is_ours(const Link *link);

TSS2_RC link_cancel(Link *link);
TSS2_RC link_set_locality(Link *link, uint8_t locality);

#endif
