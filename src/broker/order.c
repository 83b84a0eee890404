/* SPDX-License-Identifier: BSD-2-Clause */
#include "broker/order.h"

bool order_is_before(const OrderItem *item, const OrderItem *other) {
        if (item->user_lead_us != other->user_lead_us)
                return item->user_lead_us < other->user_lead_us;
        if (item->lead_us != other->lead_us)
                return item->lead_us < other->lead_us;
        return item->submitted < other->submitted;
}

static bool has_reason_to_pass(const OrderItem *item, const OrderItem *head) {
        return (item->missing_us == 0 && head->missing_us > 0 && !head->seldom) ||
               order_cost(item) <= order_cost(head) / ORDER_SHORTER;
}

bool order_may_pass(const OrderItem *item, const OrderItem *head) {
        if (item->audit && !head->audit)
                return head->passed_us < ORDER_AUDIT_US && item->user_lead_us <= order_lead(head) + ORDER_AUDIT_US &&
                       item->lead_us <= order_lead(head) + ORDER_AUDIT_US;
        /* Half of its time, since the costs are averages: what fits but for a little is not left out. */
        return has_reason_to_pass(item, head) && head->passed_us + order_cost(item) / 2 <= order_patience(head) &&
               item->user_lead_us <= order_lead(head) && item->lead_us <= order_lead(head);
}

static bool goes_before(const OrderItem *item, const OrderItem *other) {
        return item->audit != other->audit ? item->audit : order_is_before(item, other);
}

unsigned order_next(const OrderItem *items, unsigned n) {
        unsigned head = 0, next;

        for (unsigned i = 1; i < n; i++)
                if (order_is_before(&items[i], &items[head]))
                        head = i;
        next = head;
        for (unsigned i = 0; i < n; i++)
                if (i != head && order_may_pass(&items[i], &items[head]) &&
                    (next == head || goes_before(&items[i], &items[next])))
                        next = i;
        return next;
}
