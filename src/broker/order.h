/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef BROKER_ORDER_H
#define BROKER_ORDER_H

#include <stdbool.h>
#include <stdint.h>

/*
 * Order: which of the waiting requests the TPM runs next, as a pure function of a few numbers
 *
 * The fair order is by user, then by connection, by the TPM time that each of them has had; the request that is first
 * in it is the head. Another request may pass the head for one of three reasons:
 *
 *      affinity  all that it uses is in the TPM, and something that the head uses is not: passing saves a swap as long
 *                as its own contexts are there
 *      length    the head holds the TPM for at least ORDER_SHORTER times as long
 *      audit     another command would end the exclusivity of its audit session
 *
 * Three bounds keep that fair, each in TPM time of the head's own cost, which is what it takes to swap in what is
 * missing and to run it:
 *
 *      A head is passed for no longer than order_patience(), which is its cost. So a request that is k-th in the fair
 *      order waits for little more than twice what the k requests cost, however many others there are.
 *      Neither the user nor the connection that passes has had more than order_lead() more than the one that has had
 *      least. So a client whose contexts never leave the TPM gets no more than its share.
 *      A connection that has had less than its share is not passed for affinity. So an interactive client waits for the
 *      command that runs, and no others.
 *
 * For audit, anybody is passed for up to ORDER_AUDIT_US, whatever it costs, and the lead may be longer by that.
 */
#define ORDER_SHORTER 8
#define ORDER_AUDIT_US (30 * 1000)

typedef struct OrderItem {
        uint64_t user_lead_us; /* TPM time that its user has had, above the user that has had least of those waiting */
        uint64_t lead_us;      /* ... and its connection, above the connection that has had least of that user's */
        uint64_t submitted;    /* any number that grows with time */
        uint64_t missing_us;   /* to swap in what the command uses; 0: all of it is in the TPM */
        uint64_t expect_us;    /* the command itself */
        uint64_t passed_us;    /* TPM time of others since it came to be the head; 0: it did not yet */
        bool seldom;           /* its connection has had less than its user's others: nobody passes it for affinity */
        bool audit;            /* its audit session is exclusive */
} OrderItem;

static inline uint64_t order_cost(const OrderItem *item) {
        return item->missing_us + item->expect_us;
}

/* For how long others may pass it. */
static inline uint64_t order_patience(const OrderItem *head) {
        return order_cost(head);
}

/* How much more TPM time than the least those may have had that pass it. */
static inline uint64_t order_lead(const OrderItem *head) {
        return 3 * order_cost(head);
}

bool order_is_before(const OrderItem *item, const OrderItem *other); /* in the fair order */
bool order_may_pass(const OrderItem *item, const OrderItem *head);

/* Return: the index of the next one of @n, which is at least 1. */
unsigned order_next(const OrderItem *items, unsigned n);

#endif
