/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef CTL_UNIT_H
#define CTL_UNIT_H

#include <stdint.h>

/*
 * The systemd unit of a process, "-" when it has none or is gone; to be freed. It is read now, and not when the client
 * came: a process that has ended may have left its number to another.
 */
char *unit_of(uint32_t pid);

char *unit_in(const char *cgroups); /* ... in the text of its /proc/PID/cgroup; for tests */

#endif
