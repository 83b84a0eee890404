/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef TCTI_OWNER_H
#define TCTI_OWNER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/*
 * The process that a connection belongs to
 *
 * A forked child has a copy of all that its parent had, and must not use its parent's connection. Process numbers do
 * not tell the two apart where each of them is process 1 of a PID namespace of its own. So the mark is a page that the
 * system fills with zeros in a child, and the number counts only where the system has no such page. Each connection has
 * a page of its own: one for the whole process would be a global variable, which a library that can be unloaded would
 * have to free at some moment at which no thread uses it.
 */
typedef struct Owner {
        volatile uint8_t *page; /* its first byte is not 0: it is this process's; NULL: there is no such page */
        size_t n_page;
        pid_t pid;
} Owner;

Owner owner_new(void); /* this process */
void owner_free(Owner *owner);

bool owner_is_us(const Owner *owner);
void owner_take(Owner *owner); /* from now on it is this process */

#endif
