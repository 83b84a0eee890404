/* SPDX-License-Identifier: BSD-2-Clause */
#include "broker/order.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define MS 1000

/* Costs on a TPM where each command takes 5 ms: a swap is a load and a flush. */
#define SWAP .missing_us = 10 * MS, .expect_us = 5 * MS
#define HERE .expect_us = 5 * MS
#define LONG .expect_us = 2000 * MS

static const struct Row {
        const char *what;
        OrderItem items[4];
        unsigned n, next;
} ROWS[] = {
        { "one alone", { { SWAP } }, 1, 0 },
        { "the user that had less", { { .user_lead_us = 9, HERE }, { .submitted = 9, HERE } }, 2, 1 },
        { "the connection that had less", { { .lead_us = 9, HERE }, { .submitted = 9, HERE } }, 2, 1 },
        { "the user before the connection", { { .user_lead_us = 1, HERE }, { .lead_us = 9, HERE } }, 2, 1 },
        { "who came first", { { .submitted = 2, HERE }, { .submitted = 1, HERE } }, 2, 1 },

        { "affinity", { { SWAP }, { .lead_us = 1, SWAP }, { .lead_us = 20 * MS, HERE } }, 3, 2 },
        { "of two that may pass, the one that had less",
          { { SWAP }, { .lead_us = 20 * MS, HERE }, { .lead_us = 10 * MS, HERE } },
          3,
          2 },
        { "no reason to pass one that is there", { { HERE }, { .lead_us = 1, HERE } }, 2, 0 },
        { "it was passed twice", { { SWAP, .passed_us = 10 * MS }, { .lead_us = 1, HERE } }, 2, 1 },
        { "it was passed three times", { { SWAP, .passed_us = 15 * MS }, { .lead_us = 1, HERE } }, 2, 0 },
        { "three times, as averages go", { { SWAP, .passed_us = 12 * MS }, { .lead_us = 1, HERE } }, 2, 1 },
        { "had far more", { { SWAP }, { .lead_us = 46 * MS, HERE } }, 2, 0 },
        { "its user had far more", { { SWAP }, { .user_lead_us = 46 * MS, HERE } }, 2, 0 },
        { "its user had a little more", { { SWAP }, { .user_lead_us = 44 * MS, HERE } }, 2, 1 },
        { "one that asks seldom", { { SWAP, .seldom = true }, { .lead_us = 1, HERE } }, 2, 0 },
        { "what is there takes long itself", { { SWAP }, { .lead_us = 1, LONG } }, 2, 0 },
        { "where swaps cost little, once or twice",
          { { .missing_us = 3 * MS, .expect_us = 7 * MS, .passed_us = 14 * MS },
            { .lead_us = 1, .expect_us = 7 * MS } },
          2,
          0 },
        { "where swaps cost much, often",
          { { .missing_us = 560 * MS, .expect_us = 72 * MS, .passed_us = 550 * MS },
            { .lead_us = 1, .expect_us = 72 * MS } },
          2,
          1 },

        { "short before long", { { LONG }, { .lead_us = 1, SWAP } }, 2, 1 },
        { "not for ever", { { LONG, .passed_us = 1999 * MS }, { .lead_us = 1, SWAP } }, 2, 0 },
        { "before one that asks seldom, too", { { LONG, .seldom = true }, { .lead_us = 1, HERE } }, 2, 1 },
        { "not much shorter", { { .expect_us = 10 * MS }, { .lead_us = 1, HERE } }, 2, 0 },

        { "audit", { { HERE }, { .lead_us = 1, HERE }, { .lead_us = 2, SWAP, .audit = true } }, 3, 2 },
        { "audit, for a while", { { HERE, .passed_us = 30 * MS }, { .lead_us = 2, SWAP, .audit = true } }, 2, 0 },
        { "audit, no more than its share", { { HERE }, { .lead_us = 99 * MS, SWAP, .audit = true } }, 2, 0 },
};

