/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef UTIL_LIST_H
#define UTIL_LIST_H

#include <stdbool.h>
#include <stddef.h>

/*
 * Intrusive doubly linked list
 *
 * The same struct is head and link. An unlinked link points to itself, so that unlinking twice does no harm.
 */
struct list {
        struct list *prev;
        struct list *next;
};

#define list_entry(link, type, member) ((type *)((char *)(link)-offsetof(type, member)))

/* The current link may be unlinked within the loop, but not the one behind it. @link is declared here. */
#define list_for_each(link, head)                                                                                      \
        for (struct list *link = (head)->next, *link##_next_ = link->next; link != (head);                             \
             link = link##_next_, link##_next_ = link->next)

static inline void list_init(struct list *list) {
        list->prev = list;
        list->next = list;
}

static inline bool list_is_empty(const struct list *list) {
        return list->next == list;
}

/* NULL: empty. */
static inline struct list *list_first(const struct list *list) {
        return list_is_empty(list) ? NULL : list->next;
}

static inline void list_append(struct list *list, struct list *link) {
        link->prev = list->prev;
        link->next = list;
        list->prev->next = link;
        list->prev = link;
}

static inline void list_prepend(struct list *list, struct list *link) {
        list_append(list->next, link);
}

static inline void list_unlink(struct list *link) {
        link->prev->next = link->next;
        link->next->prev = link->prev;
        list_init(link);
}

#endif