static void test_rows(void **state) {
        for (size_t i = 0; i < sizeof(ROWS) / sizeof(ROWS[0]); i++) {
                unsigned next = order_next(ROWS[i].items, ROWS[i].n);

                if (next != ROWS[i].next)
                        fail_msg("%s: %u instead of %u", ROWS[i].what, next, ROWS[i].next);
        }
}

/* Random queues */

enum { USERS = 4, PER_USER = 4, ALL = USERS * PER_USER };

typedef struct Connection {
        OrderItem item;
        uint64_t used_us;
        uint64_t head_us; /* served_us when it was passed first */
        bool headed;
} Connection;

static Connection all[ALL];
static uint64_t user_us[USERS], served_us, seed;

static uint64_t number(uint64_t below) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        return (seed >> 33) % below;
}

/* A flooder has all it needs in the TPM; others hardly ever, and some are long. */
static void ask(unsigned i) {
        Connection *connection = &all[i];

        connection->item = (OrderItem){
                .missing_us = i < PER_USER || number(4) == 0 ? 0 : number(40 * MS),
                .expect_us = number(50) == 0 ? number(500 * MS) + 1 : number(20 * MS) + 1,
                .submitted = served_us,
                .audit = number(30) == 0,
        };
        connection->headed = false;
}

static void look(OrderItem items[ALL]) {
        uint64_t least_us = UINT64_MAX;

        for (unsigned u = 0; u < USERS; u++)
                least_us = user_us[u] < least_us ? user_us[u] : least_us;
        for (unsigned i = 0; i < ALL; i++) {
                uint64_t first_us = UINT64_MAX;

                for (unsigned k = i / PER_USER * PER_USER; k < (i / PER_USER + 1) * PER_USER; k++)
                        first_us = all[k].used_us < first_us ? all[k].used_us : first_us;
                items[i] = all[i].item;
                items[i].user_lead_us = user_us[i / PER_USER] - least_us;
                items[i].lead_us = all[i].used_us - first_us;
                items[i].passed_us = all[i].headed ? served_us - all[i].head_us : 0;
        }
}

static unsigned find_head(const OrderItem items[ALL]) {
        unsigned head = 0;

        for (unsigned i = 1; i < ALL; i++)
                if (order_is_before(&items[i], &items[head]))
                        head = i;
        return head;
}

/*
 * Whatever others ask for, the head waits for no more than its patience and half a command more, or as long as an audit
 * session may have; and no user, and no connection of a user, gets far ahead of the others.
 */
static void test_nobody_waits_for_ever(void **state) {
        const uint64_t dearest_us = 540 * MS, furthest_us = 4 * dearest_us + ORDER_AUDIT_US;

        for (seed = 1; seed < 40; seed++) {
                memset(all, 0, sizeof(all));
                memset(user_us, 0, sizeof(user_us));
                for (unsigned i = 0; i < ALL; i++)
                        ask(i);
                for (unsigned turn = 0; turn < 5000; turn++) {
                        OrderItem items[ALL];
                        unsigned head, next;

                        look(items);
                        head = find_head(items);
                        next = order_next(items, ALL);
                        if (next != head) {
                                uint64_t most_us = order_patience(&items[head]);

                                most_us = most_us < ORDER_AUDIT_US ? ORDER_AUDIT_US : most_us;
                                assert_true(items[head].passed_us <= most_us);
                                if (!all[head].headed)
                                        all[head].head_us = served_us;
                                all[head].headed = true;
                        }
                        served_us += order_cost(&items[next]);
                        user_us[next / PER_USER] += order_cost(&items[next]);
                        all[next].used_us += order_cost(&items[next]);
                        look(items);
                        for (unsigned i = 0; i < ALL; i++) {
                                assert_true(items[i].user_lead_us <= furthest_us);
                                assert_true(items[i].lead_us <= furthest_us);
                        }
                        ask(next);
                }
        }
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_rows),
                cmocka_unit_test(test_nobody_waits_for_ever),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
